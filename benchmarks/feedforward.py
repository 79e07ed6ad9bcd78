"""How good a feed-forward network's paintings are: held-out photographs in each of its styles, judged.

Figures are over the photo's own (see `impasto.tools.metrics`). A sheet of the judged pictures can be written.
"""

import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
import torch.nn.functional as F
import tyro
from quality import figures, find_painting
from torch import Tensor
from typing_extensions import Doc

from impasto.device import choose_compute
from impasto.errors import ImpastoError
from impasto.image.io import Picture, read_image, write_image
from impasto.image.resize import fit, resize
from impasto.models.networks import load_network
from impasto.options import StylizeOptions
from impasto.stylize.feedforward import FeedforwardStylizer
from impasto.stylize.protocol import NamedStyle
from impasto.tools.metrics import Judge, Judgement, Measured, distances, load_judge, markdown_table, over_photo

HEADER = ("style", "gram/photo", "cov/photo", "sliced/photo", "content", "over the mean gram")
CELL, GAP = 160, 4
"""Of a sheet: a picture's side, and the white between two, in pixels."""


@dataclass(frozen=True)
class Feedforward:
    """Paint held-out photographs in every style of a network, and judge the results."""

    paintings: Annotated[Path, Doc("The folder with the paintings, named as the styles, searched to any depth.")]
    photos: Annotated[Path, Doc("The folder that the lines of the list are in.")]
    heldout: Annotated[Path, Doc("A list of pictures that no training has read, one a line.")]
    model: Annotated[str, Doc("`palette`, or a model file.")] = "palette"
    styles: Annotated[tuple[str, ...], Doc("Which styles; all of the network's if none is named.")] = ()
    count: Annotated[int, Doc("How many photographs, evenly from the list.")] = 12
    size: Annotated[int, Doc("Long side of the paintings, in pixels.")] = 512
    judge: Annotated[
        str, Doc("Whose features judge: `compact` (bundled), `vgg16`, `vgg19`, or the teacher's file.")
    ] = "compact"
    precision: Annotated[str, Doc("`auto`, `float32` or `bfloat16`.")] = "auto"
    sheet: Annotated[Path | None, Doc("A picture of the paintings, to be written: a row for each style.")] = None

    def __call__(self) -> None:
        """Paint, judge, and print the table."""
        net, picture = load_network(self.model)
        judge, compute = load_judge(self.judge), choose_compute("cpu", self.precision)  # type: ignore[arg-type]
        lines = [p for p in self.heldout.read_text().split() if (self.photos / p).is_file() and "photos" in p]
        lines = lines[:: max(1, len(lines) // self.count)][: self.count]
        photos = [fit(read_image(self.photos / p).tensor, self.size, enlarge=True) for p in lines]
        seen = [judge.measure(judge.picture(p)) for p in photos]
        print(f"`{shlex.join(['python', *sys.argv])}`, {len(photos)} photographs, judged by {judge.encoder.name}\n")
        judged: dict[str, list[Judgement]] = {}
        shown = [photos]
        for name in self.styles or net.config.styles:
            options = StylizeOptions(method="feedforward", size=self.size)
            stylizer = FeedforwardStylizer(net, [NamedStyle(name)], options, compute, picture)
            painted = [stylizer(p) for p in photos]
            shown.append(painted)
            style = judge.measure(judge.picture(read_image(find_painting(self.paintings, name)).tensor))
            judged[name] = [judgement(judge, x, style, c) for x, c in zip(painted, seen, strict=True)]
            print(name, *figures(over_photo(judged[name])), sep="\t", file=sys.stderr, flush=True)
        mean = over_photo([j for rows in judged.values() for j in rows])
        rows = [(n, *figures(over_photo(r)), over_photo(r).gram / mean.gram) for n, r in judged.items()]
        print(markdown_table(HEADER, [*rows, (f"mean of {len(judged)}", *figures(mean), "")]))
        if self.sheet is not None:
            write_image(Picture(sheet(shown)), self.sheet, quality=85)


@torch.no_grad()
def judgement(judge: Judge, painted: Tensor, style: Measured, photo: Measured) -> Judgement:
    """As `Judge.judge`, of what was measured before; the recoloured photo is left out."""
    found = distances(judge.measure(judge.picture(painted)), style, photo)
    own = distances(photo, style, photo)
    return Judgement(found, own, own)


def sheet(rows: list[list[Tensor]]) -> Tensor:
    """Rows of pictures, the middle square of each."""

    def cell(x: Tensor) -> Tensor:
        side = min(x.shape[-2:])
        top, left = (x.shape[-2] - side) // 2, (x.shape[-1] - side) // 2
        return F.pad(resize(x[..., top : top + side, left : left + side], (CELL, CELL)), (0, GAP, 0, GAP), value=1.0)

    return torch.cat([torch.cat([cell(x) for x in row], 3) for row in rows], 2)[..., :-GAP, :-GAP]


if __name__ == "__main__":
    try:
        tyro.cli(Feedforward)()
    except ImpastoError as error:
        sys.exit(f"feedforward: {error}")
