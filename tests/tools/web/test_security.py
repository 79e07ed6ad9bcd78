"""What stands before every request: names, origins, keys, lengths; and what Gradio may be asked."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.testclient import TestClient
from starlette.types import Receive, Scope, Send

from impasto.errors import OptionError
from impasto.tools.web.gate import Gate
from impasto.tools.web.security import Guard, read_key

HOME = "http://127.0.0.1:7860"
KEY = "correct-horse-battery"


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers what it was sent."""
    body = await Request(scope, receive).body()
    await PlainTextResponse(body)(scope, receive, send)


def guarded(**changes: Any) -> TestClient:
    return TestClient(
        Guard(echo, **{"hosts": ["studio.test"], "key": None, "max_bytes": 1000, **changes}), base_url=HOME
    )


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:7860", 200),
        ("localhost:7860", 200),
        ("LOCALHOST", 200),
        ("[::1]:7860", 200),
        ("192.168.1.7:7860", 200),
        ("studio.test", 200),
        ("evil.example", 403),
        ("127.0.0.1.evil.example", 403),
        ("localhost.evil.example", 403),
        ("", 403),
        ("[::1", 403),
    ],
)
def test_hosts(host: str, status: int) -> None:
    assert guarded().get("/", headers={"Host": host}).status_code == status


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Origin": HOME}, 200),
        ({"Origin": HOME, "Sec-Fetch-Site": "same-origin"}, 200),
        ({"Origin": "http://127.0.0.1:7861"}, 403),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": ""}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
    ],
)
def test_posts_of_other_sites(headers: dict[str, str], status: int) -> None:
    answer = guarded().post("/", content=b"x", headers=headers)
    assert answer.status_code == status
    if status == 403:
        assert answer.json() == {"error": "the request comes from another site's page"}
    assert guarded().get("/", headers=headers).status_code == 200


def test_bodies_beyond_the_limit() -> None:
    client = guarded()
    assert client.post("/", content=b"x" * 1000).status_code == 200
    assert client.post("/", content=b"x" * 1001).status_code == 413
    assert client.post("/", content=b"x", headers={"Content-Length": "many"}).status_code == 400

    def in_parts() -> Iterator[bytes]:
        for _ in range(20):
            yield b"x" * 100

    answer = client.post("/", content=in_parts())
    assert answer.status_code == 413
    assert "larger than the 0.001 MB" in answer.json()["error"]


def test_key() -> None:
    client = guarded(key=KEY)
    assert client.get("/v1/styles").status_code == 401
    assert client.get("/v1/styles", headers={"Authorization": "Bearer wrong"}).status_code == 401
    assert client.get("/v1/styles", headers={"Authorization": f"Basic {KEY}"}).status_code == 401
    assert client.get("/v1/styles", headers={"Cookie": "impasto_key=wrong"}).status_code == 401
    assert client.get("/v1/styles", headers={"Authorization": f"Bearer {KEY}"}).status_code == 200


def test_key_in_the_browser() -> None:
    """The page's form takes the key, and its cookie, which is not the key, is good for all that follows."""
    client = guarded(key=KEY)
    asked = client.get("/", headers={"Accept": "text/html"})
    assert asked.status_code == 401
    assert "<form" in asked.text
    assert client.post("/key", data={"key": "wrong"}).status_code == 401
    answer = client.post("/key", data={"key": KEY}, follow_redirects=False)
    assert answer.status_code == 303
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "samesite=strict" in cookie.lower()
    assert KEY not in cookie
    assert client.get("/").status_code == 200


@pytest.mark.parametrize("text", ["", "short", "two\nlines-of-a-key-file"])
def test_keys_that_are_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "key").write_text(text)
    with pytest.raises(OptionError, match="a key is one line of at least 16 characters"):
        read_key(tmp_path / "key")
    with pytest.raises(OptionError, match="cannot be read"):
        read_key(tmp_path / "missing")


def test_headers_of_every_answer() -> None:
    headers = guarded().get("/").headers
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Content-Security-Policy"].startswith("default-src 'self' data: blob:")


@pytest.fixture
def gate(tmp_path: Path) -> TestClient:
    (tmp_path / "own.png").write_bytes(b"x")
    return TestClient(Gate(echo, tmp_path, lambda: {0: 1, 3: 2}), base_url=HOME)


@pytest.mark.parametrize(
    "path",
    [
        "/gradio_api/proxy=http://example.com",
        "/gradio_api/run/predict",
        "/gradio_api/call/predict",
        "/gradio_api/component_server",
        "/gradio_api/stream/abc",
        "/gradio_api/vibe-edit",
        "/gradio_api/dev/reload",
        "/gradio_api/deep_link",
        "/gradio_api/mcp/",
        "/monitoring",
        "/login",
        "/assets/../../../etc/passwd",
        "/static/..%2f..%2fetc/passwd",
        "/etc/passwd",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST", "PUT"])
def test_routes_that_the_page_does_not_use(gate: TestClient, method: str, path: str) -> None:
    assert gate.request(method, path).status_code == 404


def test_files(gate: TestClient, tmp_path: Path) -> None:
    assert gate.get(f"/gradio_api/file={tmp_path}/own.png").status_code == 200
    for name in (
        "/etc/passwd",
        f"{tmp_path}/../x",
        f"{tmp_path}",
        "own.png",
        "http://a.example/x.png",
        f"{tmp_path}/none",
    ):
        assert gate.get(f"/gradio_api/file={name}").status_code == 403


def test_links_out_of_the_folder(gate: TestClient, tmp_path: Path) -> None:
    (tmp_path / "link.png").symlink_to("/etc/hostname")
    assert gate.get(f"/gradio_api/file={tmp_path}/link.png").status_code == 403


def sent(gate: TestClient, tmp_path: Path, **changes: Any) -> Any:
    body = {"session_hash": "abc", "fn_index": 3, "data": [{"path": f"{tmp_path}/own.png"}, 1], **changes}
    return gate.post("/gradio_api/queue/join", content=json.dumps(body))


def test_addresses_are_taken_out(gate: TestClient, tmp_path: Path) -> None:
    answer = sent(gate, tmp_path, data=[{"path": f"{tmp_path}/own.png", "url": "http://a.example"}, 1])
    assert answer.status_code == 200
    assert answer.json()["data"][0]["url"] is None


@pytest.mark.parametrize(
    "changes",
    [
        {"data": [{"path": "/etc/passwd"}, 1]},
        {"data": [{"path": "http://a.example/x.png", "meta": {"_type": "gradio.FileData"}}, 1]},
        {"data": [{"path": None, "url": "data:image/png;base64,"}, 1]},
        {"data": [[{"deep": {"path": 7}}], 1]},
        {"data": [1]},
        {"data": {"0": 1}},
        {"data": None},
        {"fn_index": 1},
        {"fn_index": "3"},
        {"fn_index": True},
        {"fn_index": None},
        {"session_hash": None},
        {"session_hash": "../x"},
        {"session_hash": 7},
        {"event_id": {"a": 1}},
        {"trigger_id": "x"},
        {"event_data": {"path": "/etc/passwd"}},
        {"data": [1, [[[[[[[[[[[[[[1]]]]]]]]]]]]]]]},
    ],
)
def test_events_that_our_page_does_not_send(gate: TestClient, tmp_path: Path, changes: dict[str, Any]) -> None:
    answer = sent(gate, tmp_path, **changes)
    assert answer.status_code == 422
    assert "\n" not in answer.json()["error"]


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"\xff", b"[" * 900, b"7"])
def test_bodies_that_are_no_events(gate: TestClient, body: bytes) -> None:
    for path in ("queue/join", "cancel", "reset"):
        assert gate.post(f"/gradio_api/{path}", content=body).status_code == 422
    assert gate.get("/gradio_api/queue/data").status_code == 422
