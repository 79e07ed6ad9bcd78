"""How many frames a second a camera is painted at, and how late the paintings are.

    python benchmarks/live.py bikes.mp4 --size 384

A film is played as a camera. It runs at its own speed whether its frames are painted or not, as a camera does. The lag
of a painting is the number of frames that the camera delivered between the painted frame and the end of its painting.
The rate is given beside that of painting alone: the same frames, one after the other, without a camera.
"""

import itertools
import shlex
import statistics
import sys
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from typing_extensions import Doc

from impasto.errors import ImpastoError
from impasto.image.resize import fit_size
from impasto.options import LiveOptions
from impasto.stylizers.sources import resolve_style
from impasto.tools.live import LiveLoop
from impasto.tools.metrics import markdown_table
from impasto.video.camera import FilmCamera, as_uint8
from impasto.video.film import Film, even
from impasto.video.live import LivePainter
from impasto.video.read import open_film

WARM_UP = 1.0
"""Seconds that are not measured."""


@dataclass(frozen=True, kw_only=True)
class Live:
    """Measure live painting of a film that is played as a camera."""

    film: Annotated[tyro.conf.Positional[Path], Doc("The film.")]
    style: Annotated[str, Doc("A built-in style, a picture or a style file.")] = "starry-night"
    size: Annotated[tuple[int, ...], Doc("Long sides in pixels, each a row; 0 adjusts itself.")] = (384, 0)
    rate: Annotated[float, Doc("Frames a second to hold, where the size adjusts itself.")] = 12.0
    stability: Annotated[float, Doc("Value of --stability.")] = 0.5
    seconds: Annotated[float, Doc("Time to measure.")] = 20.0

    def __call__(self) -> None:
        """Print the table."""
        print(f"`{shlex.join(['python', *sys.argv])}`\n")
        film = open_film(self.film)
        rows = []
        for size in self.size:
            painter = self.painter(size)
            rate, lags, side = self.live(painter, film)
            alone = self.alone(side, film)
            late = sorted(lags)[int(0.95 * (len(lags) - 1))]
            shown = (f"{rate:.1f}", f"{alone:.1f}", rate / alone, f"{statistics.mean(lags):.2f}", late, max(lags))
            rows.append((size or "adjusts itself", side, *shown))
        header = ("size", "px at the end", "frames/s", "painting alone", "ratio", "mean lag", "95 %", "most")
        print(markdown_table(header, rows))

    def painter(self, size: int) -> LivePainter:
        """Return a painter at a long side; 0 adjusts itself."""
        options = LiveOptions(size=size or None, rate=self.rate, stability=self.stability)
        return LivePainter(resolve_style, [self.style], options)

    def live(self, painter: LivePainter, film: Film) -> tuple[float, list[int], int]:
        """Return the frames painted a second, the lag of each, and the long side at the end."""
        loop = LiveLoop(FilmCamera(film, painter.options.size or painter.options.largest), painter)
        try:
            lags: list[int] = []
            number, begun = 0, time.monotonic()
            while (now := time.monotonic()) - begun < WARM_UP + self.seconds:
                shown = loop.wait(number)
                if shown is None:
                    break
                if now - begun > WARM_UP:
                    lags.append(shown.lag)
                number = shown.painted.number
            return len(lags) / self.seconds, lags, max(painter.size)
        finally:
            loop.close()

    def alone(self, side: int, film: Film) -> float:
        """Return the frames painted a second at a long side, without a camera."""
        painter = self.painter(side)
        size = even(fit_size(film.about.size, long_side=side))
        with closing(film.frames(size)) as frames:
            pixels = [as_uint8(f.pixels)[..., :3] for f in itertools.islice(frames, 100) if f.pixels is not None]
        following = itertools.cycle(pixels)
        for _ in range(2):  # the first frames are slower
            painter.paint(next(following))
        count, begun = 0, time.monotonic()
        while (elapsed := time.monotonic() - begun) < self.seconds:
            painter.paint(next(following))
            count += 1
        return count / elapsed


if __name__ == "__main__":
    try:
        tyro.cli(Live)()
    except ImpastoError as error:
        sys.exit(f"live: {error}")
