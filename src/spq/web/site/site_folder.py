"""The folder of a site. Visitors never see half a site: new content gets a new name, and `index.html` is replaced last.

    site/index.html            names the content folder; replaced in one step
         content-<digest>/     page, codes, descriptions, model; never changed
         thumbs/ab/<name>.jpg  named after their content; deleted when index.html no longer needs them
         spq-site.json         marks the folder as a site

The first export works in a folder beside the target, and moves it there when it is complete. An interrupted export leaves its
thumbnails for the next one. Other files in the folder, such as CNAME or robots.txt, stay.
"""

from __future__ import annotations

import errno
import hashlib
import json
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from spq.common.files import Replacing
from spq.common.locks import held
from spq.errors import ConfigError, DataError, StoreError

MARKER = "spq-site.json"
FORMAT = 1
CONTENT, THUMBS, NEW_CONTENT = "content-", "thumbs", ".content.partial"


class SiteFolder:
    """The folder to write to: the site itself, or a new one beside it. Made by `open_site`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.thumbs, self.content = folder / THUMBS, folder / NEW_CONTENT

    def begin(self) -> None:
        """Create an empty `content` folder."""
        shutil.rmtree(self.content, ignore_errors=True)
        for leftover in self.folder.glob(".index.html.*"):  # of a killed export
            leftover.unlink()
        self.content.mkdir()
        self.thumbs.mkdir(exist_ok=True)

    def commit(self, html: str) -> str:
        """Give `content` its final name, write `index.html`, and return the name. `{content}` in `html` stands for the name."""
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
        """Delete thumbnails that are not in `needed`, and the leftovers of a killed export. Return how many."""
        dropped = 0
        for file in self.thumbs.glob("*/*"):
            if file.stem not in needed or file.suffix != ".jpg":
                file.unlink()
                dropped += 1
        return dropped


@contextmanager
def open_site(out: Path) -> Iterator[SiteFolder]:
    """Yield the folder to write to, for one process at a time. Without an error it becomes `out` at the end.

    Raises:
        ConfigError: `out` holds something else. StoreError: another process exports to it. DataError: the disk is full.
    """
    check_site(out)
    out = out.absolute()
    is_new = not (out / MARKER).exists()
    folder = out.with_name(f".{out.name}.partial") if is_new else out
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _locked(folder.with_name(f"{folder.name}.lock") if is_new else folder / ".lock", out):
            with (folder / MARKER).open("a", encoding="utf-8") as marker:
                if not marker.tell():
                    marker.write(json.dumps({"format": FORMAT, "made by": "spq export --to web"}) + "\n")
            yield SiteFolder(folder)
            if is_new:
                folder.rename(out)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise DataError(f"the disk of {out} is full; free some space, then export again to continue") from None


def check_site(out: Path) -> None:
    """Refuse a folder that holds other files.

    Raises:
        ConfigError: names one of them.
    """
    if not out.exists():
        return
    if not out.is_dir():
        raise ConfigError(f"`out` {out} is a file; give a folder")
    if (out / MARKER).exists():
        _check_format(out)
        return
    strange = min((entry.name for entry in out.iterdir()), default=None)
    if strange:
        raise ConfigError(f"`out` {out} holds other files ({strange}); give a new folder")
    if out.samefile(Path.cwd()):
        raise ConfigError(f"`out` {out} is the current folder; give a new one")


def _check_format(out: Path) -> None:
    try:
        found = json.loads((out / MARKER).read_text("utf-8"))["format"]
    except (OSError, ValueError, TypeError, KeyError):
        raise ConfigError(f"`out` {out}: its {MARKER} is damaged; delete the folder, or give a new one") from None
    if found != FORMAT:
        raise ConfigError(f"`out` {out} is a site of format {found}, this spq writes {FORMAT}; give a new folder")


@contextmanager
def _locked(lock: Path, out: Path) -> Iterator[None]:
    """Hold a lock file, which is beside a new site, so that the folder can be renamed. It is removed at the end."""
    with ExitStack() as stack:
        try:
            stack.enter_context(held(lock))
        except BlockingIOError:
            raise StoreError(f"another process is exporting to {out}; wait for it to end") from None
        try:
            yield
        finally:
            with suppress(OSError):  # Windows removes no open file
                lock.unlink()


def _digest(folder: Path) -> str:
    """Return a digest of all names and bytes in a folder. New content gets a new address, so no cache shows old files."""
    total = hashlib.blake2b(digest_size=8)
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        with file.open("rb") as opened:
            content = hashlib.file_digest(opened, lambda: hashlib.blake2b(digest_size=16)).digest()
        total.update(file.relative_to(folder).as_posix().encode() + b"\0" + content)
    return total.hexdigest()
