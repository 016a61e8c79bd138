"""Mutation testing of the maths: each mutant is one small mistake in the code, and the tests should notice it.

    pip install mutmut==3.8.1
    OMP_NUM_THREADS=1 python tests/faults/mutants.py --work /tmp/mutants          # about 1 s for each of 1,400 mutants
    OMP_NUM_THREADS=1 python tests/faults/mutants.py --work /tmp/mutants --again  # with today's tests, those not killed

mutmut changes a copy of the repository in the folder `--work`, and runs each mutant with the tests that call its function. Its
operators swap arithmetic, comparisons and and/or, add 1 to numbers, change strings, set values and arguments to None, and drop
arguments. Four more are added here. Functions with a decorator (properties) are not mutated.

Output: each mutant that survived, as a diff, and for each module how many were killed. A mutant that runs out of time is killed.
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
    "pq/scan.py": ["test_scan", "test_fastscan", "test_pairscan", "test_ivf", "test_distinct"],
}
CONFIG = """
[tool.mutmut]
source_paths = ["src"]
only_mutate = {modules}
also_copy = ["benchmarks"]
process_isolation = "forkserver"
timeout_constant = 5
pytest_add_cli_args = ["-p", "no:xdist", "-p", "no:cacheprovider", "--tb=no"]
pytest_add_cli_args_test_selection = {tests}
"""
EXAMPLES = """
from hypothesis import Phase, settings

settings.register_profile("mutants", phases=[Phase.explicit, Phase.generate], derandomize=True, database=None)
settings.load_profile("mutants")  # the same examples for each mutant, and no time spent on smaller ones
"""


def copy_repository(work: Path) -> None:
    """Write what mutmut needs to `work`; mutants that are there already stay."""
    ignore = shutil.ignore_patterns("__pycache__", ".hypothesis")
    copies = [work, work / "mutants"] if (work / "mutants").exists() else [work]
    shutil.copytree(ROOT / "src", work / "src", dirs_exist_ok=True, ignore=ignore)
    for copy in copies:
        for name in ("tests", "benchmarks"):
            shutil.copytree(ROOT / name, copy / name, dirs_exist_ok=True, ignore=ignore)
        with (copy / "tests/conftest.py").open("a") as file:
            file.write(EXAMPLES)
    files = [f"src/spq/{module}" for module in MODULES]
    tests = [f"tests/{test}.py" for part in MODULES.values() for test in part] + files  # files: their doctests
    config = CONFIG.format(modules=json.dumps(files), tests=json.dumps(tests))
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


def states() -> dict[str, dict[str, list[str]]]:
    """The names of the mutants of each module, by what became of them."""
    from mutmut.stats import status_by_exit_code

    found: dict[str, dict[str, list[str]]] = {}
    for module in MODULES:
        codes = json.loads(Path(f"mutants/src/spq/{module}.meta").read_text())["exit_code_by_key"]
        found[module] = {}
        for name, code in codes.items():
            found[module].setdefault(status_by_exit_code[code], []).append(name)
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


def report() -> None:
    """Print the survivors and the shares."""
    total = {"killed": 0, "all": 0}
    for module, by_state in states().items():
        killed = sum(len(by_state.get(state, [])) for state in ("killed", "timeout", "segfault"))
        count = sum(map(len, by_state.values()))
        for state in sorted(set(by_state) - {"killed", "timeout", "segfault"}):
            for name in by_state[state]:
                print(f"{state}: {difference(name, module)}")
        others = ", ".join(f"{len(names)} {state}" for state, names in sorted(by_state.items()))
        print(f"{module}: {count} mutants, {100 * killed / count:.1f} % killed ({others})")
        total = {"killed": total["killed"] + killed, "all": total["all"] + count}
    print(f"{total['killed']} of {total['all']} killed, {100 * total['killed'] / total['all']:.1f} %")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True, help="folder for the changed copy")
    parser.add_argument("--again", action="store_true", help="run only mutants that were not killed in the last run")
    parser.add_argument("--report", action="store_true", help="run nothing, print the results again")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    if not options.report:
        copy_repository(options.work)
    os.chdir(options.work)
    from mutmut.__main__ import cli
    from mutmut.mutation import mutators

    mutators.mutation_operators += operators()
    if not options.report:
        unsettled = []
        if options.again:
            unsettled = [
                name for part in states().values() for state in part if state != "killed" for name in part[state]
            ]
        cli(["run", "--max-children", "1", *unsettled], standalone_mode=False)
    report()


if __name__ == "__main__":
    main()
