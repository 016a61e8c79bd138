"""Two servers behind one address, as in deploy/compose-balanced.yaml and deploy/serve.yaml: are they as one to a client?

A round-robin proxy of this file is the load balancer; the tests read what deploy/haproxy.cfg would have it do.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml

from spq.cli.main import app
from spq.web.server.settings import Settings

DEPLOY = Path(__file__).parent.parent / "deploy"
HAPROXY = (DEPLOY / "haproxy.cfg").read_text("utf-8")
COMPOSE = yaml.safe_load((DEPLOY / "compose-balanced.yaml").read_text("utf-8"))["services"]
DEPLOYMENT, SERVICE = yaml.safe_load_all((DEPLOY / "serve.yaml").read_text("utf-8"))
(CONTAINER,) = DEPLOYMENT["spec"]["template"]["spec"]["containers"]
GUIDE = (DEPLOY.parent / "docs" / "guides" / "serving.md").read_text("utf-8")
TOKEN = "a-long-random-text"


@dataclass
class Proxy:
    """Gives each connection to the next server. `counts`: how many each server got."""

    ports: list[int]
    counts: list[int] = field(default_factory=lambda: [0, 0])
    port: int = 0

    async def run(self, started: threading.Event, ended: asyncio.Event) -> None:
        server = await asyncio.start_server(self._pass_on, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        started.set()
        async with server:
            await ended.wait()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        number = sum(self.counts) % len(self.ports)
        self.counts[number] += 1
        to_reader, to_writer = await asyncio.open_connection("127.0.0.1", self.ports[number])
        await asyncio.gather(_copy(reader, to_writer), _copy(to_reader, writer))


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
        writer.close()


@pytest.fixture(scope="module")
def servers(photo_index: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[int]]:
    """The ports of two servers, started with the command of compose-balanced.yaml."""
    words = [str(photo_index) if word == "/data/photos.index" else word for word in COMPOSE["spq"]["command"]]
    words = [word.replace("${PHOTOS_HOST:-localhost}", "photos.example") for word in words]
    cache = str(tmp_path_factory.mktemp("cache"))
    environment = {**os.environ, "SPQ_TOKEN": TOKEN, "SPQ_CACHE": cache, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "spq", *words, "--port", "0"]
    processes = [subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    ports = []
    for process in processes:
        assert process.stderr
        lines = iter(process.stderr.readline, "")
        ports.append(
            next(int(found[1]) for line in lines if (found := re.search(r"pictures at http://\S+?:(\d+)/", line)))
        )
    yield ports
    for process in processes:
        process.kill()
        process.communicate()


@pytest.fixture(scope="module")
def proxy(servers: list[int]) -> Iterator[Proxy]:
    balancer, loop = Proxy(servers), asyncio.new_event_loop()
    started, ended = threading.Event(), asyncio.Event()
    thread = threading.Thread(target=loop.run_until_complete, args=(balancer.run(started, ended),))
    thread.start()
    assert started.wait(60)
    yield balancer
    loop.call_soon_threadsafe(ended.set)
    thread.join()
    for task in asyncio.all_tasks(loop):
        task.cancel()
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()


def ask(port: int, path: str, body: bytes | None = None, **headers: str) -> Any:
    """The JSON of an answer; a page or a text as it is."""
    given = {"Host": "photos.example", "Authorization": f"Bearer {TOKEN}", **headers}
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", body, given)
    with urllib.request.urlopen(request, timeout=60) as answer:
        kind, content = answer.headers["Content-Type"], answer.read()
    return json.loads(content) if kind == "application/json" else content.decode()


def refused(port: int, path: str, **headers: str) -> int:
    with pytest.raises(urllib.error.HTTPError) as error:
        ask(port, path, **headers)
    error.value.close()
    return error.value.code


def hits(port: int, body: bytes, kind: str) -> list[tuple[int, float]]:
    answer = ask(port, "/api/search", body, **{"Content-Type": kind})
    return [(hit["id"], hit["distance"]) for hit in answer["hits"]]


def test_both_servers_give_the_same_answers_through_one_address(proxy: Proxy) -> None:
    before = list(proxy.counts)
    for id_ in range(1, 7):
        query = json.dumps({"ids": [id_], "top": 20}).encode()
        first, second = (hits(proxy.port, query, "application/json") for _ in range(2))
        assert first == second
        assert len(first) == 20
    assert [now - old for now, old in zip(proxy.counts, before, strict=True)] == [6, 6]


def test_uploads_work_on_both(proxy: Proxy, shared_photos: Path) -> None:
    picture = next(shared_photos.rglob("*.png")).read_bytes()
    form = b'--b\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n' + picture + b"\r\n--b--\r\n"
    first, second = (hits(proxy.port, form, "multipart/form-data; boundary=b") for _ in range(2))
    assert first == second
    assert first[0][1] == min(distance for _, distance in first)


def test_both_want_the_token_and_the_cookie_of_one_opens_the_other(proxy: Proxy) -> None:
    nothing = {"Authorization": ""}
    assert [refused(proxy.port, "/api/status", **nothing) for _ in range(2)] == [401, 401]
    page = urllib.request.Request(f"http://127.0.0.1:{proxy.port}/?token={TOKEN}", headers={"Host": "photos.example"})
    with urllib.request.urlopen(page) as answer:
        cookie = answer.headers["Set-Cookie"].partition(";")[0]
    assert [ask(proxy.port, "/api/status", Cookie=cookie, **nothing)["images"] for _ in range(2)] == [60, 60]


def test_the_health_check_of_the_load_balancer_is_answered_without_a_token(servers: list[int]) -> None:
    ((path, host),) = re.findall(
        r"^  http-check send meth GET uri (\S+) ver HTTP/1.1 hdr Host (\S+)$", HAPROXY, flags=re.M
    )
    assert path == "/readyz"
    for port in servers:
        ask(port, path, Host=host, Authorization="")


def test_the_load_balancer_knows_the_servers_and_their_limits() -> None:
    ((name, port),) = re.findall(r"^  server-template \S+ \d+ (\w+):(\d+) ", HAPROXY, flags=re.M)
    assert name in COMPOSE
    assert int(port) == Settings().port
    (most,) = re.findall(r"^  default-server .* maxconn (\d+)$", HAPROXY, flags=re.M)
    assert int(most) == Settings().searches_per_client
    assert "ports" not in COMPOSE["spq"]
    assert COMPOSE["proxy"]["ports"] == ["127.0.0.1:8080:8080"]


@pytest.mark.parametrize("probe", ["startupProbe", "readinessProbe", "livenessProbe"])
def test_the_probes_of_a_pod_are_answered_under_its_address(servers: list[int], probe: str) -> None:
    path = CONTAINER[probe]["httpGet"]["path"]
    assert path == ("/readyz" if probe == "readinessProbe" else "/healthz")
    assert ask(servers[0], path, Host="10.1.2.3:8765", Authorization="")["status"] in ("ok", "ready")


def test_the_pods_serve_with_a_command_that_spq_knows_and_a_token_of_a_secret() -> None:
    command, *words = CONTAINER["args"]
    given = typer.main.get_command(app).commands[command].make_context(command, words).params  # type: ignore[attr-defined]
    assert given["images"] == ["s3://photos/index"]
    assert given["host"] == "0.0.0.0"
    (token,) = CONTAINER["env"]
    assert (token["name"], token["valueFrom"]["secretKeyRef"]["name"]) == ("SPQ_TOKEN", "spq")
    labels = DEPLOYMENT["spec"]["template"]["metadata"]["labels"]
    assert DEPLOYMENT["spec"]["selector"]["matchLabels"] == SERVICE["spec"]["selector"] == labels
    ((port,), (target,)) = CONTAINER["ports"], SERVICE["spec"]["ports"]
    assert (port["containerPort"], port["name"]) == (Settings().port, target["targetPort"])


@pytest.mark.parametrize("closed", [COMPOSE["spq"], COMPOSE["proxy"]], ids=["spq", "proxy"])
def test_the_containers_have_no_rights_that_they_do_not_need(closed: dict[str, Any]) -> None:
    assert closed["read_only"]
    assert closed["cap_drop"] == ["ALL"]
    assert closed["security_opt"] == ["no-new-privileges:true"]


def test_the_pods_have_no_rights_that_they_do_not_need() -> None:
    pod, rights = DEPLOYMENT["spec"]["template"]["spec"], CONTAINER["securityContext"]
    assert pod["securityContext"]["runAsNonRoot"]
    assert not pod["automountServiceAccountToken"]
    assert rights["capabilities"] == {"drop": ["ALL"]}
    assert rights["readOnlyRootFilesystem"]
    assert not rights["allowPrivilegeEscalation"]
    assert {mount["name"] for mount in CONTAINER["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}


def test_the_metrics_of_the_guide_exist_and_prometheus_may_read_them(servers: list[int]) -> None:
    (config,) = (
        yaml.safe_load(text) for text in re.findall(r"^```yaml\n(scrape_configs:.*?)^```$", GUIDE, flags=re.M | re.S)
    )
    (job,) = config["scrape_configs"]
    assert job["authorization"].keys() == {"credentials_file"}  # its type is Bearer
    (targets,) = job["static_configs"]
    ask(servers[0], "/api/search", b'{"ids": [1]}', **{"Content-Type": "application/json"})
    metrics = ask(servers[0], "/metrics", Host=targets["targets"][0])
    queries = re.findall(r"^\| [^|]+ \| `(.*spq_.*)` \|$", GUIDE, flags=re.M)
    assert len(queries) == 4
    for name in re.findall(r"\bspq_\w+", " ".join(queries)):
        assert re.search(rf"^{name}[ {{]", metrics, flags=re.M), name
    for label in re.findall(r"{(.*?)}", " ".join(queries)):
        assert label in metrics
    assert refused(servers[0], "/metrics", Authorization="") == 401
