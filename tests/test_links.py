from __future__ import annotations

import os
from pathlib import Path

from PIL import Image

from spq.dupes.facts import Facts
from spq.dupes.keep import Preference
from spq.dupes.links import freed_bytes, note_of_link, with_files


def facts_of(root: Path, *names: str) -> list[Facts]:
    return [with_files(Facts(name, (root / name).stat().st_size, 0), root / name, [str(root)]) for name in names]


def test_links_of_files_and_folders_are_recognised_and_a_link_on_the_way_to_the_collection_is_none(
    tmp_path: Path,
) -> None:
    (tmp_path / "real" / "in").mkdir(parents=True)
    Image.new("RGB", (9, 9)).save(tmp_path / "real" / "in" / "a.png")
    (tmp_path / "real" / "b.png").symlink_to("in/a.png")
    (tmp_path / "real" / "linked").symlink_to("in")
    os.link(tmp_path / "real" / "in" / "a.png", tmp_path / "real" / "c.png")
    (tmp_path / "way").symlink_to("real")
    for root in (tmp_path / "real", tmp_path / "way"):
        a, b, c, d = facts_of(root, "in/a.png", "b.png", "c.png", "linked/a.png")
        assert [each.is_link for each in (a, b, c, d)] == [False, True, False, False]
        assert [each.is_behind_link for each in (a, b, c, d)] == [False, False, False, True]
        assert len({each.inode for each in (a, b, c, d)}) == 1
        assert a.names == 2
        assert note_of_link(b, [a, c]).startswith("link to ")
        assert note_of_link(d, [a, b]) == "the same file as in/a.png, over a linked folder"
        assert note_of_link(a, [d, b]) == "the same file as linked/a.png, over a linked folder"
        assert note_of_link(c, [a, b]) == "hard link of in/a.png, frees nothing"
        assert note_of_link(a, [b, d]) == ""


def test_a_link_out_of_the_collection_names_its_target(tmp_path: Path) -> None:
    Image.new("RGB", (9, 9)).save(tmp_path / "outside.png")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "x.png").symlink_to(tmp_path / "outside.png")
    (link,) = facts_of(tmp_path / "in", "x.png")
    assert note_of_link(link, []) == f"link to {os.path.realpath(tmp_path / 'outside.png')}"


def test_a_file_of_a_linked_folder_is_a_file_and_a_link_to_it_is_a_link(tmp_path: Path) -> None:
    (tmp_path / "disk" / "x").mkdir(parents=True)
    (tmp_path / "in").mkdir()
    (tmp_path / "disk" / "x" / "a.png").write_bytes(b"x" * 100)
    (tmp_path / "disk" / "x" / "b.png").write_bytes(b"x" * 100)
    (tmp_path / "in" / "linked").symlink_to(tmp_path / "disk")
    (tmp_path / "in" / "a.png").symlink_to(tmp_path / "disk" / "x" / "a.png")
    a, b, link = facts_of(tmp_path / "in", "linked/x/a.png", "linked/x/b.png", "a.png")
    assert note_of_link(link, [a, b]) == "link to linked/x/a.png"
    assert note_of_link(a, [b, link]) == note_of_link(b, [a, link]) == ""  # deleting it frees its bytes
    assert freed_bytes([a], [b]) == 100
    assert min((a, link), key=Preference().order) is a


def test_links_and_names_that_stay_free_no_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.png").write_bytes(b"x" * 100)
    (tmp_path / "l.png").symlink_to("b.png")
    os.link(tmp_path / "b.png", tmp_path / "h.png")
    a, b, link, hard = facts_of(tmp_path, "a.png", "b.png", "l.png", "h.png")
    assert freed_bytes([a], [link]) == 0
    assert freed_bytes([a, hard], [b]) == 0
    os.link(tmp_path / "a.png", tmp_path / "other.png")
    (tmp_path / "alone.png").write_bytes(b"x" * 100)
    (tmp_path / "to-alone.png").symlink_to("alone.png")
    alone, to_alone = facts_of(tmp_path, "alone.png", "to-alone.png")
    assert freed_bytes([a, to_alone], [alone]) == 100  # a symbolic link holds no bytes
    assert note_of_link(to_alone, [a, alone]) == "link to alone.png, and leads nowhere without it"
    assert note_of_link(to_alone, [alone]) == "link to alone.png"
    assert freed_bytes([a], [b]) == 0  # another name of the file is left
    assert freed_bytes([a], [b, hard, link]) == 100
    assert freed_bytes([], [Facts("in a container", 70, 0)]) == 70
