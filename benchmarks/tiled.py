"""Large pictures in one pass, strip by strip: difference to the whole, time and memory.

    python benchmarks/tiled.py
    python benchmarks/tiled.py --megapixels 144 --max-memory 1.5 --no-whole

The photograph is `--photo`, enlarged with a little grain, row by row as it is read. The painting goes to a sink that
keeps nothing, except when its difference is measured. Times are per megapixel, and over the time per megapixel of
`--reference` megapixels painted as a whole, measured in turns. Memory is measured in a fresh process that paints one
photograph: the peak resident size minus that after loading. `--max-memory` limits it.
"""

import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import torch
import tyro
from memory import resident
from torch import Tensor
from typing_extensions import Doc

from impasto.errors import ImpastoError
from impasto.image.read import read_image
from impasto.image.strips import MemorySink, MemorySource, PictureSink, ResizedSource
from impasto.options import Precision
from impasto.stylizers.choose import load_stylizer
from impasto.stylizers.network import NetworkStylizer
from impasto.stylizers.tiled import paint_tiled
from impasto.tools.metrics import markdown_table

Method = Literal["exact", "sampled"]
GRAIN, GRAIN_SIDE = 0.02, 1024
"""Standard deviation of the grain, and the side of the square that repeats."""


class Photograph(ResizedSource):
    """A photograph of any size, with grain."""

    def __init__(self, photo: Tensor, size: tuple[int, int]):
        super().__init__(MemorySource(photo), size)
        generator = torch.Generator().manual_seed(0)
        self.grain = GRAIN * torch.randn(1, 3, GRAIN_SIDE, GRAIN_SIDE, generator=generator)

    def read(self, top: int, left: int, height: int, width: int) -> Tensor:
        """Return the pixels of a rectangle."""
        rows, columns = (torch.arange(a, a + n) % GRAIN_SIDE for a, n in ((top, height), (left, width)))
        return (super().read(top, left, height, width) + self.grain[:, :, rows][..., columns]).clamp(0, 1)


class Nowhere:
    """A sink that keeps nothing."""

    def write(self, rows: Tensor) -> None:
        """Take the next rows."""


@dataclass(frozen=True)
class Tiled:
    """Compare a painting in strips with the whole, and measure its time and memory."""

    megapixels: Annotated[float, Doc("Size of the 4:3 photograph.")] = 12.0
    methods: Annotated[tuple[Method, ...], Doc("Where the statistics come from.")] = ("exact", "sampled")
    max_memory: Annotated[float, Doc("Memory that the painting may take, in GB.")] = 1.0
    styles: Annotated[tuple[str, ...], Doc("The styles of the differences; times and memory use the first.")] = (
        "udnie",
        "starry-night",
        "great-wave",
    )
    photo: Annotated[Path, Doc("The photograph to enlarge.")] = Path(__file__).parent.parent / "examples" / "photo.jpg"
    precision: Annotated[Precision, Doc("Precision.")] = "auto"
    model: Annotated[str | None, Doc("A model file instead of the bundled network.")] = None
    whole: Annotated[bool, Doc("Measure the difference to the whole, which must fit into memory.")] = True
    reference: Annotated[float, Doc("Megapixels painted as a whole to compare the time with; 0 to skip times.")] = 12.0
    repeats: Annotated[int, Doc("Timed paintings of each; the median is reported.")] = 3
    memory_of: Annotated[Method | None, Doc("Only measure the memory of this method, in this process.")] = None

    def __call__(self) -> None:
        """Print the tables."""
        if self.memory_of is not None:
            print(self.memory(self.memory_of))
            return
        print(f"`{shlex.join(['python', *sys.argv])}`: torch {torch.__version__}, {torch.get_num_threads()} threads\n")
        if self.whole:
            header = ("style", "statistics", "mean", "99.9 %", "largest difference, levels of 255")
            print(markdown_table(header, [self.difference(s, m) for s in self.styles for m in self.methods]) + "\n")
        if self.reference:
            print(markdown_table(("painting", "seconds per megapixel", "over the whole"), self.times()) + "\n")
        found = []
        for method in self.methods:
            command = [sys.executable, *sys.argv, "--memory-of", method]
            answer = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            found.append((method, self.megapixels, self.max_memory, int(answer) / 1e9))
        print(markdown_table(("statistics", "megapixels", "allowed, GB", "peak, GB"), found))

    def photograph(self, megapixels: float) -> Photograph:
        """Return the photograph, 4:3."""
        width = round((megapixels * 1e6 * 4 / 3) ** 0.5)
        return Photograph(read_image(self.photo).tensor, (width * 3 // 4, width))

    def stylizer(self, style: str, method: Method, max_memory: float | None) -> NetworkStylizer:
        """Return the stylizer that paints at the photograph's size."""
        found = load_stylizer(
            style,
            quality="instant",
            scale=1.0,
            device="cpu",
            precision=self.precision,
            model=self.model,
            statistics=method,
            max_memory=None if max_memory is None else round(1e9 * max_memory),
        )
        assert isinstance(found, NetworkStylizer)
        return found

    def paint(self, method: Method, sink: PictureSink, style: str | None = None) -> None:
        """Paint in strips."""
        stylizer = self.stylizer(style or self.styles[0], method, self.max_memory)
        paint_tiled(stylizer, self.photograph(self.megapixels), sink)

    def difference(self, style: str, method: Method) -> tuple[str, str, float, float, float]:
        """Return a row: the difference of a painting in strips to the whole, in levels of 255."""
        sink, source = MemorySink(), self.photograph(self.megapixels)
        self.paint(method, sink, style)
        whole = self.stylizer(style, method, None)(source.read(0, 0, *source.size))
        away = (sink.image() - whole).abs().flatten() * 255
        return (
            style,
            method,
            float(away.mean()),
            float(away[::16].kthvalue(away[::16].numel() * 999 // 1000)[0]),
            float(away.max()),
        )

    def times(self) -> list[tuple[str, float, float]]:
        """Return rows: seconds per megapixel of each way to paint, and over that of the whole."""
        source = self.photograph(self.reference)
        photo, stylizer = source.read(0, 0, *source.size), self.stylizer(self.styles[0], "exact", None)
        runs: dict[str, tuple[float, Callable[[], object]]] = {"the whole": (self.reference, lambda: stylizer(photo))}
        for method in self.methods:
            runs[method] = (self.megapixels, lambda method=method: self.paint(method, Nowhere()))
        taken: dict[str, list[float]] = {name: [] for name in runs}
        for _ in range(self.repeats):
            for name, (megapixels, run) in runs.items():
                begun = time.perf_counter()
                run()
                taken[name].append((time.perf_counter() - begun) / megapixels)
        median = {name: statistics.median(t) for name, t in taken.items()}
        return [(name, t, t / median["the whole"]) for name, t in median.items()]

    def memory(self, method: Method) -> int:
        """Return the peak bytes of a painting minus those after loading."""
        small = MemorySource(self.photograph(0.1).read(0, 0, 64, 64))
        paint_tiled(self.stylizer(self.styles[0], method, self.max_memory), small, Nowhere())  # loads the libraries
        before = resident()
        self.paint(method, Nowhere())
        return resident("VmHWM") - before


if __name__ == "__main__":
    try:
        tyro.cli(Tiled)()
    except ImpastoError as error:
        sys.exit(f"tiled: {error}")
