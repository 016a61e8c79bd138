"""Refusals as a page, for a person who opens an address in a browser and needs to know which option is missing."""

from __future__ import annotations

from html import escape
from http import HTTPStatus

from starlette.datastructures import Headers
from starlette.responses import HTMLResponse

from spq.web.inline import inline_hashes
from spq.web.server.problems import ProblemError

STYLE = (
    ":root{color-scheme:light dark}body{font:1.05rem/1.6 system-ui,sans-serif;max-width:42rem;margin:12vh auto;padding:0 1.5rem}"
    "code{display:block;padding:.8rem 1rem;margin:1rem 0;border:1px solid #8886;border-radius:.6rem;overflow-wrap:anywhere}"
)
# fills in what only the browser knows: the address that the user sees
SCRIPT = (
    "const c=document.querySelector('code[data-path]');"
    "if(c)c.textContent='--public-url '+location.origin+location.pathname.replace(/[^/]*$/,(name)=>"
    "name&&!name.includes('.')?name+'/':'')"
)
TITLES = {401: "A token is needed", 403: "Not allowed from here", 404: "There is no page here", 421: "Unknown address"}
PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title><style>{style}</style></head>
<body><h1>{title}</h1><p>{detail}</p>{option}<script>{script}</script></body></html>
"""
OPTION = """<p>If this is the address at which the page should be, for example behind a proxy, start the server with</p>
<code data-path>--public-url {url}</code>"""


def wants_page(method: str, headers: Headers) -> bool:
    """Whether a person opens an address, rather than a program or a script."""
    return method == "GET" and "text/html" in headers.get("accept", "")


def refusal_page(refusal: ProblemError, url: str = "") -> HTMLResponse:
    """Return a page that says what is wrong.

    Args:
        url: of the page, as far as the server knows it, for the option that is missing; empty if none is.
    """
    option = OPTION.format(url=escape(url)) if url else ""
    detail = refusal.detail.partition(";")[0] if url else refusal.detail  # the option says the rest
    title, detail = (
        TITLES.get(refusal.status) or HTTPStatus(refusal.status).phrase,
        escape(f"{detail[0].upper()}{detail[1:]}."),
    )
    text = PAGE.format(title=title, style=STYLE, detail=detail, option=option, script=SCRIPT)
    hashes = inline_hashes(text)
    policy = f"default-src 'none'; style-src {hashes}; script-src {hashes}; frame-ancestors 'none'"
    return HTMLResponse(text, refusal.status, {**refusal.headers, "Content-Security-Policy": policy})


def guessed_url(headers: Headers) -> str:
    """Return the address of the page as far as a request says it. Headers of a proxy are believed for this text alone."""
    scheme = "https" if headers.get("x-forwarded-proto", "") == "https" else "http"
    return f"{scheme}://{headers['host']}/"
