"""How good an arbitrary-style network is: held-out photographs in the styles of held-out paintings, judged.

Figures are over the photo's own (see `impasto.tools.metrics`). A sheet of the judged pictures can be written.
"""

import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from feedforward import judgement, sheet
from quality import figures
from torch import Tensor
from typing_extensions import Doc

from impasto.errors import ImpastoError
from impasto.image.io import Picture, read_image, write_image
from impasto.image.resize import fit
from impasto.stylize.choose import load_stylizer
from impasto.tools.metrics import Judgement, load_judge, markdown_table, over_photo

HEADER = ("painting", "gram/photo", "cov/photo", "sliced/photo", "content", "over the mean gram")
SHOWN = 12
"""Paintings on a sheet."""


@dataclass(frozen=True)
class Arbitrary:
    """Paint held-out photographs in the styles of held-out paintings, and judge the results."""

    model: Annotated[str, Doc("`arbitrary`, or a model file.")]
    folder: Annotated[Path, Doc("The folder that the lines of the list are in.")]
    heldout: Annotated[Path, Doc("A list of photos and paintings that no training has read, one a line.")]
    photos: Annotated[int, Doc("How many photographs, evenly from the list.")] = 20
    paintings: Annotated[int, Doc("How many paintings, evenly from the list.")] = 40
    size: Annotated[int, Doc("Long side of the paintings, in pixels.")] = 512
    judge: Annotated[
        str, Doc("Whose features judge: `compact` (bundled), `vgg16`, `vgg19`, or the teacher's file.")
    ] = "compact"
    precision: Annotated[str, Doc("`auto`, `float32` or `bfloat16`.")] = "auto"
    sheet: Annotated[Path | None, Doc("A picture of the paintings, to be written: a row for each style.")] = None

    def __call__(self) -> None:
        """Paint, judge, and print the table."""
        judge = load_judge(self.judge)
        photos = heldout_photos(self.heldout, self.folder, self.photos, self.size)
        seen = [judge.measure(judge.picture(p)) for p in photos]
        print(f"`{shlex.join(['python', *sys.argv])}`, {len(photos)} photographs, judged by {judge.encoder.name}\n")
        judged: dict[str, list[Judgement]] = {}
        shown = [photos]
        for line in heldout(self.heldout, self.folder, "paintings", self.paintings):
            painting = read_image(self.folder / line).tensor
            stylizer = load_stylizer(painting, model=self.model, size=self.size, precision=self.precision)
            painted = [stylizer(p) for p in photos]
            shown += [painted] if len(shown) <= SHOWN else []
            style = judge.measure(judge.picture(painting))
            judged[Path(line).stem] = [judgement(judge, x, style, c) for x, c in zip(painted, seen, strict=True)]
        mean = over_photo([j for rows in judged.values() for j in rows])
        rows = [(n, *figures(over_photo(r)), over_photo(r).gram / mean.gram) for n, r in judged.items()]
        print(markdown_table(HEADER, [*rows, (f"mean of {len(judged)}", *figures(mean), "")]))
        if self.sheet is not None:
            write_image(Picture(sheet(shown)), self.sheet, quality=85)


def heldout(listed: Path, folder: Path, kind: str, count: int) -> list[str]:
    """Some lines of a list, evenly from those of one folder."""
    found = [p for p in listed.read_text().split() if p.startswith(kind) and (folder / p).is_file()]
    return found[:: max(1, len(found) // count)][:count]


def heldout_photos(listed: Path, folder: Path, count: int, size: int) -> list[Tensor]:
    """Photographs (1, 3, H, W) of a list, of that long side."""
    return [fit(read_image(folder / p).tensor, size, enlarge=True) for p in heldout(listed, folder, "photos", count)]


if __name__ == "__main__":
    try:
        tyro.cli(Arbitrary)()
    except ImpastoError as error:
        sys.exit(f"arbitrary: {error}")
