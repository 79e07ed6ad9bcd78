"""Fixtures for the page: one made with a small network, a server for it, and a browser."""

import http.server
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from impasto.export.web.runtime import CPU, GPU, fetched
from impasto.export.web.site import write_site
from impasto.models.network import Network, load_network
from impasto.options import ExportOptions

# Looked for before the tests' cache is emptied. `make` puts it there.
FETCHED = fetched()
RUNTIME = os.environ.get("IMPASTO_RUNTIME") or (str(FETCHED) if FETCHED.is_file() else None)
BROWSER = next((b for b in map(shutil.which, ("chromium", "chromium-browser", "google-chrome")) if b), None)
ISOLATED = {"Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Embedder-Policy": "require-corp"}


@pytest.fixture(scope="session")
def model(small_network: Callable[[int], Path]) -> Path:
    """Return the file of a network with blocks at half of the resolution only: the page's graphs take long to write."""
    return small_network(0)


@pytest.fixture(scope="session")
def net(model: Path) -> Network:
    return load_network(model)[0]


@pytest.fixture(scope="session")
def fake_runtime(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a folder with files of the right names."""
    folder = tmp_path_factory.mktemp("package") / "dist"
    folder.mkdir()
    for name in (*CPU, *GPU):
        (folder / name).write_bytes(f"// {name}\n".encode() * 40)
    return folder


@pytest.fixture(scope="session")
def site(
    model: Path, fake_runtime: Path, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Path:
    """Return the folder of a page with the small network. Its runtime is real if there is one."""
    pytest.importorskip("onnx")
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    options = ExportOptions(format="web", model=str(model), runtime=RUNTIME or str(fake_runtime), size=256)
    written = write_site(tmp_path_factory.mktemp("web") / "site", options)
    assert written.difference <= 1
    return written.folder


@pytest.fixture(scope="session")
def serve() -> Iterator[Callable[..., Any]]:
    """Return `serve(folder)`, a static server with an `address` and `stop()`."""
    servers: list[http.server.ThreadingHTTPServer] = []

    def start(folder: Path, headers: dict[str, str] | None = None) -> Any:
        class Handler(http.server.SimpleHTTPRequestHandler):
            def log_message(self, format: str, *_: object) -> None:  # noqa: A002 - the name that it has
                pass

            def end_headers(self) -> None:
                for key, value in (headers or {}).items():
                    self.send_header(key, value)
                super().end_headers()

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return server

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="module")  # while it runs, no other browser can be started
def chromium() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if BROWSER is None:
        pytest.skip("no browser: `apt-get install chromium` where that can be had")
    if RUNTIME is None:
        pytest.skip("no onnxruntime-web: `make site` fetches it, or IMPASTO_RUNTIME names its folder or package file")
    camera = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
    with playwright.sync_playwright() as driver:
        found = driver.chromium.launch(
            executable_path=BROWSER, args=["--no-sandbox", "--enable-precise-memory-info", *camera]
        )
        yield found
        found.close()
