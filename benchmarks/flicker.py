"""Flicker: how differently networks paint a photograph that is moved by one pixel.

    python benchmarks/flicker.py network other.safetensors --folder DATASETS --heldout DATASETS/heldout.txt

The figure is the mean absolute difference, on a scale from 0 to 1, between f(x) and f(x moved by a pixel) moved back. A
panning camera shows it as flicker. Both are cut from the same photograph; a border of 16 pixels is ignored.
"""

import shlex
import statistics
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from judging import heldout, picture
from typing_extensions import Doc

from impasto.errors import ImpastoError
from impasto.image.resize import fit
from impasto.stylizers.choose import load_stylizer
from impasto.tools.metrics import markdown_table

BORDER = 16
"""Pixels to ignore on each side."""
SHIFTS = ((0, 1), (1, 0), (1, 1))
"""Pixels down and to the right."""


@dataclass(frozen=True, kw_only=True)
class Flicker:
    """Measure the flicker of networks in the same styles."""

    models: Annotated[tyro.conf.Positional[tuple[str, ...]], Doc("`network` (the bundled one) or model files.")] = (
        "network",
    )
    folder: Annotated[Path, Doc("The folder to which the list's paths are relative.")]
    heldout: Annotated[Path, Doc("A list of pictures not used in training, one per line.")]
    count: Annotated[int, Doc("Number of photographs, spread evenly over the list.")] = 6
    styles: Annotated[tuple[str, ...], Doc("Built-in styles, pictures or style files.")] = (
        "starry-night",
        "great-wave",
        "udnie",
        "la-grande-jatte",
    )
    size: Annotated[int, Doc("Long side of the paintings, in pixels.")] = 512

    def __call__(self) -> None:
        """Print the table."""
        print(f"`{shlex.join(['python', *sys.argv])}`\n")
        paths = heldout(self.heldout, self.folder, "photos", self.count)
        photos = [fit(picture(p), self.size, enlarge=True) for p in paths]
        rows: list[tuple[str, float]] = []
        for model in self.models:
            found: list[float] = []
            for style in self.styles:
                stylizer = load_stylizer(style, quality="instant", model=model, scale=1.0)
                for x in photos:
                    height, width = x.shape[2] - 1, x.shape[3] - 1
                    still = stylizer(x[..., :height, :width])
                    for down, right in SHIFTS:
                        moved = stylizer(x[..., down : down + height, right : right + width])
                        difference = still[..., down:, right:] - moved[..., : height - down, : width - right]
                        found.append(difference[..., BORDER:-BORDER, BORDER:-BORDER].abs().mean().item())
            rows.append((Path(model).stem, statistics.mean(found)))
        table = [(name, f"{value:.4f}", value / rows[0][1]) for name, value in rows]
        print(markdown_table(("network", "flicker", "over the first"), table))


if __name__ == "__main__":
    try:
        tyro.cli(Flicker)()
    except ImpastoError as error:
        sys.exit(f"flicker: {error}")
