"""Tests of live painting over HTTP: the browser's frames, this machine's camera, and what is refused."""

import io
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

pytest.importorskip("av", reason="needs the extra video")
pytest.importorskip("cv2", reason="needs the extra video")

from impasto.options import LiveOptions, ServeOptions
from impasto.stylizers.sources import resolve_style
from impasto.tools.live import LiveLoop
from impasto.tools.web import live as live_module
from impasto.tools.web.app import make_app
from impasto.tools.web.engine import Engine
from impasto.tools.web.live import BrowserSession, Given
from impasto.video.camera import FilmCamera
from impasto.video.live import LivePainter
from impasto.video.read import open_film

JPEG = {"Content-Type": "image/jpeg"}
HOME = "http://127.0.0.1:7860"


def frame(shift: int = 0, size: tuple[int, int] = (48, 64), kind: str = "JPEG") -> bytes:
    pixels = np.zeros((*size, 3), np.uint8)
    pixels[..., 2] = np.linspace(40, 220, size[1])
    pixels[size[0] // 2 :, 8 + shift : 20 + shift, 1] = 200
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


def pixels_of(data: bytes) -> np.ndarray[Any, Any]:
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGB")).astype(int)


def begin(client: TestClient, **data: Any) -> str:
    answer = client.post("/v1/live", data={"style": "udnie", **data})
    assert answer.status_code == 201, answer.text
    return answer.headers["location"]


@pytest.fixture(autouse=True)
def _no_sessions_left(app: Any) -> Iterator[None]:
    yield
    for session in list(app.state.live._sessions.values()):
        app.state.live.end(session)


def test_frames_are_painted_as_they_are_sent(client: TestClient) -> None:
    at = begin(client)
    answers = [client.post(f"{at}/frames", content=frame(i), headers=JPEG) for i in (0, 0, 3)]
    assert [(a.status_code, a.headers["impasto-number"]) for a in answers] == [(200, "1"), (200, "2"), (200, "3")]
    first, again = pixels_of(answers[0].content), pixels_of(answers[1].content)
    assert first.shape == (48, 64, 3)
    assert np.abs(first - pixels_of(frame(0))).mean() > 20
    assert np.abs(first - again).mean() < 3  # a still picture stays still
    assert int(answers[0].headers["impasto-side"]) == 256  # the server's largest
    view = client.get(at).json()
    assert (view["frames"], view["styles"], view["size"], view["strength"]) == (3, ["udnie"], [64, 48], 1.0)
    changed = client.post(at, data={"style": ["starry-night", "udnie"], "strength": "0.5", "stability": "0"}).json()
    assert (changed["styles"], changed["strength"], changed["stability"]) == (["starry-night", "udnie"], 0.5, 0.0)
    other = pixels_of(client.post(f"{at}/frames", content=frame(0, kind="PNG")).content)
    assert np.abs(other - first).mean() > 10
    assert client.delete(at).status_code == 204
    assert client.post(f"{at}/frames", content=frame()).status_code == 404


def test_an_own_style_file(client: TestClient, engine: Engine, picture: bytes) -> None:
    answer = client.post("/v1/live", files={"style_file": ("mine.png", picture)})
    assert answer.status_code == 201, answer.text
    assert len(list(engine.folder.glob("live-*/mine.png"))) == 1
    at = answer.headers["location"]
    assert client.post(f"{at}/frames", content=frame()).status_code == 200
    client.delete(at)
    assert not list(engine.folder.glob("live-*"))


def test_refusals(client: TestClient, engine: Engine) -> None:
    at = begin(client)
    for data, message in (
        ({}, "the frame"),
        ({"style": "/etc/hostname"}, "is not a built-in style"),
        ({"style": "../udnie"}, "is not a built-in style"),
        ({"strength": "2"}, "strength"),
        ({"model": "x"}, "there is no field 'model'"),
    ):
        answer = client.post(at, data=data) if data else client.post(f"{at}/frames", content=b"nothing", headers=JPEG)
        assert answer.status_code == 422
        assert message in answer.json()["error"]
    assert client.post(f"{at}/frames", content=b"x" * 10, headers={"Content-Length": "9000001"}).status_code == 413
    assert "send at most" in client.post(f"{at}/frames", content=frame(size=(2900, 2900))).json()["error"]
    assert client.get(f"{at}/frame").status_code == 409
    assert client.post("/v1/live").json()["error"].startswith("no style given")
    assert client.get("/v1/live/nothing").status_code == 404
    second = begin(client)
    full = client.post("/v1/live", data={"style": "udnie"})
    assert (full.status_code, full.json()["error"]) == (
        429,
        "other cameras are being painted already; try again in a minute",
    )
    client.delete(at)
    client.delete(second)
    assert not list(engine.folder.glob("live-*"))


def test_idle_sessions_end(client: TestClient, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    at = begin(client)
    monkeypatch.setattr(live_module, "IDLE_SECONDS", 0.0)
    assert client.get(at).status_code == 404
    assert not list(engine.folder.glob("live-*"))


def test_overlapping_frames_are_dropped_not_queued(tmp_path: Path) -> None:
    """Three frames arrive while one is painted: only the newest of them is painted after it."""

    class Slow(LivePainter):
        def paint(self, pixels: Any, besides: float = 0.0) -> Any:
            started.set()
            go.wait(10)
            return super().paint(pixels, besides)

    started, go = threading.Event(), threading.Event()
    session = BrowserSession(Slow(resolve_style, ["udnie"], LiveOptions(size=64)), tmp_path)
    results: dict[int, Any] = {}

    def send(number: int) -> threading.Thread:
        thread = threading.Thread(target=lambda: results.update({number: session.paint(frame(number))}))
        thread.start()
        time.sleep(0.05)
        return thread

    threads = [send(0)]
    started.wait(10)
    threads += [send(i) for i in (1, 2, 3)]
    go.set()
    for thread in threads:
        thread.join(20)
    assert [i for i, r in sorted(results.items()) if r is not None] == [0, 3]
    assert session.painter.number == 2


@pytest.fixture
def own_camera(clip: Callable[..., Path], tmp_path: Path) -> Iterator[tuple[TestClient, LiveLoop]]:
    """Return a client of `impasto live`, with a film that is played as a camera."""
    options, live = ServeOptions(allow_host=("testserver",)), LiveOptions(size=64, stability=0.0)
    sources = {"mine": "udnie"}
    painter = LivePainter(lambda name: resolve_style(sources.get(name, name)), ("mine",), live)
    loop = LiveLoop(FilmCamera(open_film(clip(frames=30)), 64), painter)
    engine = Engine(options)
    app = make_app(options, engine, Given(("mine",), sources, live, loop))
    with TestClient(app, base_url=HOME) as client:
        yield client, loop
    engine.close()
    assert loop.has_ended


def test_this_machines_camera(own_camera: tuple[TestClient, LiveLoop]) -> None:
    client, _ = own_camera
    stage = client.get("/v1/live").json()
    assert (stage["own_styles"], stage["size"], Path(stage["camera"]).name) == (["mine"], 64, "clip.mp4")
    at, after, seen = f"/v1/live/{stage['id']}", 0, []
    for _ in range(3):
        answer = client.get(f"{at}/frame", params={"after": after})
        assert answer.status_code == 200
        assert int(answer.headers["impasto-number"]) > after
        after = int(answer.headers["impasto-number"])
        seen.append(pixels_of(answer.content))
    assert seen[0].shape == (48, 64, 3)
    assert client.post(at, data={"strength": "0"}).json()["strength"] == 0
    client.get(f"{at}/frame", params={"after": after + 1})
    plain = pixels_of(client.get(f"{at}/frame", params={"after": after + 2}).content)
    assert np.abs(plain - seen[0]).mean() > 10
    assert client.post(f"{at}/frames", content=frame()).status_code == 409
    assert client.delete(at).status_code == 204
    assert client.get(at).status_code == 200  # it goes on
    assert "is not a built-in style" in client.post("/v1/live", data={"style": "clip.mp4"}).json()["error"]
    mine = client.post("/v1/live", data={"style": "mine"}).json()
    assert (mine["styles"], mine["long_side"], mine["stability"]) == (["mine"], 64, 0.0)
