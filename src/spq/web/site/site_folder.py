"""A site's folder, in which visitors never meet half a site: all that changes has a new name, and `index.html` is put in last.

    site/index.html            names the content folder: replaced in one step
         content-<digest>/     page, codes, descriptions, model: never changed once it is there
         thumbs/ab/<name>.jpg  named after what they show: only added, and dropped when no index.html needs them
         spq-site.json         says that the folder is ours

A first export works beside the place where the site will be, and moves there when it is whole. One that is stopped leaves its
thumbnails for the next. What others have put into the folder, a CNAME or robots.txt, stays.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from spq.common.files import Replacing
from spq.errors import ConfigError, DataError, StoreError

MARKER = "spq-site.json"
FORMAT = 1
CONTENT, THUMBS, NEW_CONTENT = "content-", "thumbs", ".content.partial"


class SiteFolder:
    """The folder that is worked in: the site itself, or its beginnings beside it. Made by `open_site`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.thumbs, self.content = folder / THUMBS, folder / NEW_CONTENT

    def begin(self) -> None:
        """Empty `content`, to be filled."""
        shutil.rmtree(self.content, ignore_errors=True)
        for leftover in self.folder.glob(".index.html.*"):  # of an export that was killed
            leftover.unlink()
        self.content.mkdir()
        self.thumbs.mkdir(exist_ok=True)

    def commit(self, html: str) -> str:
        """Give `content` its name, and the site its `index.html`, in which `{content}` stands for that name."""
        name = f"{CONTENT}{_digest(self.content)}"
        if (self.folder / name).exists():  # nothing has changed
            shutil.rmtree(self.content)
        else:
            self.content.rename(self.folder / name)
        with Replacing(self.folder / "index.html") as temporary:
            temporary.write_text(html.replace("{content}", name), "utf-8")
        for old in self.folder.glob(f"{CONTENT}*"):
            if old.name != name:
                shutil.rmtree(old)
        return name

    def drop_thumbs(self, needed: set[str]) -> int:
        """Delete thumbnails that are none of `needed`, and what a killed export left; returns how many."""
        dropped = 0
        for file in self.thumbs.glob("*/*"):
            if file.stem not in needed or file.suffix != ".jpg":
                file.unlink()
                dropped += 1
        return dropped


@contextmanager
def open_site(out: Path) -> Iterator[SiteFolder]:
    """The folder to work in, for one process at a time. If all goes well, it is `out` in the end.

    Raises:
        ConfigError: `out` holds something else. StoreError: another process exports to it. DataError: the disk is full.
    """
    check_site(out)
    out = out.absolute()
    is_new = not (out / MARKER).exists()
    folder = out.with_name(f".{out.name}.partial") if is_new else out
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / MARKER).open("a", encoding="utf-8") as marker:
            _take(marker, out)
            if not marker.tell():
                marker.write(json.dumps({"format": FORMAT, "made by": "spq export --to web"}) + "\n")
                marker.flush()
            yield SiteFolder(folder)
            if is_new:
                folder.rename(out)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise DataError(f"no room left on the disk of {out}; make some, and the same command goes on") from None


def check_site(out: Path) -> None:
    """Refuse to write among things that are not ours.

    Raises:
        ConfigError: names what is in the way.
    """
    if not out.exists():
        return
    if not out.is_dir():
        raise ConfigError(f"--out {out} is a file; give a folder")
    if (out / MARKER).exists():
        _check_format(out)
        return
    strange = min((entry.name for entry in out.iterdir()), default=None)
    if strange:
        raise ConfigError(f"--out {out} holds other things ({strange}); give a new folder")
    if out.samefile(Path.cwd()):
        raise ConfigError(f"--out {out} is the folder you are in; give a new one")


def _check_format(out: Path) -> None:
    try:
        found = json.loads((out / MARKER).read_text("utf-8"))["format"]
    except (OSError, ValueError, TypeError, KeyError):
        raise ConfigError(f"--out {out}: its {MARKER} is damaged; delete the folder, or give a new one") from None
    if found != FORMAT:
        raise ConfigError(f"--out {out} is a site of format {found}, this spq writes {FORMAT}; give a new folder")


def _take(marker: IO[str], out: Path) -> None:
    try:
        fcntl.flock(marker, fcntl.LOCK_EX | fcntl.LOCK_NB)  # the kernel lets go of it when a process is killed
    except BlockingIOError:
        raise StoreError(f"another process is exporting to {out}; wait for it to end") from None


def _digest(folder: Path) -> str:
    """Of all names and bytes in a folder: other content, another address, so no cache shows an old one."""
    total = hashlib.blake2b(digest_size=8)
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        with file.open("rb") as opened:
            content = hashlib.file_digest(opened, lambda: hashlib.blake2b(digest_size=16)).digest()
        total.update(file.relative_to(folder).as_posix().encode() + b"\0" + content)
    return total.hexdigest()
