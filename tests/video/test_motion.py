"""Tests of the flow of known motions, of where it is trusted, and of where scenes begin."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest

from impasto.video.film import Frame, to_pixels
from impasto.video.motion import moved, settled, watch

if TYPE_CHECKING:
    from torch import Tensor

Photo = Callable[[str, int], "Tensor"]


@pytest.fixture
def view(photo: Photo) -> Callable[..., Any]:
    """Return `view(3.5, 1)`: a window of 96x128 pixels on a photograph, that far right and down from its middle."""
    whole = to_pixels(photo("coffee", 320), np.uint8)

    def cut(right: float = 0, down: float = 0) -> Any:
        at = np.array([[1, 0, 90 + right], [0, 1, 50 + down]], np.float32)
        return cv2.warpAffine(whole, at, (128, 96), flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP)

    return cut


def seen(*frames: Any) -> list[Any]:
    return list(watch(Frame(i, f) for i, f in enumerate(frames)))


@pytest.mark.parametrize("step", [(0, 0), (2, 0), (0, -3), (3.25, 1.5), (-6, 4)])
def test_a_pan(view: Callable[..., Any], step: tuple[float, float]) -> None:
    """The flow points back to where things were, and the camera's motion is found to a tenth of a pixel or so."""
    motion = seen(view(), view(*step))[1].motion
    assert motion.camera == pytest.approx(step, abs=0.15)
    inner = motion.flow[12:-12, 12:-12]
    assert np.abs(inner - step).mean() < 0.2
    assert motion.trust[12:-12, 12:-12].mean() > 0.9


def test_what_comes_into_view_is_not_trusted(view: Callable[..., Any]) -> None:
    motion = seen(view(), view(12, 0))[1].motion
    assert motion.trust[:, -8:].max() < 0.1
    assert motion.trust[16:-16, 16:-24].mean() > 0.8


def test_still_parts_stand_still(view: Callable[..., Any]) -> None:
    """Noise is not motion: the flow is 0, so still parts are not moved at all."""
    rng = np.random.default_rng(0)
    noisy = [np.clip(view() + rng.normal(0, 2, (96, 128, 3)), 0, 255).astype(np.uint8) for _ in range(2)]
    motion = seen(*noisy)[1].motion
    assert motion.camera == (0, 0)
    assert (motion.flow == 0).mean() > 0.99
    assert motion.trust.mean() > 0.95


def test_a_thing_that_moves(view: Callable[..., Any], photo: Photo) -> None:
    """A picture moves in front of a still one: each has its own flow, and the camera is still."""
    thing = to_pixels(photo("chelsea", 40), np.uint8)
    frames = []
    for at in (30, 34):
        frame = view().copy()
        frame[40 : 40 + thing.shape[0], at : at + thing.shape[1]] = thing
        frames.append(frame)
    motion = seen(*frames)[1].motion
    assert motion.camera == (0, 0)
    assert np.median(motion.flow[46:60, 42:66, 0]) == pytest.approx(-4, abs=0.8)
    assert (motion.flow[:24] == 0).mean() > 0.9
    assert motion.trust[46:60, 31:33].mean() < 0.3  # what it uncovers


def test_cuts(view: Callable[..., Any], photo: Photo) -> None:
    """A scene begins where another picture comes, not where the camera moves fast or the light changes a little."""
    other = to_pixels(photo("rocket", 128), np.uint8)
    other = cv2.resize(other, (128, 96))
    frames = [view(), view(4, 1), view(8, 2), other, other, view(), (view() * 0.95).astype(np.uint8), view(9, 3)]
    assert [s.motion is None for s in seen(*frames)] == [True, False, False, True, False, True, False, False]


def test_a_broken_frame_is_passed_over(view: Callable[..., Any]) -> None:
    found = list(watch([Frame(0, view()), Frame(1, None), Frame(2, view(2, 0))]))
    assert found[1].motion is None
    assert found[2].motion is not None
    assert found[2].motion.camera == pytest.approx((2, 0), abs=0.15)


def test_goes_on_from_what_is_remembered(view: Callable[..., Any]) -> None:
    frames = [Frame(i, view(2 * i, i)) for i in range(5)]
    whole = list(watch(frames))
    again = list(watch(frames[3:], whole[2].sight))
    for a, b in zip(whole[3:], again, strict=True):
        assert a.motion is not None
        assert b.motion is not None
        assert np.array_equal(a.motion.flow, b.motion.flow)
        assert np.array_equal(a.motion.trust, b.motion.trust)


@pytest.mark.parametrize("size", [(1, 1), (2, 30), (17, 23), (30, 400)])
def test_any_size(size: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    frames = [rng.integers(0, 255, (*size, 3)).astype(np.uint8)] * 3
    for s in seen(*frames)[1:]:
        assert s.motion.flow.shape == (*size, 2)
        assert (s.motion.flow == 0).all()


def test_deep_and_transparent_frames(view: Callable[..., Any]) -> None:
    deep = [view(3 * i, 0).astype(np.uint16) * 257 for i in range(2)]
    cutout = [np.concatenate([d, np.full((96, 128, 1), 65535, np.uint16)], 2) for d in deep]
    for frames in (deep, cutout):
        assert seen(*frames)[1].motion.camera == pytest.approx((3, 0), abs=0.15)


def test_moving_by_nothing_changes_nothing(view: Callable[..., Any]) -> None:
    picture = view().astype(np.float32) / 255
    assert np.array_equal(moved(picture, np.zeros((96, 128, 2), np.float32)), picture)


def test_what_came_in_settles() -> None:
    """The result rises from 0 at the border where it comes in to 1 at the margin, and is 1 at the other borders."""
    flow = np.zeros((20, 30, 2), np.float32)
    assert (settled(flow, 8) == 1).all()
    flow[..., 0] = 2  # the camera moves to the right
    found = settled(flow, 8)
    assert found[:, 27].max() == 0
    assert found[:, 23] == pytest.approx(0.5)
    assert (found[:, :20] == 1).all()
    assert (settled(-flow[:, ::-1], 8) == found[:, ::-1]).all()
    turned = np.ascontiguousarray(flow.transpose(1, 0, 2)[..., ::-1])
    assert (settled(turned, 8) == found.T).all()
