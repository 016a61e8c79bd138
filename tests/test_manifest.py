from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from spq.errors import StoreError
from spq.index.manifest import FORMAT, Manifest, read_manifest, write_manifest

MANIFEST = Manifest(FORMAT, "0", "h", "l2", 2, 256, 16, "photos", exclude=("*.gif",), key="0123456789abcdef")


def test_a_manifest_comes_back_and_every_changed_letter_is_noticed(tmp_path: Path) -> None:
    write_manifest(tmp_path, MANIFEST)
    assert read_manifest(tmp_path) == MANIFEST
    file = tmp_path / "manifest.json"
    sound = file.read_bytes()
    for place in range(len(sound)):
        file.write_bytes(sound[:place] + bytes([sound[place] ^ 4]) + sound[place + 1 :])
        with pytest.raises(StoreError, match=r"repair the index|has format"):
            read_manifest(tmp_path)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"num_codebooks": 2**63}, "do not make 16 bits"),
        ({"codebook_size": 10**400}, "do not make 16 bits"),
        ({"distance": "cosine"}, "is not one of l2, sqeuclidean, dot"),
        ({"key": "x"}, "is not in hexadecimal digits"),
        ({"model": "\ud800"}, "is not in hexadecimal digits"),
        ({"source": 5}, "expected str"),
        ({"source": "\ud800"}, "is no name of a file"),
        ({"exclude": ["a\0"]}, "is no name of a file"),
        ({"exclude": "all"}, "expected a list"),
        ({"format": "4"}, "expected int"),
    ],
)
def test_values_that_no_index_has_are_refused_with_one_line(
    tmp_path: Path, changed: dict[str, object], words: str
) -> None:
    write_manifest(tmp_path, MANIFEST)
    content = json.loads((tmp_path / "manifest.json").read_text())
    del content["check"]
    (tmp_path / "manifest.json").write_text(json.dumps(content | changed))
    with pytest.raises(StoreError, match=words) as caught:
        read_manifest(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(os.name == "nt", reason="no pipes in folders there")
def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "manifest.json")
    with pytest.raises(StoreError, match="it is not a regular file"):
        read_manifest(tmp_path)
