"""Mutation testing of the maths: each mutant is one small mistake in the code, and the tests should notice it.

    pip install mutmut==3.8.1
    OMP_NUM_THREADS=1 python tests/faults/mutants.py pq/sums.py --work /tmp/mutants          # each mutant takes about 1 s
    OMP_NUM_THREADS=1 python tests/faults/mutants.py pq/sums.py --work /tmp/mutants --again  # only those not killed

mutmut changes a copy of the repository, and runs each mutant with the tests that call its function. Its operators swap
arithmetic, comparisons and and/or, add 1 to numbers, change strings, set values and arguments to None, and drop arguments. Four
more are added here. Functions with a decorator (properties) are not mutated.

Output: each mutant that survived with its line, and how many were killed. A mutant that runs out of time is killed.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
MODULES = {  # what is mutated, and its tests
    "training/loss.py": ["test_loss"],
    "model/quantizer.py": ["test_quantizer"],
    "evaluation/metrics.py": ["test_metrics"],
    "pq/sums.py": ["test_sums"],
    "pq/scan.py": ["test_scan", "test_ivf"],
}
CONFIG = """
[tool.mutmut]
source_paths = ["src"]
only_mutate = [{module}]
also_copy = ["benchmarks"]
process_isolation = "forkserver"
timeout_constant = 5
pytest_add_cli_args = ["-p", "no:xdist", "-p", "no:cacheprovider", "--tb=no"]
pytest_add_cli_args_test_selection = {tests}
"""
KILLED = {"killed", "timeout", "segfault"}
EXAMPLES = """
from hypothesis import Phase, settings

settings.register_profile("mutants", phases=[Phase.explicit, Phase.generate], derandomize=True, database=None)
settings.load_profile("mutants")  # the same examples for each mutant, and no time spent on smaller ones
"""


def copy_repository(work: Path, module: str) -> None:
    """Write what mutmut needs to `work`; mutants that are there already stay."""
    ignore = shutil.ignore_patterns("__pycache__", ".hypothesis")
    copies = [work, work / "mutants"] if (work / "mutants").exists() else [work]
    shutil.copytree(ROOT / "src", work / "src", dirs_exist_ok=True, ignore=ignore)
    for copy in copies:
        for name in ("tests", "benchmarks"):
            shutil.copytree(ROOT / name, copy / name, dirs_exist_ok=True, ignore=ignore)
        with (copy / "tests/conftest.py").open("a") as file:
            file.write(EXAMPLES)
    tests = [*(f"tests/{test}.py" for test in MODULES[module]), f"src/spq/{module}"]  # the module: its doctests
    config = CONFIG.format(module=json.dumps(f"src/spq/{module}"), tests=json.dumps(tests))
    (work / "pyproject.toml").write_text((ROOT / "pyproject.toml").read_text() + config)


def operators() -> list[tuple[Any, Callable[[Any], Iterable[Any]]]]:
    """More operators: numbers less 1, `if` negated, comparisons reversed, and calls whose result is not used left out."""
    import libcst as cst

    opposite = {cst.LessThan: cst.GreaterThanEqual, cst.LessThanEqual: cst.GreaterThan,
                cst.GreaterThan: cst.LessThanEqual, cst.GreaterThanEqual: cst.LessThan}  # fmt: skip
    brackets = {"lpar": [cst.LeftParen()], "rpar": [cst.RightParen()]}

    def less_one(node: cst.Integer) -> Iterable[Any]:
        value = node.evaluated_value - 1
        yield node.with_changes(value=str(value)) if value >= 0 else cst.parse_expression(f"({value})")

    def negated(node: cst.If) -> Iterable[Any]:
        yield node.with_changes(test=cst.UnaryOperation(cst.Not(), node.test.with_changes(**brackets)))

    def reversed_comparison(node: cst.ComparisonTarget) -> Iterable[Any]:
        if type(node.operator) in opposite:
            yield node.with_changes(operator=opposite[type(node.operator)]())

    def left_out(node: cst.Expr) -> Iterable[Any]:
        if isinstance(node.value, cst.Call):
            yield cst.Pass()

    return [
        (cst.Integer, less_one),
        (cst.If, negated),
        (cst.ComparisonTarget, reversed_comparison),
        (cst.Expr, left_out),
    ]


def states(module: str) -> dict[str, list[str]]:
    """The names of the mutants, by what became of them."""
    from mutmut.stats import status_by_exit_code

    found: dict[str, list[str]] = {}
    codes = json.loads(Path(f"mutants/src/spq/{module}.meta").read_text())["exit_code_by_key"]
    for name, code in codes.items():
        found.setdefault(status_by_exit_code[code], []).append(name)
    return found


def difference(name: str, module: str) -> str:
    """One line: what a mutant changed, and in which line of the module."""
    from mutmut.mutation.diff_apply import get_diff_for_mutant

    lines = get_diff_for_mutant(name, path=f"src/spq/{module}").splitlines()[2:]
    before, after = ([line[1:].strip() for line in lines if line[:1] == sign] for sign in "-+")
    source = (ROOT / "src/spq" / module).read_text().splitlines()
    function = re.sub(r"__mutmut_\d+$", "", name).rsplit("ǁ", 1)[-1].rsplit(".x_", 1)[-1]
    starts = [number for number, line in enumerate(source, 1) if re.match(rf"\s*def {function}\(", line)]
    numbers = [n for n, line in enumerate(source, 1) if n >= min(starts, default=1) and line.strip() == before[0]]
    return f"src/spq/{module}:{min(numbers, default=0)}: {' '.join(before)}  ->  {' '.join(after)}  [{name.split('__')[-1]}]"


def report(module: str) -> None:
    """Print the survivors and the share that was killed."""
    by_state = states(module)
    for state in sorted(set(by_state) - KILLED):
        for name in by_state[state]:
            print(f"{state}: {difference(name, module)}")
    killed = sum(len(by_state.get(state, [])) for state in KILLED)
    count = sum(map(len, by_state.values()))
    details = ", ".join(f"{len(names)} {state}" for state, names in sorted(by_state.items()))
    print(f"{module}: {count} mutants, {100 * killed / count:.1f} % killed ({details})")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("module", choices=MODULES)
    parser.add_argument("--work", type=Path, required=True, help="folder for the changed copies")
    parser.add_argument("--again", action="store_true", help="run only mutants that were not killed in the last run")
    options = parser.parse_args()
    work = options.work / Path(options.module).stem
    work.mkdir(parents=True, exist_ok=True)
    copy_repository(work, options.module)
    os.chdir(work)
    from mutmut.__main__ import cli
    from mutmut.mutation import mutators

    mutators.mutation_operators += operators()
    left = []
    if options.again:
        left = [name for state, names in states(options.module).items() if state != "killed" for name in names]
    cli(["run", "--max-children", "1", *left], standalone_mode=False)
    report(options.module)


if __name__ == "__main__":
    main()
