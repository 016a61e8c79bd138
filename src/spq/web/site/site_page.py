"""The page in a site: the files of the server's page, but `static_api.js` takes the place of `api.js`."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

from spq.errors import DataError
from spq.web.inline import inline_hashes

PAGE = Path(__file__).parent.parent / "page"
BROWSER = Path(__file__).parent / "browser"
POLICY = (
    "default-src 'self'; img-src 'self' blob: data:; style-src 'self'; script-src 'self' 'wasm-unsafe-eval' {}; "
    "connect-src 'self'; object-src 'none'; base-uri 'none'; form-action 'none'"
)
_ASSETS = re.compile(r"""(?<=["'])\.?/?assets/""")  # how the page's index.html names its own files


def write_page(content: Path, can: dict[str, int]) -> str:
    """Write the page's files into `content`. Return its `index.html`, in which `{content}` stands for the name of that folder.

    Args:
        can: what this site offers, for its api.js, and the checksum of index.json.
    """
    if not (PAGE / "index.html").exists():
        raise DataError("this installation has no page to export; reinstall spq-retrieval")
    for source in (PAGE, BROWSER):
        for file in source.rglob("*"):  # shutil.copytree would hide that the disk is full
            if file.is_file() and file.name != "index.html" and "__pycache__" not in file.parts:
                target = content / file.relative_to(source)
                target.parent.mkdir(exist_ok=True)
                shutil.copyfile(file, target)
    (content / "static_api.js").replace(content / "api.js")
    (content / "static" / "settings.js").write_text(f"export const settings = {json.dumps(can)};\n", "utf-8")
    return site_html((PAGE / "index.html").read_text("utf-8"))


def site_html(html: str) -> str:
    """Return the page's HTML for a site: with a security policy, and with addresses below `{content}`.

    >>> site_html('<!doctype html><head><script src="/assets/app.js"></script></head>').split("<script")[1]
    ' src="{content}/app.js"></script></head>'
    """
    policy = POLICY.format(inline_hashes(html))
    policy = f'<meta http-equiv="Content-Security-Policy" content="{policy}">'  # first, because it applies to what follows it
    head, found, rest = html.partition("<head>")
    assert found
    return _ASSETS.sub("{content}/", f"{head}{found}\n{policy}{rest}")
