"""Estimate how long a painting from file to file takes on this machine, from a small painting made in the same way."""

import copy
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor

from ..device import return_freed_memory
from ..image.resize import resize
from ..image.sink import open_sink
from ..image.strips import MemorySource
from ..models.passes import LEAST_SIDE
from ..stylizers.colours import ColourKeeper
from ..stylizers.gatys import GatysStylizer
from ..stylizers.network import NetworkStylizer
from ..stylizers.optimize import OptimizeStylizer
from ..stylizers.protocol import Region, Stylizer
from ..stylizers.tiled import PassStatistics, StreamedPainting

TRIAL, SHARE = 1_000_000, 1 / 16
"""Pixels of the small painting, and its largest share of the painting's pixels."""

Clock = Callable[[], float]


@dataclass(frozen=True)
class Pace:
    """Seconds per pixel of the parts of the work.

    Parameters
    ----------
    reading : float
        Reading the photograph once, at the painting's size.
    sampling : float
        Taking the statistics, per pixel of the samples; 0 if they are exact, since `painting` then includes them.
    painting : float
        Painting and encoding.
    """

    reading: float
    sampling: float
    painting: float

    def seconds(self, pixels: int, samples: int, sweeps: int) -> float:
        """Return the seconds of a painting.

        Parameters
        ----------
        pixels, samples : int
            Pixels of the painting, and of its samples.
        sweeps : int
            How often the photograph is read.
        """
        return pixels * (sweeps * self.reading + self.painting) + samples * self.sampling


def expected_seconds(
    painting: StreamedPainting,
    stylizer: Stylizer,
    regions: Sequence[Region],
    suffix: str,
    output: dict[str, Any],
    clock: Clock = time.perf_counter,
) -> float:
    """Return about how many seconds a painting takes.

    Parameters
    ----------
    painting : StreamedPainting
        The painting.
    stylizer : NetworkStylizer, or ColourKeeper around one
        What it is painted with.
    regions : sequence of Region
        Its regions.
    suffix : str
        Suffix of the file, such as ".tif".
    output : dict
        Arguments of `open_sink`: how the file is encoded.
    clock : callable
        Returns the time in seconds.
    """
    rows, reading = read_rows(painting, clock)
    trial = trial_of(painting, stylizer, regions, rows, TRIAL)
    prepare(trial_of(painting, stylizer, regions, rows, LEAST_SIDE**2), trial)
    taken = seconds_of(trial, suffix, output, clock)
    pixels, sampling = trial.size[0] * trial.size[1], 0.0
    if not painting.exact:
        again = seconds_of(trial, suffix, output, clock, trial.found)
        taken, sampling = again, max(0.0, taken - again) / trial.samples_size
    return_freed_memory()
    size = painting.size[0] * painting.size[1]
    return Pace(reading, sampling, taken / pixels).seconds(size, painting.samples_size, sweeps_of(painting))


def read_rows(painting: StreamedPainting, clock: Clock) -> tuple[Tensor, float]:
    """Return the first rows of a photograph at the painting's size, (1, 3 or 4, n, W), and the seconds per pixel."""
    height, width = painting.size
    count = max(1, min(round(SHARE * height), round(TRIAL / width)))
    source = painting.photo.source
    source.read(0, 0, count, width)  # the first call opens the file
    begun = clock()
    rows = source.read(min(count, height - count), 0, count, width)
    return rows.clone(), (clock() - begun) / (count * width)


def trial_of(
    painting: StreamedPainting, stylizer: Stylizer, regions: Sequence[Region], rows: Tensor, most: int
) -> StreamedPainting:
    """Return a painting of at most `most` pixels with a painting's proportions, whose photograph repeats its rows."""
    pixels = painting.size[0] * painting.size[1]
    share = (min(most, SHARE * pixels) / pixels) ** 0.5
    height, width = (max(LEAST_SIDE, round(share * side)) for side in painting.size)
    down, across = (torch.arange(side) % n for side, n in zip((height, width), rows.shape[2:], strict=True))
    picture = rows[:, :, down][..., across]
    if picture.shape[1] == 4:
        picture[:, 3:] = 0.5  # a part of it is visible and a part is not, as in the painting
    parts = [Region(resize(r.mask, (height, width)), r.style) for r in regions]
    mask = None if painting.mask is None else resize(painting.mask, (height, width))
    return StreamedPainting(at_own_size(stylizer), MemorySource(picture), parts, mask, in_file=painting.in_file)


def at_own_size(stylizer: Stylizer) -> Stylizer:
    """Return a copy of a stylizer that paints photographs at their own size."""
    found = copy.copy(stylizer)
    if isinstance(found, ColourKeeper):
        found.inner = at_own_size(found.inner)
    elif isinstance(found, NetworkStylizer | OptimizeStylizer | GatysStylizer):
        own: Any = replace(found.options, size=None, scale=1.0)
        found.options = own
    return found


def prepare(small: StreamedPainting, trial: StreamedPainting) -> None:
    """Make the first calls, which are slower: paint the smallest picture, and measure the styles."""
    for _ in small.strips():
        pass
    long, stylizer = max(trial.size), trial.stylizer
    scales = stylizer.scales(long)
    for style, scale in [*zip(stylizer.styles, scales, strict=True), *((s, scales[0]) for _, s in trial.places)]:
        style.at(round(scale * long))


def seconds_of(
    trial: StreamedPainting,
    suffix: str,
    output: dict[str, Any],
    clock: Clock,
    statistics: PassStatistics | None = None,
) -> float:
    """Return the seconds that it takes to paint and encode a painting in memory."""
    with TemporaryDirectory(prefix="impasto-") as folder:
        begun = clock()
        with open_sink(Path(folder) / f"trial{suffix}", trial.size, channels=trial.source.channels, **output) as sink:
            for strip in trial.strips(statistics):
                if strip.rows is not None:
                    sink.write(strip.rows)
        return clock() - begun


def sweeps_of(painting: StreamedPainting) -> int:
    """Return how often a painting reads its photograph."""
    for_rows = painting.mask is not None or painting.keeper is not None or painting.source.channels == 4
    return 1 + (not painting.exact) + for_rows + (painting.options.strength != 1)
