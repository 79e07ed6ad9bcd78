"""Tests of the estimate of how long a painting from file to file takes."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from impasto.image.strips import MemorySource
from impasto.stylizers.choose import load_stylizer
from impasto.stylizers.protocol import Region
from impasto.stylizers.tiled import StreamedPainting, Strip
from impasto.tools import pace
from impasto.tools.large import duration
from impasto.tools.pace import Pace, expected_seconds

pytest.importorskip("pyvips")


def test_the_arithmetic() -> None:
    """A gigapixel is read twice, and the statistics come from 4 megapixels only."""
    found = Pace(reading=1e-8, sampling=5e-7, painting=4e-7).seconds(10**9, 4 * 10**6, 2)
    assert found == pytest.approx(20 + 400 + 2)
    assert duration(found) == "about 7 min"
    assert [duration(s) for s in (0.1, 59, 90, 5399, 9000)] == [
        *("about 1 s", "about 59 s", "about 2 min", "about 90 min", "about 2.5 h")
    ]


class Machine:
    """A clock, and strips that take a known time: 2 us per pixel for statistics, 3 for painting, 0.5 for reading."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch):
        self.now, self.painted = 0.0, list[tuple[int, int]]()
        read = MemorySource.read

        def slow_read(source: MemorySource, top: int, left: int, height: int, width: int) -> torch.Tensor:
            self.now += 0.5e-6 * height * width
            return read(source, top, left, height, width)

        def strips(painting: StreamedPainting, statistics: Any = None) -> Iterator[Strip]:
            (height, width), self.painted = painting.size, [*self.painted, painting.size]
            painting.found = statistics or "measured"  # pyright: ignore[reportAttributeAccessIssue]
            if statistics is None:
                self.now += 2e-6 * (height * width if painting.exact else painting.samples_size)
            self.now += 3e-6 * height * width
            yield Strip(1, 1, torch.rand(1, painting.source.channels, height, width))

        monkeypatch.setattr(MemorySource, "read", slow_read)
        monkeypatch.setattr(StreamedPainting, "strips", strips)

    def __call__(self) -> float:
        return self.now


WAYS: dict[str, tuple[dict[str, Any], int, bool]] = {
    "exact": ({}, 1, False),
    "sampled": ({"statistics": "sampled"}, 2, False),
    "colours": ({"keep_colours": 0.5}, 2, False),
    "strength": ({"strength": 0.5, "statistics": "sampled"}, 3, False),
    "alpha, mask, region": ({}, 2, True),
}


@pytest.mark.parametrize("way", WAYS)
def test_every_part_of_the_work_counts(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The time of a painting of any size follows from that of the small one."""
    options, sweeps, parts = WAYS[way]
    stylizer = load_stylizer("udnie", method="network", scale=1.0, precision="float32", **options)
    photo, mask = torch.rand(1, 4 if parts else 3, 3000, 4000), torch.ones(1, 1, 30, 40)
    regions, mask = ([Region(mask, torch.rand(1, 3, 64, 64))], mask) if parts else ([], None)
    painting = StreamedPainting(stylizer, MemorySource(photo), regions, mask)
    machine = Machine(monkeypatch)
    found = expected_seconds(painting, stylizer, regions, ".tif", {}, machine)
    measured = 12e6 if painting.exact else painting.samples_size
    assert found == pytest.approx(3e-6 * 12e6 + 2e-6 * measured + sweeps * 0.5e-6 * 12e6, rel=0.01)
    assert max(h * w for h, w in machine.painted) <= 1.01 * 12e6 / 16


@pytest.mark.parametrize("size", [(64, 64), (40, 3000), (3000, 40)])
def test_small_and_elongated_paintings(size: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    stylizer = load_stylizer("udnie", method="network", scale=1.0, precision="float32")
    painting = StreamedPainting(stylizer, MemorySource(torch.rand(1, 3, *size)), [], None)
    assert 0 < expected_seconds(painting, stylizer, [], ".png", {}) < 100


@pytest.mark.parametrize("suffix", [".tif", ".png", ".jpg", ".dzi"])
def test_it_does_not_change_the_stylizer(suffix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "TRIAL", 10_000)
    stylizer = load_stylizer("udnie", method="network", size=300, keep_colours=1.0, precision="float32")
    painting = StreamedPainting(stylizer, MemorySource(torch.rand(1, 3, 100, 150)), [], None)
    paint: Callable[[], list[torch.Tensor]] = lambda: [s.rows for s in painting.strips() if s.rows is not None]  # noqa: E731
    before = paint()
    assert 0 < expected_seconds(painting, stylizer, [], suffix, {"compression": "deflate"}) < 100
    assert all(torch.equal(a, b) for a, b in zip(before, paint(), strict=True))
