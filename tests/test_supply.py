"""What spq is installed with: licences that allow its use, and a lock file that fits pyproject.toml."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from dependency_table import Dependency, dependencies, table

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
DEVELOPMENT = PROJECT["optional-dependencies"]["dev"] + PROJECT["optional-dependencies"]["docs"]
REQUIREMENTS = [
    Requirement(text) for text in PROJECT["dependencies"] + DEVELOPMENT if not text.startswith("spq-retrieval[")
]
LOCK = (ROOT / "requirements-dev.lock").read_text("utf-8")

# Licences under which a program of any kind may use a library. MPL-2.0 covers changes of its own files only.
PERMISSIVE = re.compile(
    r"(apache|bsd|0bsd|mit|isc|psf|python software foundation|hpnd|zlib|cc0|bsl-1\.0|mpl-2\.0|unlicense|3-clause)", re.I
)


@pytest.fixture(scope="module")
def installed() -> list[Dependency]:
    return dependencies()


def test_every_dependency_has_a_licence_that_allows_any_use(installed: list[Dependency]) -> None:
    libraries = [d for d in installed if not d.name.startswith(("nvidia-", "cuda-"))]  # CUDA: NVIDIA's own terms
    assert len(libraries) > 40
    refused = [d for d in libraries if not all(map(PERMISSIVE.search, re.split(r" and | or ", d.licence, flags=re.I)))]
    assert not refused


def test_the_table_has_every_direct_dependency(installed: list[Dependency]) -> None:
    direct = {canonicalize_name(Requirement(text).name) for text in PROJECT["dependencies"]}
    assert {d.name for d in installed if d.needed_by == "spq"} == direct
    assert len(table().splitlines()) == len(installed) + 2


def test_the_lock_file_has_an_admitted_version_of_every_dependency_with_hashes() -> None:
    blocks = re.findall(
        r"^([\w.-]+)==([\w.+-]+)[^\n]*\\\n((?:    --hash=sha256:[0-9a-f]{64}[^\n]*\n)+)", LOCK, flags=re.M
    )
    assert len(blocks) == len(re.findall(r"^[\w.-]+==", LOCK, flags=re.M)) > 100
    locked = {(canonicalize_name(name), version) for name, version, _ in blocks}
    for requirement in REQUIREMENTS:
        versions = [version for name, version in locked if name == canonicalize_name(requirement.name)]
        assert versions, requirement
        assert all(version in requirement.specifier for version in versions), requirement


def test_every_dependency_has_a_lower_and_an_upper_bound() -> None:
    for requirement in REQUIREMENTS:
        operators = {part.operator for part in requirement.specifier}
        assert operators in ({">=", "<"}, {"=="}), requirement
