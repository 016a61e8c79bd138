from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from spq.data.image_set import subset
from spq.data.open import open_images
from spq.data.protocols import Protocol
from spq.errors import ConfigError, DataError
from spq.evaluation.evaluate import evaluate
from spq.evaluation.rankings import Rankings
from spq.evaluation.report import Report
from spq.model.model import Model


@pytest.fixture(scope="module")
def protocol() -> Protocol:
    gallery = subset(open_images("sample:train"), range(400))
    return Protocol("small", subset(open_images("sample:test"), range(40)), gallery, gallery, 50)


def test_stored_rankings_score_as_the_evaluation_did(tiny_model: Model, protocol: Protocol, tmp_path: Path) -> None:
    report = evaluate(tiny_model, protocol, rankings=400)
    assert report.rankings
    report.rankings.save(tmp_path / "r.npz")
    stored = Rankings.load(tmp_path / "r.npz")
    again = Report.from_rankings(stored)
    report.seconds = again.seconds
    assert again == report
    for name, values in report.per_query.items():
        np.testing.assert_array_equal(values, again.per_query[name])
    assert Report.from_rankings(stored, at=7).map == pytest.approx(evaluate(tiny_model, protocol, at=7).map)


def test_rows_are_positions_in_the_collection_in_order_of_distance(tiny_model: Model, protocol: Protocol) -> None:
    stored = evaluate(tiny_model, protocol, rankings=10).rankings
    assert stored
    assert stored.gallery_ids.tolist() == protocol.gallery.ids
    assert (np.diff(stored.distances) >= 0).all()
    codes = tiny_model.encode([protocol.gallery.image(position) for position in range(400)])
    tables = tiny_model.tables(tiny_model.embed([protocol.queries.image(3)]))[0]
    distances = tables[np.arange(codes.shape[1])[:, None], codes.T].sum(0)
    np.testing.assert_allclose(distances[stored.rows[3]], stored.distances[3], rtol=1e-5)
    np.testing.assert_allclose(np.sort(distances)[:10], stored.distances[3], rtol=1e-5)


def test_short_rankings_have_what_they_can_tell(tiny_model: Model, protocol: Protocol) -> None:
    report = evaluate(tiny_model, protocol, rankings=60)
    assert report.rankings
    short = Report.from_rankings(report.rankings)
    assert (short.map, short.map_at) == (report.map, 50)
    assert (short.map_all, short.pr_curve["ranks"][-1]) == (None, 60)
    assert short.precision == {n: report.precision[n] for n in (1, 10, 50)}
    assert short.recall == {n: report.recall[n] for n in (1, 10, 50)}
    for at in (0, 61):
        with pytest.raises(ConfigError, match=f"`at` must be between 1 and 60, .* got {at}"):
            Report.from_rankings(report.rankings, at)


def test_rankings_of_unreadable_pictures_leave_them_out(tiny_model: Model, protocol: Protocol) -> None:
    from test_evaluate import SomeBroken

    broken = SomeBroken(protocol.gallery, np.arange(100))
    report = evaluate(tiny_model, Protocol("p", protocol.queries, broken, broken, 20), rankings=90)
    assert report.rankings
    assert report.rankings.gallery_ids.tolist() == [broken.ids[position] for position in range(100) if position % 10]
    assert Report.from_rankings(report.rankings).map == report.map


def test_a_damaged_file_of_rankings_is_refused(tiny_model: Model, protocol: Protocol, tmp_path: Path) -> None:
    stored = evaluate(tiny_model, protocol, rankings=5).rankings
    assert stored
    stored.save(tmp_path / "r.npz")
    whole = (tmp_path / "r.npz").read_bytes()
    (tmp_path / "half.npz").write_bytes(whole[: len(whole) // 2])
    np.savez(tmp_path / "other.npz", rows=np.zeros(3))
    np.save(tmp_path / "objects.npy", np.array([{}], object))
    (tmp_path / "objects.npy").rename(tmp_path / "objects.npz")
    replace(stored, rows=stored.rows + 1000).save(tmp_path / "rows.npz")
    for name in ("half", "other", "objects", "rows"):
        with pytest.raises(DataError, match=rf"{name}\.npz holds no rankings of spq .*evaluate again"):
            Rankings.load(tmp_path / f"{name}.npz")
    with pytest.raises(DataError, match="no rankings at"):
        Rankings.load(tmp_path / "none.npz")
