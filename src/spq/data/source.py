"""Where a collection comes from: the names that open it, and the patterns of pictures that are left out."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase


@dataclass(frozen=True)
class Source:
    """What `open_images` needs to open a collection again.

    Attributes:
        names: one or several folders, files or named sets.
        exclude: patterns as in a shell. A pattern without `/` matches the name of any file or folder, one with `/` a path
            below the collection. What is below a matching folder is left out too.
    """

    names: tuple[str, ...]
    exclude: tuple[str, ...] = ()

    def __str__(self) -> str:
        """
        >>> print(Source(("a", "b"), ("*.png",)))
        a, b (without *.png)
        """
        without = f" (without {', '.join(self.exclude)})" if self.exclude else ""
        return ", ".join(self.names) + without

    def excludes(self, path: str) -> bool:
        """Whether a pattern matches the id of a picture, or the path of a folder.

        >>> source = Source(("photos",), ("screens", "20*/raw/", "*.gif"))
        >>> [source.excludes(path) for path in ("a/screens/1.jpg", "2024/raw/1.jpg", "2024/b.jpg", "x.gif", "raw")]
        [True, True, False, True, False]
        """
        parts = path.split("/")
        paths = ["/".join(parts[:end]) for end in range(1, len(parts) + 1)]
        for pattern in self.exclude:
            wanted = pattern.strip("/")
            if any(fnmatchcase(name, wanted) for name in (paths if "/" in wanted else parts)):
                return True
        return False
