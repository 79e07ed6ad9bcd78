"""Still parts stay still, nothing drifts, a cut leaves no ghost, and moving parts flicker less."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest
import torch

from impasto.options import VideoOptions
from impasto.style.target import load_builtin
from impasto.stylizers.tiled import PassStatistics
from impasto.video.film import Frame, to_pixels
from impasto.video.looks import Looks, key_shares
from impasto.video.motion import Motion, watch
from impasto.video.steady import Held, SteadyPainter, as_rich, between, blended

if TYPE_CHECKING:
    from torch import Tensor

Photo = Callable[[str, int], "Tensor"]


def painter(stability: float, **changes: Any) -> SteadyPainter:
    options = VideoOptions(stability=stability, precision="float32", **changes)
    names = [name for _, name in options.style_times] or ["udnie"]
    return SteadyPainter(Looks([load_builtin(n) for n in names], options), options)


def painted(frames: Sequence[Any], stability: float, **changes: Any) -> list[Any]:
    paint = painter(stability, **changes)
    found = [paint(s, i / 25) for i, s in enumerate(watch(Frame(i, f) for i, f in enumerate(frames)))]
    return [f.astype(float) for f in found if f is not None]


@pytest.fixture
def frame(photo: Photo) -> Any:
    return to_pixels(photo("coffee", 96), np.uint8)


def test_a_still_film_does_not_change(frame: Any) -> None:
    found = painted([frame] * 12, 0.5)
    assert max(np.abs(f - found[1]).max() for f in found[1:]) <= 1


def test_noise_is_calmed_and_nothing_drifts(frame: Any) -> None:
    """From frame 10 on, the drift is far less than a level on average, and changes between frames are halved."""
    rng = np.random.default_rng(0)
    frames = [np.clip(frame + rng.normal(0, 2, frame.shape), 0, 255).astype(np.uint8) for _ in range(40)]
    alone, steady = (painted(frames, s) for s in (0, 0.5))
    changes = [np.mean([np.abs(a - b).mean() for a, b in pairwise(x[10:])]) for x in (alone, steady)]
    assert changes[1] < 0.6 * changes[0]
    early, late = (np.mean(steady[i : i + 5], 0) for i in (10, 35))
    assert np.abs(early - late).mean() < 1


def test_a_cut_leaves_no_ghost(frame: Any, photo: Photo) -> None:
    """After a cut, the painting is what it would be without the scene before."""
    other = cv2.resize(to_pixels(photo("rocket", 96), np.uint8), (frame.shape[1], frame.shape[0]))
    after = painted([frame] * 5 + [other] * 3, 0.8)[5:]
    alone = painted([other] * 3, 0.8)
    assert all(np.array_equal(a, b) for a, b in zip(after, alone, strict=True))


def test_a_pan_flickers_less(photo: Photo) -> None:
    """Changes beyond the known motion are at least halved, with details as strong as before."""
    whole = to_pixels(photo("coffee", 256), np.uint8)
    frames = [whole[20 + i : 116 + i, 20 + 3 * i : 148 + 3 * i] for i in range(6)]
    errors, details = [], []
    for stability in (0, 0.5):
        found = painted(frames, stability)
        pairs = pairwise(found)
        errors.append(np.mean([np.abs(b[8:-9, 8:-11] - a[9:-8, 11:-8]).mean() for a, b in pairs]))
        details.append((found[-1] - cv2.blur(found[-1], (15, 15))).std())
    assert errors[1] < 0.5 * errors[0]
    assert details[1] > 0.9 * details[0]


def test_state(frame: Any) -> None:
    """A painter that is restored goes on exactly."""
    rng = np.random.default_rng(0)
    frames = [Frame(i, np.roll(frame, i, 1) + rng.integers(0, 3, frame.shape).astype(np.uint8)) for i in range(24)]
    seen = list(watch(frames))
    whole = painter(0.5)
    wanted, state = [], {}
    for i, s in enumerate(seen):
        if i == 13:
            state = {k: v.clone() for k, v in whole.state().items()}
        wanted.append(whole(s, 0))
    again = painter(0.5)
    again.restore(state)
    assert all(np.array_equal(again(s, 0), w) for s, w in zip(seen[13:], wanted[13:], strict=True))  # type: ignore[arg-type]


def test_broken_frames(frame: Any) -> None:
    paint = painter(0.5)
    seen = list(watch([Frame(0, None), Frame(1, frame), Frame(2, None)]))
    assert paint(seen[0], 0) is None
    first = paint(seen[1], 0)
    assert np.array_equal(paint(seen[2], 0), first)  # type: ignore[arg-type]


def test_the_canvas_follows_the_camera(photo: Photo) -> None:
    """A shift by any number of pixels moves the painting along with its strokes, except at the border."""
    whole = photo("coffee", 256)
    paint = painter(0.5)
    still = whole[..., 16:112, 16:144]
    held = paint.looks.stylizer.statistics(still)
    before = paint.on_canvas(still, held, paint.place)
    for across, down in ((1, 0), (0, 3), (5, 2), (-7, -6)):
        paint.canvas, paint.place = (0.0, 0.0), (0, 0)
        flow = np.zeros((96, 128, 2), np.float32)
        paint.follow(Motion(flow, flow[..., 0], (float(across), float(down))))
        now = paint.on_canvas(whole[..., 16 + down : 112 + down, 16 + across : 144 + across], held, paint.place)
        margin = 32
        a = before[..., margin + down : 96 - margin + down, margin + across : 128 - margin + across]
        b = now[..., margin : 96 - margin, margin : 128 - margin]
        assert (a - b).abs().mean() < 0.01


def test_mixtures_of_statistics() -> None:
    """The statistics of two halves of some numbers, mixed, are those of all the numbers."""
    rng = torch.Generator().manual_seed(0)
    a, b = torch.randn(2, 1000, 3, generator=rng) * torch.tensor([2.0, 1, 3]) + torch.tensor([1.0, -4, 0])
    b = 3 * b + 5

    def of(x: "Tensor") -> PassStatistics:
        norms = torch.stack([x.mean(0), x.var(0, correction=0)])[None]
        return PassStatistics(torch.zeros(1, 2), torch.zeros(1, 3, 4), norms, torch.zeros(1, 4, 4))

    mixed = between(of(a), of(b), 0.5)
    assert torch.allclose(mixed.norms, of(torch.cat([a, b])).norms, rtol=1e-4)
    held = Held(of(a), of(a)).measured(of(b), 4)
    assert torch.allclose(held.wanted.norms, mixed.norms)
    assert held.count == 2
    for _ in range(200):
        held = held.next()
    assert torch.allclose(held.shown.norms, mixed.norms, rtol=1e-3)


def test_details_keep_their_strength() -> None:
    """Strokes that do not coincide are half as strong in a mixture, and as strong as before afterwards."""
    rng = np.random.default_rng(0)
    a, b = (cv2.blur(rng.random((64, 64, 3), np.float32), (3, 3)) for _ in range(2))
    flow = np.zeros((64, 64, 2), np.float32)
    motion = Motion(flow, np.ones((64, 64), np.float32))
    pictures = [torch.from_numpy(x).permute(2, 0, 1)[None] for x in (a, b)]
    mixed = blended(pictures[0], pictures[1], motion, 0.5)
    assert float(mixed.std()) == pytest.approx(float(pictures[0].std()), rel=0.1)
    assert ((a + b) / 2).std() < 0.8 * a.std()
    assert np.array_equal(as_rich(a, a), as_rich(a, a))
    assert np.abs(as_rich(a, a) - a).max() < 1e-5


def test_shares_of_key_frames() -> None:
    assert key_shares([0.0], 5) == {0: 1}
    assert key_shares([1.0, 3.0], 0) == {0: 1}
    assert key_shares([1.0, 3.0], 1) == {0: 1}
    assert key_shares([1.0, 3.0], 1.5) == {0: 0.75, 1: 0.25}
    assert key_shares([1.0, 3.0], 3) == {1: 1}
    assert key_shares([1.0, 3.0], 9) == {1: 1}


def test_styles_change_steadily(frame: Any) -> None:
    times = ("0s:udnie", "0.2s:starry-night")
    found = painted([frame] * 9, 0.5, styles_at=times)
    alone = painted([frame], 0.5, styles_at=("0s:starry-night",))[0]
    distances = [np.abs(f - alone).mean() for f in found]
    assert all(b < a + 0.5 for a, b in pairwise(distances))
    assert distances[-1] < 0.25 * distances[0]
