from __future__ import annotations

from pathlib import Path

from spq.web.server.peers import Peers
from spq.web.server.prometheus import Metrics


def counted(replica: int) -> str:
    metrics = Metrics()
    for _ in range(replica + 1):
        metrics.observe("/api/search", "POST", 200, 0.02)
    return metrics.text({"spq_items": ("Pictures in the index.", 60)})


def test_each_replica_tells_the_counts_of_all(tmp_path: Path) -> None:
    first, second = Peers(tmp_path, 0), Peers(tmp_path, 1)
    assert first.metrics(counted(0)).count("spq_items{") == 1
    second.write(counted(1), {})
    lines = first.metrics(counted(0)).splitlines()
    requests = [line for line in lines if line.startswith("spq_http_requests_total")]
    labels = 'route="/api/search",method="POST",status="200"'
    assert requests == [
        f'spq_http_requests_total{{replica="0",{labels}}} 1',
        f'spq_http_requests_total{{replica="1",{labels}}} 2',
    ]
    heads = [line for line in lines if line.startswith("# TYPE")]
    assert len(heads) == len(set(heads)) == 3
    places = {line.split("{")[0] for line in lines if not line.startswith("#")}
    for name in places:  # Prometheus refuses a family whose samples are not together
        where = [n for n, line in enumerate(lines) if line.startswith((f"{name}{{", f"# TYPE {name} "))]
        assert where == list(range(where[0], where[-1] + 1)) or name.endswith(("_bucket", "_sum", "_count"))


def test_a_damaged_note_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "1.json").write_bytes(b"\xff{")
    (tmp_path / "2.json").write_text("[1]")
    (tmp_path / "x.json").write_text("{}")
    assert 'replica="1"' not in Peers(tmp_path, 0).metrics(counted(0))
    assert Peers(tmp_path, 3).sync() is None


def test_the_others_tell_what_the_first_one_syncs(tmp_path: Path) -> None:
    Peers(tmp_path, 0).write("", {"watching": True, "sync": None})
    assert Peers(tmp_path, 1).sync() == {"watching": True, "sync": None}
