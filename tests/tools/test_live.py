"""Tests of `impasto live` outside the browser: keys, a window, a virtual camera, and messages if there is none."""

import sys
import time
from collections.abc import Callable, Generator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("av", reason="needs the extra video")
cv2 = pytest.importorskip("cv2", reason="needs the extra video")

from impasto.cli import main  # noqa: E402
from impasto.errors import FilmError, ImpastoError  # noqa: E402
from impasto.options import LiveOptions  # noqa: E402
from impasto.style.target import builtin_names  # noqa: E402
from impasto.stylizers.sources import resolve_style  # noqa: E402
from impasto.tools import live  # noqa: E402
from impasto.tools.live import Keys, LiveLoop, VirtualCamera, show_live, why_no_window  # noqa: E402
from impasto.verbs import parse  # noqa: E402
from impasto.video.live import LivePainter  # noqa: E402


class Ramp:
    """A camera with a few frames, and then an error if one is given."""

    name = "ramp"

    def __init__(self, count: int, error: Exception | None = None):
        self.count, self.error = count, error

    def frames(self) -> Generator[Any, None, None]:
        for number in range(self.count):
            yield np.full((48, 64, 3), 20 * number % 256, np.uint8)
            time.sleep(0.005)
        if self.error is not None:
            raise self.error


class Frames:
    """A screen that keeps what it shows, and presses keys."""

    def __init__(self, keys: str = ""):
        self.keys, self.shown, self.closed = list(keys), [], False

    def show(self, pixels: Any) -> None:
        self.shown.append(pixels)

    def key(self) -> str:
        return self.keys.pop(0) if self.shown and self.keys else ""

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def painter() -> Callable[..., LivePainter]:
    return lambda *styles: LivePainter(resolve_style, styles or ("udnie",), LiveOptions(size=64, stability=0.0))


def test_keys(painter: Callable[..., LivePainter]) -> None:
    of = painter()
    keys, names = Keys(of), builtin_names()
    at = names.index("udnie")
    assert keys.press("n") == names[at + 1]
    assert of.styles == (names[at + 1],)
    assert [keys.press("p"), keys.press("p")] == [names[at], names[at - 1]]
    assert [keys.press("+") for _ in range(6)][-1] == "strength 1.5"
    assert of.options.strength == 1.5
    assert keys.press("-") == "strength 1.4"
    assert keys.press("x") == keys.press("") == ""


def test_a_window_shows_the_camera_until_it_ends(painter: Callable[..., LivePainter]) -> None:
    loop, screen = LiveLoop(Ramp(5), painter()), Frames()
    show_live(loop, screen)
    assert screen.closed
    assert loop.has_ended
    assert screen.shown[-1].shape == (48, 64, 3)


def test_keys_change_the_painting_and_end_it(painter: Callable[..., LivePainter]) -> None:
    loop, screen = LiveLoop(Ramp(10_000), painter()), Frames("n-q")
    show_live(loop, screen)
    assert loop.painter.styles != ("udnie",)
    assert loop.painter.options.strength == 0.9
    assert loop.has_ended
    assert screen.closed


def test_a_camera_that_fails(painter: Callable[..., LivePainter]) -> None:
    loop = LiveLoop(Ramp(1, FilmError("the camera was unplugged")), painter())
    loop._thread.join(20)
    shown = loop.wait()
    assert shown is not None
    with pytest.raises(FilmError, match="unplugged"):
        loop.wait(shown.painted.number)


def test_where_there_are_no_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cv2, "getBuildInformation", lambda: "  GUI:   NONE\n")
    assert "this OpenCV has no windows" in why_no_window()
    monkeypatch.setattr(cv2, "getBuildInformation", lambda: "  GUI:   QT5\n")
    monkeypatch.setattr(live.sys, "platform", "linux")
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    assert "there is no screen here" in why_no_window()
    monkeypatch.setenv("DISPLAY", ":0")
    assert why_no_window() == ""


def test_a_virtual_camera_keeps_its_size(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[Any] = []

    class Camera:
        device = "/dev/video9"

        def __init__(self, width: int, height: int, fps: float):
            self.width, self.height = width, height

        def send(self, pixels: Any) -> None:
            sent.append(pixels.shape)

        def close(self) -> None:
            sent.append("closed")

    monkeypatch.setattr(live, "find_spec", lambda name: True)
    monkeypatch.setitem(sys.modules, "pyvirtualcam", SimpleNamespace(Camera=Camera))
    camera = VirtualCamera(12, 128)
    for side in (64, 96):
        camera.show(np.zeros((side * 3 // 4, side, 3), np.uint8))
    camera.close()
    assert sent == [(96, 128, 3), (96, 128, 3), "closed"]


def test_no_virtual_camera(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "find_spec", lambda name: None)
    with pytest.raises(ImpastoError, match=r'pip install "impasto\[camera\]"'):
        VirtualCamera(12, 128)

    def fail(**size: Any) -> Any:
        raise RuntimeError("no device\nmore of it")

    monkeypatch.setattr(live, "find_spec", lambda name: True)
    monkeypatch.setitem(sys.modules, "pyvirtualcam", SimpleNamespace(Camera=fail))
    with pytest.raises(ImpastoError, match=r"there is no virtual camera \(no device\)"):
        VirtualCamera(12, 128).show(np.zeros((48, 64, 3), np.uint8))


def test_the_command_line() -> None:
    verb = parse(["live", "udnie", "great-wave", "--source", "screen:640x360+0+0", "--rate", "20", "--strength", "0.7"])
    assert (verb.styles, verb.source, verb.options.rate) == (("udnie", "great-wave"), "screen:640x360+0+0", 20.0)
    assert (verb.options.strength, verb.options.film.strengths) == (0.7, ((0.0, 0.7),))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing-like-it"], "style 'nothing-like-it' is neither a file nor a built-in style"),
        (["--source", "nothing.mp4"], "nothing.mp4 does not exist; check the name of the film"),
        (["--size", "320", "--largest", "480"], "--size and --largest cannot be combined; leave out one"),
    ],
)
def test_what_is_refused_is_one_line(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["live", "--port", "0", *arguments]) != 0
    errors = capsys.readouterr().err
    assert message in errors
    assert len(errors.strip().splitlines()) == 1
