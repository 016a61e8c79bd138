"""The folder of a site. Visitors never see half a site: new content gets a new name, and `index.html` is replaced last.

    site/index.html            names the content folder; replaced in one step
         content-<digest>/     page, codes, descriptions, model; never changed
         thumbs/ab/<name>.jpg  named after their content; deleted when index.html no longer needs them
         spq-site.json         marks the folder as a site

The first export works in a folder beside the target, and moves it there when it is complete. An interrupted export leaves its
thumbnails for the next one. Other files in the folder, such as CNAME or robots.txt, stay. An export also repairs a site: damaged
files are written again, and what is there instead of a file, such as a link, is removed and never followed.
"""

from __future__ import annotations

import errno
import hashlib
import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from spq.common.files import Replacing
from spq.common.json_file import read_json
from spq.common.locks import held
from spq.errors import ConfigError, DataError, StoreError
from spq.web.thumbnail import remove, thumbnail_files

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
        for leftover in (self.content, *self.folder.glob(".index.html.*")):  # of a killed export
            remove(leftover)
        self.content.mkdir()
        if self.thumbs.is_symlink() or not self.thumbs.is_dir():
            remove(self.thumbs)
        self.thumbs.mkdir(exist_ok=True)

    def commit(self, html: str) -> str:
        """Give `content` its final name, write `index.html`, and return the name. `{content}` in `html` stands for the name."""
        digest = _digest(self.content)
        name = f"{CONTENT}{digest}"
        if _digest(self.folder / name) == digest:  # nothing has changed
            remove(self.content)
        else:
            remove(self.folder / name)  # damaged
            self.content.rename(self.folder / name)
        _keep_only_a_file(self.folder / "index.html")
        with Replacing(self.folder / "index.html") as temporary:
            temporary.write_text(html.replace("{content}", name), "utf-8")
        for old in _contents(self.folder):
            if old.name != name:
                remove(old)
        return name

    def drop_thumbs(self, needed: set[str]) -> int:
        """Delete thumbnails that are not in `needed`, and the leftovers of a killed export. Return how many."""
        dropped = 0
        for file in map(Path, thumbnail_files(self.thumbs)):
            if file.stem not in needed or file.suffix != ".jpg" or file.parent.name != file.stem[:2]:
                remove(file)
                dropped += 1
        for subfolder in self.thumbs.iterdir():
            if subfolder.is_symlink() or not subfolder.is_dir():
                remove(subfolder)
            else:
                with suppress(OSError):
                    subfolder.rmdir()  # if it is empty
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
        if is_new and folder.is_symlink():
            remove(folder)
        folder.mkdir(parents=True, exist_ok=True)
        with _locked(folder.with_name(f"{folder.name}.lock") if is_new else folder / ".lock", out):
            _write_marker(folder / MARKER)
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


def _write_marker(path: Path) -> None:
    """Write the file that marks a folder as a site, unless it is there and whole."""
    text = json.dumps({"format": FORMAT, "made by": "spq export --to web"}) + "\n"
    _keep_only_a_file(path)
    if not path.exists() or path.read_bytes() != text.encode():
        with Replacing(path) as temporary:
            temporary.write_text(text, "utf-8")


def _check_format(out: Path) -> None:
    """Refuse a site of another format. A damaged marker is written again if the rest of a site is there."""
    marker, found = out / MARKER, None
    with suppress(OSError, ValueError, TypeError, KeyError, OverflowError):
        if marker.is_file() and not marker.is_symlink():
            found = int(read_json(marker)["format"])
    if found is None and not _contents(out):
        raise ConfigError(f"`out` {out}: its {MARKER} is damaged; delete the folder, or give a new one")
    if found not in (FORMAT, None):
        raise ConfigError(f"`out` {out} is a site of format {found}, this spq writes {FORMAT}; give a new folder")


def _keep_only_a_file(path: Path) -> None:
    """Remove what is at a path if it is not a file: a link would lead out of the site."""
    if path.is_symlink() or (path.exists() and not path.is_file()):
        remove(path)


@contextmanager
def _locked(lock: Path, out: Path) -> Iterator[None]:
    """Hold a lock file, which is beside a new site, so that the folder can be renamed. It is removed at the end."""
    with ExitStack() as stack:
        _keep_only_a_file(lock)
        try:
            stack.enter_context(held(lock))
        except BlockingIOError:
            raise StoreError(f"another process is exporting to {out}; wait for it to end") from None
        try:
            yield
        finally:
            with suppress(OSError):  # Windows removes no open file
                lock.unlink()


def _contents(folder: Path) -> list[Path]:
    return list(folder.glob(CONTENT + "[0-9a-f]" * 16))


def _digest(folder: Path) -> str:
    """Return a digest of all names and bytes in a folder. New content gets a new address, so no cache shows old files.

    A folder with anything but files and folders has none: the result is empty.
    """
    total = hashlib.blake2b(digest_size=8)
    if folder.is_symlink() or not folder.is_dir():
        return ""
    paths = sorted(folder.rglob("*"))
    if any(path.is_symlink() or not (path.is_file() or path.is_dir()) for path in paths):
        return ""
    for file in (path for path in paths if path.is_file()):
        with file.open("rb") as opened:
            content = hashlib.file_digest(opened, lambda: hashlib.blake2b(digest_size=16)).digest()
        total.update(file.relative_to(folder).as_posix().encode() + b"\0" + content)
    return total.hexdigest()
