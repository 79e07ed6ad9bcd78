"""Does an optimisation that starts from the network's painting finish sooner?

    python benchmarks/start.py --paintings DATASETS/paintings

For each pair of photograph and painting, runs the default iterations from the photograph, then the defaults and other
schedules from the network's painting. The time includes the network's pass and measuring the style. Losses are the
objective at full size in float32, times are wall time, both relative to those from the photograph.
"""

import math
import shlex
import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro
from quality import find_painting, find_photo
from reference import PAINTINGS, PHOTOS, SIZE, full_loss
from torch import Tensor
from typing_extensions import Doc

from impasto.errors import ImpastoError
from impasto.image.read import read_image
from impasto.models.weights import load_encoder
from impasto.options import OptimizeOptions
from impasto.stylizers.choose import choose_stylizer
from impasto.tools.metrics import markdown_table

FULL: dict[str, Any] = {"start": "network", "coarsest": SIZE}
WAYS: dict[str, dict[str, Any]] = {
    "from the photograph": {"start": "content"},
    "from the network, the defaults": {},
    "from the network, Adam, 40 iterations": {**FULL, "iterations": 40, "optimizer": "adam"},
    "from the network, L-BFGS, 30 iterations": {**FULL, "iterations": 30},
    "from the network, L-BFGS, 40 iterations": {**FULL, "iterations": 40},
    "from the network, L-BFGS, 50 iterations": {**FULL, "iterations": 50},
    "from the network, coarse to fine, 100 iterations": {"start": "network", "iterations": 100, "coarsest": SIZE // 2},
}
HEADER = ("way", "loss", "worst loss", "time", "longest time")


@dataclass(frozen=True)
class Start:
    """Optimise from both starts and compare."""

    paintings: Annotated[Path, Doc("The folder with the paintings, searched recursively.")]
    photos: Annotated[tuple[str, ...], Doc("Photographs of scikit-image.")] = PHOTOS
    styles: Annotated[tuple[str, ...], Doc("Names of paintings.")] = PAINTINGS

    def __call__(self) -> None:
        """Paint and print the table."""
        losses: dict[str, list[float]] = {way: [] for way in WAYS}
        times: dict[str, list[float]] = {way: [] for way in WAYS}
        for changes in ({}, FULL):  # warm up: the first painting of a process is slower
            self.paint(self.photos[0], self.styles[0], {**changes, "iterations": 3})
        pairs = [(photo, style) for i, photo in enumerate(self.photos) for style in self.styles[i % 2 :: 2]]
        for pair in pairs:
            found = {way: self.paint(*pair, changes) for way, changes in WAYS.items()}
            loss, seconds = next(iter(found.values()))
            for way, (mine, spent) in found.items():
                losses[way].append(mine / loss)
                times[way].append(spent / seconds)
                print(*pair, way, f"{mine / loss:.3f} {spent / seconds:.3f}", file=sys.stderr, flush=True)
        print(f"`{shlex.join(['python', *sys.argv])}`, {len(pairs)} pairs\n")
        rows = [(way, mean(losses[way]), max(losses[way]), mean(times[way]), max(times[way])) for way in WAYS]
        print(markdown_table(HEADER, rows))

    def paint(self, photo: str, painting: str, changes: dict[str, Any]) -> tuple[float, float]:
        """Return the final loss of a way, and its seconds."""
        content: Tensor = read_image(find_photo(photo)).tensor
        style: Tensor = read_image(find_painting(self.paintings, painting)).tensor
        begun = time.perf_counter()
        image = choose_stylizer([style], OptimizeOptions(size=SIZE, **changes))(content)
        seconds = time.perf_counter() - begun
        return full_loss(load_encoder("compact"), content, style, image.cpu(), OptimizeOptions(size=SIZE)), seconds


def mean(ratios: list[float]) -> float:
    """Return the geometric mean."""
    return math.exp(statistics.mean(map(math.log, ratios)))


if __name__ == "__main__":
    try:
        tyro.cli(Start)()
    except ImpastoError as error:
        sys.exit(f"start: {error}")
