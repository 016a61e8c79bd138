from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from small_training import FROZEN, sample_images, small_recipe
from spq.errors import ModelError, SpaceError
from spq.model.model import Model
from spq.model.network import Network
from spq.training.out_folder import LOCK, check_room, check_space, one_training
from spq.training.train import train


def test_a_second_training_into_the_same_folder_is_refused_and_the_first_one_goes_on(tmp_path: Path) -> None:
    images, refused = sample_images(48), []

    def try_second(epoch: int, network: object) -> None:
        with pytest.raises(
            ModelError, match=r"another process is training in .*m; wait for it to end, or give another"
        ):
            train(images, small_recipe(seed=1), tmp_path / "m", measure=False)
        refused.append(epoch)

    recipe = small_recipe(epochs=2, batch_size=12)
    model = train(images, recipe, tmp_path / "m", on_epoch=try_second, measure=False)
    assert refused == [1, 2]
    assert Model.load(tmp_path / "m").hash == model.hash
    assert not (tmp_path / "m" / LOCK).exists()


def test_another_process_holds_the_folder_until_it_is_killed(tmp_path: Path) -> None:
    code = f"""
import pathlib, sys
from spq.training.out_folder import one_training
with one_training(pathlib.Path({str(tmp_path)!r})):
    print("holds", flush=True)
    sys.stdin.read()
"""
    with subprocess.Popen([sys.executable, "-c", code], stdin=-1, stdout=-1, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "holds\n"
        with pytest.raises(ModelError, match="another process"), one_training(tmp_path):
            pass
        process.kill()
    with one_training(tmp_path):
        assert (tmp_path / LOCK).exists()


def test_parts_of_files_of_killed_trainings_are_deleted_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    stale = [".config.json.12", ".model.safetensors.1234-0", "checkpoints/.last.pt.99-3"]
    others = [".config.json", ".config.json.bak", "notes.12", ".DS_Store", "checkpoints/last.pt", ".other.json.12"]
    others.append(f".config.json.{os.getpid()}-7")  # this process may be writing it
    for name in (*stale, *others):
        (tmp_path / name).write_text("x")
    with one_training(tmp_path):
        pass
    left = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert left == set(others)


def test_a_training_that_is_refused_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="too early"), one_training(tmp_path / "new"):
        raise ModelError("too early")
    assert not (tmp_path / "new").exists()


def test_space_is_checked_for_model_and_checkpoints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = small_recipe()
    network = Network(recipe)
    tensors = sum(tensor.numel() * tensor.element_size() for tensor in network.state_dict().values())
    learned = sum(4 * p.numel() for p in network.parameters())
    needed = tensors + 2 * (tensors + 2 * learned)
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=needed))
    check_space(tmp_path / "m", network, recipe, 100)
    with pytest.raises(
        SpaceError, match=r"the model and its checkpoints need .* MB in .*m, and .* MB are free; free some"
    ):
        check_space(tmp_path / "m", network, small_recipe(neighbours=5), 100)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=tensors))
    with pytest.raises(SpaceError):
        train(sample_images(48), recipe, tmp_path / "m")
    assert not (tmp_path / "m").exists()
    frozen = Network(FROZEN.__class__(head=FROZEN.head, quantizer=FROZEN.quantizer))
    with pytest.raises(SpaceError):
        check_space(tmp_path / "m", frozen, FROZEN, 100)


def test_a_real_disk_has_no_room_for_an_exabyte(tmp_path: Path) -> None:
    check_room(tmp_path / "not" / "yet" / "made", 1, "one byte", "do nothing")
    with pytest.raises(
        SpaceError, match=r"features need 1,000,000,000,000\.0 MB in .*, and .* are free; free some space, or"
    ):
        check_room(tmp_path, 10**18, "features", "set SPQ_CACHE to another disk")
