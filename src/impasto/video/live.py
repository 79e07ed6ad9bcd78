"""Painting what a camera sees: each frame at once, steadily, at a size that holds the rate."""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import cv2
from torch import Tensor

from ..errors import OptionError
from ..image.resize import fit_size
from ..options import LiveOptions
from ..style.target import StyleTarget
from ..stylizers.loss import check_blend
from .film import Frame, Pixels, even
from .looks import Looks
from .motion import Seen, Watcher
from .pace import Pacer
from .steady import SteadyPainter

Style = Tensor | StyleTarget
MEMORY = 30
"""Frames over which the rate is measured."""


@dataclass(frozen=True)
class Painted:
    """A painted frame of a camera.

    Parameters
    ----------
    pixels : array
        (H, W, 3), uint8, sRGB.
    number : int
        Its number, counted from 1.
    seconds : float
        How long it took.
    rate : float
        Frames a second lately.
    """

    pixels: Pixels
    number: int
    seconds: float
    rate: float


class LivePainter:
    """Paints the frames of a camera one after the other. Styles and strength can be changed at any time.

    Parameters
    ----------
    find : callable
        Returns the style that a name means. Each is asked for once.
    styles : sequence of str
        Names of the styles to begin with.
    options : LiveOptions
        The options.

    Raises
    ------
    ImpastoError
        If a style cannot be read, or options, styles and machine do not fit together.
    """

    def __init__(self, find: Callable[[str], Style], styles: Sequence[str], options: LiveOptions):
        self.find, self.options, self.styles = find, options, tuple(styles)
        self.known: dict[str, Style] = {}
        self.pacer = Pacer(options.rate, options.largest, options.size)
        self._change, self._turn = threading.Lock(), threading.Lock()
        self._times: list[float] = []
        self._painter = self._bound(self.styles, options)
        self._next: SteadyPainter | None = None
        self._watcher, self._size = Watcher(), (0, 0)
        self.number = 0
        """Number of frames painted so far."""

    def _bound(self, styles: Sequence[str], options: LiveOptions) -> SteadyPainter:
        if not styles:
            raise OptionError("no style given; name a picture, a style file or a built-in style (see `impasto styles`)")
        check_blend(options, len(styles))
        for name in styles:
            if name not in self.known:
                self.known[name] = self.find(name)
        film = options.film
        return SteadyPainter(Looks([self.known[s] for s in styles], film), film)

    def choose(
        self, styles: Sequence[str] | None = None, strength: float | None = None, stability: float | None = None
    ) -> None:
        """Change the styles, the strength or the stability from the next frame on. What is None stays as it is.

        Raises
        ------
        ImpastoError
            If a style cannot be read, or a number is out of range. Then nothing changes.
        """
        with self._change:
            names = self.styles if styles is None else tuple(styles)
            weights = self.options.style_weights if names == self.styles else ()
            options = replace(
                self.options,
                style_weights=weights,
                strength=self.options.strength if strength is None else strength,
                stability=self.options.stability if stability is None else stability,
            )
            self._next = self._bound(names, options)
            self.styles, self.options = names, options

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the last painting, in pixels; (0, 0) before the first."""
        return self._size

    def size_for(self, shape: Sequence[int]) -> tuple[int, int]:
        """Return height and width at which a frame (H, W, ...) is painted now. Frames are not enlarged."""
        return even(fit_size((shape[0], shape[1]), long_side=self.pacer.long_side))

    def paint(self, pixels: Pixels, besides: float = 0.0) -> Painted:
        """Paint a frame. Frames are painted one at a time, in the order of the calls.

        Parameters
        ----------
        pixels : array
            (H, W, 3), uint8, sRGB.
        besides : float
            Seconds that a frame takes besides painting, which count towards the rate.
        """
        with self._turn:
            begun = time.monotonic()
            self._take_change()
            height, width = self.size_for(pixels.shape)
            if (height, width) != pixels.shape[:2]:
                pixels = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA)
            if (height, width) != self._size:  # what was held belongs to another size
                self._size, self._watcher, self._painter.last = (height, width), Watcher(), None
            frame = Frame(self.number, pixels)
            seen = self._watcher.see(frame) if self.options.stability else Seen(frame, None, None)
            painted = self._painter(seen, 0.0)
            assert painted is not None
            now = time.monotonic()
            self.pacer.add(now - begun + besides)
            self.number += 1
            self._times = [*self._times, now][-MEMORY:]
            return Painted(painted, self.number, now - begun, self.rate)

    def _take_change(self) -> None:
        """Paint with what was chosen since the last frame. The last painting fades into the new one."""
        with self._change:
            changed, self._next = self._next, None
        if changed is not None:
            changed.last, changed.canvas, changed.place = (
                getattr(self._painter, k) for k in ("last", "canvas", "place")
            )
            self._painter = changed

    @property
    def rate(self) -> float:
        """Frames painted a second lately; 0 before there are two."""
        times = self._times
        return (len(times) - 1) / max(times[-1] - times[0], 1e-6) if len(times) > 1 else 0.0
