"""Variants of the schedule of `optimize`, compared on the same pairs: the loss that each reaches for its work.

The loss is that of the defaults, at full size in float32, for each variant's final picture, divided by that of the
default's picture. The judge's figures are shown as well. Work is evaluations times pixels, in units of one evaluation
at full size, so the table does not depend on the machine's load.
"""

import shlex
import statistics
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import tyro
from quality import find_painting, find_photo
from reference import full_loss
from torch import Tensor
from typing_extensions import Doc

from impasto.device import choose_compute
from impasto.errors import ImpastoError
from impasto.image.picture import Picture
from impasto.image.read import read_image
from impasto.image.write import write_image
from impasto.models.vgg import VGG
from impasto.models.weights import load_encoder
from impasto.options import OTHER_STARTS, OptimizeOptions
from impasto.stylizers.optimize import OptimizeStylizer
from impasto.tools.metrics import Judgement, load_judge, markdown_table, over_photo

HEADER = (
    "variant",
    "loss / default's",
    "worst pair",
    "gram/photo",
    "cov/photo",
    "sliced/photo",
    "content",
    "work",
)

GOOD = OTHER_STARTS["good"]
"""The iterations from the photograph at the three scales of a size of 257 to 512 pixels."""
WORK = GOOD[0] / 16 + GOOD[1] / 4 + GOOD[2]
"""Their work, in units of one evaluation at full size."""
ADAM = {"optimizer": "adam"}

VARIANTS: dict[str, dict[str, Any]] = {
    "the default": {},
    "float32": {"precision": "float32"},
    "half the iterations": {"iterations": tuple(max(1, n // 2) for n in GOOD)},
    "twice the iterations": {"iterations": tuple(2 * n for n in GOOD)},
    "one scale, same work": {"coarsest": 512, "iterations": round(WORK)},
    "two scales, same work": {"coarsest": 256, "iterations": (round(WORK / 1.25),) * 2},
    "alike at all scales, same work": {"iterations": (round(WORK / 1.3125),) * 3},
    "coarsest 64": {"coarsest": 64},
    "detail 0": {"detail": 0.0},
    "detail 0.3": {"detail": 0.3},
    "average 0.9": {"average": 0.9},
    "Adam": ADAM,
    "Adam, four times the iterations": {**ADAM, "iterations": tuple(4 * n for n in GOOD)},
    "Adam, rate 0.03": {**ADAM, "rate": 0.03},
    "Adam, rate 0.08": {**ADAM, "rate": 0.08},
    "Adam on pixels": {**ADAM, "parameters": "pixels"},
    "Adam on pixels, carry": {**ADAM, "parameters": "pixels", "carry": True},
}
"""Name -> differences from the defaults."""


@dataclass(frozen=True)
class Schedules:
    """Compare variants of the schedule on all pairs of photographs and paintings."""

    paintings: Annotated[Path | None, Doc("The folder with the paintings, searched recursively.")] = None
    out: Annotated[Path, Doc("Folder for the results.")] = Path("out/schedules")
    judge: Annotated[str, Doc("Encoder for judging: a name, or the teacher's file.")] = "compact"
    contents: Annotated[tuple[str, ...], Doc("Photographs: names of scikit-image's, or paths.")] = (
        "astronaut",
        "coffee",
        "chelsea",
        "rocket",
    )
    styles: Annotated[tuple[str, ...], Doc("Paintings: file names without suffix, or paths.")] = (
        "starry-night",
        "great-wave",
    )
    variants: Annotated[tuple[str, ...], Doc("The variants; all by default.")] = ()
    size: Annotated[int, Doc("Long side of the paintings, also for judging, in pixels.")] = 384
    encoder: VGG = field(default_factory=lambda: load_encoder("compact"), init=False)

    def __call__(self) -> None:
        """Paint with each variant, judge, and print the table."""
        if self.paintings is None:
            print("schedules: nothing to paint; give the folder with the paintings by --paintings DIR")
            return
        judge = load_judge(self.judge)
        judge.long_side = self.size
        pairs = [(find_photo(c), find_painting(self.paintings, s)) for c in self.contents for s in self.styles]
        print(f"`{shlex.join(['python', *sys.argv])}`, {len(pairs)} pairs, judged by {judge.encoder.name}\n")
        default: list[float] = []
        rows = []
        for name in ("the default", *(self.variants or list(VARIANTS)[1:])):
            losses, works = [], []
            judged: list[Judgement] = []
            for photo, painting in pairs:
                options = OptimizeOptions(size=self.size, **VARIANTS[name])
                content, style = read_image(photo).tensor, read_image(painting).tensor
                path = self.out / name.replace(" ", "-").replace(",", "") / f"{photo.stem}-{painting.stem}.png"
                image, work = paint(content, style, options, self.encoder)
                path.parent.mkdir(parents=True, exist_ok=True)
                write_image(Picture(image), path)
                losses.append(full_loss(self.encoder, content, style, image, OptimizeOptions(size=self.size)))
                judged.append(judge.judge(photo, painting, path))
                works.append(work)
            default = default or losses
            ratios = [a / b for a, b in zip(losses, default, strict=True)]
            f = over_photo(judged)
            mean = statistics.geometric_mean(ratios)
            rows.append((name, mean, max(ratios), f.gram, f.cov, f.sliced, f.content, statistics.mean(works)))
            print(*rows[-1], sep="\t", file=sys.stderr, flush=True)
        print(markdown_table(HEADER, rows))


def paint(content: Tensor, style: Tensor, options: OptimizeOptions, encoder: VGG) -> tuple[Tensor, float]:
    """Return the painting and its work, in units of one evaluation at full size."""
    work, index, image = 0.0, 0, content
    stylizer = OptimizeStylizer([style], options, encoder, choose_compute("cpu", options.precision))
    for step in stylizer.steps(content):
        first = step.scale_index > index  # Adam also evaluates the start of a scale
        work += step.scale[0] * step.scale[1] * (2 if first and options.optimizer == "adam" else 1)
        index, image = step.scale_index, step.image
    return image.cpu(), work / (image.shape[2] * image.shape[3])


if __name__ == "__main__":
    try:
        tyro.cli(Schedules)()
    except ImpastoError as error:
        sys.exit(f"schedules: {error}")
