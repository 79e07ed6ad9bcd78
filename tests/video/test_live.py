"""Live painting takes the newest frame, at a size that holds the rate, and styles can change at any time."""

import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("av", reason="needs the extra video")
pytest.importorskip("cv2", reason="needs the extra video")

from impasto.errors import FilmError, OptionError, StyleError
from impasto.options import LiveOptions
from impasto.stylizers.sources import resolve_style
from impasto.video.camera import FilmCamera, Newest, open_camera
from impasto.video.live import LivePainter
from impasto.video.pace import LEAST, STEP, Pacer
from impasto.video.read import open_film


def settled(pacer: Pacer, cost: Callable[[int], float], frames: int = 200) -> list[int]:
    """Return the long sides if each frame takes the time that its size costs."""
    sides = []
    for _ in range(frames):
        pacer.add(cost(pacer.long_side))
        sides.append(pacer.long_side)
    return sides


@pytest.mark.parametrize("seconds", [0.02, 0.1, 0.3, 2.0])
@pytest.mark.parametrize("fixed", [0.0, 0.02])
def test_the_size_holds_the_rate(seconds: float, fixed: float) -> None:
    """A frame takes `seconds` at 640 pixels, in proportion to its pixels.

    A larger size would miss the rate; then it stays.
    """
    pacer = Pacer(12, 640)

    def cost(side: int) -> float:
        return fixed + seconds * (side / 640) ** 2

    sides = settled(pacer, cost)
    assert len(set(sides[100:])) == 1
    side = sides[-1]
    assert cost(side) <= 1 / 12 or side == LEAST
    assert side == 640 or cost(side + 2 * STEP) > 0.8 / 12


def test_one_slow_frame_changes_nothing_but_slowness_does() -> None:
    pacer = Pacer(12, 640)
    settled(pacer, lambda side: 0.07)
    side = pacer.long_side
    pacer.add(0.2)
    pacer.add(0.07)
    assert pacer.long_side == side
    assert settled(pacer, lambda side: 0.2, 10)[-1] < side


def test_a_fixed_size() -> None:
    assert settled(Pacer(12, 640, 320), lambda side: 9.0, 20) == [320] * 20


@pytest.fixture
def painter() -> Callable[..., LivePainter]:
    return lambda styles=("udnie",), **changes: LivePainter(
        resolve_style, styles, LiveOptions(**{"size": 64, "precision": "float32", **changes})
    )


def difference(a: Any, b: Any) -> float:
    return float(np.abs(a.astype(int) - b.astype(int)).mean())


def test_a_still_picture_stays_still_and_a_new_style_fades_in(painter: Callable[..., LivePainter], drawn: Any) -> None:
    live, frame = painter(), drawn(0)[..., :3]
    first = live.paint(frame)
    assert (first.number, first.pixels.shape, live.size) == (1, (48, 64, 3), (48, 64))
    again = [live.paint(frame).pixels for _ in range(3)]
    assert difference(again[-1], first.pixels) < 2
    live.choose(["starry-night"])
    seen = [live.paint(frame).pixels for _ in range(12)]
    alone = painter(("starry-night",)).paint(frame).pixels
    gaps = [difference(pixels, alone) for pixels in seen]
    assert gaps[0] > 2 * gaps[-1]
    assert gaps[-1] < 0.25 * difference(first.pixels, alone)


def test_strength_changes_while_it_runs(painter: Callable[..., LivePainter], drawn: Any) -> None:
    live, frame = painter(stability=0.0), drawn(0)[..., :3]
    whole = difference(live.paint(frame).pixels, frame)
    live.choose(strength=0.0)
    assert difference(live.paint(frame).pixels, frame) < 0.5 * whole
    assert (live.styles, live.options.strength, live.options.stability) == (("udnie",), 0.0, 0.0)


def test_what_cannot_be_chosen_changes_nothing(painter: Callable[..., LivePainter], drawn: Any) -> None:
    live, frame = painter(stability=0.0), drawn(0)[..., :3]
    before = live.paint(frame).pixels
    wrongs: tuple[tuple[dict[str, Any], type[Exception]], ...] = (
        ({"styles": ["nothing-like-it"]}, StyleError),
        ({"strength": 9.0}, OptionError),
        ({"styles": []}, OptionError),
    )
    for wrong, error in wrongs:
        with pytest.raises(error):
            live.choose(**wrong)
    assert difference(live.paint(frame).pixels, before) == 0


def test_frames_are_reduced_but_not_enlarged(painter: Callable[..., LivePainter], drawn: Any) -> None:
    assert painter(size=32).paint(drawn(0)[..., :3]).pixels.shape == (24, 32, 3)
    assert painter(size=640).paint(drawn(0)[..., :3]).pixels.shape == (48, 64, 3)


def test_only_the_newest_frame_is_taken(film: Callable[..., Path]) -> None:
    """One frame is taken every 0.2 seconds from a film of 20 frames in 0.8 seconds: the others are dropped."""
    newest = Newest(FilmCamera(open_film(film(times=tuple(range(0, 800, 40)))), 64, repeat=False))
    numbers = []
    while (found := newest.take()) is not None:
        numbers.append(found[0])
        assert newest.number - found[0] <= 1
        time.sleep(0.2)
    assert numbers == sorted(set(numbers))
    assert numbers[-1] == 20
    assert len(numbers) + newest.dropped == 20
    assert newest.dropped >= 8


def test_a_film_begins_again(film: Callable[..., Path]) -> None:
    newest = Newest(FilmCamera(open_film(film(times=(0, 10, 20))), 64))
    while (found := newest.take()) is not None and found[0] < 8:
        pass
    newest.close()
    assert newest.error is None


def test_an_error_of_the_camera_reaches_who_takes() -> None:
    class Broken:
        name = "broken"

        def frames(self) -> Generator[Any, None, None]:
            yield np.zeros((8, 8, 3), np.uint8)
            raise FilmError("it fell down")

    newest = Newest(Broken())
    newest.take()
    with pytest.raises(FilmError, match="it fell down"):
        newest.take()


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("camera:99", "camera 99 cannot be opened"),
        ("camera:x", "write it as camera:1"),
        ("screen:1x1", "write it as camera:1 or screen:640x360"),
        ("nothing.mp4", "nothing.mp4 does not exist"),
    ],
)
def test_what_is_no_camera(source: str, message: str) -> None:
    with pytest.raises((FilmError, OptionError), match=message):
        open_camera(source, 640)


def test_no_screen(monkeypatch: pytest.MonkeyPatch) -> None:
    from PIL import ImageGrab

    def fail(box: Any = None) -> Any:
        raise OSError("X connection failed")

    monkeypatch.setattr(ImageGrab, "grab", fail)
    with pytest.raises(FilmError, match=r"the screen cannot be seen from here \(X connection failed\)"):
        open_camera("screen", 640)


def test_a_region_of_the_screen(monkeypatch: pytest.MonkeyPatch) -> None:
    from PIL import Image, ImageGrab

    boxes: list[Any] = []

    def grab(box: Any = None) -> Any:
        boxes.append(box)
        return Image.new("RGB", (4, 2), (1, 2, 3))

    monkeypatch.setattr(ImageGrab, "grab", grab)
    frames = open_camera("screen:4x2+10+20", 640).frames()
    assert next(frames).tolist() == [[[1, 2, 3]] * 4] * 2
    frames.close()
    assert boxes == [(10, 20, 14, 22)] * 2
