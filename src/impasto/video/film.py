"""What a film is: its frames, the times at which they are shown, and how its pixels are to be read."""

from collections.abc import Generator, Iterable
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Pixels = NDArray[Any]
"""(H, W, 3), or (H, W, 4) with alpha last and not multiplied in: uint8 or uint16, sRGB."""


@dataclass(frozen=True, eq=False)
class Frame:
    """One frame of a film.

    Parameters
    ----------
    time : int
        When it is shown, in units of the film's time base.
    pixels : array or None
        (H, W, 3 or 4), uint8 or uint16, sRGB; None if the frame is broken.
    duration : int
        How long it is shown, in the same units; 0 if the film does not say.
    """

    time: int
    pixels: Pixels | None
    duration: int = 0


@dataclass(frozen=True)
class Colour:
    """How a film's signal stands for colours: code points of ITU-T H.273, 2 for "not said".

    Parameters
    ----------
    primaries, transfer, matrix : int
        Colour primaries, transfer characteristics and matrix coefficients. The matrix is never 2 and never 0 (RGB).
    full : bool
        Whether the signal has the full range, 0 to 255 instead of 16 to 235.
    """

    primaries: int = 2
    transfer: int = 2
    matrix: int = 1
    full: bool = False


@dataclass(frozen=True)
class Description:
    """What is known of a film before its frames are read.

    Parameters
    ----------
    name : str
        Its name in messages.
    size : (int, int)
        Height and width in square pixels, as it is shown: turned upright, and with its pixel aspect applied.
    time_base : Fraction
        The unit of times, in seconds.
    rate : Fraction
        Frames a second on average.
    first : int
        Time of the first frame.
    seconds : float or None
        Duration, if the film says it.
    bits : int
        Bits per sample: 8, 10, 12 or 16.
    alpha : bool
        Whether frames have an alpha channel.
    colour : Colour
        How its signal stands for colours.
    """

    name: str
    size: tuple[int, int]
    time_base: Fraction
    rate: Fraction
    first: int
    seconds: float | None
    bits: int = 8
    alpha: bool = False
    colour: Colour = Colour()

    @property
    def deep(self) -> bool:
        """Whether its frames are read with 16 bits per sample."""
        return self.bits > 8

    @property
    def count(self) -> int | None:
        """About how many frames it has, None if it does not say how long it is."""
        return None if self.seconds is None else max(1, round(self.seconds * self.rate))


class Film(Protocol):
    """A film that can be read from any time on."""

    @property
    def about(self) -> Description:
        """What is known of it."""
        ...

    def frames(self, size: tuple[int, int], after: int | None = None) -> Generator[Frame, None, None]:
        """Yield its frames in the order of their times, which increase.

        Parameters
        ----------
        size : (int, int)
            Height and width at which to read them, in pixels.
        after : int, optional
            Leave out frames up to this time.
        """
        ...


@dataclass(frozen=True)
class Cut:
    """The part of a film between two times, at its own or another rate. It is itself a film.

    Parameters
    ----------
    film : Film
        The whole film.
    start, end : float or None
        Seconds from the first frame.
    fps : float or None
        Show as many frames a second, all equally long; None for the film's own frames.
    """

    film: Film
    start: float | None = None
    end: float | None = None
    fps: float | None = None

    @property
    def about(self) -> Description:
        """What is known of the part. Its times are still those of the whole film."""
        about, (first, _) = self.film.about, self._bounds()
        ends = [s for s in (about.seconds, self.end) if s is not None]
        seconds = max(0.0, min(ends) - (self.start or 0.0)) if ends else None
        if self.fps is None:
            return replace(about, first=first, seconds=seconds)
        rate = Fraction(self.fps).limit_denominator(1001)
        return replace(about, first=int(first * about.time_base * rate), seconds=seconds, rate=rate, time_base=1 / rate)

    def frames(self, size: tuple[int, int], after: int | None = None) -> Generator[Frame, None, None]:
        """Yield the frames of the part, as `Film.frames`."""
        about, own, (begin, last) = self.about, self.film.about, self._bounds()
        if self.fps is None:
            since = begin - 1 if after is None else max(begin - 1, after)
            for frame in self.film.frames(size, since if since >= own.first else None):
                if last is not None and frame.time >= last:
                    return
                if frame.time > since:
                    yield frame
            return
        # The frame that is shown at a time may have begun earlier.
        step = about.time_base / own.time_base  # in the film's own units
        number = about.first if after is None else after + 1
        back = begin if after is None else int(number * step)
        for frame, following in _with_next(self.film.frames(size, self._before(back))):
            until = following if last is None else min(following, last) if following is not None else last
            while number * step < (frame.time + max(1, frame.duration) if until is None else until):
                if number * step >= begin - step:
                    yield Frame(number, frame.pixels, 1)
                number += 1
            if last is not None and frame.time >= last:
                return

    def _bounds(self) -> tuple[int, int | None]:
        """Return the beginning and the end in the film's own units; the end is left out."""
        about = self.film.about
        begin = about.first if self.start is None else about.first + round(self.start / about.time_base)
        return begin, None if self.end is None else about.first + round(self.end / about.time_base)

    def _before(self, time: int) -> int | None:
        """Return a time after which to read so that the frame shown at `time` is among the frames read."""
        own = self.film.about
        earlier = time - round(LOOK_BACK / own.time_base)
        return earlier if earlier >= own.first else None


LOOK_BACK = 10
"""Longest time in seconds for which one frame may be shown, where the rate changes."""


def _with_next(frames: Iterable[Frame]) -> Generator[tuple[Frame, int | None], None, None]:
    """Yield each frame with the time of the next one, None after the last."""
    before: Frame | None = None
    for frame in frames:
        if before is not None:
            yield before, frame.time
        before = frame
    if before is not None:
        yield before, None


def to_tensor(pixels: Pixels) -> Tensor:
    """Return pixels (H, W, C) as a picture (1, C, H, W), float32, in [0, 1]."""
    top = float(np.iinfo(pixels.dtype).max)
    return torch.from_numpy(pixels.astype(np.float32) / top).permute(2, 0, 1)[None].contiguous()


def to_pixels(picture: Tensor, dtype: Any) -> Pixels:
    """Return a picture (1, C, H, W) in [0, 1] as pixels (H, W, C) of an unsigned integer type."""
    top = float(np.iinfo(dtype).max)
    levels = picture[0].float().cpu().permute(1, 2, 0).mul(top).round_().clamp_(0, top)
    return np.ascontiguousarray(levels.numpy().astype(dtype))


def even(size: tuple[int, int]) -> tuple[int, int]:
    """Return the nearest size with even sides, at least 2: codecs store colours at half the resolution."""
    height, width = (max(2, side - side % 2) for side in size)
    return height, width
