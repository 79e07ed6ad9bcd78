"""Fetching weights from a real server on this machine ends with the right file, or with an error and no file."""

import hashlib
import http.server
import logging
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from impasto.errors import WeightsError
from impasto.models import download as module
from impasto.models.download import fetch_file

BODY = bytes(range(256)) * 12_000  # 3 MB, several chunks
SHA256 = hashlib.sha256(BODY).hexdigest()

Handler = http.server.BaseHTTPRequestHandler
Answer = Callable[[Handler], None]


def good(request: Handler, body: bytes = BODY, length: int | None = None) -> None:
    request.send_response(200)
    request.send_header("Content-Length", str(len(body) if length is None else length))
    request.end_headers()
    request.wfile.write(body)


def wrong(request: Handler) -> None:
    good(request, BODY[:-1] + b"?")


def truncated(request: Handler) -> None:
    good(request, BODY[:2_000_000], len(BODY))


def no_length(request: Handler) -> None:
    request.send_response(200)
    request.end_headers()
    request.wfile.write(BODY)


def chunk_cut_off(request: Handler) -> None:
    request.protocol_version = "HTTP/1.1"
    request.send_response(200)
    request.send_header("Transfer-Encoding", "chunked")
    request.send_header("Connection", "close")
    request.end_headers()
    request.wfile.write(b"ffff\r\nnot all of it")


def reset(request: Handler) -> None:
    request.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    request.connection.close()


def status(code: int) -> Answer:
    return lambda request: request.send_error(code)


@dataclass
class Server:
    """A server that gives one answer after the other, repeats the last one, and counts the requests."""

    url: str
    answers: list[Answer] = field(default_factory=lambda: [good])
    requests: int = 0


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    class Handle(Handler):
        def do_GET(self) -> None:  # noqa: N802
            state.requests += 1
            (state.answers.pop(0) if len(state.answers) > 1 else state.answers[0])(self)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    class Quiet(http.server.ThreadingHTTPServer):
        def handle_error(self, request: object, client_address: object) -> None:
            pass

    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(name, "127.0.0.1")
    monkeypatch.setattr(module, "WAITS", (0.0, 0.0))
    with Quiet(("127.0.0.1", 0), Handle) as httpd:
        state = Server(f"http://127.0.0.1:{httpd.server_address[1]}/net.pth")
        thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield state
        httpd.shutdown()
        thread.join()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "hub" / "checkpoints" / "net.pth"


def files(path: Path) -> list[str]:
    return sorted(p.name for p in path.parent.iterdir()) if path.parent.exists() else []


@pytest.mark.parametrize("sha256", [SHA256, SHA256[:8]])
def test_good(server: Server, path: Path, sha256: str) -> None:
    seen: list[tuple[int, int | None]] = []
    assert fetch_file(path, server.url, sha256, progress=lambda *step: seen.append(step)) == SHA256
    assert path.read_bytes() == BODY
    assert files(path) == ["net.pth"]
    assert seen[-1] == (len(BODY), len(BODY))
    assert len(seen) >= 3
    assert seen == sorted(seen)


def test_no_length(server: Server, path: Path) -> None:
    server.answers = [no_length]
    seen: list[int | None] = []
    fetch_file(path, server.url, SHA256, progress=lambda _, total: seen.append(total))
    assert path.read_bytes() == BODY
    assert set(seen) == {None}


def test_good_file_is_reused_without_a_request(server: Server, path: Path) -> None:
    path.parent.mkdir(parents=True)
    path.write_bytes(BODY)
    assert fetch_file(path, server.url, SHA256) == SHA256
    assert fetch_file(path, server.url, SHA256, offline=True) == SHA256
    assert server.requests == 0


@pytest.mark.parametrize(
    ("answers", "requests"),
    [
        ([status(500), good], 2),
        ([status(503), status(502), good], 3),
        ([truncated, good], 2),
        ([chunk_cut_off, good], 2),
        ([reset, reset, good], 3),
    ],
)
def test_passing_failures(server: Server, path: Path, answers: list[Answer], requests: int) -> None:
    server.answers = answers
    fetch_file(path, server.url, SHA256)
    assert path.read_bytes() == BODY
    assert files(path) == ["net.pth"]
    assert server.requests == requests


@pytest.mark.parametrize(
    ("answer", "requests", "message"),
    [
        (wrong, 1, "is not the expected file: its sha256 is .*; it was discarded"),
        (truncated, 3, f"tried 3 times: the connection ended after 2000000 of {len(BODY)} bytes"),
        (chunk_cut_off, 3, "tried 3 times: the connection broke"),
        (reset, 3, "tried 3 times"),
        (status(500), 3, "tried 3 times: the server returned 500"),
        (status(404), 1, "the server returned 404 Not Found"),
        (status(403), 1, "the server returned 403"),
    ],
)
@pytest.mark.parametrize("damaged", [False, True])
def test_failures(server: Server, path: Path, answer: Answer, requests: int, message: str, damaged: bool) -> None:
    """Whatever fails, the existing file stays and nothing is added."""
    if damaged:
        path.parent.mkdir(parents=True)
        path.write_bytes(b"damaged")
    server.answers = [answer]
    with pytest.raises(WeightsError, match=message) as caught:
        fetch_file(path, server.url, SHA256)
    assert server.url in str(caught.value)
    assert "\n" not in str(caught.value)
    assert files(path) == (["net.pth"] if damaged else [])
    assert server.requests == requests


def test_connection_refused(path: Path, server: Server) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    with pytest.raises(WeightsError, match=f"cannot download http://127.0.0.1:{port}/x: .*refused"):
        fetch_file(path, f"http://127.0.0.1:{port}/x", SHA256)
    assert files(path) == []


def test_silent_server(path: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    released = threading.Event()
    monkeypatch.setattr(module, "TIMEOUT", 0.05)

    def wait(_: Handler) -> None:
        released.wait(5)

    server.answers = [wait]
    try:
        with pytest.raises(WeightsError, match=r"tried 3 times: .*timed out"):
            fetch_file(path, server.url, SHA256)
    finally:
        released.set()
    assert files(path) == []


@pytest.mark.parametrize("url", ["gopher://127.0.0.1/x", "not an address", "http://[::1/x"])
def test_not_an_address(path: Path, url: str) -> None:
    with pytest.raises(WeightsError, match="cannot download"):
        fetch_file(path, url, SHA256)
    assert files(path) == []


@pytest.mark.parametrize("variable", [None, "1"])
@pytest.mark.parametrize("state", ["missing", "damaged"])
def test_offline(server: Server, path: Path, monkeypatch: pytest.MonkeyPatch, variable: str | None, state: str) -> None:
    if variable:
        monkeypatch.setenv("IMPASTO_OFFLINE", variable)
    if state == "damaged":
        path.parent.mkdir(parents=True)
        path.write_bytes(BODY[:-1])
    with pytest.raises(WeightsError, match=state) as caught:
        fetch_file(path, server.url, SHA256, offline=variable is None)
    for part in (str(path), server.url, SHA256[:16]):
        assert part in str(caught.value)
    assert server.requests == 0


@pytest.mark.parametrize("variable", ["", "0"])
def test_not_offline(server: Server, path: Path, monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.setenv("IMPASTO_OFFLINE", variable)
    fetch_file(path, server.url, SHA256)
    assert server.requests == 1


def test_damaged_file_is_fetched_again_and_said(server: Server, path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path.parent.mkdir(parents=True)
    path.write_bytes(BODY[:1000])
    with caplog.at_level(logging.WARNING):
        fetch_file(path, server.url, SHA256)
    assert path.read_bytes() == BODY
    assert f"{path} is damaged; downloading it again" in caplog.text


@pytest.mark.parametrize("state", ["missing", "damaged"])
def test_part_of_the_package(tmp_path: Path, state: str) -> None:
    path = tmp_path / "compact.safetensors"
    if state == "damaged":
        path.write_bytes(b"?")
    with pytest.raises(WeightsError, match=rf"compact.safetensors, a part of impasto, is {state}; install"):
        fetch_file(path, None, SHA256)


def test_others_may_download_the_same_file(server: Server, path: Path) -> None:
    path.parent.mkdir(parents=True)
    other = path.with_name("net.pth.0123.part")
    other.write_bytes(b"another process's")
    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(lambda _: fetch_file(path, server.url, SHA256), range(4))) == {SHA256}
    assert path.read_bytes() == BODY
    assert other.read_bytes() == b"another process's"
    assert files(path) == ["net.pth", other.name]


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_cancelled_by_the_progress(server: Server, path: Path, error: type[BaseException]) -> None:
    def cancel(done: int, total: int | None) -> None:
        raise error

    with pytest.raises(error):
        fetch_file(path, server.url, SHA256, progress=cancel)
    assert files(path) == []


def test_folder_that_cannot_be_made(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(WeightsError, match=r"cannot write .*file"):
        fetch_file(tmp_path / "file" / "net.pth", server.url, SHA256)


def test_unreadable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    (tmp_path / "net.pth").write_bytes(BODY)
    monkeypatch.setattr("builtins.open", refuse)
    with pytest.raises(WeightsError, match=r"cannot read .*net\.pth: Permission denied"):
        fetch_file(tmp_path / "net.pth", None, SHA256)
