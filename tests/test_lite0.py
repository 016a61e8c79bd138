"""EfficientNet-Lite0 from its package: checked, converted once, repaired."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import pytest
import torch

from spq.config import BackboneConfig, load_recipe
from spq.errors import WeightsError
from spq.model import lite0
from spq.model.backbone import make_backbone

LITE0 = BackboneConfig(name="lite0", pretrained=True)
has_package = pytest.mark.skipif(lite0.installed_file() is None, reason="needs pip install 'spq-retrieval[photos]'")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SPQ_CACHE", str(tmp_path / "cache"))
    return lite0.cached_file()


@pytest.fixture
def not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lite0, "PACKAGE", "no_such_package")


def features() -> torch.Tensor:
    """Features of a picture with a red ramp down, a green one to the right, and diagonal stripes of blue."""
    backbone, _ = make_backbone(LITE0)
    down, right = torch.arange(224.0)[:, None].expand(224, 224), torch.arange(224.0).expand(224, 224)
    pixels = torch.stack([down, right, (down + right) % 224])[None] / 255
    mean, std = (torch.tensor(values)[:, None, None] for values in (RECIPE.input.mean, RECIPE.input.std))
    with torch.inference_mode():
        return backbone.eval()((pixels - mean) / std)[0]


RECIPE = load_recipe("head")


@has_package
def test_features_are_those_of_the_package_s_own_network(cache: Path) -> None:
    # numbers of efficientnet_lite_pytorch 0.1.0: extract_features((x - 127) / 128).mean((2, 3))
    expected = {897: 5.4712, 1260: 4.1074, 113: 4.0247, 989: 3.9029, 901: 3.8855}
    found = features()
    assert found.topk(5).indices.tolist() == list(expected)
    torch.testing.assert_close(found[list(expected)], torch.tensor(list(expected.values())), atol=1e-3, rtol=0)
    assert float(found.sum()) == pytest.approx(149.6128, abs=0.01)


@has_package
def test_converted_weights_are_cached_and_a_damaged_cache_is_made_again(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = features()
    whole = cache.read_bytes()
    for damaged in (whole[:-1], whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:], b"", b"x" * 100):
        cache.write_bytes(damaged)
        torch.testing.assert_close(features(), first, rtol=0, atol=0)
        assert cache.read_bytes() == whole
    monkeypatch.setattr(lite0, "PACKAGE", "no_such_package")
    torch.testing.assert_close(features(), first, rtol=0, atol=0)  # from the cache alone
    cache.write_bytes(whole[:-1])
    with pytest.raises(WeightsError, match=re.escape(f"{cache} is damaged; run pip install 'spq-retrieval[photos]'")):
        features()


@has_package
def test_a_link_or_a_pipe_in_the_place_of_the_cache_is_replaced(cache: Path, tmp_path: Path) -> None:
    cache.parent.mkdir(parents=True)
    cache.symlink_to(tmp_path / "elsewhere")
    features()
    assert not cache.is_symlink()
    assert not (tmp_path / "elsewhere").exists()
    cache.unlink()
    os.mkfifo(cache)
    features()  # would wait for a reader
    assert cache.is_file()


@has_package
def test_a_cache_that_cannot_be_written_is_not_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("SPQ_CACHE", str(tmp_path / "file"))
    assert features().shape == (1280,)


def test_another_file_in_the_package_is_refused(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "site" / "other_lite0"
    (package / "models").mkdir(parents=True)
    (package / "__init__.py").write_text("raise SystemExit('never run')")
    torch.save({"x": torch.zeros(1)}, package / lite0.FILE)
    monkeypatch.syspath_prepend(str(package.parent))
    monkeypatch.setattr(lite0, "PACKAGE", "other_lite0")
    with pytest.raises(WeightsError, match="is not the file that was published; run pip install --force-reinstall"):
        features()
    shutil.rmtree(package / "models")
    assert lite0.installed_file() is None
    assert not cache.exists()


def test_the_extra_is_named_when_nothing_is_installed(cache: Path, not_installed: None) -> None:
    with pytest.raises(
        WeightsError, match=re.escape("lite0 are not installed; run pip install 'spq-retrieval[photos]'")
    ):
        features()
    untrained, width = make_backbone(BackboneConfig(name="lite0"))  # a model folder brings its own weights
    assert width == 1280
    assert untrained.eval()(torch.zeros(1, 3, 64, 64)).shape == (1, 1280)
