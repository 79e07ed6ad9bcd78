"""Reading training pictures: speed from a folder and from a packed file, and a comparison of JPEG and WebP.

Times are processor time, in one thread. The error of a format is the mean peak signal-to-noise ratio of the reduced
pictures.
"""

import io
import shlex
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import tyro
from PIL import Image
from typing_extensions import Doc

from impasto.errors import ImpastoError
from impasto.options import TrainPackOptions
from impasto.tools.metrics import markdown_table
from impasto.train import pictures
from impasto.train.pack import pack_pictures
from impasto.train.pictures import PictureSet

FORMATS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("JPEG", {"quality": 85, "optimize": True}),
    ("JPEG", {"quality": 88, "optimize": True}),
    ("WEBP", {"quality": 80}),
    ("WEBP", {"quality": 85}),
    ("WEBP", {"quality": 88}),
)


@dataclass(frozen=True)
class Pictures:
    """Time reading, and compare formats for packing."""

    folders: Annotated[tuple[Path, ...], Doc("Folders with pictures.")]
    exclude: Annotated[Path | None, Doc("A text file of pictures to leave out.")] = None
    short_side: Annotated[int, Doc("Short side of packed pictures, in pixels.")] = 256
    crop: Annotated[int, Doc("Side of the crops, in pixels.")] = 256
    count: Annotated[int, Doc("Number of pictures and crops to time.")] = 300

    def __call__(self) -> None:
        """Print the tables."""
        torch.set_num_threads(1)
        print(f"`{shlex.join(['python', *sys.argv])}`: one thread\n")
        found = PictureSet.open(self.folders, self.exclude, self.short_side)
        print(f"{len(found)} pictures, {found.index.nbytes / len(found):.0f} bytes each in memory.\n")
        chosen = [int(i) for i in np.random.default_rng(0).integers(len(found), size=self.count)]
        print(
            markdown_table(
                ("format", "quality", "kB a picture", "PSNR, dB", "ms to decode"), self.formats(found, chosen)
            )
        )
        with tempfile.TemporaryDirectory() as folder:
            o = TrainPackOptions(folders=self.folders, out=Path(folder) / "pack.zip", short_side=self.short_side)
            packed = pack_pictures(o, found)
            print(f"\n`impasto train pack`: {packed.pictures} pictures, {packed.size / 1e6:.1f} MB\n")
            places = {"folders": self.folders, "packed": (o.out,)}
            sets = {k: PictureSet.open(p, self.exclude, self.short_side) for k, p in places.items()}
            print(markdown_table(("from", "reads/s", "crops/s", "crops/s of kept pictures"), self.speeds(sets, chosen)))

    def formats(self, found: PictureSet, chosen: list[int]) -> list[tuple[object, ...]]:
        """Return a row for each format and quality."""
        rows: list[tuple[object, ...]] = []
        levels = [p.permute(1, 2, 0).contiguous().numpy() for i in chosen if (p := found.read(i)) is not None]
        for kind, options in FORMATS:
            files: list[bytes] = []
            for x in levels:
                out = io.BytesIO()
                Image.fromarray(x).save(out, kind, **options)
                files.append(out.getvalue())
            begun = time.process_time()
            decoded = [np.asarray(Image.open(io.BytesIO(data))) for data in files]
            ms = (time.process_time() - begun) / len(files) * 1e3
            errors = [((a.astype(float) - b) ** 2).mean() for a, b in zip(levels, decoded, strict=True)]
            psnr = statistics.mean(10 * np.log10(255**2 / max(e, 1e-9)) for e in errors)
            size = statistics.mean(map(len, files)) / 1e3
            rows.append((kind, options["quality"], f"{size:.1f}", f"{psnr:.2f}", f"{ms:.2f}"))
        return rows

    def speeds(self, sets: dict[str, PictureSet], chosen: list[int]) -> list[tuple[object, ...]]:
        """Return a row for each set."""
        rows: list[tuple[object, ...]] = []
        kept_bytes = pictures.KEPT_BYTES
        for name, found in sets.items():

            def crop(i: int, found: PictureSet = found) -> object:
                return found.crop(np.random.default_rng(i), self.crop, (0.8, 2.0))

            rates = []
            for kept, call in ((0, found.read), (0, crop), (kept_bytes, crop)):
                pictures.KEPT_BYTES = kept
                for i in chosen:  # warm up: the system caches the files, or the set its pictures
                    call(i)
                rates.append(rate(call, chosen))
            rows.append((name, *rates))
        pictures.KEPT_BYTES = kept_bytes
        return rows


def rate(call: Callable[[int], object], chosen: list[int]) -> int:
    """Return calls per second of processor time."""
    begun = time.process_time()
    for i in chosen:
        call(i)
    return round(len(chosen) / (time.process_time() - begun))


if __name__ == "__main__":
    try:
        tyro.cli(Pictures)()
    except ImpastoError as error:
        sys.exit(f"pictures: {error}")
