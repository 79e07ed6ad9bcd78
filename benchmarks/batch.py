"""How many pictures a second a batch paints, as a share of what the network alone paints in the same run.

    python benchmarks/batch.py
    python benchmarks/batch.py --count 2000 --size 512 --broken 60 --workers 1

Generated photographs, one size, are painted by `impasto batch` from a folder to a folder, as JPEG. The network alone
paints the same number of pictures of that size from memory, in passes of as many pictures as the batch. The two take
turns, `--rounds` times. The batch's time is that of its own last line: without starting Python, with starting workers.
"""

import re
import shlex
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import numpy as np
import torch
import tyro
from PIL import Image
from typing_extensions import Doc

from impasto.batch.painters import Painters
from impasto.batch.pictures import Found, Packed
from impasto.batch.plan import Look
from impasto.image.picture import Picture
from impasto.options import OutputOptions, StylizeOptions
from impasto.tools.metrics import markdown_table

LAST_LINE = re.compile(r"(\d+) painted in ([0-9.]+) s")


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Measure the pictures a second of a batch."""

    count: Annotated[int, Doc("Photographs.")] = 200
    broken: Annotated[int, Doc("Of these, broken ones.")] = 6
    size: Annotated[int, Doc("Their long side, in pixels; they are 3:2.")] = 512
    style: Annotated[str, Doc("The style.")] = "starry-night"
    workers: Annotated[int | None, Doc("As `impasto batch --workers`.")] = None
    rounds: Annotated[int, Doc("How often both are measured.")] = 3

    def __call__(self) -> None:
        """Print the table."""
        print(f"`{shlex.join(['python', *sys.argv])}`; {torch.get_num_threads()} threads\n")
        rows, shares = [], []
        with TemporaryDirectory(prefix="impasto-") as folder:
            photos = Path(folder) / "photos"
            self.make(photos)
            for i in range(self.rounds):
                alone = self.network()
                batch = self.batch(photos, Path(folder) / f"painted-{i}")
                shares.append(batch / alone)
                rows.append((str(i + 1), f"{alone:.2f}", f"{batch:.2f}", f"{100 * shares[-1]:.0f} %"))
        rows.append(("median", "", "", f"{100 * statistics.median(shares):.0f} %"))
        print(markdown_table(("round", "network alone, pictures/s", "batch, pictures/s", "share"), rows))

    def make(self, folder: Path) -> None:
        """Write smooth noise as photographs, some of them broken."""
        folder.mkdir()
        rng = np.random.default_rng(0)
        for i in range(self.count):
            coarse = Image.fromarray(rng.integers(0, 256, (20, 30, 3), dtype=np.uint8))
            path = folder / f"{i:05d}.jpg"
            coarse.resize((self.size, 2 * self.size // 3), Image.Resampling.BICUBIC).save(path, quality=92)
            if i < self.broken:
                path.write_bytes(path.read_bytes()[:200])

    def network(self) -> float:
        """Return the pictures a second of the network alone, with the pictures in memory."""
        options = StylizeOptions(quality="instant", size=self.size)
        painter = Painters(OutputOptions()).of(Look(self.style, options))
        size = (2 * self.size // 3, self.size)
        found = Found(Packed.of(Picture(torch.rand(1, 3, *size))), size, {}, False, 0.0)
        several = painter.most(found)
        together = found.packed.picture.tensor.repeat(several, 1, 1, 1)
        painter.stylizer(together)
        begun, done = time.perf_counter(), 0
        while done < self.count - self.broken:
            painter.stylizer(together)
            done += several
        return done / (time.perf_counter() - begun)

    def batch(self, photos: Path, out: Path) -> float:
        """Return the pictures a second of `impasto batch`, by its last line."""
        command = [sys.executable, "-m", "impasto", "batch", str(photos), "--style", self.style, "--out", str(out)]
        command += ["--size", str(self.size)] + ([] if self.workers is None else ["--workers", str(self.workers)])
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        found = LAST_LINE.search(done.stderr)
        if found is None or int(found[1]) != self.count - self.broken or done.returncode != (3 if self.broken else 0):
            raise SystemExit(f"the batch did not paint all good pictures:\n{done.stderr}")
        return int(found[1]) / float(found[2])


if __name__ == "__main__":
    tyro.cli(Batch)()
