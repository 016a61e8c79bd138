"""Tar files whose headers are wrong; test_open.py has the others."""

from __future__ import annotations

import io
import os
import random
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from conftest import content, run_spq
from spq.data.open import open_images
from spq.errors import DataError
from spq.index.image_index import ImageIndex
from spq.index.verify import faults
from spq.model.model import Model

sys.path.insert(0, str(Path(__file__).parent / "faults"))
import tables


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("names a.tar", "a header of 3,145,728 bytes is over the limit"),
        ("chain a.tar", "maximum recursion depth"),
        ("pax a.tar", "a header of 3,000,000 bytes is over the limit"),
        ("pax_size a.tar", "a member ends before it begins"),
        ("negative a.tar", "a member of negative size"),
    ],
)
def test_a_wrong_header_is_refused_in_one_line(tmp_path: Path, name: str, reason: str) -> None:
    (tmp_path / "a.tar").write_bytes(tables.bombs()[name]())
    with pytest.raises(DataError, match=reason):
        open_images(tmp_path / "a.tar")


def test_a_broken_label_is_one_broken_label(tmp_path: Path) -> None:
    members = {"0.jpg": tables.jpeg(0), "0.cls": b"9" * 5000, "1.jpg": tables.jpeg(1), "1.cls": b"4"}
    members |= {"2.jpg": tables.jpeg(2), "2.json": b"[" * 100_000}
    (tmp_path / "a.tar").write_bytes(tables.tar(members))
    images = open_images(tmp_path / "a.tar")
    assert images.labels is not None
    assert images.labels.tolist() == [-1, 4, -1]
    assert images.remarks[0][1] == "2 labels are broken and not used, first that of 0"


@pytest.mark.parametrize("name", ["a.tar", "b.tar", "c.tar"])
@pytest.mark.parametrize("what", tables.DAMAGE)
def test_a_tar_with_a_damaged_header_is_refused_in_one_line(tmp_path: Path, name: str, what: str) -> None:
    data, file = tables.seeds()[name], tmp_path / name
    for at in tables.headers(data):
        file.write_bytes(tables.with_damage(data, at, what, random.Random(at)))
        with pytest.raises(DataError, match=r"is damaged|is not an uncompressed tar") as error:
            open_images(file)
        assert len(str(error.value).splitlines()) == 1


def test_the_place_of_the_damage_is_named(tmp_path: Path) -> None:
    data, file = tables.seeds()["a.tar"], tmp_path / "a.tar"
    at = tables.headers(data)[4]
    for what, reason in (
        ("a bit flipped", f"a.tar is damaged: the header at byte {at:,} is broken"),
        ("an end before it", f"ends at byte {at:,}, but more data follows at byte {at + 10_240:,}"),
    ):
        file.write_bytes(tables.with_damage(data, at, what, random.Random(1)))
        with pytest.raises(DataError, match=reason):
            open_images(file)
    file.write_bytes(data[: at + 700])
    with pytest.raises(DataError, match=f"damaged after byte {at:,}: unexpected end of data"):
        open_images(file)
    file.write_bytes(data + data)
    with pytest.raises(DataError, match="or several tars in one file"):
        open_images(file)


@pytest.mark.parametrize("name", ["b.tar", "c.tar"])
@pytest.mark.parametrize("at", [*range(4), *range(12, 20)])
def test_a_long_name_that_is_cut_by_damage_is_not_used(tmp_path: Path, name: str, at: int) -> None:
    data, file = tables.seeds()[name], tmp_path / "a.tar"
    start = 512 + at
    file.write_bytes(data[:start] + bytes(512 - at) + data[1024:])
    with pytest.raises(DataError, match="the long header at byte 512 is broken"):
        open_images(file)


@pytest.mark.parametrize("padding", [1024, 1536, 10_240, tables.MIB])
def test_zeros_at_the_end_of_a_tar_are_its_end(tmp_path: Path, padding: int) -> None:
    data, file = tables.seeds()["a.tar"].rstrip(b"\0"), tmp_path / "a.tar"
    file.write_bytes(data.ljust(-(-len(data) // 512) * 512 + padding, b"\0"))
    images = open_images(file)
    assert (len(images), images.remarks) == (4, [])


@pytest.mark.parametrize(
    ("padding", "remark"),
    [
        (0, "its end is missing, so it may be cut off"),
        (512, "its end is missing, so it may be cut off"),
        (3 * tables.MIB, "it ends with 3,145,728 bytes of zeros, so it may not be copied completely"),
    ],
)
def test_an_unusual_end_of_a_tar_is_reported(tmp_path: Path, padding: int, remark: str) -> None:
    data, file = tables.seeds()["a.tar"].rstrip(b"\0"), tmp_path / "a.tar"
    file.write_bytes(data.ljust(-(-len(data) // 512) * 512 + padding, b"\0"))
    images = open_images(file)
    assert len(images) == 4
    ((_, found),) = images.remarks
    assert found.startswith(remark)


@pytest.mark.skipif(not shutil.which("tar") or sys.platform != "linux", reason="needs GNU tar")
@pytest.mark.parametrize("options", [["-b1"], ["-b20"], ["-b2048"], ["-Hpax"], ["-Hv7"], ["-Hustar"], ["-Holdgnu"]])
def test_what_gnu_tar_writes_is_read_without_a_remark(tmp_path: Path, options: list[str]) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(5):
        (folder / f"{number}.jpg").write_bytes(tables.jpeg(number))
    subprocess.run(["tar", *options, "-cf", tmp_path / "a.tar", "-C", tmp_path, "photos"], check=True)
    (folder / "5.jpg").write_bytes(tables.jpeg(5))
    subprocess.run(["tar", *options, "-rf", tmp_path / "a.tar", "-C", tmp_path, "photos/5.jpg"], check=True)
    images = open_images(tmp_path / "a.tar")
    assert (sorted(images.ids), images.remarks) == ([f"photos/{number}" for number in range(6)], [])


def test_a_picture_that_is_in_a_tar_twice_is_reported(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for name, value in (("a.jpg", 10), ("b.jpg", 20), ("a.jpg", 30), ("b.png", 40)):
            info = tarfile.TarInfo(name)
            info.size = len(tables.jpeg(value))
            archive.addfile(info, io.BytesIO(tables.jpeg(value)))
    images = open_images(tmp_path / "a.tar")
    assert (images.ids, images.read(0)) == (["a", "b", "b.png"], tables.jpeg(30))
    remark = "a.jpg is in the tar again; the last one is used"
    assert images.remarks == [(str(tmp_path / "a.tar"), remark)]
    (tmp_path / "b.tar").write_bytes(tables.tar({"0.jpg": tables.jpeg(7)}))
    assert open_images(tmp_path / "*.tar").remarks == [("a.tar", remark)]
    assert open_images([tmp_path / "a.tar", tmp_path / "b.tar"]).remarks == [("a.tar", remark)]


@pytest.mark.skipif(os.name == "nt", reason="no pipes in folders there")
@pytest.mark.parametrize("name", ["a.tar", "a.parquet"])
def test_a_pipe_is_not_waited_for(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)
    for given in (tmp_path / name, tmp_path / f"*{name[1:]}"):
        with pytest.raises(DataError, match=rf": {name}: it is not a regular file; copy what it gives into a file$"):
            open_images(given)


@pytest.mark.parametrize("what", tables.DAMAGE)
def test_an_update_keeps_the_pictures_of_a_damaged_tar(tmp_path: Path, tiny_model: Model, what: str) -> None:
    data, file = tables.tar({f"{n}.jpg": tables.jpeg(n * 20) for n in range(12)}), tmp_path / "a.tar"
    other = tmp_path / "b.tar"
    file.write_bytes(data)
    other.write_bytes(tables.tar({"0.jpg": tables.jpeg(7), "1.jpg": tables.jpeg(8)}))
    damaged = tables.with_damage(data, tables.headers(data)[8], what, random.Random(1))
    ImageIndex.build(tmp_path / "one", tiny_model, file).close()
    ImageIndex.build(tmp_path / "two", tiny_model, open_images([file, other])).close()
    file.write_bytes(damaged)
    other.write_bytes(tables.tar({"0.jpg": tables.jpeg(7)}))
    with ImageIndex.open(tmp_path / "one") as index:
        with pytest.raises(DataError, match=r"a\.tar is damaged"):
            open_images(index.store.manifest.origin)
        assert len(index) == 12
    with ImageIndex.open(tmp_path / "two") as index:
        report = index.sync(open_images(index.store.manifest.origin))
        assert (len(index), report.removed, report.kept) == (13, 1, 12)
        assert "a.tar is damaged" in report.unseen[0][1]
    kept = [fault for fault in faults(tmp_path / "two", pictures=True) if "(a.tar/" in fault]
    assert len(kept) == 12
    assert all("it is missing: " in fault and "a.tar is damaged" in fault for fault in kept)


def test_a_flipped_bit_in_a_tar_ends_an_update_in_one_line(
    tmp_path: Path, model_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, file, out = (
        tables.tar({f"{n}.jpg": tables.jpeg(n * 20) for n in range(12)}),
        tmp_path / "a.tar",
        tmp_path / "i",
    )
    file.write_bytes(data)
    assert run_spq("index", file, "--model", model_folder, "--out", out) == 0
    before, at = content(out), tables.headers(data)[8]
    file.write_bytes(tables.with_damage(data, at, "a bit flipped", random.Random(1)))
    capsys.readouterr()
    assert run_spq("index", out) == 1
    assert f"a.tar is damaged: the header at byte {at:,} is broken" in capsys.readouterr().err
    assert content(out) == before
    file.write_bytes(data)
    assert run_spq("index", out) == 0
    assert "12 unchanged" in capsys.readouterr().out
