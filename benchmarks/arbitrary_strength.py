"""What the strength of a network that paints in one pass does: how near the photograph is, and how near the style.

The photograph's PSNR at each strength, in decibels (the mean over the pictures), and the style's figures over the
photograph's own. At 0.02 the photograph should be there, and the style's distance fall all the way to 1.
"""

import math
import shlex
import statistics
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from arbitrary import heldout, heldout_photos
from feedforward import judgement, sheet
from quality import figures, find_painting
from torch import Tensor
from typing_extensions import Doc

from impasto.errors import ImpastoError
from impasto.image.io import Picture, read_image, write_image
from impasto.stylize.choose import load_stylizer
from impasto.tools.metrics import Judgement, load_judge, markdown_table, over_photo

STRENGTHS = (0.0, 0.02, 0.1, 0.25, 0.5, 0.75, 1.0)
HEADER = ("strength", "PSNR, dB", "least PSNR, dB", "gram/photo", "cov/photo", "sliced/photo", "content")


@dataclass(frozen=True)
class ArbitraryStrength:
    """Paint held-out photographs in the styles of held-out paintings, or in learnt styles, at several strengths."""

    folder: Annotated[Path, Doc("The folder that the lines of the list are in.")]
    heldout: Annotated[Path, Doc("A list of photos and paintings that no training has read, one a line.")]
    model: Annotated[str, Doc("`arbitrary`, `palette`, or a model file.")] = "arbitrary"
    photos: Annotated[int, Doc("How many photographs, evenly from the list.")] = 5
    paintings: Annotated[int, Doc("How many paintings, evenly from the list.")] = 8
    styles: Annotated[tuple[str, ...], Doc("Built-in styles in place of the held-out paintings.")] = ()
    size: Annotated[int, Doc("Long side of the paintings, in pixels.")] = 512
    judge: Annotated[str, Doc("Whose features judge: a name, or the teacher's file.")] = "compact"
    sheet: Annotated[Path | None, Doc("A picture of the first photograph in each style and strength.")] = None

    def __call__(self) -> None:
        """Paint, judge, and print the table."""
        judge = load_judge(self.judge)
        photos = heldout_photos(self.heldout, self.folder, self.photos, self.size)
        seen = [judge.measure(judge.picture(p)) for p in photos]
        decibels: dict[float, list[float]] = {s: [] for s in STRENGTHS}
        judged: dict[float, list[Judgement]] = {s: [] for s in STRENGTHS}
        shown: list[list[Tensor]] = []
        lines = [] if self.styles else heldout(self.heldout, self.folder, "paintings", self.paintings)
        paths = [find_painting(self.folder / "paintings", n) for n in self.styles] or [self.folder / p for p in lines]
        for i, path in enumerate(paths):
            painting = read_image(path).tensor
            source = self.styles[i] if self.styles else painting
            style = judge.measure(judge.picture(painting))
            row = []
            for strength in STRENGTHS:
                stylizer = load_stylizer(source, model=self.model, size=self.size, strength=strength)
                painted = [stylizer(p) for p in photos]
                row.append(painted[0])
                decibels[strength] += [psnr(x, p) for x, p in zip(painted, photos, strict=True)]
                judged[strength] += [judgement(judge, x, style, c) for x, c in zip(painted, seen, strict=True)]
            shown.append(row)
        print(f"`{shlex.join(['python', *sys.argv])}`, judged by {judge.encoder.name}\n")
        rows = [(s, statistics.mean(decibels[s]), min(decibels[s]), *figures(over_photo(judged[s]))) for s in STRENGTHS]
        print(markdown_table(HEADER, rows))
        if self.sheet is not None:
            write_image(Picture(sheet(shown)), self.sheet, quality=85)


def psnr(x: Tensor, y: Tensor) -> float:
    """Peak signal-to-noise ratio of pictures in [0, 1], in decibels."""
    return -10 * math.log10(float((x - y).square().mean()) + 1e-12)


if __name__ == "__main__":
    try:
        tyro.cli(ArbitraryStrength)()
    except ImpastoError as error:
        sys.exit(f"arbitrary_strength: {error}")
