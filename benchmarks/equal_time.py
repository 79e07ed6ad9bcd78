"""Ours against plain Gatys at equal wall time.

For every pair, `optimize` paints at its default settings. All other methods get the same number of seconds: `optimize`
with another style loss, and the classic objective on the same encoder as run by public code (one scale, NCHW, float32,
autograd through raw Gram matrices) with Adam at 0.02 and with L-BFGS. A method that keeps more of the photo is farther
from the style. So the classic one runs with several content weights, and its figures are interpolated linearly at our
content figure.
"""

import shlex
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import tyro
from quality import find_painting, find_photo
from speed import PlainVGG
from torch import Tensor
from typing_extensions import Doc

from impasto.device import choose_compute
from impasto.errors import ImpastoError
from impasto.image.picture import Picture
from impasto.image.read import read_image
from impasto.image.resize import fit, resize
from impasto.image.write import write_image
from impasto.models.vgg import CONTENT_LAYER, STYLE_LAYERS, VGG
from impasto.models.weights import load_encoder
from impasto.options import OptimizeOptions
from impasto.stylizers.optimize import OptimizeStylizer
from impasto.tools.metrics import Figures, Judge, load_judge, markdown_table, over_photo

FIGURES = ("gram", "cov", "sliced")
HEADER = ("photograph", "painting", "style loss", "seconds", "content", "against", "gram", "cov", "sliced", "contents")


@dataclass(frozen=True)
class EqualTime:
    """Paint pairs our way and the plain way for the same time, and compare at equal content."""

    paintings: Annotated[Path | None, Doc("The folder with the paintings, searched recursively.")] = None
    out: Annotated[Path, Doc("Folder for the results.")] = Path("out/equal-time")
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
    losses: Annotated[tuple[str, ...], Doc("Our style losses.")] = ("moments", "gram")
    content_weights: Annotated[
        tuple[float, ...], Doc("Content weights of the plain runs, relative to the style's.")
    ] = (
        0.001,
        0.01,
        0.05,
        0.2,
        1.0,
    )
    plain: Annotated[tuple[str, ...], Doc("The plain optimisers.")] = ("adam", "lbfgs")
    size: Annotated[int, Doc("Long side of the paintings, in pixels.")] = 512

    def __call__(self) -> None:
        """Paint, judge, and print the table: our figure divided by the plain one's; below 1, ours is better."""
        if self.paintings is None:
            print("equal_time: nothing to paint; give the folder with the paintings by --paintings DIR")
            return
        net, judge = load_encoder("compact"), load_judge(self.judge)
        print(f"`{shlex.join(['python', *sys.argv])}`, judged by {judge.encoder.name}\n")
        rows = []
        for content in self.contents:
            for style in self.styles:
                for row in self.pair(net, judge, find_photo(content), find_painting(self.paintings, style)):
                    rows.append(row)
                    print(*row, sep="\t", file=sys.stderr, flush=True)
        print(markdown_table(HEADER, rows))

    def pair(self, net: VGG, judge: Judge, photo: Path, painting: Path) -> list[tuple[object, ...]]:
        """Return the rows for a pair."""
        content, style = read_image(photo).tensor, read_image(painting).tensor
        name = f"{photo.stem}-{painting.stem}"

        def judged(image: Tensor, what: str) -> Figures:
            path = self.out / f"{name}-{what}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            write_image(Picture(image), path)
            return over_photo([judge.judge(photo, painting, path)])

        ours: dict[str, Figures] = {}
        seconds: float | None = None
        for loss in self.losses:
            begun = time.perf_counter()
            options = OptimizeOptions(size=self.size, style_loss=loss, time=seconds)
            image = OptimizeStylizer([style], options, net, choose_compute("cpu"))(content).cpu()
            seconds = seconds or time.perf_counter() - begun
            ours[loss] = judged(image, loss)
        assert seconds is not None, "there is a style loss"
        rows = []
        content = fit(content, self.size, enlarge=True)
        for optimiser in self.plain:
            sweep = []
            for weight in self.content_weights:
                image = plain_run(net, content, style, weight, optimiser, seconds)
                sweep.append(judged(image, f"{optimiser}-{weight:g}"))
            sweep.sort(key=lambda f: f.content)
            for loss, mine in ours.items():
                theirs = {k: at_content(sweep, k, mine.content) for k in FIGURES}
                ratios = [getattr(mine, k) / theirs[k] for k in FIGURES]
                row = (photo.stem, painting.stem, loss, seconds, mine.content, optimiser, *ratios)
                rows.append((*row, f"{sweep[0].content:.2f} to {sweep[-1].content:.2f}"))
        return rows


def at_content(sweep: list[Figures], figure: str, content: float) -> float:
    """Interpolate a figure of the sweep, sorted by content, at a content figure; constant beyond its ends."""
    return float(np.interp(content, [f.content for f in sweep], [getattr(f, figure) for f in sweep]))


def plain_run(net: VGG, content: Tensor, style: Tensor, weight: float, optimiser: str, seconds: float) -> Tensor:
    """Return the picture of plain Gatys after that time: relative Gram and content losses, equal layer weights."""
    begun = time.perf_counter()
    plain = PlainVGG(net)
    style = resize(style, (content.shape[2], content.shape[3])).contiguous()
    with torch.no_grad():
        grams = {k: gram(f) for k, f in plain(style).items() if k in STYLE_LAYERS}
        target = plain(content.contiguous())[CONTENT_LAYER]
        spread = (target - target.mean((2, 3), keepdim=True)).square().sum()
    x = content.clone(memory_format=torch.contiguous_format).requires_grad_(True)

    def closure() -> Tensor:
        features = plain(x)
        loss = weight * (features[CONTENT_LAYER] - target).square().sum() / spread
        for k, g in grams.items():
            loss = loss + (gram(features[k]) - g).square().sum() / g.square().sum() / len(grams)
        x.grad = None
        loss.backward()
        return loss

    adam = torch.optim.Adam([x], lr=0.02)
    lbfgs = torch.optim.LBFGS([x], max_iter=1, history_size=20)
    while time.perf_counter() - begun < seconds:
        if optimiser == "adam":
            closure()
            adam.step()
        else:
            lbfgs.step(closure)  # pyright: ignore[reportArgumentType]
        with torch.no_grad():
            x.clamp_(0, 1)
    return x.detach().clone()


def gram(features: Tensor) -> Tensor:
    f = features.flatten(2)[0]
    return f @ f.t() / f.shape[1]


if __name__ == "__main__":
    try:
        tyro.cli(EqualTime)()
    except ImpastoError as error:
        sys.exit(f"equal_time: {error}")
