"""Painting the frames of a film one after the other: what every way of painting them has in common."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from ..device import Compute
from ..image.color import keep_colours
from ..image.picture import opaque
from ..options import VideoOptions
from .film import Pixels, to_pixels, to_tensor
from .masks import MaskFilm, masked
from .motion import Motion, Seen


class FramePainter(ABC):
    """Paints the frames of a film one after the other. A subclass implements `painted`.

    Parameters
    ----------
    options : VideoOptions
        The options.
    masks : MaskFilm, optional
        Where to paint. The rest stays as it is in the film.
    """

    compute: Compute
    """The device and precision that it paints with."""
    longest_segment = 120
    """Most frames that an interruption may lose."""
    last: Tensor | None = None
    """The last painting (1, 3, H, W), on the CPU, before colours are kept and masks applied."""
    standing_in: Pixels | None = None
    """The last painting, which is shown in place of broken frames."""

    def __init__(self, options: VideoOptions, masks: MaskFilm | None = None):
        self.options, self.masks = options, masks

    def __call__(self, seen: Seen, seconds: float) -> Pixels | None:
        """Return the painting of a frame, (H, W, 3 or 4), of the frame's type; None for one without any before it.

        A broken frame gets the last painting.

        Parameters
        ----------
        seen : Seen
            The frame and its motion. No motion starts a scene.
        seconds : float
            Its time since the beginning of the film, which sets the style and the strength.
        """
        pixels = seen.frame.pixels
        if pixels is None:
            return self.standing_in
        content = to_tensor(pixels)
        photo = opaque(content)
        self.last = painted = self.painted(photo, seconds, seen.motion)
        if self.options.keep_colours:
            painted = keep_colours(painted, photo, self.options.colour_space, self.options.keep_colours)
        if self.masks is not None:
            painted = masked(painted, photo, self.masks.at(seconds + (self.options.start or 0.0)))
        self.standing_in = to_pixels(torch.cat([painted, content[:, 3:]], 1), pixels.dtype)
        return self.standing_in

    @abstractmethod
    def painted(self, photo: Tensor, seconds: float, motion: Motion | None) -> Tensor:
        """Return the painting (1, 3, H, W), on the CPU, of a frame (1, 3, H, W) and its motion."""

    def state(self) -> dict[str, Tensor]:
        """Return what the painting of later frames depends on, as tensors by name."""
        found: dict[str, Tensor] = {}
        if self.last is not None:
            found["last"] = self.last.contiguous()
        if self.standing_in is not None:
            found["standing_in"] = torch.from_numpy(self.standing_in.astype("int32"))
            found["bits"] = torch.tensor(8 * self.standing_in.dtype.itemsize)
        return found

    def restore(self, state: dict[str, Tensor]) -> None:
        """Continue after the frame at which `state` was called."""
        self.last = state.get("last")
        if "standing_in" in state:
            self.standing_in = state["standing_in"].numpy().astype(f"uint{int(state['bits'])}")


def moved_painting(last: Tensor, motion: Motion) -> Tensor:
    """Return the last painting (1, 3, H, W), on the CPU, moved to where its parts are now."""
    moved = motion.moved(last[0].permute(1, 2, 0).contiguous().numpy())
    return torch.from_numpy(moved).permute(2, 0, 1)[None].contiguous()
