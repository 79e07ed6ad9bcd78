"""An optimisation in tiles, compared with the same in one piece: loss, seams and memory.

    python benchmarks/tiled_optimize.py --size 4608
    python benchmarks/tiled_optimize.py --size 6928 --limit 4GB --ways tiled

Each painting is made in its own process. Memory is the peak resident size minus that after loading the encoder and the
photograph. `--limit` is the memory that the painting may take in tiles. The default is a quarter
(`--share`) of what the painting in one piece takes.

The energy of a line is the mean squared difference between the pixels on its two sides. The table has the energy of the
lines that were borders of tiles at some step of the last scale, over that of the other lines at multiples of the
encoder's stride. Since a picture is not the same everywhere, this ratio is compared with that of the other painting at
the same lines.
"""

import json
import shlex
import subprocess
import sys
import tempfile
from collections import deque
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import skimage
import torch
import tyro
from memory import resident
from torch import Tensor
from typing_extensions import Doc

from impasto.errors import ImpastoError
from impasto.image.picture import Picture
from impasto.image.read import read_image
from impasto.image.resize import fit
from impasto.models.weights import load_encoder
from impasto.options import OptimizeOptions, Precision, Quality
from impasto.options.kinds import BYTES, FILE
from impasto.stylizers.choose import choose_stylizer
from impasto.stylizers.loss import measured_layers
from impasto.stylizers.optimize import fit_painting
from impasto.stylizers.sources import resolve_styles
from impasto.stylizers.tiled_loss import PLACES, margin_of, spans
from impasto.tools.metrics import markdown_table

WAYS = ("whole", "tiled")


@dataclass(frozen=True)
class TiledOptimize:
    """Paint in one piece and in tiles, and compare."""

    size: Annotated[int, Doc("Long side of the painting, in pixels; 4608 for 16 megapixels of 3:2.")] = 4608
    photo: Annotated[Path | None, FILE, Doc("The photograph; a cup of coffee by default.")] = None
    style: Annotated[str, Doc("The style.")] = "starry-night"
    quality: Annotated[Quality, Doc("The quality, for the iterations.")] = "good"
    iterations: Annotated[int | None, Doc("Iterations over all scales instead.")] = None
    precision: Annotated[Precision, Doc("Precision of the encoder.")] = "auto"
    share: Annotated[float, Doc("The default limit in tiles, as a share of what one piece takes.")] = 0.25
    limit: Annotated[int | None, BYTES, Doc("The limit in tiles, in bytes.")] = None
    ways: Annotated[tuple[str, ...], Doc("`whole` and `tiled`, or one of them.")] = WAYS
    keep: Annotated[Path | None, FILE, Doc("A folder for the paintings.")] = None
    way: Annotated[str | None, Doc("Paint only this way, in this process, and print its figures.")] = None

    def __call__(self) -> None:
        """Print the table."""
        if self.way is not None:
            assert self.keep is not None
            print(json.dumps(self.paint(self.way == "tiled", self.keep / f"{self.way}.npy")))
            return
        print(f"`{shlex.join(['python', *sys.argv])}`: torch {torch.__version__}, {torch.get_num_threads()} threads\n")
        with tempfile.TemporaryDirectory() as folder:
            kept = self.keep or Path(folder)
            kept.mkdir(parents=True, exist_ok=True)
            print(self.table(kept))

    def table(self, folder: Path) -> str:
        """Return the table of the paintings, which are written to a folder."""
        found: dict[str, dict[str, Any]] = {}
        limit = self.limit
        for way in self.ways:
            command = [sys.executable, *sys.argv, "--way", way, "--keep", str(folder)]
            if way == "tiled" and limit is None:
                whole = found["whole"]
                limit = round(self.share * whole["peak"])
            command += ["--limit", f"{limit}B"] if way == "tiled" else []
            found[way] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
        pictures = {way: torch.from_numpy(np.load(folder / f"{way}.npy", mmap_mode="c")) for way in self.ways}
        rows = []
        for way, f in found.items():
            ratios = self.borders(pictures[way], f["tile"] or max(g["tile"] for g in found.values()))
            rows.append(
                (way, f["losses"]["total"], f["peak"] / 1e9, (f["loaded"] + f["peak"]) / 1e9, f["need"], *ratios)
            )
        names = ("way", "loss", "peak, GB", "whole process, GB", "estimated, GB", "energy at rows", "energy at columns")
        lines = [markdown_table(names, rows)]
        if len(found) == 2:
            (_, a, _, _, _, *e), (_, b, _, _, _, *d) = rows
            difference = 255 * (pictures["whole"] - pictures["tiled"]).abs().mean()
            peak = found["tiled"]["peak"] / found["whole"]["peak"]
            lines.append(
                f"\nTiled over whole: loss {b / a:.4f}, peak {peak:.3f}, energy at rows {d[0] / e[0]:.4f}, at columns "
                f"{d[1] / e[1]:.4f}. Mean difference of the paintings: {difference:.2f} of 255."
            )
        return "\n".join(lines)

    def paint(self, tiled: bool, path: Path) -> dict[str, Any]:
        """Paint, write the painting as an array, and return the figures."""
        options = OptimizeOptions(
            size=self.size, quality=self.quality, iterations=self.iterations, device="cpu", precision=self.precision
        )
        if tiled:
            options = replace(options, max_memory=self.limit)
        photo = self.photograph().contiguous()
        stylizer = choose_stylizer(resolve_styles(self.style), options)
        size = (photo.shape[-2], photo.shape[-1])
        loaded = resident()
        encoder = load_encoder("compact")
        _, _, tiles = fit_painting(size, options, encoder, stylizer.compute, resized=False, said=lambda message: None)
        step = deque(stylizer.steps(photo), maxlen=1)[0]
        assert step.measured is not None
        peak = resident("VmHWM") - loaded
        np.save(path, step.image.contiguous().numpy())
        return {
            "losses": dict(step.measured()),
            "loaded": loaded,
            "peak": peak,
            "need": tiles.need / 1e9 if tiles else "",
            "tile": tiles.side if tiles else 0,
        }

    def photograph(self) -> Tensor:
        """Return the photograph at the painting's size."""
        if self.photo is None:
            found = Picture(torch.from_numpy(skimage.data.coffee()).permute(2, 0, 1)[None] / 255).tensor
        else:
            found = read_image(self.photo).tensor
        return fit(found, self.size, enlarge=True)

    @staticmethod
    def borders(picture: Tensor, tile: int) -> tuple[float, float]:
        """Return the energy at the tiles' borders over that of other lines, for rows and for columns."""
        encoder = load_encoder("compact")
        margin, stride = margin_of(encoder, measured_layers(OptimizeOptions(), encoder))
        found = []
        for dim, places in zip((2, 3), zip(*PLACES, strict=True), strict=True):
            length = picture.shape[dim]
            energies = torch.tensor(
                [
                    float((picture.narrow(dim, i, 1) - picture.narrow(dim, i - 1, 1)).square().mean())
                    for i in range(stride, length, stride)
                ]
            )
            ends = {s.end for place in places for s in spans(length, tile, stride, margin, place)}
            at = torch.tensor([i in ends for i in range(stride, length, stride)])
            found.append(float(energies[at].mean() / energies[~at].mean()) if at.any() else float("nan"))
        return found[0], found[1]


if __name__ == "__main__":
    try:
        tyro.cli(TiledOptimize)()
    except ImpastoError as error:
        sys.exit(f"tiled_optimize: {error}")
