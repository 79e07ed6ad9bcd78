"""How a film moves: the flow between frames, where it can be trusted, and where scenes begin.

Dense inverse search (Kroeger, Timofte, Dai, Van Gool, "Fast Optical Flow using Dense Inverse Search", ECCV 2016) finds
the flow at half the size. A place is trusted where the flow forward and the flow back agree (Sundaram, Brox, Keutzer,
"Dense Point Trajectories by GPU-Accelerated Large Displacement Optical Flow", ECCV 2010) and the moved frame looks like
the new one.
"""

from collections.abc import Generator, Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from .film import Frame, Pixels

Floats = NDArray[Any]

DISAGREEMENT, LEAST_DISAGREEMENT = 0.01, 0.5
"""Tolerated squared difference of the two flows, relative to their squared lengths, and added to that (equation 5)."""
ALIKE, UNLIKE = 0.02, 0.10
"""Differences between the moved frame and the new one, in [0, 1]: up to the first, a place counts in full; from the
second on, not at all."""
PLAIN = 1.5 / 255
"""A place counts as moving with the camera if that explains it as well as its own flow, up to this difference."""
BESIDE = 1.0
"""A flow within this many reduced pixels of the camera's motion may be that motion, found inexactly. A flow that is
further off is replaced by it only if the camera's motion explains the place better."""
NEAR, LEAST_SHARE, REFINEMENTS, STILL = 1.0, 0.1, 3, 0.1
"""The camera's motion: distance in reduced pixels from the median within which a flow belongs to it, the share of the
picture that it needs, the steps of least squares, and the pixels below which the camera counts as still."""
CUT, CUT_RATIO = 0.10, 2.5
"""A scene begins where what motion cannot explain is larger than this, and than this many times its mean so far."""
MEMORY = 0.1
"""Weight of a frame in that mean."""
BLUR = 3
"""Side of the box over which differences are averaged, in pixels at half the size."""
LEAST_SIDE = 24
"""Smaller frames are not reduced to half the size."""


@dataclass(frozen=True, eq=False)
class Motion:
    """How a frame came from the one before.

    Parameters
    ----------
    flow : array
        (H, W, 2), float32: to each pixel's column and row, add these to get its place in the frame before.
    trust : array
        (H, W), float32, in [0, 1]: how far the flow can be trusted.
    camera : (float, float)
        Columns and rows by which most of the picture moves.
    """

    flow: Floats
    trust: Floats
    camera: tuple[float, float] = (0.0, 0.0)

    def moved(self, before: Floats) -> Floats:
        """Return a picture (H, W, C), float32, of the frame before, moved to where its parts are now."""
        return moved(before, self.flow)


@dataclass(frozen=True, eq=False)
class Sight:
    """What is remembered of the frames seen so far.

    Parameters
    ----------
    small : array
        (h, w, 3), uint8: the last frame, reduced.
    unexplained : float
        Moving mean of what motion could not explain in this scene; negative at its start.
    """

    small: Pixels
    unexplained: float = -1.0


@dataclass(frozen=True, eq=False)
class Seen:
    """A frame, its motion, and what to remember to continue after it.

    Parameters
    ----------
    frame : Frame
        The frame.
    motion : Motion or None
        None at the start of a scene, and for a broken frame.
    sight : Sight or None
        What to give to `watch` to continue after this frame.
    """

    frame: Frame
    motion: Motion | None
    sight: Sight | None


class Watcher:
    """Sees frames one after the other, and finds how each came from the one before.

    Parameters
    ----------
    sight : Sight, optional
        Remembered from the frames before.
    """

    def __init__(self, sight: Sight | None = None):
        cv2.setNumThreads(1)  # the flow depends on how its work is divided
        self.find = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
        self.sight = sight

    def see(self, frame: Frame) -> Seen:
        """Return a frame with its motion. Frames have the same size."""
        if frame.pixels is None:
            return Seen(frame, None, self.sight)
        small, motion, unexplained = reduced(frame.pixels), None, -1.0
        if self.sight is not None:
            motion, found = motion_between(self.sight.small, small, frame.pixels.shape[:2], self.find)
            mean = self.sight.unexplained
            if found > CUT and (mean < 0 or found > CUT_RATIO * mean):
                motion = None
            else:
                unexplained = found if mean < 0 else mean + MEMORY * (found - mean)
        self.sight = Sight(small, unexplained)
        return Seen(frame, motion, self.sight)


def watch(frames: Iterable[Frame], sight: Sight | None = None) -> Generator[Seen, None, None]:
    """Yield frames with their motion. `sight` is remembered from the frames before."""
    watcher = Watcher(sight)
    for frame in frames:
        yield watcher.see(frame)


def reduced(pixels: Pixels) -> Pixels:
    """Return a frame (H, W, 3 or 4) at half its size, (h, w, 3), uint8. What is transparent is white."""
    top = np.iinfo(pixels.dtype).max
    levels = pixels if pixels.dtype == np.uint8 else (pixels >> 8).astype(np.uint8)
    colour = np.ascontiguousarray(levels[..., :3])
    if pixels.shape[2] == 4:
        shown = pixels[..., 3:].astype(np.float32) / top
        colour = (255 + shown * (colour.astype(np.float32) - 255)).astype(np.uint8)
    height, width = colour.shape[:2]
    if min(height, width) < 2 * LEAST_SIDE:
        return colour
    return cv2.resize(colour, ((width + 1) // 2, (height + 1) // 2), interpolation=cv2.INTER_AREA)


def motion_between(before: Pixels, now: Pixels, size: tuple[int, int], find: Any) -> tuple[Motion, float]:
    """Return the motion between two reduced frames, and the mean difference that it does not explain, in [0, 1].

    Parameters
    ----------
    before, now : array
        (h, w, 3), uint8.
    size : (int, int)
        Height and width at which to return the motion.
    find : cv2.DISOpticalFlow
        Finds the flow.
    """
    grey, grey_before = (cv2.cvtColor(x, cv2.COLOR_RGB2GRAY) for x in (now, before))
    if min(grey.shape) < LEAST_SIDE:  # too small for the search
        flow = back = np.zeros((*grey.shape, 2), np.float32)
    else:
        flow, back = find.calc(grey, grey_before, None), find.calc(grey_before, grey, None)
    here, there = (x.astype(np.float32) / 255 for x in (now, before))
    back = moved(back, flow)
    agreed = squared(flow + back) < DISAGREEMENT * (squared(flow) + squared(back)) + LEAST_DISAGREEMENT
    camera = camera_motion(grey / np.float32(255), grey_before / np.float32(255), flow, agreed)
    with_camera = np.broadcast_to(camera, flow.shape)
    moving, carried = difference(here, moved(there, flow)), difference(here, moved(there, with_camera))
    beside = longest(flow - camera) < BESIDE
    plain = carried <= np.where(beside, moving + PLAIN, moving - PLAIN)
    flow = np.where(plain[..., None], with_camera, flow)
    left = np.where(plain, carried, moving)
    likeness = np.clip((UNLIKE - left) / (UNLIKE - ALIKE), 0, 1)
    trust = np.where((agreed | plain) & inside(flow), likeness, 0).astype(np.float32)
    unexplained = float(left.mean())
    if flow.shape[:2] != size:
        height, width = size
        scale = np.array([width / flow.shape[1], height / flow.shape[0]], np.float32)
        flow, camera = cv2.resize(flow, (width, height), interpolation=cv2.INTER_LINEAR) * scale, camera * scale
        trust = cv2.resize(trust, (width, height), interpolation=cv2.INTER_LINEAR)
    return Motion(flow, trust, (float(camera[0]), float(camera[1]))), unexplained


def camera_motion(now: Floats, before: Floats, flow: Floats, agreed: NDArray[Any]) -> Floats:
    """Return the columns and rows (2,), float32, by which most of the picture moves; 0 if there is no such motion.

    The median of the flow where it can be trusted, refined by least squares (Lucas, Kanade, "An Iterative Image
    Registration Technique with an Application to Stereo Vision", IJCAI 1981).

    Parameters
    ----------
    now, before : array
        (h, w), float32, in [0, 1].
    flow : array
        (h, w, 2), float32.
    agreed : array
        (h, w), where the flow can be trusted.
    """
    if agreed.sum() < LEAST_SHARE * agreed.size:
        return np.zeros(2, np.float32)
    found = np.median(flow[agreed], 0)
    common = agreed & (longest(flow - found) < NEAR)
    if common.sum() < LEAST_SHARE * agreed.size:
        return np.zeros(2, np.float32)
    for _ in range(REFINEMENTS):
        carried = moved(before, np.broadcast_to(found, flow.shape))
        slopes = np.stack([cv2.Sobel(carried, cv2.CV_32F, *d, scale=1 / 8)[common] for d in ((1, 0), (0, 1))])
        step = np.linalg.lstsq(slopes @ slopes.T, slopes @ (now - carried)[common], rcond=1e-3)[0]
        found = found + np.clip(step, -NEAR, NEAR)
    still = np.abs(found).max() < STILL
    return np.zeros(2, np.float32) if still else found.astype(np.float32)


def difference(a: Floats, b: Floats) -> Floats:
    """Return the mean difference (h, w) of pictures (h, w, 3), averaged over a small box."""
    return cv2.blur(mean_colour(cv2.absdiff(a, b)), (BLUR, BLUR))


def mean_colour(picture: Floats) -> Floats:
    """Return the mean (H, W) of the colours of a picture (H, W, 3). NumPy's is slow along so short an axis."""
    return cv2.transform(picture, np.full((1, 3), 1 / 3, np.float32))


def squared(flow: Floats) -> Floats:
    """Return the squared lengths (H, W) of a flow (H, W, 2)."""
    return flow[..., 0] ** 2 + flow[..., 1] ** 2


def longest(flow: Floats) -> Floats:
    """Return the larger of the columns and the rows (H, W) of a flow (H, W, 2)."""
    return np.maximum(np.abs(flow[..., 0]), np.abs(flow[..., 1]))


def places(flow: Floats) -> Floats:
    """Return the column and row (H, W, 2) in the frame before to which a flow (H, W, 2) points."""
    return flow + own_places(*flow.shape[:2])


@lru_cache(maxsize=4)
def own_places(height: int, width: int) -> Floats:
    """Return the column and row (H, W, 2) of each pixel."""
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    return np.stack([columns, rows], 2)


def inside(flow: Floats) -> NDArray[Any]:
    """Return where (H, W) a flow points into the picture."""
    at = places(flow)
    height, width = flow.shape[:2]
    return (at[..., 0] >= 0) & (at[..., 0] <= width - 1) & (at[..., 1] >= 0) & (at[..., 1] <= height - 1)


def settled(flow: Floats, margin: float) -> Floats:
    """Return how far each pixel is from the borders where something comes into view, (H, W), float32.

    It is 0 at such a border and 1 from `margin` on. Borders where nothing comes in do not count.

    Parameters
    ----------
    flow : array
        (H, W, 2), float32.
    margin : float
        Distance in pixels.
    """
    at = places(flow)
    found = np.ones(flow.shape[:2], np.float32)
    for axis, side in ((0, flow.shape[1]), (1, flow.shape[0])):
        for outward, distance in ((-flow[..., axis], at[..., axis]), (flow[..., axis], side - 1 - at[..., axis])):
            coming = np.clip(outward / STILL, 0, 1)
            found = np.minimum(found, 1 - coming * (1 - np.clip(distance / margin, 0, 1)))
    return found.astype(np.float32)


def moved(picture: Floats, flow: Floats) -> Floats:
    """Return a picture (H, W, C), float32, with each pixel taken from where the flow points, by cubic interpolation."""
    both, rest = places(flow), np.empty(0, np.float32)  # columns and rows in one array
    return cv2.remap(picture, both, rest, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
