"""The folder of a site: never half there, brought up to date, and nothing in it that is not the site's."""

from __future__ import annotations

import errno
import io
import json
import os
import shutil
import sqlite3
import tarfile
import threading
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from faults.web_site import drill_site
from spq.cli.export_command import web_options
from spq.cli.main import run
from spq.common.parallel import AHEAD
from spq.config import DISTANCES
from spq.data import image_set
from spq.errors import ConfigError, DataError, SPQError, StoreError
from spq.index.image_index import ImageIndex
from spq.model.model import Model
from spq.pq.tables import Codebooks, distance_tables
from spq.web.layout import Layout, layout_file, write_layout
from spq.web.site import runtime, site, site_folder, thumbnail_files
from spq.web.site.content import PAGE, tables_of_codewords
from spq.web.site.site import Options, export_web
from spq.web.unusual import Features, unusual_first

SMALL = Options(thumbnail=32)


@pytest.fixture
def index(tiny_model: Model, photos: Path, tmp_path: Path) -> Path:
    ImageIndex.build(tmp_path / "p.index", tiny_model, photos).close()
    return tmp_path / "p.index"


def everything(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def thumbnails(root: Path) -> list[Path]:
    return sorted(root.glob("thumbs/??/*.jpg"))


def test_a_damaged_row_is_left_out_of_a_site_and_reported(index: Path, tmp_path: Path) -> None:
    database = sqlite3.connect(index / "items.sqlite", isolation_level=None)
    database.execute("UPDATE items SET metadata = '{' WHERE id = 7")
    database.close()
    facts = export_web(index, tmp_path / "site", Options())
    assert facts["images"] == 59
    assert facts["without"] == [("item 7", "left out: the checksum of its row does not match")]


def test_a_site_takes_over_what_was_computed_of_the_collection(
    index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The order of unusual pictures, and the map by neighbours."""
    monkeypatch.setenv("SPQ_CACHE", str(tmp_path / "cache"))

    def exported() -> tuple[Path, str]:
        export_web(index, tmp_path / "site", SMALL)
        content = next((tmp_path / "site").glob("content-*"))
        return content, (content / "static" / "settings.js").read_text()

    content, settings_ = exported()
    assert '"unusual": false' in settings_
    assert not (content / "order-unusual.bin").exists()
    with ImageIndex.open(index) as opened:
        ids, codes = opened.store.codes()
        first = unusual_first(ids, Features(opened))
        points = np.random.default_rng(0).normal(size=(len(ids), 2)).astype(np.float32)
        write_layout(layout_file(opened.store.manifest, index), Layout(ids, codes, points))
    content, settings_ = exported()
    assert '"unusual": true' in settings_
    rows = np.frombuffer((content / "order-unusual.bin").read_bytes(), "<u4")
    assert ids[rows].tolist() == first.tolist()
    assert points.T.tobytes() in (content / "map.bin").read_bytes()


def test_a_site_holds_each_picture_once_and_its_facts(index: Path, photos: Path, tmp_path: Path) -> None:
    shutil.copy(next(photos.rglob("*.png")), photos / "twin.png")
    with ImageIndex.open(index) as opened:
        opened.sync(photos)
    facts = export_web(index, tmp_path / "site", SMALL)
    assert facts["thumbnails"] == {"made": 60, "kept": 0, "dropped": 0}
    assert (facts["images"], facts["without"], facts["runtime"], facts["duplicates"]) == (61, [], None, None)
    shown = thumbnails(tmp_path / "site")
    assert len(shown) == 60
    with Image.open(shown[0]) as opened_image:
        assert max(opened_image.size) == 32
    content = tmp_path / "site" / facts["content"]
    items = json.loads((content / "items/0/0.json").read_text("utf-8"))
    assert {f"thumbs/{item['thumb'][:2]}/{item['thumb']}.jpg" for item in items} == {
        path.relative_to(tmp_path / "site").as_posix() for path in shown
    }
    assert len(items) == 61 <= PAGE
    assert not (content / "ort").exists()
    assert not list(tmp_path.glob(".*"))
    assert not list((tmp_path / "site").rglob(".*"))


def test_a_second_run_changes_no_byte_and_one_after_changes_makes_what_is_new(
    index: Path, photos: Path, tmp_path: Path
) -> None:
    out = tmp_path / "site"
    export_web(index, out, SMALL)
    before = everything(out)
    (out / "CNAME").write_text("pictures.example.org")
    times = {path: path.stat().st_mtime_ns for path in thumbnails(out)}
    assert export_web(index, out, SMALL)["thumbnails"] == {"made": 0, "kept": 60, "dropped": 0}
    assert everything(out) == before | {"CNAME": b"pictures.example.org"}
    assert times == {path: path.stat().st_mtime_ns for path in thumbnails(out)}

    gone, changed, *_ = sorted(photos.rglob("*.jpg"))
    gone.unlink()
    Image.effect_mandelbrot((50, 70), (-2, -1, 1, 1), 50).convert("RGB").save(changed)
    with ImageIndex.open(index) as opened:
        opened.sync(photos)
    assert export_web(index, out, SMALL)["thumbnails"] == {"made": 1, "kept": 58, "dropped": 2}
    assert len(list(out.glob("content-*"))) == 1
    assert (out / "CNAME").exists()
    assert export_web(index, out, Options(thumbnail=48))["thumbnails"]["dropped"] == 59


class StopError(Exception):
    pass


def fails_at(number: int, error: BaseException) -> Callable[..., Any]:
    """`Image.Image.save`, until it is called so often."""
    calls, real = iter(range(10**6)), Image.Image.save

    def save(*arguments: Any, **options: Any) -> None:
        if next(calls) >= number:
            raise error
        real(*arguments, **options)

    return save


def test_an_export_that_is_stopped_leaves_no_site_and_the_next_goes_on(
    index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "deep" / "site"
    with monkeypatch.context() as patched:
        patched.setattr(Image.Image, "save", fails_at(20, KeyboardInterrupt()))
        with pytest.raises(KeyboardInterrupt):
            export_web(index, out, SMALL)
    assert not out.exists()
    facts = export_web(index, out, SMALL)
    assert facts["thumbnails"] == {"made": 40, "kept": 20, "dropped": 0}
    fresh = export_web(index, tmp_path / "other", SMALL)
    assert everything(out) == everything(tmp_path / "other")
    assert fresh["content"] == facts["content"]
    assert [path.name for path in out.parent.iterdir()] == ["site"]


@pytest.mark.parametrize("where", ["thumbnails", "content", "page", "commit"])
def test_an_update_that_fails_at_any_point_leaves_the_site_as_it_was(
    index: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    out = tmp_path / "site"
    export_web(index, out, SMALL)
    before = everything(out)
    Image.effect_mandelbrot((50, 70), (-2, -1, 1, 1), 50).convert("RGB").save(photos / "new.png")
    with ImageIndex.open(index) as opened:
        opened.sync(photos)

    def broken(*_: object, **__: object) -> None:
        raise StopError

    target, name = {
        "thumbnails": (Image.Image, "save"),
        "content": (site.Content, "finish"),
        "page": (site, "write_page"),
        "commit": (site_folder.Replacing, "__exit__"),
    }[where]
    with monkeypatch.context() as patched:
        patched.setattr(target, name, broken)
        with pytest.raises(StopError):
            export_web(index, out, SMALL)
    now = everything(out)
    assert {name: now.get(name) for name in before} == before  # and what is more is not linked from anywhere
    assert export_web(index, out, SMALL)["images"] == 61
    assert len(list(out.glob("content-*"))) == 1
    assert not list(out.rglob(".*"))


def test_a_full_disk_is_one_line_with_a_remedy(
    index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Image.Image, "save", fails_at(5, OSError(errno.ENOSPC, "No space left on device")))
    assert run(["export", str(index), "--to", "web", "--out", str(tmp_path / "site")]) == 1
    told = capsys.readouterr().err.strip().splitlines()[-1]
    assert told == f"spq: the disk of {tmp_path / 'site'} is full; free some space, then export again to continue"
    assert not (tmp_path / "site").exists()


def test_ctrl_c_says_how_to_go_on(
    index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Image.Image, "save", fails_at(5, KeyboardInterrupt()))
    assert run(["export", str(index), "--to", "web", "--out", str(tmp_path / "site")]) == 130
    assert "stopped; finished thumbnails are kept, run the same command to continue" in capsys.readouterr().err


def test_what_is_not_ours_is_not_written_into(index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(ConfigError, match="file is a file; give a folder"):
        export_web(index, tmp_path / "file", SMALL)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("x")
    with pytest.raises(ConfigError, match=r"mine holds other files \(letter.txt\); give a new folder"):
        export_web(index, tmp_path / "mine", SMALL)
    with pytest.raises(ConfigError, match="holds other files"):
        export_web(index, index, SMALL)
    (tmp_path / "newer").mkdir()
    (tmp_path / "newer" / site_folder.MARKER).write_text('{"format": 9}')
    with pytest.raises(ConfigError, match="is a site of format 9, this spq writes 1"):
        export_web(index, tmp_path / "newer", SMALL)
    (tmp_path / "newer" / site_folder.MARKER).write_text("[]")
    with pytest.raises(ConfigError, match="is damaged"):  # and there is nothing else of a site
        export_web(index, tmp_path / "newer", SMALL)
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    with pytest.raises(ConfigError, match="is the current folder"):
        export_web(index, Path(), SMALL)
    monkeypatch.chdir(tmp_path)
    export_web(index, Path("empty"), SMALL)  # an empty one is as good as none
    assert (tmp_path / "empty" / "index.html").exists()


def test_a_damaged_site_is_repaired_by_the_next_export(photo_index: Path, tmp_path: Path) -> None:
    counts = drill_site(photo_index, tmp_path, mutations=60, at_once=20, rng=np.random.default_rng(0))
    assert (counts["not repaired"], counts["touched outside"], counts["tracebacks"]) == (0, 0, 0)


@pytest.mark.parametrize("name", ["thumbs", "index.html", site_folder.MARKER, ".lock", "content", "content/ids.bin"])
def test_links_inside_a_site_are_replaced_and_not_followed(index: Path, tmp_path: Path, name: str) -> None:
    site, outside = tmp_path / "site", tmp_path / "outside"
    facts = export_web(index, site, SMALL)
    fresh = everything(site)
    place = site / name.replace("content", facts["content"])
    if place.exists():
        place.rename(outside)  # so that what the link leads to is right, and only its place is not
    else:
        outside.write_text("mine")
    before = everything(outside) if outside.is_dir() else outside.read_bytes()
    place.symlink_to(outside)
    export_web(index, site, SMALL)
    assert not place.is_symlink()
    assert everything(site) == fresh
    assert before == (everything(outside) if outside.is_dir() else outside.read_bytes())


def test_two_exports_to_one_place_are_kept_apart(index: Path, tmp_path: Path) -> None:
    with site_folder.open_site(tmp_path / "site"), pytest.raises(StoreError, match="another process is exporting to"):
        export_web(index, tmp_path / "site", SMALL)


def test_pictures_that_are_gone_or_changed_are_named_and_stay_searchable(
    index: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gone, changed, *_ = sorted(photos.rglob("*.jpg"))
    gone.unlink()
    os.utime(changed, ns=(1, 1))
    arguments = ["export", str(index), "--to", "web", "--out", str(tmp_path / "site"), "--json"]
    assert run(arguments) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["images"] == 60
    reasons = dict(facts["without"])
    assert reasons == {
        gone.relative_to(photos).as_posix(): image_set.MISSING,
        changed.relative_to(photos).as_posix(): image_set.CHANGED,
    }
    for path in photos.rglob("*.*"):
        path.unlink()
    shutil.copy(Path(__file__).parent.parent / "docs/images/demo.png", photos)
    with pytest.raises(DataError, match=r"no picture of .*photos can be shown, for example .*: it is missing"):
        export_web(index, tmp_path / "site2", SMALL)
    assert not (tmp_path / "site2").exists()
    shutil.rmtree(photos)
    with pytest.raises(DataError, match="no such folder or file"):
        export_web(index, tmp_path / "site2", SMALL)


def test_thumbnails_are_made_with_little_in_memory(
    index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pages are taken only as fast as they are finished."""
    with ImageIndex.open(index) as opened:
        items = list(opened.store.items())
        images = site.open_images(opened.store.manifest.source)
    writer = thumbnail_files.ThumbnailWriter(images, tmp_path / "t", 32, workers=2)
    (tmp_path / "t").mkdir()
    taken = 0

    def pages() -> Any:
        nonlocal taken
        for item in items:
            taken += 1
            yield [item]

    written = writer.write(pages())
    next(written)
    assert taken <= AHEAD * 2 + 1
    written.close()
    assert 0 < len(list((tmp_path / "t").rglob("*.jpg"))) <= AHEAD * 2 + 1


@pytest.mark.parametrize("distance", DISTANCES)
@given(shape=st.tuples(st.integers(1, 5), st.sampled_from([2, 16, 64]), st.integers(1, 19)), seed=st.integers(0, 999))
@settings(max_examples=30, deadline=None)
def test_tables_cut_from_those_of_codewords_are_those_of_the_code(
    distance: str, shape: tuple[int, int, int], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    M, K, _ = shape
    codebooks = rng.normal(size=shape).astype(np.float32)
    code = rng.integers(0, K, M)
    x = codebooks[np.arange(M), code].reshape(1, -1)
    cut = tables_of_codewords(Codebooks(codebooks), distance)[code, np.arange(M)]
    np.testing.assert_array_equal(cut, distance_tables(x, codebooks, distance)[0])


def test_options_of_a_site_are_for_a_site(capsys: pytest.CaptureFixture[str], index: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--dupes works only with --to web; omit it"):
        web_options("faiss", None, True, None)
    with pytest.raises(ConfigError, match="`thumbnail` must be 16 to 1024 pixels, got 8"):
        web_options("web", 8, False, None)
    assert web_options("codes", None, False, None) is None
    assert run(["export", str(index / "model"), "--to", "web", "--out", str(tmp_path / "s")]) == 2
    assert "is a model and has no codes; --to web needs an index" in capsys.readouterr().err


def package(name: str = runtime.NAME, leave_out: str = "", version: str = "1.99.0") -> bytes:
    """An npm package in miniature."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        files = {"package.json": json.dumps({"name": name, "version": version}).encode()}
        files |= {path: path.encode() for path in (*runtime.FILES, "../../escape", "dist/other.js")}
        for path, data in files.items():
            if path != leave_out:
                entry = tarfile.TarInfo(f"package/{path}")
                entry.size = len(data)
                tar.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()


def test_the_runtime_is_read_from_a_package_or_its_folder(tmp_path: Path) -> None:
    (tmp_path / "ort.tgz").write_bytes(package())
    expected = ("1.99.0", {to: path.encode() for path, to in runtime.FILES.items()})
    assert runtime.read_runtime(str(tmp_path / "ort.tgz")) == expected
    for path in ("package.json", *runtime.FILES):
        (tmp_path / "unpacked" / path).parent.mkdir(parents=True, exist_ok=True)
        content = json.dumps({"name": runtime.NAME, "version": "1.99.0"}) if path == "package.json" else path
        (tmp_path / "unpacked" / path).write_text(content)
    assert runtime.read_runtime(str(tmp_path / "unpacked")) == expected


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "cannot be read: "),
        (b"not a package", "cannot be read: "),
        (package()[:200], "cannot be read: "),
        (package(name="left-pad"), "is left-pad; give the .tgz of npm pack onnxruntime-web"),
        (package(leave_out="dist/ort-wasm-simd-threaded.wasm"), "lacks package.json, dist/"),
        (package(leave_out="package.json"), "lacks package.json, dist/"),
    ],
)
def test_what_is_no_such_package_is_refused_before_anything_is_written(
    index: Path, tmp_path: Path, content: bytes, told: str
) -> None:
    (tmp_path / "x.tgz").write_bytes(content)
    with pytest.raises(SPQError, match=told):
        export_web(index, tmp_path / "site", Options(onnxruntime_web=str(tmp_path / "x.tgz")))
    with pytest.raises(ConfigError, match=r"nowhere.tgz: no such file; run npm pack"):
        export_web(index, tmp_path / "site", Options(onnxruntime_web="nowhere.tgz"))
    assert not (tmp_path / "site").exists()
    assert not list(tmp_path.glob(".site*"))


@given(
    cut=st.integers(0, len(package())),
    flips=st.lists(st.tuples(st.integers(0, 10**6), st.integers(1, 255)), max_size=4),
)
@settings(max_examples=60, deadline=None)
def test_a_damaged_package_is_an_error_of_ours_or_none(
    tmp_path_factory: pytest.TempPathFactory, cut: int, flips: Any
) -> None:
    data = bytearray(package()[:cut])
    for position, bits in flips:
        if data:
            data[position % len(data)] ^= bits
    path = tmp_path_factory.mktemp("package") / "x.tgz"
    path.write_bytes(bytes(data))
    told = ""
    try:
        runtime.read_runtime(str(path))
    except SPQError as error:
        told = str(error)
    assert len(told.splitlines()) <= 1


def test_it_is_fetched_only_when_asked_and_only_as_it_was_published(
    index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    class Registry(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            asked.append(self.path)

    name = f"{runtime.NAME}-{runtime.VERSION}.tgz"
    (tmp_path / "registry" / runtime.NAME / "-").mkdir(parents=True)
    (tmp_path / "registry" / runtime.NAME / "-" / name).write_bytes(package())
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Registry, directory=str(tmp_path / "registry")))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("npm_config_registry", f"http://127.0.0.1:{server.server_port}/")
    export_web(index, tmp_path / "site", SMALL)
    assert not asked
    with pytest.raises(DataError, match=r"is not the onnxruntime-web .* that was published"):
        export_web(index, tmp_path / "site", replace(SMALL, onnxruntime_web="fetch"))
    assert asked == [f"/{runtime.NAME}/-/{name}"]
    server.shutdown()
    server.server_close()
    with pytest.raises(DataError, match=r"cannot download http://127.0.0.1:.*; run npm pack"):
        export_web(index, tmp_path / "site", replace(SMALL, onnxruntime_web="fetch"))
    monkeypatch.setenv("npm_config_registry", "file:///etc")
    with pytest.raises(ConfigError, match="is not a web address"):
        export_web(index, tmp_path / "site", replace(SMALL, onnxruntime_web="fetch"))


def test_without_onnx_one_line_says_what_to_install(
    index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(site, "find_spec", lambda name: None)
    with pytest.raises(
        ConfigError, match=r"`onnxruntime_web` needs the package onnx, .* pip install 'spq-retrieval\[onnx\]'"
    ):
        export_web(index, tmp_path / "site", Options(onnxruntime_web="fetch"))
    assert not (tmp_path / "site").exists()
