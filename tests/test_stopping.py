"""Ctrl-C and SIGTERM, in processes as a user starts them. What each command says is in `test_failures.py`."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

START = """if True:
    import os, signal, sqlite3, sys, time
    signal.signal(signal.SIGINT, signal.default_int_handler)  # the tests may run where it is ignored
    from spq.cli import doctor_command, main
    def press(number=signal.SIGINT):
        os.kill(os.getpid(), number)
        time.sleep(60)  # the handler interrupts this
    """
LINE = "spq: stopped; nothing was changed, run the same command again\n"


def run(code: str, *arguments: str) -> tuple[int, str, str]:
    command = [sys.executable, "-c", START + code, *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize(("number", "status"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_a_signal_ends_a_command_with_a_line_and_the_status_of_the_signal(number: str, status: int) -> None:
    code = f"""
    doctor_command.examine = lambda: press(signal.{number})
    sys.exit(main.run_stoppable(["doctor"]))
    """
    assert run(code) == (status, "", LINE)


def test_a_second_signal_ends_a_command_at_once_with_the_same_line() -> None:
    code = """
    def examine():
        try:
            press()
        finally:
            press(signal.SIGTERM)  # while the first one is being handled
            print("not reached")
    doctor_command.examine = examine
    sys.exit(main.run_stoppable(["doctor"]))
    """
    assert run(code) == (130, "", LINE)


def test_a_signal_that_a_library_turns_into_an_error_is_one() -> None:
    code = """
    def examine():
        database = sqlite3.connect(":memory:")
        database.create_function("press", 0, press)
        database.execute("SELECT press()").fetchall()
    doctor_command.examine = examine
    sys.exit(main.run_stoppable(["doctor"]))
    """
    assert run(code) == (130, "", LINE)


def test_a_signal_before_a_command_begins_says_so() -> None:
    code = """
    main._command = press
    sys.exit(main.run_stoppable(["doctor"]))
    """
    assert run(code) == (130, "", "spq: stopped; the command had not begun, run the same command again\n")


@pytest.mark.parametrize(("number", "status"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_a_signal_while_the_commands_load_says_so(number: str, status: int) -> None:
    code = f"""
    class Typer:
        def find_spec(self, name, *_):
            if name == "typer":
                press(signal.{number})
    for name in [name for name in sys.modules if name.startswith(("spq.cli", "typer"))]:
        del sys.modules[name]
    sys.meta_path.insert(0, Typer())
    from spq.__main__ import main
    main()
    """
    assert run(code) == (status, "", "spq: stopped; the command had not begun, run the same command again\n")


def test_a_signal_while_signals_begin_to_be_watched_says_so() -> None:
    code = """
    set_handler = signal.signal
    def set_late(number, handler):
        if number == signal.SIGTERM:
            signal.signal = set_handler
            press()
        return set_handler(number, handler)
    signal.signal = set_late
    sys.exit(main.run_stoppable(["doctor"]))
    """
    assert run(code) == (130, "", "spq: stopped; the command had not begun, run the same command again\n")


def test_a_signal_before_signals_are_watched_says_so() -> None:
    code = """
    main.keep_to_quota = press
    from spq.__main__ import main as program
    program()
    """
    assert run(code) == (130, "", "spq: stopped; the command had not begun, run the same command again\n")


def test_a_signal_after_the_end_changes_nothing() -> None:
    code = """
    doctor_command.examine = lambda: {"python": "3"}
    status = main.run_stoppable(["doctor"])
    os.kill(os.getpid(), signal.SIGINT)
    sys.exit(status)
    """
    assert run(code) == (0, "python  3\n", "")


def test_a_signal_just_before_the_end_keeps_the_status() -> None:
    code = """
    doctor_command.examine = lambda: {"python": "3"}
    ignore = main.stopping.ignore_signals
    def ignore_late():
        main.stopping.ignore_signals = ignore
        press()
    main.stopping.ignore_signals = ignore_late
    sys.exit(main.run_stoppable(["doctor"]))
    """
    assert run(code) == (0, "python  3\n", "")


def test_a_signal_while_a_library_loads_ends_the_process_at_once(tmp_path: Path) -> None:
    (tmp_path / "slow_library.py").write_text(
        "import os, signal, time\n"
        "try:\n    os.kill(os.getpid(), signal.SIGTERM)\n    time.sleep(60)\n"
        "except KeyboardInterrupt:\n    os.abort()  # as C++ libraries do\n"
    )
    code = """
    def examine():
        sys.path.insert(0, sys.argv[1])
        import slow_library
    doctor_command.examine = examine
    sys.exit(main.run_stoppable(["doctor"]))
    """
    assert run(code, str(tmp_path)) == (143, "", LINE)


def test_a_signal_in_code_that_cannot_raise_is_not_lost() -> None:
    code = """
    class Closing:
        def __del__(self):
            press()
    def examine():
        Closing()
        print("not reached")
    doctor_command.examine = examine
    sys.exit(main.run_stoppable(["doctor"]))
    """
    assert run(code) == (130, "", LINE)


def test_a_signal_that_the_parent_ignores_stays_ignored() -> None:
    code = """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # as in the background of a script
    doctor_command.examine = lambda: {"python": os.kill(os.getpid(), signal.SIGINT) or "3"}
    sys.exit(main.run_stoppable(["doctor"]))
    """
    assert run(code) == (0, "python  3\n", "")


def test_a_stopped_benchmark_says_so_in_a_line(tmp_path: Path) -> None:
    (tmp_path / "wait.py").write_text(
        "import os, signal, sys, time\nos.kill(os.getpid(), int(sys.argv[1]))\ntime.sleep(60)\n"
    )
    for number, status in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
        code = f"""
    from pathlib import Path
    from spq.cli import bench_command
    bench_command.FOLDER = Path(sys.argv[1])
    sys.exit(main.run_stoppable(["bench", "wait", "{number:d}"]))
    """
        found, out, err = run(code, str(tmp_path))
        assert (found, out) == (status, "")
        assert err == "spq: stopped; what was printed or written is complete, run the same command again\n"


@pytest.mark.parametrize("again", ["press()", "atexit.register(press)"])
def test_a_benchmark_that_is_stopped_twice_says_so_in_one_line(tmp_path: Path, again: str) -> None:
    (tmp_path / "wait.py").write_text(
        "import atexit, os, signal, time\n"
        "def press():\n    os.kill(os.getpid(), signal.SIGINT)\n    time.sleep(1)\n"
        f"try:\n    press()\nfinally:\n    {again}\n"
    )
    code = """
    from pathlib import Path
    from spq.cli import bench_command
    bench_command.FOLDER = Path(sys.argv[1])
    sys.exit(main.run_stoppable(["bench", "wait"]))
    """
    line = "spq: stopped; what was printed or written is complete, run the same command again\n"
    assert run(code, str(tmp_path)) == (130, "", line)


def test_a_signal_inside_of_exec_does_not_change_the_status(tmp_path: Path) -> None:
    code = """
    doctor_command.examine = lambda: exec("press()")
    sys.exit(main.run_stoppable(["doctor"]))
    """
    (tmp_path / "program.py").write_text(START + code)
    done = subprocess.run([sys.executable, "-m", "program"], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", LINE)
