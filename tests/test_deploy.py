"""The examples in deploy/: their commands run, and what cannot run here is at least what its program expects."""

from __future__ import annotations

import json
import os
import re
import shlex
import socket
import subprocess
import sys
import tomllib
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml

from conftest import run_spq
from spq.cli.main import app

ROOT = Path(__file__).parent.parent
DEPLOY = ROOT / "deploy"
COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]
DOCKERFILE = (DEPLOY / "Dockerfile").read_text("utf-8")
GUIDE = (ROOT / "docs" / "guides" / "deploying.md").read_text("utf-8")
TOKEN = "a-long-random-text"


def instruction(name: str) -> list[str]:
    """The words of an instruction of the last stage of the Dockerfile, in its JSON form."""
    stage = re.split(r"^FROM ", DOCKERFILE.replace("\\\n", " "), flags=re.M)[-1]
    (words,) = re.findall(rf"^{name}\b[^\[\n]*(\[.*\])$", stage, flags=re.M)
    return [str(word) for word in json.loads(words)]


def manifest(name: str) -> Any:
    return yaml.safe_load((DEPLOY / name).read_text("utf-8"))


def arguments_of(script: str, folder: Path, **variables: str) -> list[str]:
    """What a shell gives to `spq` when it runs a script; `srun` runs what follows it."""
    programs = {"spq": 'printf "%s\\0" "$@"', "srun": 'exec "$@"'}
    for name, body in programs.items():
        (folder / name).write_text(f"#!/bin/sh\n{body}\n")
        (folder / name).chmod(0o755)
    environment = {**os.environ, **variables, "PATH": f"{folder}:{os.environ['PATH']}"}
    ended = subprocess.run(["bash", "-c", script], env=environment, capture_output=True, check=True)
    return ended.stdout.decode().split("\0")[:-1]


@pytest.fixture
def free_port() -> str:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return str(server.getsockname()[1])


@pytest.fixture
def served(photo_index: Path, free_port: str, tmp_path: Path) -> Iterator[str]:
    """The port of a server that is started as the image starts it."""
    command = [*instruction("ENTRYPOINT"), *instruction("CMD")]
    assert command[0] == "spq"
    words = [str(photo_index) if word == "/data/photos.index" else word for word in command[1:]]
    environment = {**os.environ, "SPQ_TOKEN": TOKEN, "SPQ_CACHE": str(tmp_path), "HOME": "/nonexistent"}
    process = subprocess.Popen(
        [sys.executable, "-m", "spq", *words, "--port", free_port], env=environment, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr
    with process.stderr:
        lines = iter(process.stderr.readline, "")
        assert any(free_port in line for line in lines), "the server ended"
        yield free_port
        process.kill()
        process.wait()


def health(port: str) -> int:
    program, *words = instruction("HEALTHCHECK")
    assert program == "python"
    return subprocess.run(
        [sys.executable, *(w.replace("8765", port) for w in words)], stderr=subprocess.DEVNULL
    ).returncode


def test_the_image_serves_with_its_command_and_its_health_check_notices(served: str) -> None:
    assert health(served) == 0
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(f"http://127.0.0.1:{served}/api/status")
    refused.value.close()
    assert refused.value.code == 401
    request = urllib.request.Request(
        f"http://localhost:{served}/api/status", headers={"Authorization": f"Bearer {TOKEN}"}
    )
    with urllib.request.urlopen(request) as answer:
        assert json.load(answer)["images"] == 60


def test_the_health_check_fails_if_nothing_listens(free_port: str) -> None:
    assert health(free_port) == 1


def test_the_image_runs_as_a_user_and_installs_what_exists() -> None:
    stages = re.split(r"^FROM ", DOCKERFILE, flags=re.M)[1:]
    runs_as = [re.findall(r"^USER (\S+)$", stage, flags=re.M) for stage in stages if stage.split()[2] == "base"]
    assert runs_as == [["10001:10001"]]
    assert [stage.split()[0] for stage in stages[-2:]] == ["base", "base"]
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    (wanted,) = re.findall(r"'\.\[([\w,]+)\]'", DOCKERFILE)
    assert set(wanted.split(",")) <= set(extras)
    sent = [line[1:] for line in (DEPLOY / "Dockerfile.dockerignore").read_text("utf-8").splitlines() if line[0] == "!"]
    copied = re.findall(r"^COPY (?!--from)(.*) \S+$", DOCKERFILE, flags=re.M)
    assert sorted(name.removeprefix("./") for line in copied for name in line.split()) == sorted(sent)
    assert all((ROOT / name).exists() for name in sent)


def test_compose_makes_the_server_as_closed_as_the_guide_says() -> None:
    service = manifest("compose.yaml")["services"]["spq"]
    assert service["ports"] == ["127.0.0.1:8765:8765"]
    assert service["read_only"]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["volumes"][0].endswith(":/photos:ro")
    assert "SPQ_TOKEN:?" in service["environment"]["SPQ_TOKEN"]
    named = re.findall(r"^#   (docker .*|export .*)$", (DEPLOY / "compose.yaml").read_text("utf-8"), flags=re.M)
    assert all(line in GUIDE for line in named)


def test_the_commands_of_compose_make_an_index(photos: Path, model_folder: Path, tmp_path: Path) -> None:
    train, index = re.findall(r"^docker compose \S+ \S+ run --rm spq (.*)$", GUIDE, flags=re.M)
    name, *words = shlex.split(train)
    given = COMMANDS[name].make_context(name, words).params
    local = {"/photos": photos, str(given["out"]): model_folder, instruction("CMD")[1]: tmp_path / "photos.index"}
    assert run_spq(*(local.get(word, word) for word in shlex.split(index))) == 0
    assert (tmp_path / "photos.index" / "manifest.json").exists()


def pod_of(template: Any) -> Any:
    """The pod of a template, after checks that hold for all of them."""
    pod = template["spec"]
    (container,) = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"]
    assert not pod["automountServiceAccountToken"]
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert not container["securityContext"]["allowPrivilegeEscalation"]
    assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}
    return pod


def test_the_pods_of_the_job_encode_each_shard_once(photos: Path, model_folder: Path, tmp_path: Path) -> None:
    spec = manifest("encode-job.yaml")["spec"]
    (container,) = pod_of(spec["template"])["containers"]
    assert spec["completions"] == 32
    (script,) = container["args"]
    assert container["command"] == ["sh", "-c"]
    local = {
        "s3://photos/originals": photos,
        "/models/photos.spq": model_folder,
        "s3://photos/photos.job": tmp_path / "job",
    }
    for index in range(2):
        words = arguments_of(script.replace("/32", "/2"), tmp_path, JOB_COMPLETION_INDEX=str(index))
        given = [local.get(word, word) for word in words]
        assert run_spq(*given, "--shard-size", "16", "--workers", "1") == 0
    check_finished(tmp_path / "job")


def test_the_tasks_of_the_slurm_array_encode_each_shard_once(photos: Path, model_folder: Path, tmp_path: Path) -> None:
    script = (DEPLOY / "encode.sbatch").read_text("utf-8")
    assert re.search(r"^#SBATCH --array=1-\d+$", script, flags=re.M)
    local = {"/data/photos": photos, "/data/photos.spq": model_folder, "/data/photos.job": tmp_path / "job"}
    for task in ("1", "2"):
        slurm = {"SLURM_ARRAY_TASK_ID": task, "SLURM_ARRAY_TASK_COUNT": "2", "SLURM_CPUS_PER_TASK": "1"}
        words = arguments_of(script, tmp_path, **slurm)
        assert run_spq(*(local.get(word, word) for word in words), "--shard-size", "16") == 0
    check_finished(tmp_path / "job")


def check_finished(job: Path) -> None:
    from spq.scale.finished import status

    state = status(str(job))
    assert (state.done, state.shards, state.pictures) == (4, 4, 60)


def test_the_ray_job_gives_a_command_that_spq_knows() -> None:
    spec = manifest("rayjob.yaml")["spec"]
    program, command, *words = shlex.split(spec["entrypoint"])
    assert (program, command) == ("spq", "encode")
    given = COMMANDS[command].make_context(command, words).params
    assert (given["ray"], given["out"]) == ("auto", "s3://photos/photos.job")


def test_the_ray_cluster_has_a_token_no_telemetry_and_the_version_of_the_image() -> None:
    cluster = manifest("rayjob.yaml")["spec"]["rayClusterSpec"]
    assert cluster["authOptions"] == {"mode": "token"}
    assert f"'ray[default]=={cluster['rayVersion']}'" in DOCKERFILE
    assert "RAY_USAGE_STATS_ENABLED=0" in DOCKERFILE
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        (container,) = pod_of(group["template"])["containers"]
        assert {"name": "RAY_USAGE_STATS_ENABLED", "value": "0"} in container["env"]
