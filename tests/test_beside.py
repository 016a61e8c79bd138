from __future__ import annotations

from pathlib import Path

import pytest

from spq.dupes.beside import Beside


@pytest.mark.parametrize(
    ("name", "others", "found"),
    [
        ("IMG_1.JPG", ["IMG_1.MOV", "IMG_1.jpg.xmp", "IMG_10.MOV"], {"IMG_1.MOV", "IMG_1.jpg.xmp"}),
        ("img_1.heic", ["IMG_1.AAE", "IMG_1.txt.bak"], {"IMG_1.AAE"}),
        (
            "b.jpg",
            ["b.jpg.supplemental-metadata.json", "b.jpg.json"],
            {"b.jpg.supplemental-metadata.json", "b.jpg.json"},
        ),
        ("c.jpg", ["c.cr2.xmp", "c.cr2", "c.png", "c"], set()),  # of the raw, or pictures of their own
        ("a.b.jpg", ["a.b.xmp", "a.xmp", "b.xmp"], {"a.b.xmp"}),
        ("x", ["x.xmp"], {"x.xmp"}),
    ],
)
def test_the_files_that_belong_to_a_picture_are_found_by_its_name(
    name: str, others: list[str], found: set[str], tmp_path: Path
) -> None:
    for each in (name, *others):
        (tmp_path / each).write_bytes(b"x")
    names = Beside().of(tmp_path / name)
    assert set(names) == found
    assert len(names) == len(found)


def test_a_picture_in_a_container_or_in_a_folder_that_is_gone_has_no_such_files(tmp_path: Path) -> None:
    assert Beside().of(None) == ()
    assert Beside().of(tmp_path / "gone" / "a.jpg") == ()
