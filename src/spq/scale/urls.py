"""Places at URLs: object stores, and folders of this machine."""

from __future__ import annotations

import os
import re
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spq.common.files import expanded, is_running, naming, sync_folder
from spq.data.decode import first_line
from spq.errors import ConfigError, SPQError, StoreError

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

IN_ONE_PROCESS = ("memory",)  # protocols whose files other processes do not see
CHUNK = 2**22  # bytes that are copied at a time
UPLOADS = 2  # parts of a file that are uploaded at the same time
CHECK = "check the address, your credentials and the network"


def is_url(name: str) -> bool:
    """Whether a name is a URL, and not a path or a named set.

    >>> is_url("s3://bucket/photos"), is_url("sample:test"), is_url("C:/photos")
    (True, False, False)
    """
    return "://" in name


def filesystem(url: str) -> tuple[AbstractFileSystem, str]:
    """Return the file system of a URL or local path, and the path there.

    Raises:
        ConfigError: the protocol is unknown, or its package is not installed.
    """
    from fsspec.core import url_to_fs
    from fsspec.registry import known_implementations

    protocol = url.partition("://")[0]
    try:
        fs, path = url_to_fs(url if is_url(url) else str(expanded(url)))
    except ImportError:
        known = known_implementations.get(protocol, {})
        package = str(known.get("class", "")).partition(".")[0]
        remedy = known.get("err") if package in ("", "fsspec") else f"run pip install {package}"
        raise ConfigError(f"{url}: {protocol}:// needs the package {package}; {remedy}") from None
    except ValueError as error:
        raise ConfigError(f"{url}: {first_line(error)}; give a path, or a URL such as s3://bucket/folder") from None
    return fs, str(path)


@contextmanager
def reaching(url: str) -> Iterator[None]:
    """Turn the errors of another machine into one line. Errors of a local disk stay what they are."""
    try:
        yield
    except (SPQError, FileNotFoundError, FileExistsError):
        raise
    except Exception as error:  # each service has errors of its own
        if not is_url(url) and isinstance(error, OSError):
            raise
        raise StoreError(f"{url} cannot be reached: {first_line(error)}; {CHECK}") from None


class Place:
    """A folder at a URL or a local path. Files in it are written as a whole, and once."""

    def __init__(self, url: str) -> None:
        self.fs, root = filesystem(url)
        self.root = root.rstrip("/")
        self.is_local = "file" in _protocols(self.fs)
        self.url = self.root if self.is_local else url.rstrip("/")

    @property
    def is_shared(self) -> bool:
        """Whether other processes see what is written there."""
        return not set(IN_ONE_PROCESS) & set(_protocols(self.fs))

    def read(self, name: str) -> bytes:
        """Return the content of a file.

        Raises:
            FileNotFoundError: there is none.
        """
        path = f"{self.root}/{name}"
        with reaching(self.url):
            try:
                return bytes(self.fs.cat_file(path))
            except FileNotFoundError:  # some services look into their last listing
                self.fs.invalidate_cache(path)
                return bytes(self.fs.cat_file(path))

    def put(self, name: str, data: bytes) -> bool:
        """Write a file, unless there is one of this name; return whether it was written."""
        path = f"{self.root}/{name}"
        try:
            if self.is_local:
                _link_new(Path(path), data)
            else:
                with reaching(self.url):
                    self._create(path, data)
        except FileExistsError:
            return False
        except FileNotFoundError as error:
            if self.is_local:
                raise
            raise StoreError(f"{self.url} cannot be reached: {first_line(error)}; {CHECK}") from None
        return True

    def _create(self, path: str, data: bytes) -> None:
        try:
            self.fs.pipe_file(path, data, mode="create")
        except FileExistsError:
            raise
        except OSError:  # some services name the reason in another way
            self.fs.invalidate_cache()
            if self.fs.exists(path):
                raise FileExistsError(path) from None
            raise

    def put_file(self, name: str, source: Path) -> None:
        """Write a file that may be larger than memory, in the place of one of this name. Nobody sees a part of it."""
        path = f"{self.root}/{name}"
        if self.is_local:
            _copy_over(source, Path(path))
            return
        options = {"max_concurrency": UPLOADS} if hasattr(self.fs, "max_concurrency") else {}  # of parts of 50 MB
        with reaching(self.url):
            try:
                self.fs.put_file(str(source), path, **options)
            except FileNotFoundError as error:
                if not source.exists():
                    raise
                raise StoreError(f"{self.url} cannot be reached: {first_line(error)}; {CHECK}") from None

    def read_range(self, name: str, start: int, end: int) -> bytes:
        """Return bytes `start` to `end` of a file.

        Raises:
            FileNotFoundError: there is none.
        """
        with reaching(self.url):
            return bytes(self.fs.cat_file(f"{self.root}/{name}", start=start, end=end))

    def delete(self, name: str) -> None:
        """Delete a file, if it is there."""
        with reaching(self.url), suppress(FileNotFoundError):
            self.fs.rm_file(f"{self.root}/{name}")

    def list(self, folder: str) -> dict[str, dict[str, Any]]:
        """Return what is known of each file in a folder, by its name, as it is now."""
        return {name: facts for name, facts in self.entries(folder).items() if facts["type"] == "file"}

    def entries(self, folder: str = "") -> dict[str, dict[str, Any]]:
        """Return what is known of each file and folder in a folder, as `list`. Hidden ones are left out."""
        path = f"{self.root}/{folder}".rstrip("/")
        with reaching(self.url):
            self.fs.invalidate_cache(path)
            try:
                found = self.fs.ls(path, detail=True)
            except (FileNotFoundError, NotADirectoryError):
                return {}
        names = ((str(facts["name"]).rstrip("/").rpartition("/")[2], facts) for facts in found)
        own = path.rpartition("/")[2]  # some object stores have an empty object in the place of a folder
        return {
            name: facts
            for name, facts in names
            if not name.startswith(".") and not (name == own and str(facts["name"]).strip("/") == path.strip("/"))
        }


def _protocols(fs: AbstractFileSystem) -> tuple[str, ...]:
    return (fs.protocol,) if isinstance(fs.protocol, str) else tuple(fs.protocol)


def _link_new(path: Path, data: bytes) -> None:
    """Write a file that nobody sees before it is complete.

    Raises:
        FileExistsError: there is one.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _part(path)
    with naming(path):
        try:
            with temporary.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            try:
                path.hardlink_to(temporary)
            except FileExistsError:
                raise
            except OSError:  # a file system without links
                if path.exists():
                    raise FileExistsError(str(path)) from None
                temporary.rename(path)
            sync_folder(path.parent)
        finally:
            temporary.unlink(missing_ok=True)


def _copy_over(source: Path, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _part(path)
    with source.open("rb") as old, naming(path):
        try:
            with temporary.open("wb") as new:
                shutil.copyfileobj(old, new, CHUNK)
                new.flush()
                os.fsync(new.fileno())
            temporary.replace(path)
            sync_folder(path.parent)
        finally:
            temporary.unlink(missing_ok=True)


def _part(path: Path) -> Path:
    """Where a file is written, as `remove_parts` knows it."""
    return path.with_name(f".{path.name}.{_host()}.{os.getpid()}")


def remove_parts(folder: Path) -> None:
    """Delete what killed processes of this machine have left of files that they were writing."""
    part = re.compile(rf"\..+\.{re.escape(_host())}\.(\d+)")
    with suppress(OSError):
        for file in folder.iterdir():
            if (found := part.fullmatch(file.name)) and not is_running(int(found[1])):
                file.unlink()


def _host() -> str:
    return re.sub(r"[^\w-]", "-", socket.gethostname())
