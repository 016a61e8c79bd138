"""Pictures that clients have uploaded, kept in memory for a while, so that a client sends each one once.

An answer names each picture by its hash. Later requests of the same client send the name: for the next page, another region
or another filter. A name that is not known here, for example after a restart, is an error of its own, after which the client
sends the picture again. No client can ask with the name for a picture of another address.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import BinaryIO

from spq.model.feature_store import hash_of
from spq.web.server.problems import ProblemError

UNKNOWN = "unknown-picture"  # the kind of the error
OVERHEAD = 1000  # bytes of an entry besides its picture


class KeptPictures:
    """Bytes of pictures by client and name, for any thread. The client that has the most loses its oldest ones first.

    Args:
        most: bytes of all together.
    """

    def __init__(self, most: int = 0) -> None:
        self.most, self.used = most, 0
        self._lock = threading.Lock()
        self._clients: dict[str | None, OrderedDict[str, bytes]] = {}
        self._sizes: dict[str | None, int] = {}

    def get(self, origin: str | None, name: str) -> bytes | None:
        with self._lock:
            pictures = self._clients.get(origin, OrderedDict())
            if name in pictures:
                pictures.move_to_end(name)
            return pictures.get(name)

    def put(self, origin: str | None, name: str, data: bytes) -> None:
        with self._lock:
            pictures = self._clients.setdefault(origin, OrderedDict())
            if name in pictures:
                pictures.move_to_end(name)
                return
            pictures[name] = data
            self._count(origin, len(data) + OVERHEAD)
            while self.used > self.most:
                largest = max(self._sizes, key=lambda client: self._sizes[client])
                _, oldest = self._clients[largest].popitem(last=False)
                self._count(largest, -len(oldest) - OVERHEAD)

    def _count(self, origin: str | None, size: int) -> None:
        self.used += size
        self._sizes[origin] = self._sizes.get(origin, 0) + size
        if not self._sizes[origin]:
            del self._sizes[origin], self._clients[origin]


@dataclass(frozen=True)
class Uploads:
    """The pictures of a request: open files, which are read one at a time, and a way to those that are kept.

    Attributes:
        positive, negative: query pictures and negative pictures that were sent.
        origin: the client, as `origin_of` names it.
    """

    positive: Sequence[BinaryIO] = ()
    negative: Sequence[BinaryIO] = ()
    origin: str | None = None
    kept: KeptPictures = field(default_factory=KeptPictures)
    _names: dict[int, str] = field(default_factory=dict)  # by the id of the file

    def read(self, picture: BinaryIO | str) -> tuple[str, bytes]:
        """Return name and bytes of a picture: an open file, or a name.

        Raises:
            ProblemError: 409, no picture of this client is kept under that name.
        """
        if isinstance(picture, str):
            data = self.kept.get(self.origin, picture)
            if data is None:
                raise ProblemError(
                    409, f"picture {picture} is not kept here any more; send the file again", kind=UNKNOWN
                )
            return picture, data
        picture.seek(0)  # it may have been read for an index that was replaced meanwhile
        data = picture.read()
        name = self._names[id(picture)] = hash_of(data).hex()
        return name, data

    def keep(self, name: str, data: bytes) -> None:
        self.kept.put(self.origin, name, data)

    def names(self, pictures: Sequence[str], not_pictures: Sequence[str]) -> Mapping[str, Sequence[str]]:
        """Return the names of all pictures of a request that was read, for its answer.

        Args:
            pictures, not_pictures: those that the request names.
        """
        positive, negative = ([self._names[id(file)] for file in files] for files in (self.positive, self.negative))
        return {"pictures": [*positive, *pictures], "not_pictures": [*negative, *not_pictures]}
