"""Where a collection comes from: the names that open it, and the patterns of what is taken and left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from spq.common.patterns import settled
from spq.data.rules import Rules, matches


@dataclass(frozen=True)
class Source:
    """What `open_images` needs to open a collection again.

    A pattern is one as in a shell. Without `/` it matches the name of any file or folder, with `/` a path below the
    collection, which may begin with the path of the collection itself. What is below a matching folder matches too.

    Attributes:
        names: one or several folders, files or named sets.
        exclude: patterns of pictures that are left out.
        include: patterns of pictures that are taken; all, if there are none. A pattern that names a side folder, such as
            `@eaDir`, takes that folder in, and limits nothing.
        follow_links: list also folders that are linked.
        prefixes: with which the ids of each collection begin; by default none for one collection, and the last name of each
            for several.
    """

    names: tuple[str, ...]
    exclude: tuple[str, ...] = ()
    include: tuple[str, ...] = ()
    follow_links: bool = False
    prefixes: tuple[str, ...] = ()

    def __str__(self) -> str:
        """
        >>> print(Source(("a", "b"), ("*.png",)))
        a, b (without *.png)
        >>> print(Source(("a",), include=("2024", "2025")))
        a (only 2024, 2025)
        """
        limits = [f"{word} {', '.join(p)}" for word, p in (("only", self.include), ("without", self.exclude)) if p]
        return ", ".join(self.names) + (f" ({'; '.join(limits)})" if limits else "")

    def excludes(self, path: str) -> bool:
        """Whether a pattern of `exclude` matches the id of a picture, or the path of a folder.

        >>> source = Source(("photos",), ("screens", "20*/raw/", "*.gif"))
        >>> [source.excludes(path) for path in ("a/screens/1.jpg", "2024/raw/1.jpg", "2024/b.jpg", "x.gif", "raw")]
        [True, True, False, True, False]
        """
        parts = path.split("/")
        return any(matches(self.exclude, parts[n], ["/".join(parts[: n + 1])]) for n in range(len(parts)))

    def rules(self, prefix: str = "", hits: set[str] | None = None) -> Rules:
        """What is taken of the collection with this prefix. Patterns that match something are added to `hits`."""
        return Rules(self.exclude, self.include, self.follow_links, prefix, hits=set() if hits is None else hits)

    def chosen(
        self,
        exclude: Sequence[str] | None = None,
        include: Sequence[str] | None = None,
        follow_links: bool | None = None,
    ) -> Source:
        """The source with other patterns, where any are given. An empty pattern stands for none."""
        return replace(
            self,
            exclude=self.exclude if exclude is None else _real(exclude),
            include=self.include if include is None else _real(include),
            follow_links=self.follow_links if follow_links is None else follow_links,
        )


def _real(patterns: Sequence[str]) -> tuple[str, ...]:
    return tuple(settled(pattern) for pattern in patterns if pattern.strip("/. "))
