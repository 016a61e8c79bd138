"""Which picture of a group to keep: an order of reasons, of which the first that differs decides."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from spq.common.patterns import pattern
from spq.dupes.exif import Shot
from spq.dupes.facts import Facts
from spq.errors import ConfigError

CHOICES = ("oldest", "newest", "largest", "smallest", "shortest-path", "most-pixels")
CHOSEN = {"shortest-path": "shortest path", "most-pixels": "most pixels", "largest": "largest file"} | {
    "smallest": "smallest file"
}
REASONS = (
    "in the collection that is compared with",
    "preferred by your pattern",
    "a file, not a link",
    "",  # the choice
    "the raw of a camera",
    "not edited",
    "has the data of a camera (EXIF)",
    "most pixels",
    "not blown up",
    "most bits of a pixel",
    "has a sidecar or a video beside it",
    "has most data, such as place or keywords",
    "lossless",
    "largest file",
    "oldest",
    "in no linked folder",
    "shortest path",
    "first by name",
)
BY_USER = (0, 1, 3)  # places of the reasons that the user gives


@dataclass(frozen=True)
class Seen:
    """What a comparison with the other pictures of a group has shown.

    Attributes:
        has_camera: its EXIF data name a camera. is_edited: it is known to be an edited copy of another one.
        pixels: as many as are real; None if that is all. is_blown_up: its other pixels are interpolated.
        bits: of a pixel's channel. tells: what its data tell beside the camera: date, place, words.
        is_lossless: its format keeps pixels exactly. is_raw: it is the raw of a camera.
    """

    has_camera: bool = False
    is_edited: bool = False
    pixels: int | None = None
    is_blown_up: bool = False
    bits: int = 8
    tells: frozenset[str] = frozenset()
    is_lossless: bool = False
    is_raw: bool = False


def seen_of(shot: Shot) -> Seen:
    """What the head of a file shows."""
    return Seen(bool(shot.camera), bits=shot.bits, tells=shot.tells, is_lossless=shot.is_lossless, is_raw=shot.is_raw)


@dataclass(frozen=True)
class Preference:
    """What the user wants to keep.

    Attributes:
        patterns: as in a shell, of paths and absolute paths; what matches is kept, the first pattern before the second.
        choice: one of CHOICES, or empty.
    """

    patterns: tuple[str, ...] = ()
    choice: str = ""
    _nothing: Seen = field(default=Seen(), repr=False)

    def __post_init__(self) -> None:
        if self.choice and self.choice not in CHOICES:
            raise ConfigError(f"`keep` {self.choice} is unknown; use {', '.join(CHOICES)}")

    def order(self, facts: Facts, seen: Seen | None = None) -> tuple[float | str, ...]:
        """The picture with the smallest value is kept. One value for each of REASONS."""
        seen = seen or self._nothing
        return (
            not facts.is_reference,
            self._preferred(facts),
            facts.is_link,
            self._choice(facts),
            not seen.is_raw,
            seen.is_edited,
            not seen.has_camera,
            -(facts.pixels if seen.pixels is None else seen.pixels),
            seen.is_blown_up,
            -seen.bits,
            not facts.beside,
            -len(seen.tells),
            not seen.is_lossless,
            -facts.size,
            facts.mtime_ns,
            facts.is_behind_link,
            len(facts.path),
            facts.path,
        )

    @staticmethod
    def is_wanted(first: tuple[float | str, ...], second: tuple[float | str, ...]) -> bool:
        """Whether the user has said which of two pictures to keep, given their orders."""
        return any(first[n] != second[n] for n in BY_USER)

    def why(self, orders: Sequence[tuple[float | str, ...]]) -> str:
        """Why the first is better than the best of the others, given the orders of all."""
        first, second = orders[0], min(orders[1:])
        reason = next((reason for reason, a, b in zip(REASONS, first, second, strict=True) if a != b), REASONS[-1])
        if reason == "most pixels" and any(order[REASONS.index("not blown up")] for order in orders):
            return "most real pixels"
        return reason or CHOSEN.get(self.choice, self.choice)

    def idle(self, names: Iterable[Sequence[str]]) -> list[str]:
        """Return the patterns that match no picture, each of which has one or several names."""
        left = list(self.patterns)
        for paths in names:
            left = [each for each in left if not any(_matches(path, each) for path in paths)]
            if not left:
                break
        return left

    def _preferred(self, facts: Facts) -> int:
        """The number of the first pattern that matches."""
        paths = [path for path in (facts.path, facts.file.replace("\\", "/")) if path]
        found = (n for n, each in enumerate(self.patterns) if any(_matches(path, each) for path in paths))
        return next(found, len(self.patterns))

    def _choice(self, facts: Facts) -> float:
        values = (facts.mtime_ns, -facts.mtime_ns, -facts.size, facts.size, len(facts.path), -facts.pixels)
        return dict(zip(CHOICES, values, strict=True)).get(self.choice, 0)


def _matches(path: str, text: str) -> bool:
    """Whether a pattern matches a path, a part of it, or with a `/` several parts.

    >>> [_matches("a/2024/b.jpg", text) for text in ("2024", "2024/", "*.jpg", "a/*", "2024/b.jpg", "b", "*WA*", "A/2024")]
    [True, True, True, True, True, False, False, True]
    >>> _matches("/photos/a/b.jpg", "photos/a"), _matches("/photos/a/b.jpg", "/a")
    (True, False)
    """
    return pattern(text).fits_part(path.strip("/"))
