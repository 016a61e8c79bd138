from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from spq.model.tensors_file import check_least, read_shapes, read_tensors

WANTED = {"a": torch.arange(6.0).view(2, 3), "b": torch.ones(4)}


def write_header(path: Path, header: object, data: bytes = b"") -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return path


def test_tensors_are_read_by_name_and_shape(tmp_path: Path) -> None:
    save_file(WANTED, tmp_path / "t")
    assert read_shapes(tmp_path / "t") == {"a": (2, 3), "b": (4,)}
    found = read_tensors(tmp_path / "t", WANTED)
    assert all(torch.equal(found[name], WANTED[name]) for name in WANTED)


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        ({"a": WANTED["a"]}, "it lacks 1 tensors, first b"),
        ({**WANTED, "c": torch.ones(1)}, "it has 1 tensors that the network does not have"),
        ({**WANTED, "b": torch.ones(5)}, r"b has shape \(5,\), and the network needs \(4,\)"),
    ],
)
def test_a_file_of_another_network_is_refused_before_tensors_are_read(
    other: dict[str, Tensor], reason: str, tmp_path: Path
) -> None:
    save_file(other, tmp_path / "t")
    with pytest.raises(ValueError, match=reason):
        read_tensors(tmp_path / "t", WANTED)


def test_other_tensors_may_be_passed_over(tmp_path: Path) -> None:
    save_file({**WANTED, "classifier": torch.ones(9)}, tmp_path / "t")
    assert set(read_tensors(tmp_path / "t", WANTED, strict=False)) == {"a", "b"}


@pytest.mark.parametrize(
    "header",
    [
        b"[" * 100_000,
        b"\xff\xfe",
        [1],
        {"a": {"dtype": "F32", "shape": [2**62, 2**62], "data_offsets": [0, 8]}},
        {"a": {"dtype": "F32", "shape": [2**39, 2**39], "data_offsets": [0, 8]}},
        {"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 8]}},
        {"a": {"dtype": "F32", "shape": "wide", "data_offsets": [0, 8]}},
        {"a": 7},
    ],
)
def test_a_damaged_table_of_tensors_is_one_error(header: object, tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"nested too deep|no JSON|no UTF-8|table of tensors|shape of 'a' is damaged"
    ) as e:
        read_shapes(write_header(tmp_path / "t", header))
    assert len(str(e.value).splitlines()) == 1


def test_a_table_longer_than_its_file_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "t").write_bytes((2**63).to_bytes(8, "little") + b"{}")
    with pytest.raises(ValueError, match="does not start with a table of tensors"):
        read_shapes(tmp_path / "t")


def test_a_pipe_in_the_place_of_weights_does_not_wait(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "t")
    with pytest.raises(ValueError, match="not a regular file"):
        read_tensors(tmp_path / "t", WANTED)
    with pytest.raises(ValueError, match="not a regular file"):
        check_least(tmp_path / "t", 1)


def test_a_file_too_small_for_a_network_is_refused_before_the_network_is_made(tmp_path: Path) -> None:
    save_file({name: tensor.half() for name, tensor in WANTED.items()}, tmp_path / "t")
    check_least(tmp_path / "t", 10)
    with pytest.raises(ValueError, match=r"are too few for 10,000,000 parameters"):
        check_least(tmp_path / "t", 10_000_000)
