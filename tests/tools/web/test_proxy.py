"""Behind nginx, at the root and below a path, the studio works, and foreign requests are refused.

It needs nginx (`apt-get install nginx`) and is skipped where there is none; the last test needs Chromium too.
"""

import json
import os
import re
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import httpx2
import pytest

from impasto.options import ServeOptions
from impasto.tools.web import job_routes
from impasto.tools.web.app import make_app
from impasto.tools.web.engine import Engine
from impasto.tools.web.server import Server, listen

NGINX = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
BROWSER = next((b for b in map(shutil.which, ("chromium", "chromium-browser", "google-chrome")) if b), None)
PATIENCE = float(os.environ.get("IMPASTO_PATIENCE", "1"))
NAME = "studio.test"
pytestmark = pytest.mark.skipif(NGINX is None, reason="no nginx: `apt-get install nginx` where that can be had")

CONFIGURATION = """
daemon off; master_process off; pid nginx.pid; error_log stderr crit; worker_rlimit_nofile 1024;
events { worker_connections 64; }
http {
  access_log off;
  client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path f; uwsgi_temp_path u; scgi_temp_path s;
  %s
}
"""


class Way(NamedTuple):
    """A configuration of nginx, with the studio's options for it. OUR is nginx's port, PORT the studio's."""

    server: str
    options: dict[str, Any]
    home: str = "/"
    scheme: str = "http"


TOLD = """proxy_set_header Host $http_host; proxy_set_header X-Forwarded-Host $http_host;
  proxy_set_header X-Forwarded-Proto https;"""
DOCS = (Path(__file__).parents[3] / "docs" / "studio.md").read_text(encoding="utf-8")
AT_ROOT, AT_PATH = (
    place.replace("7860", "PORT") for place in re.findall(r"^    location .*?^    }$", DOCS, re.M | re.S)
)
WAYS = {
    "as in the docs, at the root": Way(AT_ROOT, {"allow_host": (NAME,), "trusted_proxy": ("127.0.0.1",)}),
    "as in the docs, at a path": Way(
        AT_PATH, {"allow_host": (NAME,), "trusted_proxy": ("127.0.0.1",), "root_path": "/paint"}, "/paint/"
    ),
    "default headers": Way("location / { proxy_pass http://127.0.0.1:PORT; }", {"allow_host": (f"{NAME}:OUR",)}),
    "Host without its port": Way(
        "location / { proxy_pass http://127.0.0.1:PORT; proxy_set_header Host $host; }",
        {"allow_host": (f"{NAME}:OUR",)},
    ),
    "Host and port told": Way(
        """location / { proxy_pass http://127.0.0.1:PORT; proxy_set_header X-Forwarded-Host $host;
        proxy_set_header X-Forwarded-Port $server_port; }""",
        {"allow_host": (NAME,), "trusted_proxy": ("127.0.0.1",)},
    ),
    "HTTPS": Way(
        "location / { proxy_pass http://127.0.0.1:PORT; " + TOLD + " }",
        {"allow_host": (NAME,), "trusted_proxy": ("127.0.0.0/8",)},
        scheme="https",
    ),
    "path taken off": Way(
        "location /paint/ { proxy_pass http://127.0.0.1:PORT/; }",
        {"allow_host": (f"{NAME}:OUR",), "root_path": "/paint"},
        "/paint/",
    ),
    "path left": Way(
        "location /paint { proxy_pass http://127.0.0.1:PORT; " + TOLD + " }",
        {"allow_host": (NAME,), "trusted_proxy": ("*",), "root_path": "/paint/"},
        "/paint/",
        "https",
    ),
    "path called as a route of ours": Way(
        "location /studio/ { proxy_pass http://127.0.0.1:PORT/; }",
        {"allow_host": (f"{NAME}:OUR",), "root_path": "/studio"},
        "/studio/",
    ),
}  # fmt: skip


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


@contextmanager
def studio(*, paints: bool = True, **changes: Any) -> Iterator[int]:
    """Start a real server with these options and return its port.

    One that does not paint keeps all jobs in the queue.
    """
    options = replace(ServeOptions(max_upload=4.0, max_size=512), **changes)
    engine, ready = Engine(options), threading.Event()
    with listen("127.0.0.1", 0) as listening:
        server = Server(make_app(options, engine), engine, ready.set)
        if paints:
            engine.start(warm=False)
        thread = threading.Thread(target=server.run, args=([listening],))
        thread.start()
        try:
            assert ready.wait(60 * PATIENCE)
            yield listening.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join(30 * PATIENCE)
            engine.close()


@contextmanager
def nginx(folder: Path, port: int, server: str) -> Iterator[None]:
    """Start the real nginx with that text in its `server`, on that port."""
    file = folder / "nginx.conf"
    file.write_text(CONFIGURATION % f"server {{ listen 127.0.0.1:{port}; {server} }}")
    assert NGINX is not None
    process = subprocess.Popen([NGINX, "-p", str(folder), "-c", str(file)], stderr=subprocess.PIPE, text=True)
    try:
        until = time.monotonic() + 20 * PATIENCE
        while True:
            with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
            assert process.poll() is None, process.communicate()[1]
            assert time.monotonic() < until, "nginx does not listen"
            time.sleep(0.05)
        yield
    finally:
        process.terminate()
        try:
            process.communicate(timeout=5 * PATIENCE)
        except subprocess.TimeoutExpired:  # a signal that arrives just before nginx waits for events does not wake it
            process.kill()
            process.communicate()


@pytest.fixture(scope="module")
def behind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], httpx2.Client]]:
    """Return `behind("HTTPS")`: a client that calls nginx like a browser that uses its address by name."""
    with ExitStack() as open_until_the_end:
        known: dict[str, httpx2.Client] = {}

        def client(name: str) -> httpx2.Client:
            if name in known:
                return known[name]
            way, ours = WAYS[name], free_port()
            filled = json.loads(json.dumps(way.options).replace("OUR", str(ours)))
            options: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in filled.items()}
            enter = open_until_the_end.enter_context
            port = enter(studio(**options))
            enter(nginx(tmp_path_factory.mktemp("nginx"), ours, way.server.replace("PORT", str(port))))
            headers = {"Host": f"{NAME}:{ours}", "Sec-Fetch-Site": "same-origin"}
            known[name] = enter(httpx2.Client(base_url=f"http://127.0.0.1:{ours}{way.home}", headers=headers))
            known[name].timeout = 60 * PATIENCE
            return known[name]

        yield client


def page_of(client: httpx2.Client, way: Way) -> str:
    """Return the Origin of the page."""
    return f"{way.scheme}://{client.headers['Host']}"


ways = pytest.mark.parametrize("name", WAYS)


@ways
def test_the_page_and_all_that_it_loads(behind: Callable[[str], httpx2.Client], name: str) -> None:
    client, way = behind(name), WAYS[name]
    page = client.get("")
    assert page.status_code == 200
    loaded = page.text + client.get("config").json()["head"]
    files = re.findall(r"<(?:script|link)[^>]*(?:src|href)=\"(\./[^\"]+|/[^\"]+\.(?:js|css|svg))\"", loaded)
    files += re.findall(r"url\(\"(/[^\"]+)\"\)", loaded)
    assert len(files) > 25
    for file in files:
        assert file.startswith((way.home, "./")), file
        assert client.get(file.removeprefix("./").removeprefix(way.home)).status_code == 200, file


@ways
def test_an_event_of_the_page(behind: Callable[[str], httpx2.Client], name: str) -> None:
    """After a sample photograph is chosen, the answer names its file at an address that the browser can load."""
    client, way = behind(name), WAYS[name]
    origin = page_of(client, way)
    events = client.get("config").json()["dependencies"]
    sample = next(d for d in events if not d["inputs"] and len(d["outputs"]) == 1 and d["backend_fn"])
    sent = {"data": [], "fn_index": sample["id"], "session_hash": "abc"}
    answer = client.post("gradio_api/queue/join", json=sent, headers={"Origin": origin})
    assert answer.status_code == 200, answer.text
    with client.stream("GET", "gradio_api/queue/data", params={"session_hash": "abc"}) as told:
        messages = (json.loads(line.removeprefix("data: ")) for line in told.iter_lines() if line.startswith("data: "))
        message = next(m for m in messages if m["msg"] == "process_completed")
    url = message["output"]["data"][0]["url"]
    assert url.startswith(f"{origin}{way.home}gradio_api/file=/"), url
    photo = client.get(url.removeprefix(f"{origin}{way.home}"))
    assert photo.headers["content-type"] == "image/jpeg"


@ways
def test_the_http_interface(behind: Callable[[str], httpx2.Client], name: str, picture: bytes) -> None:
    """A program paints, and every address in the answers can be fetched."""
    client, way = behind(name), WAYS[name]
    made = client.post("v1/jobs", files={"content": ("a.png", picture)}, data={"style": "udnie", "quality": "instant"})
    assert made.status_code == 201, made.text
    at = made.headers["Location"]
    assert at == f"{way.home}v1/jobs/{made.json()['id']}"
    with client.stream("GET", f"{at.removeprefix(way.home)}/events") as events:
        assert any(line == "event: done" for line in events.iter_lines())
    thumbnail = client.get("v1/styles").json()[0]["thumbnail"]
    assert thumbnail.startswith(f"{way.home}studio/")
    assert client.get(thumbnail.removeprefix(way.home)).headers["content-type"] == "image/jpeg"
    docs = client.get("docs").text
    assert 'href="openapi.json"' in docs
    assert client.get("openapi.json").status_code == 200


@ways
@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": f"https://{NAME}.evil.example"},
        {"Origin": f"http://{NAME}:9"},
        {"Origin": "http://127.0.0.1:9"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
    ],
)
def test_pages_of_others(behind: Callable[[str], httpx2.Client], name: str, headers: dict[str, str]) -> None:
    client = behind(name)
    answer = client.post("gradio_api/queue/join", json={}, headers=headers)
    assert answer.status_code == 403
    assert "the request comes from another site's page" in answer.json()["error"]


@pytest.mark.parametrize("name", [n for n, way in WAYS.items() if "Host" in way.server])
def test_names_of_others(behind: Callable[[str], httpx2.Client], name: str) -> None:
    """If nginx passes on the name by which it was called, the name must be allowed."""
    answer = behind(name).get("v1/styles", headers={"Host": "evil.example"})
    assert answer.status_code == 403
    assert "'evil.example' is not a name of this server; allow it with --allow-host" in answer.json()["error"]


def test_events_come_at_once_and_keep_the_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, picture: bytes
) -> None:
    """By default, nginx holds small answers back and closes connections that are silent for a minute."""
    monkeypatch.setattr(job_routes, "SILENT_SECONDS", 0.5)
    ours = free_port()
    with ExitStack() as opened:
        port = opened.enter_context(studio(paints=False))
        opened.enter_context(nginx(tmp_path, ours, f"location / {{ proxy_pass http://127.0.0.1:{port}; }}"))
        client = opened.enter_context(httpx2.Client(base_url=f"http://127.0.0.1:{ours}", timeout=10 * PATIENCE))
        job = client.post("/v1/jobs", files={"content": ("a.png", picture)}, data={"style": "udnie"}).json()["id"]
        lines = opened.enter_context(client.stream("GET", f"/v1/jobs/{job}/events")).iter_lines()
        assert next(lines) == "event: queued"
        assert any(line.startswith(":") for line in lines)


def test_the_path_without_its_slash(behind: Callable[[str], httpx2.Client]) -> None:
    client = behind("path left")
    answer = client.get(f"http://127.0.0.1:{client.base_url.port}/paint")
    assert (answer.status_code, answer.headers["location"]) == (307, "/paint/")


@pytest.mark.skipif(BROWSER is None, reason="no browser: `apt-get install chromium` where that can be had")
@pytest.mark.parametrize("name", [pytest.param("default headers", marks=pytest.mark.slow), "path taken off"])
def test_in_a_browser(behind: Callable[[str], httpx2.Client], name: str) -> None:
    """A photograph is chosen and painted, and no request goes elsewhere."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    client, way = behind(name), WAYS[name]
    address = f"{page_of(client, way)}{way.home}"
    problems: list[str] = []
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=BROWSER, args=["--no-sandbox", f"--host-resolver-rules=MAP {NAME} 127.0.0.1"]
        )
        page = browser.new_page()
        page.set_default_timeout(20_000 * PATIENCE)
        page.on("response", lambda r: r.status >= 400 and problems.append(f"{r.status} {r.url}"))
        page.on(
            "request", lambda r: r.url.startswith((address, "data:", "blob:")) or problems.append(f"asked for {r.url}")
        )
        page.on("console", lambda m: m.type == "error" and problems.append(m.text))
        page.goto(address, wait_until="domcontentloaded")
        page.locator("#quality label", has_text="Instant").click()
        page.locator("#styles label").first.click()
        page.locator("#samples button").first.click()
        page.locator("#photo img[src]").wait_for()
        page.wait_for_function("document.querySelector('#photo img').naturalWidth > 0")
        page.locator("#paint").click()
        page.locator('#view[data-state="done"]').wait_for(timeout=60_000 * PATIENCE)
        page.locator("#after[src]").wait_for()
        page.wait_for_function("document.querySelector('#after').naturalWidth > 0")
        assert page.evaluate("getComputedStyle(document.querySelector('#styles label'), '::before').backgroundImage")
        browser.close()
    assert not problems
