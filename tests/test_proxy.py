"""The page behind nginx, as deploy/nginx.conf has it: in a folder, with default headers, with TLS on another port."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from spq.model.model import Model
from spq.web.server.public_url import parse_public_url
from web import NEEDS_BROWSER, drop, expect, first_ids, picture_file, served, tab, tiles, wait_for_pictures

EXAMPLE = (Path(__file__).parent.parent / "deploy" / "nginx.conf").read_text("utf-8")
NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
pytestmark = [*NEEDS_BROWSER, pytest.mark.skipif(NGINX is None, reason="needs nginx: apt install nginx-light")]
PLAIN = """
server {
    listen 127.0.0.1:%(plain)s;
    location /photos { proxy_pass http://127.0.0.1:%(bare)s/; }
    location /kept/ { proxy_pass http://127.0.0.1:%(bare)s; }
    location /named/ { proxy_pass http://127.0.0.1:%(bare)s/; proxy_set_header Host $http_host; }
}
"""


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@contextmanager
def running_nginx(folder: Path, servers: str, port: int) -> Iterator[None]:
    """Run nginx with these servers until the end of the block."""
    places = "".join(
        f"{name}_temp_path {folder}/{name};\n" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (folder / "nginx.conf").write_text(
        f"daemon off;\nmaster_process off;\npid {folder}/pid;\nerror_log {folder}/error.log;\nevents {{}}\n"
        f"http {{\naccess_log off;\n{places}{servers}\n}}\n"
    )
    process = subprocess.Popen([str(NGINX), "-p", folder, "-c", folder / "nginx.conf", "-e", folder / "error.log"])
    try:
        for _ in range(200):
            assert process.poll() is None, (folder / "error.log").read_text()
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        yield
    finally:
        process.terminate()
        process.wait(20)


@pytest.fixture(scope="module")
def proxied(collection: Path, tiny_model: Model, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Addresses of nginx: `tls` before a server that knows it, `plain` before one that does not."""
    folder = tmp_path_factory.mktemp("nginx")
    names = [folder / "photos.key", folder / "photos.pem"]
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", "/CN=localhost", "-keyout", names[0], "-out", names[1]],
        check=True, capture_output=True,
    )  # fmt: skip
    tls, plain = free_port(), free_port()
    public = parse_public_url(f"https://localhost:{tls}/photos/")
    with ExitStack() as stack:
        known, bare = (
            stack.enter_context(served(collection / "photos.index", tiny_model, folder / "cache", **more))
            for more in ({"public_url": public, "token": "secret"}, {})
        )
        ports = {"plain": plain, "bare": bare.rstrip("/").rpartition(":")[2]}
        secure = EXAMPLE.replace("127.0.0.1:8765", known.removeprefix("http://").rstrip("/"))
        secure = secure.replace("8443 ssl", f"127.0.0.1:{tls} ssl").replace("/etc/ssl", str(folder))
        stack.enter_context(running_nginx(folder, secure + PLAIN % ports, tls))
        yield {"tls": str(public), "plain": f"http://127.0.0.1:{plain}/"}


@pytest.mark.parametrize("slash", ["", "/"])
def test_with_one_option_the_page_works_in_a_folder_with_tls_on_another_port(
    browser: Any, proxied: dict[str, str], collection: Path, slash: str
) -> None:
    with tab(browser, ignore_https_errors=True) as page:
        page.goto(f"{proxied['tls'].rstrip('/')}{slash}?token=secret")
        wait_for_pictures(page)
        assert page.url == proxied["tls"]
        (cookie,) = page.context.cookies()
        assert (cookie["secure"], cookie["httpOnly"], cookie["sameSite"]) == (True, True, "Strict")
        drop(page, picture_file(collection, 5).read_bytes())
        expect(page.locator("#summary")).to_contain_text("nearest first")
        tiles(page).first.locator("a").click()
        wait_for_pictures(page)
        before = first_ids(page)
        page.reload()
        assert first_ids(page) == before


def test_without_it_the_page_or_the_refusal_names_the_option(browser: Any, proxied: dict[str, str]) -> None:
    base = proxied["plain"]
    with tab(browser) as page:
        page.goto(f"{base}photos")  # nginx gives / for it, and // for what is in the folder
        wait_for_pictures(page)
        assert page.url == f"{base}photos/"
        tiles(page).first.locator("a").click()
        expect(page.locator("#pictures-message p")).to_contain_text(f"--public-url {base}photos/")
        for address, status in (
            (f"{base}kept/", 404),
            (f"{base}named/".replace("127.0.0.1", "photos.localhost"), 421),
        ):
            answer = page.goto(address)
            assert answer.status == status
            expect(page.locator("code")).to_have_text(f"--public-url {address}")
            assert (
                page.evaluate("getComputedStyle(document.querySelector('code')).display") == "block"
            )  # it has its style
