"""Tests of the checks before every request (names, origins, keys, lengths), and of the requests that Gradio may get."""

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
from impasto.options import ServeOptions
from impasto.tools.web.gate import Gate
from impasto.tools.web.proxy import Outside
from impasto.tools.web.security import Guard, read_key

HOME = "http://127.0.0.1:7860"
KEY = "correct-horse-battery"


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with the body that was sent."""
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


PAGES = ("studio.test", "other.test:8443")


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("https://studio.test", 200),
        ("http://studio.test", 200),
        ("https://studio.test:443", 200),
        ("https://STUDIO.test", 200),
        ("https://other.test:8443", 200),
        ("http://studio.test:8080", 403),
        ("https://other.test", 403),
        ("ftp://studio.test", 403),
        ("https://studio.test/x", 403),
        ("https://user@studio.test.evil.example", 403),
        ("https://studio.test.evil.example", 403),
        ("studio.test", 403),
        ("https://[", 403),
        ("https://studio.test:x", 403),
        ("http://localhost", 403),
        ("http://127.0.0.1", 403),
    ],
)
def test_pages_behind_a_proxy_that_keeps_the_name_to_itself(origin: str, status: int) -> None:
    """As with nginx's defaults, the Host is the address that nginx calls, and the Origin is the browser's."""
    answer = guarded(hosts=(), pages=PAGES).post("/", content=b"x", headers={"Origin": origin})
    assert answer.status_code == status


def test_the_refusal_says_how_to_allow_the_page_on_that_port() -> None:
    answer = guarded(hosts=(), pages=PAGES).post("/", headers={"Origin": "http://studio.test:8080"})
    assert answer.json()["error"].endswith("behind a proxy, allow it with --allow-host studio.test:8080")


async def show(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with the address at which the request arrived, followed by the headers of proxies."""
    request = Request(scope, receive)
    told = ", ".join(k for k in request.headers if "forward" in k or k == "x-gradio-server")
    await PlainTextResponse(f"{request.url} {told}".strip())(scope, receive, send)


FORWARDED = {
    "X-Forwarded-Host": "studio.test",
    "X-Forwarded-Proto": "https",
    "X-Forwarded-Port": "8443",
    "Forwarded": "host=evil.example",
    "X-Gradio-Server": "http://evil.example",
}


@pytest.mark.parametrize(
    ("trusted", "client", "seen"),
    [
        ((), "127.0.0.1", f"{HOME}/v1/x"),
        (("10.0.0.1",), "10.0.0.2", f"{HOME}/v1/x"),
        (("10.0.0.1",), "10.0.0.1", "https://studio.test:8443/v1/x"),
        (("172.16.0.0/12",), "172.18.0.5", "https://studio.test:8443/v1/x"),
        (("127.0.0.1",), "::ffff:127.0.0.1", "https://studio.test:8443/v1/x"),
        (("fd00::/8",), "fd00::7", "https://studio.test:8443/v1/x"),
        (("*",), "203.0.113.9", "https://studio.test:8443/v1/x"),
        (("*",), "no address", f"{HOME}/v1/x"),
    ],
)
def test_headers_of_proxies(trusted: tuple[str, ...], client: str, seen: str) -> None:
    """They are accepted only from trusted proxies, and nothing behind the check sees them."""
    guard = Guard(show, hosts=["studio.test"], key=None, max_bytes=9, outside=Outside("", trusted))
    answer = TestClient(guard, base_url=HOME, client=(client, 1)).get("/v1/x", headers=FORWARDED)
    assert answer.text == seen


@pytest.mark.parametrize(
    ("headers", "error"),
    [
        ({"X-Forwarded-Host": "evil.example"}, "'evil.example' is not a name of this server"),
        ({"X-Forwarded-Host": "studio.test, evil.example"}, "'evil.example' is not a name of this server"),
        ({"Host": "evil.example", "X-Forwarded-Host": "studio.test"}, "'evil.example' is not a name of this server"),
        ({"Origin": "https://evil.example", "X-Forwarded-Host": "studio.test"}, "another site's page"),
    ],
)
def test_a_trusted_proxy_lets_no_stranger_in(headers: dict[str, str], error: str) -> None:
    """It accepts neither a foreign name, nor one that a page of a foreign domain puts into its headers."""
    guard = Guard(show, hosts=["studio.test"], key=None, max_bytes=9, outside=Outside("", ["*"]))
    answer = TestClient(guard, base_url=HOME, client=("127.0.0.1", 1)).post("/v1/x", headers=headers)
    assert answer.status_code == 403
    assert error in answer.json()["error"]


@pytest.mark.parametrize(
    ("prefix", "path", "seen"),
    [
        ("/paint", "/v1/jobs", "/paint/v1/jobs"),
        ("/paint", "/paint/v1/jobs", "/paint/v1/jobs"),
        ("/paint/", "/paint/", "/paint/"),
        ("/paint", "/painted", "/paint/painted"),
        ("/a/b", "/a/b/docs", "/a/b/docs"),
        ("/studio", "/studio/studio.css", "/studio/studio/studio.css"),
        ("/studio", "/studio/studio/studio.css", "/studio/studio/studio.css"),
        ("/studio", "/studio/v1/jobs", "/studio/v1/jobs"),
        ("/v1", "/v1/jobs", "/v1/v1/jobs"),
        ("/v1", "/v1/v1/jobs", "/v1/v1/jobs"),
    ],
)
def test_a_path_before_ours_is_taken_off_or_passed_on(prefix: str, path: str, seen: str) -> None:
    guard = Guard(show, hosts=(), key=None, max_bytes=9, outside=Outside(prefix))
    assert TestClient(guard, base_url=HOME).get(path).text == f"{HOME}{seen}"


def test_the_key_behind_a_proxy() -> None:
    """The form leads back to the page. The cookie is for that path, and only for HTTPS if HTTPS was used."""
    guard = Guard(echo, hosts=["studio.test"], key=KEY, max_bytes=999, outside=Outside("/paint", ["*"]))
    client = TestClient(guard, base_url=HOME, client=("127.0.0.1", 1))
    assert 'action="key"' in client.get("/paint/", headers={"Accept": "text/html"}).text
    headers = {"X-Forwarded-Host": "studio.test", "X-Forwarded-Proto": "https", "Origin": "https://studio.test"}
    answer = client.post("/key", data={"key": KEY}, headers=headers, follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (303, "/paint/")
    assert "Path=/paint/;" in answer.headers["set-cookie"]
    assert "Secure" in answer.headers["set-cookie"]


@pytest.mark.parametrize(
    "options",
    [
        {"root_path": "paint"},
        {"root_path": "https://example.org/paint"},
        {"root_path": "/a/../b"},
        {"root_path": "/a b"},
        {"root_path": "/a//b"},
        {"trusted_proxy": ("nginx",)},
        {"trusted_proxy": ("10.0.0.0/40",)},
        {"trusted_proxy": ("",)},
        {"allow_host": ("https://example.org",)},
        {"allow_host": ("example.org/paint",)},
        {"allow_host": ("example.org:port",)},
    ],
)
def test_settings_that_are_none(options: dict[str, Any]) -> None:
    (name,) = options
    with pytest.raises(OptionError, match=f"--{name.replace('_', '-')} .*: give "):
        ServeOptions(**options)


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
    assert "limit of 0.001 MB" in answer.json()["error"]


def test_key() -> None:
    client = guarded(key=KEY)
    assert client.get("/v1/styles").status_code == 401
    assert client.get("/v1/styles", headers={"Authorization": "Bearer wrong"}).status_code == 401
    assert client.get("/v1/styles", headers={"Authorization": f"Basic {KEY}"}).status_code == 401
    assert client.get("/v1/styles", headers={"Cookie": "impasto_key=wrong"}).status_code == 401
    assert client.get("/v1/styles", headers={"Authorization": f"Bearer {KEY}"}).status_code == 200


def test_key_in_the_browser() -> None:
    """The page's form accepts the key, and its cookie, which is not the key, is accepted from then on."""
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
    with pytest.raises(OptionError, match="the key must be one line of at least 16 characters"):
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
