"""Pictures inside tar files, in the layout of WebDataset: read by their offset, without unpacking."""

from __future__ import annotations

import json
import re
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from spq.common.text import name_to_id
from spq.data.decode import first_line
from spq.data.formats import MAX_BYTES, kind_of
from spq.data.image_set import ImageSet, changed_at
from spq.data.metadata import labels_of, unique_ids
from spq.data.table_files import LONGEST_NAME
from spq.errors import DataError, ImageError

IN_TAR = "a link inside a tar is not read; store the picture itself"
SPARSE = "a sparse file inside a tar is not read; store the whole picture"
LONG_NAME = f"its name has more than {LONGEST_NAME:,} characters"
MAX_HEADER = 2**20  # bytes of a long name, or of the other headers before a member
MAX_LABEL = 2**20  # bytes of a member with a label
LONGEST_LABEL = 1000  # characters
END = 2 * tarfile.BLOCKSIZE  # zeros at the end of a tar
MAX_PADDING = 2**20  # bytes of zeros that writers add to it; GNU tar fills up 10,240
NO_END = "its end is missing, so it may be cut off; compare it with the original"
LONG_END = "it ends with {:,} bytes of zeros, so it may not be copied completely; compare it with the original"
_RECORD = re.compile(rb"(\d{1,7}) [^=\n]+=")  # of a pax header
_HEADERS = (
    tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK
)  # fmt: skip


class TarImages(ImageSet):
    """WebDataset: members with the same key (the name up to the first dot) are one sample.

    A sample is a picture with an optional `.cls`, or `.json` with a `label`. Members are read by offset without unpacking. The id
    of a picture is its key. It is the whole name if there is more text before the extension, or if another picture has the key.
    """

    def __init__(self, name: str, files: Sequence[Path]) -> None:
        self.files = list(files)
        self.members: list[tuple[int, int, int]] = []  # file, offset, size
        keys: list[str] = []
        found: list[Any] = []
        unopened: list[tuple[str, str]] = []
        remarks: list[tuple[str, str]] = []
        for number, file in enumerate(files):
            before = "" if len(files) == 1 else f"{file.name}/"
            content = _read(name, file)
            unopened += [(before + member, why) for member, why in content.unopened]
            remarks += [(before[:-1] or ".", remark) for remark in content.remarks()]
            for key, (picture, label) in content.samples().items():
                keys.append(before + key)
                self.members.append((number, *picture))
                found.append(label)
        if not keys:
            raise DataError(f"no pictures in {name}; expected members like 0001.jpg, 0001.cls")
        labels, class_names = labels_of(found)
        self.mtimes = [changed_at(file.stat()) for file in files]
        super().__init__(name, unique_ids(keys, len(keys)), labels, class_names)
        self.unopened, self.remarks = unopened, remarks

    def read(self, position: int) -> bytes:
        number, offset, size = self.members[position]
        if size > MAX_BYTES:
            raise ImageError(f"cannot read {self.ids[position]}: {size:,} bytes are over the limit of {MAX_BYTES:,}")
        try:
            with self.files[number].open(
                "rb"
            ) as handle:  # opened each time, which takes microseconds, so that threads share nothing
                handle.seek(offset)
                return handle.read(size)
        except OSError as error:
            raise ImageError(f"cannot read {self.files[number]}: {first_line(error)}") from None

    def stat(self, position: int) -> tuple[int, int]:
        number, _, size = self.members[position]
        return size, self.mtimes[number]


@dataclass
class _Content:
    """What a tar has.

    Attributes:
        pictures: id -> (offset, size). members: id -> key and name. labels: key -> label.
        unopened: (name, reason) of pictures that are not read. broken: keys whose label is not used.
        repeated: names of pictures that a later member replaces. end: a remark on the end of the tar, or nothing.
    """

    pictures: dict[str, tuple[int, int]] = field(default_factory=dict)
    members: dict[str, tuple[str, str]] = field(default_factory=dict)
    labels: dict[str, Any] = field(default_factory=dict)
    unopened: list[tuple[str, str]] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    repeated: list[str] = field(default_factory=list)
    end: str = ""

    def samples(self) -> dict[str, tuple[tuple[int, int], Any]]:
        """Return id -> picture and label."""
        return {id_: (self.pictures[id_], self.labels.get(self.members[id_][0])) for id_ in self.pictures}

    def remarks(self) -> list[str]:
        """Return what is not used, and what is strange."""
        found = []
        if self.broken:
            found.append(f"{len(self.broken):,} labels are broken and not used, first that of {self.broken[0]}")
        if self.repeated:
            more = f", as for {len(self.repeated) - 1:,} more" if len(self.repeated) > 1 else ""
            found.append(f"{self.repeated[0]} is in the tar again; the last one is used{more}")
        return [*found, self.end] if self.end else found

    def add(self, tar: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        folder, _, base = member.name.rpartition("/")
        key, dot, extension = base.partition(".")
        is_picture = kind_of(base) == "picture"
        reason = _why_not(member) if is_picture else ""
        if reason:
            self.unopened.append((name_to_id(member.name[:LONGEST_NAME]), reason))
        if reason or not member.isfile() or not key or not dot or len(member.name) > LONGEST_NAME:  # `._a.jpg` is none
            return
        key = name_to_id(f"{folder}/{key}" if folder else key)
        suffix = extension.rpartition(".")[2]
        if is_picture:
            here = key, member.name  # a repeated name replaces the first one, as in tar itself
            id_ = key if suffix == extension and self.members.get(key, here) == here else name_to_id(member.name)
            if id_ in self.pictures:
                self.repeated.append(name_to_id(member.name))
            self.pictures[id_], self.members[id_] = (member.offset_data, member.size), here
        elif extension in ("cls", "json"):
            handle = tar.extractfile(member) if member.size <= MAX_LABEL else None
            try:
                self.labels[key] = _label(extension, handle.read() if handle else None, self.labels.get(key))
            except (ValueError, RecursionError):
                self.broken.append(key)


def _why_not(member: tarfile.TarInfo) -> str:
    """Return why a member with the name of a picture is not read, or nothing."""
    if member.issym() or member.islnk():
        return IN_TAR
    if member.issparse():
        return SPARSE
    return LONG_NAME if len(member.name) > LONGEST_NAME else ""


def _read(name: str, file: Path) -> _Content:
    content, begun = _Content(), -1
    try:
        with tarfile.open(file, "r:", tarinfo=_Member) as tar:
            for member in _members(tar):
                begun = member.offset
                content.add(tar, member)
            content.end = _end(name, file, tar.offset)
    except (tarfile.TarError, OSError, ValueError, OverflowError, RecursionError) as error:
        what = "is not an uncompressed tar file" if begun < 0 else f"is damaged after byte {begun:,}"
        raise DataError(f"{name}: {file.name} {what}: {first_line(error)}; create it again") from None
    return content


def _members(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """Yield the members, and keep none; each must begin after the one before, else there would be no end."""
    at = -1
    while member := tar.next():
        if tar.offset <= at:
            raise tarfile.ReadError("a member ends before it begins")
        at = tar.offset
        yield member
        tar.members.clear()  # type: ignore[attr-defined]


def _end(name: str, file: Path, at: int) -> str:
    """Return a remark on the end of a tar, or nothing; `tarfile` takes a damaged header for the end.

    Args:
        at: byte after the last member.
    Raises:
        DataError: more than zeros follow.
    """
    zeros = 0
    with file.open("rb") as handle:
        handle.seek(at)
        while chunk := handle.read(MAX_PADDING):
            rest = chunk.lstrip(b"\0")
            zeros += len(chunk) - len(rest)
            if rest:
                raise DataError(f"{name}: {file.name} {_damage(at, zeros)}; create it again")
    return NO_END if zeros < END else LONG_END.format(zeros) if zeros > MAX_PADDING else ""


def _damage(at: int, zeros: int) -> str:
    """What is wrong with a tar whose members stop at a byte, by the number of zeros before more data."""
    if zeros < tarfile.BLOCKSIZE:
        return f"is damaged: the header at byte {at:,} is broken, so the members from there on cannot be read"
    return (
        f"is damaged, or several tars in one file: it ends at byte {at:,}, but more data follows at byte {at + zeros:,}"
    )


class _Member(tarfile.TarInfo):
    """A member whose size and headers are within limits."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> _Member:
        member = super().frombuf(buf, encoding, errors)
        if member.size < 0:
            raise tarfile.ReadError("a member of negative size")
        if member.type in _HEADERS and member.size > MAX_HEADER:
            raise tarfile.ReadError(f"a header of {member.size:,} bytes is over the limit of {MAX_HEADER:,}")
        return member

    def _proc_member(self, tar: tarfile.TarFile) -> tarfile.TarInfo:
        """Check a header before the member, which has no checksum; `tarfile` uses what it can read of it."""
        if self.type in _HEADERS and tar.fileobj:
            start = tar.fileobj.tell()
            content = tar.fileobj.read(self.size)
            tar.fileobj.seek(start)
            is_whole = _is_name if self.type in (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK) else _are_records
            if not is_whole(content):
                raise tarfile.ReadError(f"the long header at byte {start:,} is broken")
        member: tarfile.TarInfo = super()._proc_member(tar)  # type: ignore[misc]
        return member


def _is_name(content: bytes) -> bool:
    """Whether a long name of GNU tar is whole: one zero at most ends it, unless zeros fill up a block."""
    name = content.rstrip(b"\0")
    return b"\0" not in name and bool(name) and (len(content) - len(name) < 2 or not len(content) % tarfile.BLOCKSIZE)


def _are_records(content: bytes) -> bool:
    """Whether a pax header is a list of records, each with its length, as in `12 path=a/b\\n`."""
    at, end = 0, len(content.rstrip(b"\0"))
    while found := _RECORD.match(content, at):
        at += int(found[1])
        if at < found.end() or content[at - 1 : at] != b"\n":
            return False
    return at == end and (end > 0 or not content)


def _label(extension: str, content: bytes | None, known: Any) -> Any:
    """Return the label of a member, or the known one if it has none.

    Raises:
        ValueError, RecursionError: it is broken, or too long.
    """
    if content is None:
        raise ValueError("too large")
    text = content.decode("utf-8", "replace").strip()
    if extension == "cls":
        if len(text) > LONGEST_LABEL:
            raise ValueError("too long")
        return int(text) if text.isdecimal() else text
    value = json.loads(text)
    label = value.get("label", known) if isinstance(value, dict) else known
    if len(str(label)) > LONGEST_LABEL:
        raise ValueError("too long")
    return label
