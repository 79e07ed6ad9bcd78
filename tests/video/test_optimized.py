"""Films painted by optimisation are steadier than frame by frame, still films stay still, and resuming is exact."""

import signal
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from impasto.cli import main
from impasto.errors import OptionError
from impasto.options import VideoOptions
from impasto.style.target import load_builtin
from impasto.stylizers.descent import Descent
from impasto.tools.video import in_words
from impasto.video.film import Frame, to_pixels
from impasto.video.motion import watch
from impasto.video.optimized import OptimizedPainter
from impasto.video.steady import SteadyPainter

if TYPE_CHECKING:
    from torch import Tensor

Photo = Callable[[str, int], "Tensor"]
GOOD = ("--quality", "good", "--precision", "float32")


def painter(size: tuple[int, int], **changes: Any) -> OptimizedPainter:
    options = VideoOptions(**{"quality": "good", "precision": "float32", **changes})
    names = [name for _, name in options.style_times] or ["udnie"]
    return OptimizedPainter([load_builtin(n) for n in names], options, size)


def painted(frames: Sequence[Any], **changes: Any) -> list[Any]:
    paint = painter(frames[0].shape[:2], **changes)
    found = [paint(s, i / 25) for i, s in enumerate(watch(Frame(i, f) for i, f in enumerate(frames)))]
    return [f.astype(float) for f in found if f is not None]


@pytest.fixture
def pan(photo: Photo) -> list[Any]:
    """Return four frames of 64 x 48 pixels; the camera moves by 2 columns and 1 row each time."""
    whole = to_pixels(photo("coffee", 128), np.uint8)
    return [whole[10 + i : 58 + i, 20 + 2 * i : 84 + 2 * i] for i in range(4)]


@pytest.fixture
def video(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Return `video("film.mkv", "udnie", ...)`, which paints in segments of 2 frames and returns the exit code."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(OptimizedPainter, "segment", 2)
    return lambda *arguments: main(["video", *arguments])


def test_a_pan_flickers_less(pan: list[Any]) -> None:
    """Changes beyond the known motion are at least halved."""
    errors = []
    for stability in (0, 0.5):
        pairs = pairwise(painted(pan, stability=stability))
        errors.append(np.mean([np.abs(b[8:-9, 8:-10] - a[9:-8, 10:-8]).mean() for a, b in pairs]))
    assert errors[1] < 0.5 * errors[0]


def test_a_still_film_hardly_changes(pan: list[Any]) -> None:
    changes = [np.abs(b - a).mean() for a, b in pairwise(painted(pan[:1] * 6))]
    assert max(changes) < 2
    assert changes[-1] < 1


def test_a_cut_begins_anew(pan: list[Any], photo: Photo) -> None:
    """After a cut, the painting is what it would be without the scene before."""
    other = to_pixels(photo("rocket", 128), np.uint8)[20:68, 20:84]
    assert np.array_equal(painted([pan[0], pan[1], other])[2], painted([other])[0])


def test_state(pan: list[Any]) -> None:
    """A painter that is restored goes on exactly."""
    seen = list(watch(Frame(i, f) for i, f in enumerate(pan)))
    whole = painter((48, 64))
    for s in seen[:2]:
        whole(s, 0)
    again = painter((48, 64))
    again.restore({k: v.clone() for k, v in whole.state().items()})
    assert all(np.array_equal(again(s, 0), whole(s, 0)) for s in seen[2:])  # type: ignore[arg-type]


def test_styles_and_strength_over_time(pan: list[Any]) -> None:
    """At strength 0 the frame stays; in between, both styles count."""
    shown = painted(pan[:2], strength=("0s:0", "0.04s:1"))
    assert np.abs(shown[0] - pan[0]).max() <= 1
    assert np.abs(shown[1] - pan[1]).mean() > 5
    looks = [painted(pan[:1], styles_at=keys)[0] for keys in (("0s:udnie",), ("0s:udnie", "1s:starry-night"))]
    assert np.array_equal(*looks)
    paint = painter((48, 64), styles_at=("0s:udnie", "1s:starry-night"))
    (seen,) = watch([Frame(0, pan[0])])
    between = paint(seen, 0.5)
    assert between is not None
    assert np.abs(between - looks[0]).mean() > 2


def test_a_picture_is_measured_once(pan: list[Any], photo: Photo) -> None:
    """It is measured at the sizes of the scales, as `stylize` does for a painting."""
    options = VideoOptions(quality="good", precision="float32", style_scale=2.0)
    paint = OptimizedPainter([photo("chelsea", 200)], options, (48, 64))
    (style,) = paint.stylizer.styles
    assert style.sizes == (128,)  # type: ignore[union-attr]
    (seen,) = watch([Frame(0, pan[0])])
    assert paint(seen, 0) is not None


def test_interrupted_and_continued(
    film: Callable[..., Path], video: Callable[..., int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It differs from the network's painting, and comes out the same twice, also if it was interrupted."""
    source, call, seen = film(times=(0, 40, 80, 120)).name, SteadyPainter.finish, []

    def failing(self: SteadyPainter, *arguments: Any) -> Any:
        seen.append(1)
        if len(seen) > 3:
            raise KeyboardInterrupt
        return call(self, *arguments)

    assert video(source, "udnie", *GOOD, "-o", "whole.mkv") == 0
    with monkeypatch.context() as patch:
        patch.setattr(SteadyPainter, "finish", failing)
        assert video(source, "udnie", *GOOD, "-o", "out.mkv") == 130
    assert video(source, "udnie", *GOOD, "-o", "out.mkv", "--resume") == 0
    assert (tmp_path / "out.mkv").read_bytes() == (tmp_path / "whole.mkv").read_bytes()
    assert video(source, "udnie", *GOOD[2:], "-o", "network.mkv") == 0
    assert (tmp_path / "network.mkv").read_bytes() != (tmp_path / "whole.mkv").read_bytes()


@pytest.mark.parametrize(
    ("number", "code", "frame", "step", "kept"),
    [
        (signal.SIGINT, 130, 4, 7, 2),
        (signal.SIGTERM, 143, 1, 5, 0),
        *(
            pytest.param(*how, *where, marks=pytest.mark.slow)
            for how, where in (
                ((signal.SIGINT, 130), (1, 5, 0)),
                ((signal.SIGINT, 130), (3, 1, 2)),
                ((signal.SIGTERM, 143), (3, 1, 2)),
                ((signal.SIGTERM, 143), (4, 7, 2)),
            )
        ),
    ],
)
def test_stopped_within_a_frame(
    film: Callable[..., Path],
    video: Callable[..., int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    frame: int,
    step: int,
    kept: int,
    number: int,
    code: int,
) -> None:
    """No step follows the signal. Finished segments are kept, and the painting continues exactly."""
    source, call, descend = film(times=(0, 40, 80, 120)).name, SteadyPainter.finish, Descent.step
    steps: list[int] = []

    def begun(self: SteadyPainter, *arguments: Any) -> Any:
        steps.append(0)
        return call(self, *arguments)

    def signalled(self: Descent) -> Any:
        steps[-1] += 1
        found = descend(self)
        if (len(steps), steps[-1]) == (frame, step):
            signal.raise_signal(number)
        return found

    assert video(source, "udnie", *GOOD, "-o", "whole.mkv") == 0
    with monkeypatch.context() as patch:
        patch.setattr(SteadyPainter, "finish", begun)
        patch.setattr(Descent, "step", signalled)
        assert video(source, "udnie", *GOOD, "-o", "out.mkv") == code
    assert (len(steps), steps[-1]) == (frame, step)
    said = capfd.readouterr().err
    assert ("stopped; 2 frames are kept: add --resume to continue" in said) == bool(kept)
    assert (tmp_path / "out.mkv.parts").exists() == bool(kept)
    assert video(source, "udnie", *GOOD, "-o", "out.mkv", "--resume") == 0
    assert ("continuing after 2 frames" in capfd.readouterr().err) == bool(kept)
    assert (tmp_path / "out.mkv").read_bytes() == (tmp_path / "whole.mkv").read_bytes()


def test_one_frame(film: Callable[..., Path], video: Callable[..., int], tmp_path: Path) -> None:
    assert video(film().name, "udnie", *GOOD, "--frame", "0.08s", "-o", "frame.png") == 0
    assert (tmp_path / "frame.png").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--quality", "nice"), "nice"),
        (("--quality", "good", "--learn"), "--learn is for the network; leave it out, or leave out --quality"),
        (("--quality", "good", "--size", "32"), "is too small for the encoder"),
    ],
)
def test_refusals(
    film: Callable[..., Path],
    video: Callable[..., int],
    capfd: pytest.CaptureFixture[str],
    arguments: Sequence[str],
    said: str,
) -> None:
    assert video(film().name, "udnie", *arguments, "-o", "out.mkv") == 2
    assert said in capfd.readouterr().err


def test_several_strokes_for_styles_over_time() -> None:
    with pytest.raises(OptionError, match="2 --style-scale for 1 styles"):
        painter((48, 64), styles_at=("0s:udnie", "1s:starry-night"), style_scale=(1.0, 2.0))


@pytest.mark.parametrize(
    ("frames", "seconds", "said"),
    [(50, 10.0, "5.0 frames a second"), (4, 10.0, "2.5 s a frame"), (0, 1.0, "0.0 frames a second")],
)
def test_rates(frames: int, seconds: float, said: str) -> None:
    assert in_words(frames, seconds) == said
