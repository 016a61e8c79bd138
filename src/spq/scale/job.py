"""The file `job.json`: all that decides what a job writes. A worker that would write something else refuses to work."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spq import __version__
from spq.common.files import scratch_place
from spq.common.json_file import JsonError, parse_json
from spq.config.strict import from_dict
from spq.data.decode import decoder_version
from spq.data.source import Source
from spq.errors import ConfigError, ModelMismatchError, StoreError
from spq.model.model_folder import FILES
from spq.model.own_parts import LOADED, parts_of
from spq.scale.inputs import Input, count_of, from_json, to_json
from spq.scale.urls import Place

if TYPE_CHECKING:
    from spq.model.model import Model, Precision

FORMAT = 1
FILE = "job.json"


@dataclass(frozen=True)
class Job:
    """An encoding job.

    Attributes:
        url: where its files are; the only field that is not in its file.
        model: hash of the model, whose files are in `model-HASH/`. num_codebooks: sub-codes of a code.
        precision, device: of the network's computations.
        versions: what decides codes and files, by name.
        source, inputs: the pictures, and the input shards that they are split into.
    """

    url: str
    model: str
    num_codebooks: int
    precision: Precision
    device: str
    max_pixels: int
    shard_size: int
    versions: dict[str, str]
    source: Source
    inputs: Sequence[Input] = field(repr=False)

    @property
    def pictures(self) -> int | None:
        """How many pictures it has; None if only the workers will know, who open the files."""
        counts = [count for given in self.inputs if (count := count_of(given)) is not None]
        return sum(counts) if len(counts) == len(self.inputs) else None

    @property
    def checksum(self) -> str:
        """A checksum of the content of the file. Two jobs with the same checksum write the same bytes."""
        return _checksum(self.content())

    def content(self) -> dict[str, Any]:
        """The content of the file, without its checksum."""
        fields = asdict(self) | {"inputs": [to_json(given) for given in self.inputs]}
        del fields["url"]
        return {"format": FORMAT, "spq_version": __version__} | fields

    def to_bytes(self) -> bytes:
        """The file."""
        content = self.content()
        return json.dumps(content | {"checksum": _checksum(content)}, indent=1).encode()


def _checksum(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:32]


def read_job(place: Place) -> Job | None:
    """Read the job at a place; None if there is none.

    Raises:
        StoreError: it is damaged, or of a newer format.
    """
    try:
        data = place.read(FILE)
    except FileNotFoundError:
        return None
    where = f"{place.url}/{FILE}"
    try:
        table = parse_json(data)
        if not isinstance(table, dict):
            raise JsonError("it is no table")
        if table.get("format") != FORMAT:
            made = f"spq {table.get('spq_version')}"
            raise StoreError(f"{where} is of {made}, this is spq {__version__}; continue the job with {made}")
        if table.pop("checksum", None) != _checksum(table):
            raise JsonError("its checksum does not match")
        del table["format"], table["spq_version"]
        inputs = [from_json(given, where) for given in table.pop("inputs")]
        versions, source = table.pop("versions"), from_dict(Source, table.pop("source"), where)
        return Job(url=place.url, versions=dict(versions), source=source, inputs=inputs, **table)
    except (JsonError, ConfigError, KeyError, TypeError) as error:
        raise StoreError(f"{where} is damaged: {error}; begin the job again in another place") from None


def open_job(url: str) -> Job:
    """Read the job at a URL.

    Raises:
        StoreError: there is none, or it is damaged.
    """
    job = read_job(Place(url))
    if job is None:
        raise StoreError(
            f"no encoding job at {url}: it has no {FILE}; check the address, or give the pictures and a model"
        )
    return job


def versions() -> dict[str, str]:
    """What decides codes and files here, by name."""
    return {"decoder": decoder_version(), **{name: version(name) for name in ("torch", "timm", "pyarrow")}}


def check_versions(job: Job) -> None:
    """Refuse to work on a job with other versions than those that it has begun with.

    Raises:
        ConfigError: names what differs.
    """
    here = versions()
    for name, expected in job.versions.items():
        if here.get(name) != expected:
            raise ConfigError(
                f"the job at {job.url} has begun with {name} {expected}, here is {name} {here.get(name)}; "
                "use the same versions on all machines, or begin the job again with another `out`"
            )


def check_model(job: Job, hash_: str) -> None:
    """Refuse another model than that of the job.

    Raises:
        ModelMismatchError: it is another one.
    """
    if hash_ != job.model:
        raise ModelMismatchError(
            f"the job at {job.url} encodes with model {job.model}, not with {hash_}; give that model, or another `out`"
        )


def check_precision(job: Job, precision: str, device: str | None = None) -> None:
    """Refuse another precision or device than those of the job; auto is any.

    Raises:
        ConfigError: names what differs.
    """
    for name, given, expected in (("precision", precision, job.precision), ("device", device, job.device)):
        if given not in (None, "auto", expected):
            raise ConfigError(
                f"the job at {job.url} encodes with `{name}` {expected}, not {given}; omit it, or give another `out`"
            )


def check_inputs(job: Job, source: Source, inputs: Sequence[Input]) -> None:
    """Refuse other pictures than those of the job.

    Raises:
        ConfigError: says what differs.
    """
    if list(inputs) == list(job.inputs) and source == job.source:
        return
    if source != job.source:
        why = f"it encodes {job.source}, not {source}"
    elif len(inputs) != len(job.inputs):
        why = f"it has {len(job.inputs):,} input shards, and {job.source} would make {len(inputs):,} now"
    else:
        number = next(n for n, (old, new) in enumerate(zip(job.inputs, inputs, strict=True)) if old != new)
        why = f"pictures of {job.source} have changed since it began, first in input shard {number}"
    raise ConfigError(f"the job at {job.url} is of other pictures: {why}; give another `out`")


def check_portable(model: Model) -> None:
    """Refuse a model that the processes of a job cannot load.

    Raises:
        ConfigError: it names the caller's own parts.
    """
    if needed := [name for name in parts_of(model.facts, model.config) if name in LOADED]:
        raise ConfigError(
            f"the model has your own {' and '.join(needed)}, whose code the processes of a job do not have; encode with "
            "`ImageIndex.build` in one process"
        )


def put_model(place: Place, model: Model) -> None:
    """Write the model folder of a job, unless it is there."""
    with tempfile.TemporaryDirectory(prefix="spq-", dir=scratch_place(0)) as folder:
        model.save(folder)
        for name in FILES:
            place.put(f"model-{model.hash}/{name}", (Path(folder) / name).read_bytes())


def load_model(job: Job) -> Model:
    """Load the model of a job.

    Raises:
        ModelError: it is damaged. ModelMismatchError: it is another one. ConfigError: the device is not here.
    """
    from spq.model.device import resolve_device
    from spq.model.model import Model

    place, device = Place(job.url), resolve_device(job.device)
    with tempfile.TemporaryDirectory(prefix="spq-", dir=scratch_place(0)) as folder:
        for name in FILES:
            try:
                (Path(folder) / name).write_bytes(place.read(f"model-{job.model}/{name}"))
            except FileNotFoundError:
                missing = f"{job.url}/model-{job.model}/{name}"
                raise StoreError(f"{missing} is missing; copy it from the folder of that model") from None
        model = Model.load(folder, device)
    check_model(job, model.hash)
    return model
