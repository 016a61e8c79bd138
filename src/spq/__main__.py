"""The program `spq`."""

import os
import signal
from contextlib import suppress
from types import FrameType

NOT_BEGUN = "spq: stopped; the command had not begun, run the same command again\n"


def main() -> None:
    """Run the command line. Until a command begins, Ctrl-C and SIGTERM end the process at once, with a line."""
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _end)
    from spq.cli.main import main as run

    run()


def _end(number: int, frame: FrameType | None) -> None:
    with suppress(OSError):
        os.write(2, NOT_BEGUN.encode())
    os._exit(128 + number)


if __name__ == "__main__":
    main()
