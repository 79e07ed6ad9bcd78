"""Masks over time: where a film is painted, from another film or from a picture."""

from collections.abc import Generator
from pathlib import Path

import torch
from torch import Tensor

from ..errors import FilmError, ImpastoError, OptionError
from ..image.resize import resize
from ..stylizers.sources import resolve_mask
from .film import LOOK_BACK, Film, Frame, to_tensor
from .read import open_film

PROPORTIONS = 0.02
"""Tolerated difference of the mask's proportions from the film's, relative to them."""


class MaskFilm:
    """A mask for each time of a film.

    Parameters
    ----------
    path : Path
        A film or a picture: white, or opaque, where to paint. A film that ends earlier keeps its last frame.
    size : (int, int)
        Height and width of the painting in pixels.

    Raises
    ------
    ImpastoError
        If it cannot be read, or does not have the film's proportions.
    """

    def __init__(self, path: Path, size: tuple[int, int]):
        self.path, self.size = path, size
        self.film: Film | None = None
        self._mask: Tensor | None = None
        self._frames: Generator[Frame, None, None] | None = None
        self._following: Frame | None = None
        self._time = 0
        try:
            self.film = open_film(path)
            own = self.film.about.size
        except FilmError as error:
            try:
                mask = resolve_mask(str(path), size=size)
            except OptionError:
                raise
            except ImpastoError:
                raise error from None
            own = (mask.shape[-2], mask.shape[-1])
            self._mask = resize(mask, size).clamp(0, 1)
        if abs(own[1] * size[0] / (own[0] * size[1]) - 1) > PROPORTIONS + 2 / min(*own, *size):
            raise OptionError(
                f"--mask {path}: it is {own[1]}x{own[0]}, and the film is painted at {size[1]}x{size[0]}; give a mask "
                "of the same proportions"
            )

    def at(self, seconds: float) -> Tensor:
        """Return the mask (1, 1, H, W), in [0, 1], that is shown at a time, in seconds from the mask's first frame.

        Times that increase are read once. Raises FilmError if no frame can be read.
        """
        if self.film is None:
            assert self._mask is not None
            return self._mask
        about = self.film.about
        time = about.first + round(seconds / about.time_base)
        if self._frames is None or time < self._time:
            since = time - round(LOOK_BACK / about.time_base)
            self._begin(since if since >= about.first else None)
        self._time = time
        self._advance(time)
        if self._mask is None:
            self._begin(None)  # the last frame is longer ago
            self._advance(time)
        if self._mask is None:
            raise FilmError(f"{about.name}: no frame of the mask can be read; convert it")
        return self._mask

    def _begin(self, since: int | None) -> None:
        assert self.film is not None
        if self._frames is not None:
            self._frames.close()
        self._frames, self._mask = self.film.frames(self.size, since), None
        self._following = next(self._frames, None)

    def _advance(self, time: int) -> None:
        """Take the frames up to a time; of those before the first, that one."""
        assert self._frames is not None
        shown = None
        while (frame := self._following) is not None and (frame.time <= time or (self._mask is None and shown is None)):
            shown = frame if frame.pixels is not None else shown
            self._following = next(self._frames, None)
        if shown is not None and shown.pixels is not None:
            picture = to_tensor(shown.pixels)
            opacity = picture[:, 3:]
            cut_out = opacity.shape[1] == 1 and float(opacity.min()) < 1
            self._mask = opacity.contiguous() if cut_out else picture[:, :3].mean(1, keepdim=True)


def masked(painted: Tensor, photo: Tensor, mask: Tensor) -> Tensor:
    """Return the painting where the mask (1, 1, H, W) is 1, and the photograph where it is 0; both (1, 3, H, W)."""
    return torch.lerp(photo, painted, mask)
