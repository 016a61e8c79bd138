"""Which recipe has the best mAP for the same budget? Compares recipes, ablations, classic codes and the authors' code.

    spq bench quality fast fast:train.batch_size=256 --minutes 4 --seeds 2
    spq bench quality authors paper fast fast+simclr fast+hard --official SPQ --minutes 30 --seeds 2 --test --json final.json

A variant is `authors` (needs --official, a checkout of their repository), or the name or file of a recipe. A recipe may have one
ablation, and changes `section.key=value`:

    +simclr      no cross-quantization: descriptors against descriptors, and codes by k-means (PQ) afterwards
    +hard        the nearest codeword instead of soft quantization, with the gradients of soft quantization (straight-through)
    +vq          plain vector quantization: one codebook of 256 codewords (8 bits) for the whole descriptor.
                 32 bits would need 2^32 codewords, more than there are pictures
    +8bits       two codebooks of 16 codewords, to compare with +vq at the same 8 bits and the same dimension
    +diversity   a penalty on the mean cosine between the codewords of a codebook

An ablation changes the loss of the finish too. Recipes with `refit` end with k-means of the codebooks. So +hard and +diversity
show the effect on descriptors. With `:train.refit=false` on both sides the codebooks are those that training learned.

Each run also gives the float cosine, and PQ, OPQ, ITQ and LSH with the same number of bits on its own descriptors. Queries are
5,000 training pictures that are held out, so that no choice depends on test queries. `--test` is for the final table. Runs that
the JSON file has are not repeated, and a stopped run continues from its checkpoint. Evaluation does not count as training time.
The final model is scored in fp32, points of the curve in bf16 if that is faster. Minutes are wall clock, so run nothing else.
"""

from __future__ import annotations

import argparse
import datetime
import hashlib
import json
import re
import shutil
import statistics
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

from _authors import Authors, as_model, commit_of
from _entrance import entrance, parser_of
from _plots import save_plots
from _scoring import Data, choose_protocol, finish, load_data, machine, measure, new_point, points
from _variants import Ablation, fingerprint, variant
from official import train_within
from spq.cli.progress import TrainingBar
from spq.common.files import Replacing
from spq.common.parallel import cores
from spq.config import DISTANCES
from spq.data.protocols import Protocol
from spq.errors import CollapseError, ConfigError
from spq.model.device import resolve_device, resolve_precision
from spq.model.model import Model
from spq.model.network import Network
from spq.training.train import train

Row = dict[str, Any]


@dataclass(frozen=True)
class Job:
    """One run: everything that its result depends on, except the code."""

    variant: str
    bits: int
    seed: int
    minutes: float
    epochs: int
    protocol: str
    fingerprint: str = ""  # of the recipe, or the authors' commit

    @property
    def folder(self) -> str:
        words = "-".join(re.findall(r"[\w+]+", self.variant))[-40:]
        return f"{words}-{self.bits}-{self.seed}-{hashlib.sha256(repr(self).encode()).hexdigest()[:8]}"

    def is_of(self, row: Row) -> bool:
        return all(row.get(key) == value for key, value in vars(self).items())  # commit and machine are not compared


class Scores:
    """Scores of one training. They are in a file until the row is complete, because each may take minutes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.found: dict[str, Any] = json.loads(path.read_text("utf-8")) if path.exists() else {}

    def get(self, name: str, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        if name not in self.found:
            self.found[name] = make()
            with Replacing(self.path) as temporary:
                temporary.write_text(json.dumps(self.found), "utf-8")
        scores: dict[str, Any] = self.found[name]
        return scores


class Bench:
    """All runs of one call."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.protocol: Protocol = choose_protocol(options.images, options.test)
        self.data: Callable[[int], Data] = cache(lambda size: load_data(self.protocol, size, options.queries))
        self.authors = Authors(options.official) if options.official else None
        self.commit = commit_of(Path(__file__).parent.parent)  # read now, because a run may take hours
        self.collapsed: list[CollapseError] = []
        self.rows: list[Row] = json.loads(options.json.read_text("utf-8")) if options.json.exists() else []

    def jobs(self) -> list[Job]:
        """All variants with one seed, then the next seed. Invalid variants are refused before the first run starts."""
        o = self.options
        made = []
        for seed in range(o.seed, o.seed + o.seeds):
            for bits in o.bits:
                for text in o.variants:
                    if text == "authors":
                        if not self.authors:
                            raise ConfigError("variant authors needs --official, a checkout of the authors' repository")
                        mark = f"authors@{self.authors.commit}"
                    else:
                        mark = fingerprint(variant(text, bits, o.minutes, o.epochs)[0])
                    protocol = self.protocol.name + (f", {o.queries} of the queries" if o.queries else "")
                    made.append(Job(text, bits, seed, o.minutes or 0.0, o.epochs or 0, protocol, mark))
        return made

    def run(self) -> list[Row]:
        """Do the missing jobs, write each row when it is complete, and return all rows. A collapse does not stop other jobs."""
        for number, job in enumerate(jobs := self.jobs()):
            if not any(job.is_of(row) for row in self.rows):
                label = f"{job.variant}, {job.bits} bits, seed {job.seed}"
                print(f"run {number + 1} of {len(jobs)}: {label}", file=sys.stderr, flush=True)
                try:
                    self.rows.append(self.row(job))
                except CollapseError as error:
                    print(f"{label}: {error}", file=sys.stderr, flush=True)
                    self.collapsed.append(error)
                    continue
                self.options.json.parent.mkdir(parents=True, exist_ok=True)
                with Replacing(self.options.json) as temporary:
                    temporary.write_text(as_text(self.rows), "utf-8")
        return [row for job in jobs for row in self.rows if job.is_of(row)]

    def row(self, job: Job) -> Row:
        """Train, or continue a training, and score."""
        folder = self.options.work / job.folder
        model, facts, ablation = (self.theirs if job.variant == "authors" else self.ours)(job, folder)
        data = self.data(model.config.input.size)
        known = Scores(folder / "scores.json")
        scores = known.get("end", lambda: measure(model, data, everything=True))
        curve, quick = [], resolve_precision("auto", model.device.type)  # of a ResNet-18 a point takes minutes even so
        for point in points(folder):
            ending = point["step"] > 0.98 * facts["steps"] and not model.config.finish.epochs
            if ending or point.get("trained"):
                continue  # the end itself, or nearly; or of head and codes alone
            at = self.model_at(point, model, job)
            score = partial(measure, at, data, pq=ablation.pq, refitted=False, precision=quick)
            value = known.get(str(point["step"]), score)["map"]
            curve.append([round(point["seconds"] / 60, 2), value])
            print(f"  {curve[-1][0]:.1f} minutes: mAP {value:.4f}", file=sys.stderr, flush=True)
        curve.append([facts["minutes_spent"], scores["map"]])
        known.path.unlink()
        shutil.rmtree(folder / "points", ignore_errors=True)
        if job.variant != "authors":  # `spq bench official` scores the checkpoint of the authors' code
            shutil.rmtree(folder / "checkpoints", ignore_errors=True)
        config = model.config
        return {
            **vars(job), "code_bits": config.quantizer.bits, "distance": config.quantizer.distance, **scores, "curve": curve,
            **facts, "queries": len(data.queries), "map_at": data.map_at, "machine": machine(resolve_device(self.options.device)),
            "date": datetime.date.today().isoformat(), "commit": self.commit,
        }  # fmt: skip

    @staticmethod
    def model_at(point: dict[str, Any], end: Model, job: Job) -> Model:
        """The model at a point of the training."""
        if job.variant == "authors":
            return as_model(point["network"], job.bits)
        at = Model(Network(end.config), end.config)
        at.network.load_state_dict(point["network"])
        return at

    def ours(self, job: Job, folder: Path) -> tuple[Model, Row, Ablation]:
        o = self.options
        recipe, ablation = variant(job.variant, job.bits, o.minutes, o.epochs)
        recipe = replace(recipe, train=replace(recipe.train, seed=job.seed, checkpoint_minutes=o.every))
        with TrainingBar() as bar:

            def on_status(status: Any) -> None:
                bar.update(status)
                new_point(folder)

            loss = ablation.loss() if ablation.loss else None
            model = train(
                self.protocol.training, recipe, folder, resume=True, device=o.device, loss=loss,
                on_stage=bar.stage, on_status=on_status,
            )  # fmt: skip
        if ablation.pq:
            finish(model, model.embed(self.data(recipe.input.size).gallery), pq=True)
            model = Model(model.network, model.config, model.facts)  # again, for the hash of these codebooks
            model.save(folder)
        device = resolve_device(o.device)
        facts = {
            "minutes_spent": model.facts["minutes"], "epochs_done": model.facts["epochs"],
            "views": model.facts["views"], "steps": model.facts["steps"],
            "dtype": resolve_precision(recipe.train.precision, device),
        }  # fmt: skip
        return model, facts, ablation

    def theirs(self, job: Job, folder: Path) -> tuple[Model, Row, Ablation]:
        o = self.options
        assert self.authors
        pixels = self.data(32).training
        budget = {"minutes": o.minutes or 0.0, "epochs": o.epochs or 0, "every": o.every}
        budget["device"] = resolve_device(o.device)
        budget["workers"] = (
            min(8, cores()) if budget["device"] == "cuda" else 0
        )  # otherwise a GPU waits for the decoding
        last, _ = train_within(self.authors, pixels, folder, bits=job.bits, seed=job.seed, **budget)
        model = as_model(last["network"], job.bits)
        model.save(folder)
        facts = {
            "minutes_spent": round(last["seconds"] / 60, 2), "epochs_done": round(last["step"] / (len(pixels) // 256), 2),
            "views": 2 * 256 * last["step"], "steps": last["step"], "dtype": "fp32",
        }  # fmt: skip
        return model, facts, Ablation()


def as_text(rows: list[Row]) -> str:
    """JSON with one line for each row."""
    return "[\n" + ",\n".join(json.dumps(row) for row in rows) + "\n]\n"


def table(rows: list[Row]) -> str:
    """Means over seeds, one line for each variant, length and budget."""
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault((row["variant"], row["bits"], row["minutes"], row["epochs"], row["fingerprint"]), []).append(
            row
        )
    others = sorted({name for row in rows for name in row.get("others", {})} - set(DISTANCES))
    lines = [
        "   mAP  spread  seeds  bits  minutes  epochs  " + "  ".join(f"{name:>12s}" for name in others) + "  variant"
    ]
    for mine in groups.values():
        mean = partial(_mean, mine)
        maps = [row["map"] for row in mine]
        cells = "  ".join(f"{_mean([r['others'] for r in mine if name in r['others']], name):12.4f}" for name in others)
        lines.append(
            f"{mean('map'):.4f}  {max(maps) - min(maps):.4f}  {len(mine):5d}  {mine[0]['code_bits']:4d}  "
            f"{mean('minutes_spent'):7.1f}  {mean('epochs_done'):6.1f}  {cells}  {mine[0]['variant']}"
        )
    return "\n".join(lines)


def _mean(rows: list[Row], key: str) -> float:
    return statistics.mean(row[key] for row in rows) if rows else float("nan")


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = parser_of("quality", __doc__)
    parser.add_argument("variants", nargs="+")
    parser.add_argument("--images", default="cifar10:train", help="a labelled training set (default: %(default)s)")
    queries = parser.add_mutually_exclusive_group()
    queries.add_argument(
        "--held-out", action="store_true", help="use held-out training pictures as queries, for choices (default)"
    )
    queries.add_argument("--test", action="store_true", help="use the test set as queries, for the final table")
    budget = parser.add_mutually_exclusive_group(required=True)
    budget.add_argument("--minutes", type=float)
    budget.add_argument("--epochs", type=int)
    parser.add_argument("--bits", type=lambda text: [int(part) for part in text.split(",")], default=[32])
    parser.add_argument("--seed", type=int, default=0, help="first seed")
    parser.add_argument("--seeds", type=int, default=1, help="number of seeds")
    parser.add_argument("--every", type=float, default=5.0, help="minutes between points of the curve")
    parser.add_argument("--official", type=Path, help="a checkout of the authors' repository")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--queries", type=int, help="use only this many queries")
    parser.add_argument("--json", type=Path, default=Path("quality.json"))
    parser.add_argument("--work", type=Path, help="folder of the trainings (default: next to the JSON file)")
    parser.add_argument("--plots", type=Path, help="folder for mAP over time, PR and P@N")
    options = parser.parse_args(arguments)
    options.work = options.work or options.json.with_suffix("")
    return options


def main(arguments: list[str] | None = None) -> None:
    options = parse(arguments)
    bench = Bench(options)
    if rows := bench.run():
        print(f"{bench.protocol.name}; mAP@{rows[0]['map_at']}, {rows[0]['machine']}, {rows[0]['date']}")
        print(table(rows))
    if rows and options.plots:
        for path in save_plots(rows, options.plots):
            print(f"wrote {path}", file=sys.stderr)
    if bench.collapsed:
        raise bench.collapsed[0]


if __name__ == "__main__":
    entrance("quality", main)
