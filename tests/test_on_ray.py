"""What Ray reads from the environment, and what is said where it is not there. `test_run_job.py` has a job that it runs."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from spq.errors import ConfigError
from spq.scale.on_ray import RayOptions, on_ray, set_environment


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RAY_USAGE_STATS_ENABLED", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.setenv(name, "")  # so that it is restored
        monkeypatch.delenv(name)


def test_telemetry_is_off_whatever_the_user_has_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "1")
    set_environment("local")
    assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"


def test_it_is_off_before_ray_is_imported(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "ray.py").write_text(
        "import os\nraise ImportError(os.environ['RAY_USAGE_STATS_ENABLED'] + os.environ['RAY_AUTH_MODE'])"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "ray", raising=False)
    with pytest.raises(ConfigError) as raised:
        next(on_ray(print, [1], RayOptions("auto")))  # type: ignore[arg-type]
    assert str(raised.value.__context__) == "0token"


def test_a_cluster_of_this_machine_gets_a_new_token_and_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    set_environment("auto")
    assert (os.environ["RAY_AUTH_MODE"], os.environ.get("RAY_AUTH_TOKEN")) == ("token", None)
    set_environment("local")
    first = os.environ["RAY_AUTH_TOKEN"]
    assert len(first) == 64
    set_environment("local")
    assert os.environ["RAY_AUTH_TOKEN"] == first  # as if the user had set it
    monkeypatch.delenv("RAY_AUTH_TOKEN")
    set_environment("local")
    assert os.environ["RAY_AUTH_TOKEN"] != first


def test_what_the_user_has_set_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", "/token")
    set_environment("local")
    assert "RAY_AUTH_TOKEN" not in os.environ
    monkeypatch.delenv("RAY_AUTH_TOKEN_PATH")
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    set_environment("local")
    assert (os.environ["RAY_AUTH_MODE"], "RAY_AUTH_TOKEN" in os.environ) == ("disabled", False)


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError, match=r"Ray is not installed; run pip install 'spq-retrieval\[ray\]'"):
        next(on_ray(print, [1], RayOptions("local")))  # type: ignore[arg-type]
