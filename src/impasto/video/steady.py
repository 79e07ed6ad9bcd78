"""Painting the frames of a film so that they hold together.

Two things make a film flicker that is painted frame by frame. The network's norms take their statistics from each
frame, so a small change somewhere changes colours and strokes everywhere: here they are held over a scene. Strokes
also depend on where the picture lies on the network's grid and its noise: here that canvas follows the camera. What
still differs is evened out: the last painting is moved along with the film and blended into the next one (Ruder,
Dosovitskiy, Brox, "Artistic Style Transfer for Videos", GCPR 2016, in an optimisation).
"""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..image.color import keep_colours
from ..image.picture import opaque
from ..models.passes import STRIDE
from ..options import VideoOptions
from ..stylizers.tiled import PassStatistics
from .film import Pixels, to_pixels, to_tensor
from .looks import Looks
from .masks import MaskFilm, masked
from .motion import Floats, Motion, Seen, mean_colour

T = TypeVar("T")
Start = Callable[[Callable[[], Any]], Callable[[], Any]]
"""Starts a job, and returns a callable that waits for its result and returns it."""

MEASURED_EVERY = 8
"""Frames between two measurements of the statistics."""
MEASUREMENTS = 16
"""Measurements of which the statistics are the mean, at stability 1; later ones replace earlier ones gradually."""
LEAST_STEP = 0.75
"""Pixels by which the canvas must be off before it is moved, so that a trembling camera does not shake it."""
DETAILS, AROUND, FAINT, HIGHEST_GAIN = (3, 15), 15, 1e-5, 2.0
"""Sides in pixels of the boxes whose blur removes details, and of the box in which the strength of details is measured;
the variance below which they hardly show; and the highest factor by which they are strengthened."""
HIGHEST_WEIGHT = 0.95
"""Weight of the moved painting at stability 1, where the motion can be trusted."""


@dataclass(frozen=True, eq=False)
class Held:
    """The statistics of a scene.

    Parameters
    ----------
    shown : PassStatistics
        Those that the next frame is painted with.
    wanted : PassStatistics
        The mean of the measurements, which `shown` approaches frame by frame.
    count : int
        Number of measurements in this mean.
    frames : int
        Frames painted since the last measurement.
    """

    shown: PassStatistics
    wanted: PassStatistics
    count: int = 1
    frames: int = 0

    def measured(self, found: PassStatistics, memory: int) -> "Held":
        """Return the statistics with another measurement, of which the mean keeps about `memory`."""
        count = min(self.count + 1, memory)
        return replace(self, wanted=between(self.wanted, found, 1 / count), count=count, frames=0)

    def next(self) -> "Held":
        """Return the statistics for the next frame."""
        shown = between(self.shown, self.wanted, 1 / MEASURED_EVERY)
        return replace(self, shown=shown, frames=self.frames + 1)


def between(a: PassStatistics, b: PassStatistics, share: float) -> PassStatistics:
    """Return statistics a `share` of the way from `a` to `b`, as of pictures mixed in this ratio."""
    found = {f.name: torch.lerp(getattr(a, f.name), getattr(b, f.name), share) for f in fields(PassStatistics)}
    mean, variance = found["norms"][:, :1], found["norms"][:, 1:]
    # The variance of a mixture is the mean of the variances and the variance of the means.
    spread = (1 - share) * (a.norms[:, :1] - mean) ** 2 + share * (b.norms[:, :1] - mean) ** 2
    return PassStatistics(**{**found, "norms": torch.cat([mean, variance + spread], 1)})


def when_asked(job: Callable[[], T]) -> Callable[[], T]:
    """Return a job itself, to be done when its result is asked for."""
    return job


@dataclass(frozen=True, eq=False)
class Begun:
    """A frame that is being painted.

    Parameters
    ----------
    seen : Seen
        The frame and its motion.
    seconds : float
        Its time since the beginning of the film.
    content : Tensor or None
        (1, 3 or 4, H, W), the frame; None if it is broken.
    alone : callable
        Returns the network's painting of it, (1, 3, H, W), before that of the last frame is blended in.
    """

    seen: Seen
    seconds: float
    content: Tensor | None
    alone: Callable[[], Tensor]


class SteadyPainter:
    """Paints the frames of a film one after the other.

    The network may paint several frames at a time: `begin` them in their order, and `finish` them in the same order.

    Parameters
    ----------
    looks : Looks
        The styles and their strength over time.
    options : VideoOptions
        The options.
    masks : MaskFilm, optional
        Where to paint. The rest stays as it is in the film.
    """

    standing_in: Pixels | None = None
    """The last painting, which is shown in place of broken frames."""
    at_once = 4
    """Frames that the network paints at a time, at most."""
    segment = 120
    """Frames in a segment of the film, which an interruption loses at most. Each begins with a key frame."""

    def __init__(self, looks: Looks, options: VideoOptions, masks: MaskFilm | None = None):
        self.looks, self.options, self.masks = looks, options, masks
        self.compute = looks.stylizer.compute
        self.memory = 1 + round((MEASUREMENTS - 1) * options.stability)
        self.weight = HIGHEST_WEIGHT * options.stability
        self.held: Held | None = None
        self.last: Tensor | None = None
        self.canvas, self.place = (0.0, 0.0), (0, 0)
        """Column and row of the frame on the canvas, which follows the camera within a scene; in whole pixels."""

    def __call__(self, seen: Seen, seconds: float) -> Pixels | None:
        """Return the painting of a frame, with the parameters of `begin` and the result of `finish`."""
        return self.finish(self.begin(seen, seconds))

    def begin(self, seen: Seen, seconds: float, start: Start = when_asked) -> Begun:
        """Begin to paint a frame.

        Parameters
        ----------
        seen : Seen
            The frame and its motion. No motion starts a scene.
        seconds : float
            Its time since the beginning of the film, which sets the style and the strength.
        start : callable
            Starts the jobs of the network.
        """
        pixels = seen.frame.pixels
        if pixels is None:
            return Begun(seen, seconds, None, lambda: torch.empty(0))
        content = to_tensor(pixels)
        self.follow(seen.motion)
        return Begun(seen, seconds, content, self.alone(opaque(content), seconds, seen.motion is None, start))

    def finish(self, begun: Begun) -> Pixels | None:
        """Return the painting of a frame, (H, W, 3 or 4), in the frame's type.

        A broken frame gets the last painting, or None if there is none yet.
        """
        content, pixels = begun.content, begun.seen.frame.pixels
        if content is None or pixels is None:
            return self.standing_in
        photo = opaque(content)
        self.last = painted = self.continued(photo, begun)
        if self.options.keep_colours:
            painted = keep_colours(painted, photo, self.options.colour_space, self.options.keep_colours)
        if self.masks is not None:
            painted = masked(painted, photo, self.masks.at(begun.seconds + (self.options.start or 0.0)))
        shown = painted if content.shape[1] == 3 else torch.cat([painted, content[:, 3:]], 1)
        self.standing_in = to_pixels(shown, pixels.dtype)
        return self.standing_in

    def continued(self, photo: Tensor, begun: Begun) -> Tensor:
        """Return the painting (1, 3, H, W), on the CPU, of a frame (1, 3, H, W), which continues the last painting."""
        painted, motion = begun.alone(), begun.seen.motion
        if motion is None or self.last is None or not self.weight:
            return painted
        return blended(painted, self.last, motion, self.weight)

    def follow(self, motion: Motion | None) -> None:
        """Move the canvas along with the camera, or begin a new one."""
        across, down = (0.0, 0.0) if motion is None else motion.camera
        self.canvas = (0.0, 0.0) if motion is None else (self.canvas[0] + across, self.canvas[1] + down)
        if max(abs(a - b) for a, b in zip(self.canvas, self.place, strict=True)) > LEAST_STEP:
            self.place = (round(self.canvas[0]), round(self.canvas[1]))

    def on_canvas(self, photo: Tensor, statistics: PassStatistics, place: tuple[int, int]) -> Tensor:
        """Return the painting (1, 3, H, W), channels_last, of a frame (1, 3, H, W) at its place on the canvas."""
        column, row = place
        left, top = column % STRIDE, row % STRIDE
        height, width = photo.shape[-2:]
        if max(left, top) >= min(height, width):
            left = top = 0
        placed = F.pad(photo, (left, 0, top, 0), mode="reflect")
        painted = self.looks.stylizer(placed, statistics=statistics, origin=(row - top, column - left))
        return painted[..., top:, left:].cpu().contiguous(memory_format=torch.channels_last)

    def alone(
        self,
        photo: Tensor,
        seconds: float,
        begins: bool,
        start: Start = when_asked,
    ) -> Callable[[], Tensor]:
        """Start to paint a frame (1, 3, H, W) by the network. Return a callable that returns the painting."""
        stylizer, place = self.looks.stylizer, self.place
        if not self.options.stability and self.looks.constant:
            return start(lambda: stylizer(photo).cpu())
        if not self.looks.constant:  # the statistics depend on the style

            def changing() -> Tensor:
                found = stylizer.statistics(photo, look=self.looks.at(seconds, photo))
                return self.on_canvas(photo, found, place if self.options.stability else (0, 0))

            return start(changing)
        if begins or self.held is None:
            found = start(lambda: stylizer.statistics(photo))()
            self.held = Held(found, found)
        elif self.held.frames >= MEASURED_EVERY:
            self.held = self.held.measured(start(lambda: stylizer.statistics(photo))(), self.memory)
        shown = self.held.shown
        self.held = self.held.next()
        return start(lambda: self.on_canvas(photo, shown, place))

    def state(self) -> dict[str, Tensor]:
        """Return what the painting of later frames depends on, as tensors by name."""
        found: dict[str, Tensor] = {"canvas": torch.tensor([*self.canvas, *self.place], dtype=torch.float64)}
        if self.last is not None:
            found["last"] = self.last
        if self.standing_in is not None:
            found["standing_in"] = torch.from_numpy(self.standing_in.astype("int32"))
            found["bits"] = torch.tensor(8 * self.standing_in.dtype.itemsize)
        if self.held is not None:
            for name in ("shown", "wanted"):
                parts: PassStatistics = getattr(self.held, name)
                found |= {f"{name}.{f.name}": getattr(parts, f.name).cpu() for f in fields(PassStatistics)}
            found["count"], found["frames"] = torch.tensor(self.held.count), torch.tensor(self.held.frames)
        return {k: v.contiguous() for k, v in found.items()}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Continue after the frame at which `state` was called."""
        self.last = state.get("last")
        if "canvas" in state:
            across, down, column, row = state["canvas"].tolist()
            self.canvas, self.place = (across, down), (int(column), int(row))
        if "standing_in" in state:
            self.standing_in = state["standing_in"].numpy().astype(f"uint{int(state['bits'])}")
        if "count" in state:
            device = self.compute.device
            parts: dict[str, Any] = {
                name: PassStatistics(**{f.name: state[f"{name}.{f.name}"].to(device) for f in fields(PassStatistics)})
                for name in ("shown", "wanted")
            }
            self.held = Held(**parts, count=int(state["count"]), frames=int(state["frames"]))


def blended(painted: Tensor, before: Tensor, motion: Motion, weight: float) -> Tensor:
    """Blend the previous painting, moved along, into a painting.

    Parameters
    ----------
    painted, before : Tensor
        (1, 3, H, W), in [0, 1], on the CPU; fastest in channels_last.
    motion : Motion
        How the film moved between them.
    weight : float
        Weight of the previous painting where the motion can be trusted, from 0 to 1.

    Returns
    -------
    Tensor
        (1, 3, H, W), in [0, 1], channels_last.
    """
    moved = motion.moved(before[0].permute(1, 2, 0).contiguous().numpy())
    new = painted[0].permute(1, 2, 0).contiguous().numpy()
    mixed = new + cv2.multiply(moved - new, in_colour(weight * motion.trust))
    return torch.from_numpy(as_rich(mixed, new)).permute(2, 0, 1)[None].clamp_(0, 1)


def as_rich(mixed: Floats, new: Floats) -> Floats:
    """Return a mixture of paintings (H, W, 3) with details as strong as those of the new painting around each place.

    Where the strokes of the two do not coincide, those of a mixture are weaker.
    """
    rich = np.zeros_like(mixed)
    for side in DETAILS:
        coarse, coarse_new = (cv2.blur(x, (side, side)) for x in (mixed, new))
        details = mixed - coarse
        wanted, own = (strength(x) for x in (new - coarse_new, details))
        gain = np.sqrt((wanted + FAINT) / (own + FAINT)).clip(1, HIGHEST_GAIN)
        rich += cv2.multiply(details, in_colour(gain))
        mixed, new = coarse, coarse_new
    return rich + mixed


def strength(details: Floats) -> Floats:
    """Return the mean square (H, W) of details (H, W, 3) around each place."""
    return cv2.blur(mean_colour(details * details), (AROUND, AROUND))


def in_colour(weights: Floats) -> Floats:
    """Return weights (H, W) for each of three colours, (H, W, 3). NumPy's own broadcasting is ten times as slow."""
    return cv2.merge([weights] * 3)
