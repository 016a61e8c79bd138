from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from spq.errors import ModelMismatchError, StoreError
from spq.index.codebooks import read_codebooks, read_input_size
from spq.index.manifest import read_manifest
from spq.index.model_copy import ModelCopy
from spq.index.store import Store
from spq.model.model import Model
from spq.model.network import Network


@pytest.fixture
def copy(photo_index: Path) -> ModelCopy:
    return ModelCopy(photo_index, read_manifest(photo_index))


def test_codebooks_input_size_and_tables_are_the_models(copy: ModelCopy, tiny_model: Model) -> None:
    np.testing.assert_array_equal(copy.decoder.words, tiny_model.codebooks)
    assert copy.input_size == tiny_model.config.input.size == 28
    x = np.random.default_rng(0).normal(size=(5, 32)).astype(np.float32)
    np.testing.assert_allclose(copy.tables(x), tiny_model.tables(x), rtol=1e-5, atol=1e-6)


def test_codebooks_need_no_torch(photo_index: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from spq.index.model_copy import ModelCopy; "
        "from spq.index.format import read_manifest; folder = Path(sys.argv[1]); "
        "copy = ModelCopy(folder, read_manifest(folder)); copy.decoder, copy.input_size; print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(photo_index)], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_the_model_is_loaded_once_for_all_threads(copy: ModelCopy, tiny_model: Model) -> None:
    barrier = threading.Barrier(4)
    with ThreadPoolExecutor(4) as pool:
        models = list(pool.map(lambda _: (barrier.wait(), copy.model)[1], range(4)))
    assert len({id(model) for model in models}) == 1
    assert models[0].hash == tiny_model.hash


def test_a_loaded_model_is_written_once_and_another_model_is_refused(
    photo_index: Path, tiny_model: Model, tmp_path: Path
) -> None:
    manifest, folder = read_manifest(photo_index), tmp_path / "i"
    copy = ModelCopy(folder, manifest)
    with Store.create(folder, manifest) as store, store.writing():
        copy.keep(store)
        assert not (folder / "model").exists()  # nothing is loaded
        copy.use(tiny_model)
        copy.keep(store)
        assert Model.load(folder / "model").hash == tiny_model.hash
        written = (folder / "model" / "config.json").stat().st_mtime_ns
        copy.keep(store)
        ModelCopy(folder, store.manifest, tiny_model).keep(store)
        assert (folder / "model" / "config.json").stat().st_mtime_ns == written
    other = Model(Network(tiny_model.config), tiny_model.config)
    with pytest.raises(ModelMismatchError, match=rf"codes of model {manifest.model}, not of {other.hash}"):
        copy.use(other)


def test_a_copy_that_is_missing_damaged_or_of_another_model_is_refused(
    photo_index: Path, tiny_model: Model, tmp_path: Path
) -> None:
    manifest = read_manifest(photo_index)
    with pytest.raises(StoreError, match="its copy of the model does not load"):
        read_codebooks(tmp_path, manifest)
    with pytest.raises(StoreError, match="its copy of the model does not load"):
        read_input_size(tmp_path)
    tiny_model.save(tmp_path / "model")
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    (tmp_path / "model" / "config.json").write_text(json.dumps({**config, "hash": "other"}))
    with pytest.raises(ModelMismatchError, match="not of other"):
        read_codebooks(tmp_path, manifest)


@pytest.mark.skipif(os.name == "nt", reason="names are text there")
@pytest.mark.parametrize("name", [b"f\xfcr.index", b"\xff\xfe"])
def test_the_model_is_read_in_a_folder_whose_name_is_not_utf8(name: bytes, photo_index: Path, tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(name)
    shutil.copytree(photo_index, folder)
    odd, plain = (ModelCopy(place, read_manifest(place)) for place in (folder, photo_index))
    np.testing.assert_array_equal(odd.decoder.words, plain.decoder.words)
    assert odd.model.hash == plain.model.hash
    odd.model.save(tmp_path / os.fsdecode(name + b".spq"))


def test_a_file_that_the_system_does_not_open_is_no_reason_to_build_again(
    photo_index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, whole = tmp_path / "i", os.open
    shutil.copytree(photo_index, folder)
    manifest = read_manifest(folder)
    for shut, number, remedy in (
        (
            "config.json",
            errno.EACCES,
            "its copy of the model cannot be read: Permission denied; give yourself permission",
        ),
        ("config.json", errno.EIO, "its copy of the model cannot be read: Input/output error; check its disk"),
        ("manifest.json", errno.EACCES, "manifest.json cannot be read: Permission denied; give yourself permission"),
    ):

        def opened(file: Any, *args: Any, shut: str = shut, number: int = number, **options: Any) -> Any:
            if Path(os.fsdecode(file)).name == shut:
                raise OSError(number, os.strerror(number), str(file))
            return whole(file, *args, **options)

        monkeypatch.setattr(os, "open", opened)
        with pytest.raises(StoreError, match=remedy) as caught:
            read_codebooks(folder, manifest if shut == "config.json" else read_manifest(folder))
        assert "build" not in str(caught.value)


def test_a_link_in_the_copy_is_replaced_and_its_target_stays(
    photo_index: Path, tiny_model: Model, tmp_path: Path
) -> None:
    folder = shutil.copytree(photo_index, tmp_path / "i")
    (tmp_path / "other").write_bytes(b"of another model")
    weights = folder / "model" / "model.safetensors"
    sound = weights.read_bytes()
    weights.unlink()
    weights.symlink_to(tmp_path / "other")
    with Store.open(folder) as store, store.writing():
        ModelCopy(folder, store.manifest, tiny_model).keep(store)
    assert (weights.is_symlink(), weights.read_bytes()) == (False, sound)
    assert (tmp_path / "other").read_bytes() == b"of another model"
