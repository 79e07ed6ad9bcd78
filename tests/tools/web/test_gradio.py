"""Hostile requests to Gradio's own endpoints open no file and no connection, and none is answered with a 5xx."""

import builtins
import io
import json
import os
import random
import socket
import sysconfig
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import matplotlib.font_manager  # noqa: F401 - Gradio loads it, and it looks for fonts then
import pytest
from starlette.testclient import TestClient

from impasto.tools.web.engine import Engine

HOME = "http://127.0.0.1:7860/"

SECRET = "/etc/passwd"
NAMES = (
    *(SECRET, "/etc/shadow", "../../../../etc/passwd", "file:///etc/passwd", "/proc/self/environ", "C:\\boot.ini"),
    *("http://169.254.169.254/latest/meta-data/", "https://example.com/a.png", "//example.com/a.png", "ftp://a.example/x"),
    *("", ".", "~", "\0", "a" * 5000, "%2e%2e/etc/passwd", "data:text/html,x", "gradio_api/file=/etc/passwd"),
)  # fmt: skip
ROUTES = ("run/predict", "api/predict", "call/predict", "queue/join", "upload", "cancel", "reset", "component_server",
          "stream/abc", "vibe-edit", "process_recording", "call/v2/paint")  # fmt: skip


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch, engine: Engine) -> list[str]:
    """Record everything that is opened or connected to outside the studio's own folders and libraries."""
    found: list[str] = []
    spool = tempfile.gettempdir()  # opened as a folder, for a file without a name
    ours = (
        str(engine.folder),
        str(Path(os.__file__).parent),
        str(Path(__file__).parents[3]),
        sysconfig.get_path("purelib"),
    )

    def watch(call: Callable[..., Any]) -> Callable[..., Any]:
        def watched(name: Any, *args: Any, **more: Any) -> Any:
            if not isinstance(name, int) and name != spool and not os.path.abspath(os.fsdecode(name)).startswith(ours):
                found.append(os.fsdecode(name))
            return call(name, *args, **more)

        return watched

    def connect(self: Any, address: Any) -> Any:
        found.append(str(address))
        raise OSError("no connections")

    monkeypatch.setattr(builtins, "open", watch(builtins.open))
    monkeypatch.setattr(io, "open", watch(io.open))
    monkeypatch.setattr(socket.socket, "connect", connect)
    return found


def hostile(client: TestClient, choice: random.Random) -> Iterator[Any]:
    """Yield the answers to 200 requests that no page of ours sends."""
    events = len(client.get("/config").json()["dependencies"])
    for number in range(200):
        name = choice.choice(NAMES)
        file = {"path": name, "url": name, "orig_name": name, "meta": {"_type": "gradio.FileData"}}
        kind = number % 5
        if kind == 0:
            route = choice.choice(("file=", "proxy=", "file/", "stream/"))
            yield client.get(f"/gradio_api/{route}{name.replace(chr(0), '%00')}")
        elif kind == 1:
            value = choice.choice((file, [file], name, None, 1e308, True, {"a": [file]}, [[]] * 50))
            size = choice.choice((0, 1, 6, 60, 3000))
            body = {"data": [value] * size, "fn_index": choice.randrange(-2, events + 2), "session_hash": "abc"}
            yield client.post(f"/gradio_api/{choice.choice(ROUTES[:1] + ROUTES[3:4])}", json=body)
        elif kind == 2:
            content = choice.choice(
                (b"", b"{}", b"null", b"[" * 1000, b"\xff\xfe", b"x" * 100_000, json.dumps(file).encode())
            )
            yield client.post(f"/gradio_api/{choice.choice(ROUTES)}", content=content)
        elif kind == 3:
            yield client.post(
                f"/gradio_api/{choice.choice(ROUTES)}", files={"files": (name.replace("\0", "") or "x", b"x")}
            )
        else:
            yield client.request(
                choice.choice(("GET", "PUT", "DELETE", "PATCH")), f"/{choice.choice(ROUTES)}?path={SECRET}"
            )


def test_two_hundred_hostile_requests(client: TestClient, opened: list[str]) -> None:
    for answer in hostile(client, random.Random(0)):
        assert answer.status_code < 500, (answer.request.method, answer.request.url, answer.text[:300])
        assert "root:" not in answer.text
    assert not opened


def test_an_event_with_a_strangers_path_is_refused_and_one_with_an_upload_is_not(
    client: TestClient, picture: bytes
) -> None:
    config = client.get("/config").json()
    load = next(d for d in config["dependencies"] if len(d["inputs"]) == 2)  # styles and own files: the weights' event
    uploaded = client.post("/gradio_api/upload", files={"files": ("own.png", picture)}).json()[0]
    meta = {"_type": "gradio.FileData"}
    for path, status in ((SECRET, 422), (uploaded, 200)):
        body = {"data": [[], [{"path": path, "meta": meta}]], "fn_index": load["id"], "session_hash": "abc"}
        answer = client.post("/gradio_api/run/predict", json=body)
        assert answer.status_code == status, answer.text
    assert "own.png" in answer.text  # a region can have it as its style


def test_a_painting_goes_through_the_queue(client: TestClient) -> None:
    """Only the page's quick events are answered at once."""
    events = client.get("/config").json()["dependencies"]
    paint = max(events, key=lambda d: len(d["inputs"]))
    body = {"data": [None] * len(paint["inputs"]), "fn_index": paint["id"], "session_hash": "abc"}
    assert client.post("/gradio_api/run/predict", json=body).status_code >= 400
    assert client.post("/gradio_api/queue/join", json=body).status_code == 200


def test_the_page_names_nothing_beyond_this_machine(client: TestClient) -> None:
    """Everything that the page's head loads is local; addresses in its meta tags are not read."""
    import re

    page = client.get("/").text
    loaded = re.findall(r"<(?:script|link|img)[^>]*(?:src|href)\s*=\s*[\"']([^\"']+)", page)
    assert loaded
    assert not [u for u in loaded if u.startswith(("http:", "https:", "//")) and not u.startswith(HOME)]
