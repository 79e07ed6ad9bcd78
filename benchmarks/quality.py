"""Quality of the default settings: photographs painted in the style of paintings, and judged.

The same optimiser can also paint on a second encoder, the teacher of the bundled one; both are in one table. Figures
are relative to the photo's (see `impasto.tools.metrics`); seconds are only those of painting.
"""

import shlex
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import skimage
import tyro
from typing_extensions import Doc

from impasto.device import choose_compute
from impasto.errors import ImpastoError, PictureError
from impasto.image.picture import Picture
from impasto.image.read import read_image
from impasto.image.write import write_image
from impasto.models.vgg import VGG
from impasto.models.weights import load_encoder
from impasto.options import OptimizeOptions
from impasto.stylizers.optimize import OptimizeStylizer
from impasto.tools.metrics import Figures, Judgement, load_judge, markdown_table, over_photo
from impasto.train.pictures import PICTURE_SUFFIXES
from impasto.train.teacher import load_teacher

HEADER = ("photograph", "painting", "painted on", "gram/photo", "cov/photo", "sliced/photo", "content", "seconds")


@dataclass(frozen=True)
class Quality:
    """Paint photographs in the style of paintings, at the default settings, and judge the results."""

    paintings: Annotated[Path | None, Doc("The folder with the paintings, searched recursively.")] = None
    out: Annotated[Path, Doc("Folder for the results and their list, pairs.tsv (content, style, result).")] = Path(
        "out/quality"
    )
    judge: Annotated[str, Doc("Encoder for judging: `compact` (bundled), `vgg16`, `vgg19`, or the teacher's file.")] = (
        "compact"
    )
    teacher: Annotated[Path | None, Doc("The teacher's file, to paint on it as well.")] = None
    contents: Annotated[tuple[str, ...], Doc("Photographs: names of scikit-image's, or paths.")] = (
        "astronaut",
        "coffee",
        "chelsea",
        "rocket",
    )
    styles: Annotated[tuple[str, ...], Doc("Paintings: file names without suffix, or paths.")] = (
        "starry-night",
        "great-wave",
        "the-scream",
    )
    encoder: Annotated[str, Doc("The encoder to paint on: a name or a model file.")] = "compact"
    size: Annotated[int, Doc("Long side of the paintings, in pixels.")] = 512
    style_loss: Annotated[str, Doc("The style loss.")] = OptimizeOptions.style_loss
    quality: Annotated[Literal["good", "best"], Doc("The quality.")] = "good"
    iterations: Annotated[int | None, Doc("Iterations over all scales; the default's if not given.")] = None

    def __call__(self) -> None:
        """Paint, judge, and print the table."""
        if self.paintings is None:
            print("quality: nothing to paint; give the folder with the paintings by --paintings DIR")
            return
        encoders = {self.encoder: load_encoder(self.encoder)}
        if self.teacher is not None:
            encoders["teacher"] = load_teacher(self.teacher)
        judge = load_judge(self.judge)
        contents = [self.upright(find_photo(name), "contents") for name in self.contents]
        styles = [self.upright(find_painting(self.paintings, name), "styles") for name in self.styles]
        print(f"`{shlex.join(['python', *sys.argv])}`, judged by {judge.encoder.name}\n")
        rows, means, recoloured = [], [], []
        for name, encoder in encoders.items():
            judged, seconds = [], []
            for result in self.paint(name, encoder, contents, styles):
                judgement = judge.judge(result.content, result.style, result.path)
                judged.append(judgement)
                seconds.append(result.seconds)
                f = over_photo([judgement])
                print(f"{result.path}: gram/photo {f.gram:.3f}, {result.seconds:.1f} s", file=sys.stderr, flush=True)
                rows.append((result.content.stem, result.style.stem, name, *figures(f), result.seconds))
            mean = over_photo(judged)
            means.append(("mean", f"of {len(judged)}", name, *figures(mean), sum(seconds) / len(seconds)))
            recoloured = recoloured_row(judged)
        print(markdown_table(HEADER, [*rows, *means, recoloured]))

    def upright(self, source: Path, folder: str) -> Path:
        """Write a copy of a picture as we read it, upright and in sRGB, so that all judges compare the same pixels."""
        path = self.out / folder / f"{source.stem}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_image(Picture(read_image(source).tensor), path)
        return path

    def paint(self, name: str, encoder: VGG, contents: list[Path], styles: list[Path]) -> "Iterator[Result]":
        """Paint all pairs on one encoder. Each result is listed once its file is written."""
        options = OptimizeOptions(
            quality=self.quality, size=self.size, iterations=self.iterations, style_loss=self.style_loss
        )
        compute = choose_compute(options.device, options.precision)
        label = "" if name == self.encoder else f"-{name}"
        with (self.out / f"pairs{label}.tsv").open("w", encoding="utf-8") as pairs:
            for content in contents:
                photo = read_image(content).tensor
                for style in styles:
                    painting = read_image(style).tensor
                    begun = time.perf_counter()
                    image = OptimizeStylizer([painting], options, encoder, compute)(photo).cpu()
                    seconds = time.perf_counter() - begun
                    path = self.out / f"{content.stem}-{style.stem}{label}.png"
                    write_image(Picture(image), path)
                    pairs.write("\t".join(str(p.resolve()) for p in (content, style, path)) + "\n")
                    pairs.flush()
                    yield Result(content, style, path, seconds)


@dataclass(frozen=True)
class Result:
    """The files of one painting, and its seconds."""

    content: Path
    style: Path
    path: Path
    seconds: float


def figures(f: Figures) -> tuple[float, float, float, float]:
    return f.gram, f.cov, f.sliced, f.content


def recoloured_row(judged: list[Judgement]) -> tuple[object, ...]:
    return ("mean", f"of {len(judged)}", "recoloured photo", *figures(over_photo(judged, "recoloured")), "")


def find_photo(name: str) -> Path:
    found = [Path(name), *Path(skimage.data_dir).glob(f"{name}.*")]
    return first_file(found, f"there is no photograph {name!r}; give a path, or a name of scikit-image's data")


def find_painting(folder: Path, name: str) -> Path:
    found = [Path(name), *sorted(p for p in folder.rglob(f"{name}.*") if p.suffix.lower() in PICTURE_SUFFIXES)]
    return first_file(found, f"there is no painting {name!r} below {folder}")


def first_file(paths: list[Path], message: str) -> Path:
    for path in paths:
        if path.is_file():
            return path
    raise PictureError(message)


if __name__ == "__main__":
    try:
        tyro.cli(Quality)()
    except ImpastoError as error:
        sys.exit(f"quality: {error}")
