"""Find pictures that are the same or similar, in groups by how certain that is. Nothing is deleted.

identical   the same bytes
re-encoded  the same picture in other bytes: re-encoded or resized; confirmed at full size
edited      a copy that was turned, mirrored, cropped, framed, written on or made grey; confirmed at full size
almost      the same but for one place, which is shown; not a copy
burst       taken by one camera within seconds; not a copy
similar     near by code, not confirmed; only with an index

Every copy is compared with the picture that is kept. So a chain of small changes, such as the pictures of a film, does not
become one group. No picture is superfluous twice, and only confirmed copies are superfluous.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from spq.data.image_set import ImageSet
from spq.data.several import Concatenated
from spq.dupes.candidates import BY_CODE, Candidates, Neighbours, candidate_pairs, code_neighbours
from spq.dupes.copies import Copies, burst_groups
from spq.dupes.exif import Shot, read_shot
from spq.dupes.facts import Facts
from spq.dupes.groups import CONFIRMED, KINDS, SPARE, Group, Grouping, Member, Tie
from spq.dupes.keep import Preference
from spq.dupes.links import freed_bytes
from spq.dupes.matching import Matching, Pair
from spq.dupes.plausible import plausible
from spq.dupes.present import Present, Read, Unjudged, first_of_each, identity, present, read_thumbs
from spq.dupes.threshold import CodedPictures, Threshold, calibrate, within
from spq.errors import DataError
from spq.index.image_index import ImageIndex

__all__ = ["CONFIRMED", "KINDS", "STAGES", "Group", "Member", "Options", "Report", "find_duplicates"]
Rows = NDArray[np.int64]
Progress = Callable[[str, int, int], None]
READING = "reading pictures"
STAGES = (  # in this order; some are passed over
    READING,
    "comparing codes",
    "comparing thumbs",
    "laying thumbs together",
    "comparing at full size",
    "reading dates",
    "calibrating on altered copies",
)
NEARNESS = ((0, 2), (2, 6), (6, 2**62))  # the nearest candidates first: after them, few pictures are left to compare


@dataclass(frozen=True)
class Options:
    """What to look for, and what to keep.

    Attributes:
        threshold: code distance up to which pictures are similar; by default calibrated on altered copies of the collection.
        recall: share of these copies that the calibrated threshold finds. seed: of the sample of pictures and their copies.
        preference: which picture of a group to keep. apart: pairs of hashes, in hexadecimal digits, that are no duplicates.
        reference: another collection, and its index if it has one. Then each picture is only compared with those.
    """

    threshold: float | None = None
    recall: float = 0.9
    seed: int = 0
    preference: Preference = field(default_factory=Preference)
    apart: frozenset[frozenset[str]] = frozenset()
    reference: tuple[ImageIndex | None, ImageSet] | None = None


@dataclass(frozen=True)
class Report:
    """The result of a search for copies.

    Attributes:
        threshold: None without an index, or for fewer than two pictures.
        left_out: (path, reason) of pictures that could not be judged.
        crowded: pictures with more than BY_CODE others within the threshold. Only the nearest were compared.
        freed: bytes that the disk would get back without the superfluous copies.
        in_both: pictures that are files of the reference too. They were passed over.
    """

    pictures: int
    groups: list[Group]
    threshold: Threshold | None
    left_out: Unjudged
    crowded: int = 0
    freed: int = 0
    in_both: int = 0


def find_duplicates(
    index: ImageIndex | None,
    images: ImageSet,
    options: Options | None = None,
    progress: Progress = lambda *_: None,
) -> Report:
    """Find the copies in a collection. Missing, unreadable or changed pictures are left out and named.

    Args:
        index: of the collection, if there is one; it adds pictures that are similar by code.
        images: the collection; each picture of distinct bytes is decoded once for its thumb.
        progress: called with (what, done, total): pictures read, compared and so on.
    """
    options = options or Options()
    everything, here = _gathered(index, images, options)
    read = read_thumbs(everything, here.positions, first_of_each(here.facts), partial(progress, READING))
    facts, readable = _completed(here.facts, read)
    grouping = Grouping(facts, options.preference)
    stands_for = grouping.join_identical(readable, {bytes.fromhex(*pair) for pair in options.apart if len(pair) == 1})
    distinct = _Distinct(*_of_kept(read, stands_for), index, facts)
    with threadpool_limits(1, "blas"):  # our threads use all cores already: those of BLAS would wait for each other
        _join_copies(grouping, distinct, _matching(everything, here, facts, options, progress), progress)
    limit, crowded = None, 0
    if index is not None and options.reference is None:
        limit, crowded = _add_similar(grouping, distinct, (index, images, here.positions), options, progress)
    failures = [(facts[row].path, reason) for row, reason in read.failures]
    groups = grouping.sorted_groups()
    superfluous = {m.file or m.path for g in groups for m in g.others if m.keep == SPARE}
    spare, rest = _split(facts, superfluous)
    pictures = sum(not facts[row].is_reference for row in readable)
    freed = freed_bytes(rest, spare)
    return Report(pictures, groups, limit, here.left_out + failures, crowded, freed, here.in_both)


class _Distinct:
    """Pictures of different bytes: rows (n,) of the facts, thumbs (n, 64, 64), and neighbours by code, if there are codes."""

    def __init__(self, rows: Rows, thumbs: NDArray[np.uint8], index: ImageIndex | None, facts: list[Facts]) -> None:
        self.rows, self.thumbs, self.index = rows, thumbs, index
        self.codes: NDArray[np.uint8] | None = None
        self.neighbours: Neighbours | None = None
        found = [facts[row].code for row in rows.tolist()]
        if index is not None and all(code is not None for code in found):
            self.codes = np.array(found, np.uint8).reshape(-1, index.store.manifest.num_codebooks)

    def look_up(self, progress: Progress) -> None:
        if self.index is not None and self.codes is not None:
            distance, comparing = self.index.store.manifest.distance, partial(progress, "comparing codes")
            self.neighbours = code_neighbours(self.codes, self.index.decoder, distance, comparing)


def _gathered(index: ImageIndex | None, images: ImageSet, options: Options) -> tuple[ImageSet, Present]:
    """The pictures to compare: those of the collection, and those of the reference. A file of both is of the reference."""
    here = present(index, images)
    if options.reference is None:
        return images, here
    there = present(*options.reference)
    reference = options.reference[1]
    of_reference = {identity(reference, facts) for facts in there.facts}
    own = [n for n, facts in enumerate(here.facts) if identity(images, facts) not in of_reference]
    if not own and here.facts:
        raise DataError(
            f"all pictures of {images.name} are files of {reference.name} too; give another collection, or only one of them"
        )
    facts = [here.facts[n] for n in own] + [replace(facts, is_reference=True) for facts in there.facts]
    positions = np.concatenate([here.positions[own], there.positions + len(images)])
    both = Concatenated([images, reference], images.name, images.ids + reference.ids, None, [])
    return both, Present(facts, positions, here.left_out + there.left_out, len(here.facts) - len(own))


def _completed(facts: list[Facts], read: Read) -> tuple[list[Facts], list[int]]:
    """All facts, with the hash and size of what was read, and the rows of the pictures that are readable."""
    found: dict[object, tuple[bytes, tuple[int, int]]] = {}
    for row, digest, size in zip(read.rows.tolist(), read.hashes, read.sizes, strict=True):
        found[facts[row].hash or facts[row].inode or row] = digest, size
    completed, readable = [], []
    for row, each in enumerate(facts):
        digest, (width, height) = found.get(each.hash or each.inode or row, (b"", (0, 0)))
        readable += [row] * bool(digest)
        completed.append(replace(each, hash=digest, width=width, height=height) if digest else each)
    return completed, readable


def _of_kept(read: Read, stands_for: dict[bytes, int]) -> tuple[Rows, NDArray[np.uint8]]:
    """The rows that stand for each hash that was read, and their thumbs."""
    first = {digest: n for n, digest in reversed(list(enumerate(read.hashes)))}
    places = np.array(sorted(first.values()), np.int64)
    rows = np.array([stands_for[read.hashes[n]] for n in places.tolist()], np.int64)
    return rows, read.thumbs if len(places) == len(read.thumbs) else read.thumbs[places]


def _matching(images: ImageSet, here: Present, facts: list[Facts], options: Options, progress: Progress) -> Matching:
    apart = options.apart

    def is_apart(a: int, b: int) -> bool:
        return bool(apart) and frozenset((facts[a].hash.hex(), facts[b].hash.hex())) in apart

    return Matching(images, here.positions, is_apart, partial(progress, "comparing at full size"))


def _join_copies(grouping: Grouping, distinct: _Distinct, matching: Matching, progress: Progress) -> None:
    """Group re-encoded and edited copies, and what is almost a copy or of one burst."""
    distinct.look_up(progress)
    found = candidate_pairs(distinct.thumbs, distinct.neighbours, partial(progress, "comparing thumbs"))
    found = _across(found, grouping, distinct.rows)
    shots: dict[int, Shot] = {}

    def shot_of(row: int) -> Shot:
        if row not in shots:
            shots[row] = read_shot(matching.images, int(matching.positions[row]))
        return shots[row]

    copies = Copies(grouping, matching, shot_of)
    likely = found.chosen(plausible(distinct.thumbs, found.pairs, partial(progress, "laying thumbs together")))
    matching.total = len(distinct.rows)
    for first, end in NEARNESS:
        some = likely.pairs[(likely.place >= first) & (likely.place < end)]
        copies.join(_among_kept(distinct, copies.kept, some))
    copies.finish()
    if not any(facts.is_reference for facts in grouping.facts):
        _add_looks(copies, distinct.rows[found.pairs[found.is_alike]], progress)


def _among_kept(distinct: _Distinct, kept: Rows, pairs: Rows) -> Rows:
    """Candidates (P, 2) as rows of the pictures that are kept. A pair of a copy becomes one of the picture kept instead of it.

    Such a pair may be no candidate itself, as one of a turned picture and one with a border.
    """
    number = np.zeros(len(kept), np.int64)
    number[distinct.rows] = np.arange(len(distinct.rows))
    now = np.sort(number[kept[distinct.rows[pairs]]], axis=1)
    is_new = (now != pairs).any(1) & (now[:, 0] != now[:, 1])
    moved = np.unique(now[is_new], axis=0)
    left = pairs[(now == pairs).all(1)]
    found: Rows = np.concatenate([left, moved[plausible(distinct.thumbs, moved)]])
    rows: Rows = distinct.rows[found]
    return rows


def _across(found: Candidates, grouping: Grouping, rows: Rows) -> Candidates:
    """Only pairs of a picture and one of the reference, if there is a reference."""
    is_reference = np.array([grouping.facts[row].is_reference for row in rows.tolist()], bool)
    if not is_reference.any():
        return found
    across = is_reference[found.pairs[:, 0]] != is_reference[found.pairs[:, 1]]
    return found.chosen(across)


def _add_looks(copies: Copies, alike: NDArray[np.int64], progress: Progress) -> None:
    """Add the groups of bursts, and of pictures that are almost the same."""
    grouping, bursts, almost = copies.grouping, list[Pair](), dict[Pair, Tie]()
    for pair, tie in copies.looks.items():
        if grouping.is_kept(pair[0]) and grouping.is_kept(pair[1]):
            bursts += [pair] * (tie.kind == "burst")
            almost |= {pair: tie} if tie.kind == "almost" else {}
    for n, (a, b) in enumerate(alike.tolist()):
        progress("reading dates", n + 1, len(alike))
        if grouping.is_kept(a) and grouping.is_kept(b) and copies.shot_of(a).is_near(copies.shot_of(b)):
            bursts.append((a, b))
    shots = {row: copies.shot_of(row) for pair in bursts for row in pair}
    in_burst: dict[int, int] = {}
    for number, (first, *others) in enumerate(burst_groups(shots, bursts)):
        grouping.look(first, {row: Tie("burst", _after(shots[first], shots[row])) for row in others})
        in_burst |= dict.fromkeys((first, *others), number)
    almost = {(a, b): tie for (a, b), tie in almost.items() if in_burst.get(a, -1) != in_burst.get(b, -2)}
    grouping.gather(almost, list(almost.values()))


def _after(first: Shot, other: Shot) -> str:
    return f"taken {(other.seconds or 0) - (first.seconds or 0):.3g} s after the first"


def _add_similar(
    grouping: Grouping,
    distinct: _Distinct,
    source: tuple[ImageIndex, ImageSet, Rows],
    options: Options,
    progress: Progress,
) -> tuple[Threshold | None, int]:
    """Group pictures that are near by code and in no other group together. Return the threshold, and how many are crowded."""
    index, images, positions = source
    if distinct.neighbours is None or distinct.codes is None:
        return None, 0
    different = np.array([n for n, row in enumerate(distinct.rows.tolist()) if grouping.is_kept(row)], np.int64)
    pairs, distances, nearest = _pairs_among(different, distinct.neighbours)
    coded = CodedPictures(images, positions[distinct.rows[different]], distinct.codes[different], nearest)
    given = {"threshold": options.threshold, "recall": options.recall, "seed": options.seed}
    limit = calibrate(index.model, coded, **given, progress=partial(progress, "calibrating on altered copies"))  # type: ignore[arg-type]
    if not limit:
        return None, 0
    known = {frozenset((m.path, group.keep.path)) for group in grouping.groups for m in group.others}
    near = within(distances, limit.distance)
    found = {
        (a, b): Tie("similar", "similar", float(distance))
        for (a, b), distance in zip(distinct.rows[pairs[near]].tolist(), distances[near].tolist(), strict=True)
        if frozenset((grouping.facts[a].path, grouping.facts[b].path)) not in known
        and frozenset((grouping.facts[a].hash.hex(), grouping.facts[b].hash.hex())) not in options.apart
    }
    grouping.gather(found, list(found.values()))
    return limit, _crowded(distinct.neighbours, different, limit)


def _pairs_among(rows: Rows, neighbours: Neighbours) -> tuple[Rows, NDArray[np.float32], NDArray[np.float32]]:
    """Pairs of `rows` that are neighbours by code, each once, their distances, and the distance to the nearest (n,)."""
    is_row = np.zeros(len(neighbours.rows) + 1, bool)
    is_row[rows] = True
    a, b = np.repeat(rows, neighbours.rows.shape[1]), neighbours.rows[rows].ravel()
    distances, is_pair = neighbours.distances[rows], (is_row[b] & (a != b))
    nearest = np.where(is_pair.reshape(distances.shape), distances, np.inf).min(1, initial=np.inf)
    pairs = np.sort(np.stack([a, b], 1)[is_pair], axis=1)
    pairs, first = np.unique(pairs, axis=0, return_index=True)
    return pairs, distances.ravel()[is_pair][first], nearest


def _crowded(neighbours: Neighbours, rows: Rows, limit: Threshold) -> int:
    """How many of `rows` have more neighbours within the threshold than were looked up."""
    if len(neighbours.rows) <= BY_CODE:
        return 0
    return int(within(neighbours.distances[rows, -1], limit.distance).sum())


def _split(facts: list[Facts], superfluous: set[str]) -> tuple[list[Facts], list[Facts]]:
    """Facts of superfluous pictures, and of all others."""
    spare, rest = list[Facts](), list[Facts]()
    for each in facts:
        (spare if not each.is_reference and (each.file or each.path) in superfluous else rest).append(each)
    return spare, rest
