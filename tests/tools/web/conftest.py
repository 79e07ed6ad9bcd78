"""Fixtures for the studio: it runs in the tests' process, without a warm-up, and its client needs no network."""

import io
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from impasto.options import ServeOptions
from impasto.tools.web.extra import prepare

prepare()

from starlette.testclient import TestClient  # noqa: E402

from impasto.tools.web.app import make_app  # noqa: E402
from impasto.tools.web.engine import Engine  # noqa: E402

HOME = "http://127.0.0.1:7860"
OPTIONS = ServeOptions(max_upload=2.0, max_megapixels=1.0, max_size=256, max_waiting=4, allow_host=("testserver",))


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    found = Engine(OPTIONS)
    found.start(warm=False)
    yield found
    found.close()
    assert not found.folder.exists()


@pytest.fixture(scope="module")
def app(engine: Engine) -> Any:
    return make_app(OPTIONS, engine)


@pytest.fixture(scope="module")
def client(app: Any) -> Iterator[TestClient]:
    with TestClient(app, base_url=HOME) as found:
        yield found


@pytest.fixture(scope="session")
def picture() -> bytes:
    """Return a picture of 72x64 pixels, as a PNG."""
    return png(np.random.default_rng(0).integers(0, 256, (64, 72, 3), np.uint8))


def png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


@pytest.fixture(scope="session")
def wait() -> Callable[..., Any]:
    """Return `wait(call)`, which returns the result of the call once it is true."""

    def until(call: Callable[[], Any], seconds: float = 120.0) -> Any:
        end = time.monotonic() + seconds
        while not (found := call()):
            assert time.monotonic() < end, "it took too long"
            time.sleep(0.02)
        return found

    return until


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Return `clip("a.mp4", frames=10)`: a film of 64x48 pixels at 10 frames a second, with a moving bar and a tone."""
    av = pytest.importorskip("av", reason="needs the extra video")
    pytest.importorskip("cv2", reason="needs the extra video")

    def make(name: str = "clip.mp4", frames: int = 10, size: tuple[int, int] = (48, 64), codec: str = "h264") -> Path:
        path = tmp_path_factory.mktemp("clip") / name
        with av.open(str(path), "w") as out:
            stream, sound = out.add_stream(codec, rate=10), out.add_stream("aac", rate=48000, layout="mono")
            stream.height, stream.width = size
            stream.pix_fmt = "yuv420p"
            for number in range(frames):
                pixels = np.zeros((*size, 3), np.uint8)
                pixels[..., 2] = np.linspace(40, 220, size[1])
                pixels[size[0] // 2 :, 4 + 2 * number % 40 : 12 + 2 * number % 40, 1] = 200
                out.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, "rgb24")))
            out.mux(stream.encode())
            wave = np.sin(np.arange(4800 * frames) / 20).astype(np.float32)[None] / 4
            for at in range(0, wave.shape[1], 1024):
                frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(wave[:, at : at + 1024]), "fltp", "mono")
                frame.sample_rate, frame.pts = 48000, at
                out.mux(sound.encode(frame))
            out.mux(sound.encode())
        return path

    return make


@pytest.fixture
def serving(tmp_path: Path) -> Iterator[Callable[..., TestClient]]:
    """Return `serving(max_waiting=1)`: a client of a studio with other options."""
    opened: list[tuple[Engine, TestClient]] = []

    def serve(**changes: Any) -> TestClient:
        options = replace(OPTIONS, **changes)
        engine = Engine(options)
        engine.start(warm=False)
        client = TestClient(make_app(options, engine), base_url=HOME)
        opened.append((engine, client))
        client.__enter__()
        return client

    yield serve
    for engine, client in opened:
        client.__exit__(None, None, None)
        engine.close()
