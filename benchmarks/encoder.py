"""How well the compact encoder approximates its teacher, on pictures that were not used in training.

The first table has the relative error of each head: the mean squared error divided by the variance of the teacher's
channel over all pictures, averaged over the channels. Only feature pixels whose receptive field lies within the picture
count. The second table has Spearman's rank correlation of the two networks' style distances (the mean over layers of
the relative distance of Gram matrices after the heads). Half of the pairs are pictures painted on the encoder, each
with its style; the other half are photographs, each with a painting. An optimiser exploits differences between the
networks, so the painted half is the harder one.
"""

import math
import shlex
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import tyro
from torch import Tensor
from typing_extensions import Doc

from impasto.device import choose_compute
from impasto.errors import ImpastoError, OptionError, PictureError
from impasto.image.read import read_image
from impasto.image.resize import fit
from impasto.models.vgg import VGG, block_of
from impasto.models.weights import load_encoder
from impasto.options import OptimizeOptions
from impasto.stylizers.optimize import OptimizeStylizer
from impasto.tools.metrics import markdown_table, spearman
from impasto.train.painted import style_distances
from impasto.train.teacher import TARGETS, load_teacher

DEAD = 1e-4
"""Channels with a variance below this share of the layer's mean are dead. The training ignores them, too."""
CONTENT_WEIGHTS = (0.003, 0.3)
"""Log-uniform range of the content weights for the painted pictures."""


@dataclass(frozen=True)
class Encoder:
    """Compare the compact encoder with its teacher on held-out pictures."""

    teacher: Annotated[Path | None, Doc("The teacher's file.")] = None
    photos: Annotated[Path | None, Doc("The folder that the list calls `photos`.")] = None
    paintings: Annotated[Path | None, Doc("The folder that the list calls `paintings`.")] = None
    heldout: Annotated[Path | None, Doc("A list of pictures, one per line: photos/NAME or paintings/NAME.")] = None
    encoder: Annotated[str, Doc("The encoder to measure: a name or a model file.")] = "compact"
    painted: Annotated[int, Doc("Number of pictures to paint. As many pairs of photograph and painting are added.")] = (
        100
    )
    size: Annotated[int, Doc("Long side of the painted pictures and of all pairs, in pixels.")] = 256
    iterations: Annotated[int, Doc("Iterations of each painted picture.")] = 40
    most: Annotated[int | None, Doc("Use at most this many photographs and paintings each, for a quick look.")] = None
    seed: Annotated[int, Doc("Seed of the choice of pairs and content weights.")] = 0
    bars: Annotated[tuple[str, ...], Doc("Targets to reach, as NAME=VALUE, with NAME as in the table.")] = ()

    def __call__(self) -> None:
        """Print the two tables."""
        if self.teacher is None or self.photos is None or self.paintings is None or self.heldout is None:
            print("encoder: nothing to compare with; give --teacher, --photos, --paintings and --heldout")
            return
        bars = read_bars(self.bars)
        net, teacher = load_encoder(self.encoder), load_teacher(self.teacher)
        missing = set(TARGETS) - set(net.heads)
        if missing:
            raise OptionError(f"{net.name} has no head at {', '.join(sorted(missing))}; give a distilled encoder")
        pictures = held_out(self.heldout, {"photos": self.photos, "paintings": self.paintings})
        photos, paintings = pictures["photos"][: self.most], pictures["paintings"][: self.most]
        print(f"`{shlex.join(['python', *sys.argv])}`: {net.name} {net.digest}, ", end="")
        print(f"{len(photos)} photographs and {len(paintings)} paintings, float32\n")
        errors = relative_errors(net, teacher, [*photos, *paintings])
        header = (
            "target",
            "relative error",
            "bar",
            "channels",
            "dead, left out",
            "feature pixels left out at each edge",
        )
        rows = [(k, e.error, bar_cell(bars, k, e.error), e.channels, e.dead, border(k)) for k, e in errors.items()]
        print(markdown_table(header, rows))
        if self.painted:
            header = ("rank correlation of style distances", "pairs", "rho", "bar")
            ranks = self.ranks(net, teacher, photos, paintings)
            rows = [(name, n, rho, bar_cell(bars, name, rho, least=True)) for name, n, rho in ranks]
            print("\n" + markdown_table(header, rows))

    def ranks(
        self, net: VGG, teacher: VGG, photos: Sequence[Path], paintings: Sequence[Path]
    ) -> list[tuple[str, int, float]]:
        """Return (name, pairs, rank correlation) for all pairs and for each half."""
        ours, theirs = [], []
        for x, style in [*self.paint(net, photos, paintings), *self.unpainted(photos, paintings)]:
            ours.append(float(style_distances(net, x, style)))
            theirs.append(float(style_distances(teacher, x, style)))
        halves = {"all": slice(None), "painted": slice(self.painted), "not-painted": slice(self.painted, None)}
        return [(k, len(ours[s]), spearman(ours[s], theirs[s])) for k, s in halves.items()]

    def paint(self, net: VGG, photos: Sequence[Path], paintings: Sequence[Path]) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield pictures painted on the encoder, each with its style."""
        compute = choose_compute("cpu")
        rng = np.random.default_rng((self.seed, 0))
        for _ in range(self.painted):
            content, style = self.pair(rng, photos, paintings)
            low, high = map(math.log, CONTENT_WEIGHTS)
            weight = math.exp(rng.uniform(low, high))
            options = OptimizeOptions(size=self.size, iterations=self.iterations, content_weight=weight)
            x = OptimizeStylizer([style], options, net, compute)(content)
            yield x.cpu(), style

    def unpainted(self, photos: Sequence[Path], paintings: Sequence[Path]) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the same number of photographs, each with a painting."""
        rng = np.random.default_rng((self.seed, 1))
        for _ in range(self.painted):
            yield self.pair(rng, photos, paintings)

    def pair(
        self, rng: np.random.Generator, photos: Sequence[Path], paintings: Sequence[Path]
    ) -> tuple[Tensor, Tensor]:
        """Return a random photograph and a random painting at the size of the pairs."""
        paths = (chosen[int(rng.integers(len(chosen)))] for chosen in (photos, paintings))
        content, style = (fit(read_image(p).tensor, self.size, enlarge=True) for p in paths)
        return content, style


@dataclass(frozen=True)
class LayerError:
    """Relative error of one head, the number of channels measured, and the number of dead channels."""

    error: float
    channels: int
    dead: int


@torch.no_grad()
def relative_errors(net: VGG, teacher: VGG, paths: Sequence[Path]) -> dict[str, LayerError]:
    """Return target layer -> error over all pictures. Features are float32, summed in float64, picture by picture."""
    sums: dict[str, Tensor] = {}  # rows: pixels, sum, sum of squares, sum of squared differences; columns: channels
    for path in paths:
        x = read_image(path).tensor
        ours, theirs = net(x, TARGETS), teacher(x, TARGETS)
        for k in TARGETS:
            y, t = behind_head(net, k, ours[k]), behind_head(teacher, k, theirs[k])
            new = torch.stack([torch.ones_like(t), t, t.square(), (y - t).square()]).sum(2)
            sums[k] = sums.get(k, torch.zeros(())) + new
    found = {}
    for k, (pixels, total, squares, errors) in sums.items():
        if not pixels.all():
            raise PictureError(f"no picture is large enough for {k} without its border of {border(k)} feature pixels")
        variance = squares / pixels - (total / pixels).square()
        live = variance > DEAD * variance.mean()
        relative = (errors / pixels)[live] / variance[live]
        found[k] = LayerError(float(relative.mean()), int(live.sum()), int((~live).sum()))
    return found


def behind_head(net: VGG, layer: str, features: Tensor) -> Tensor:
    """Return the features after the layer's head, without the border: (channels, interior pixels), float64."""
    f = net.heads[layer](features) if layer in net.heads else features
    b = border(layer)
    return f[0, :, b:-b, b:-b].flatten(1).double()


def border(layer: str) -> int:
    """Return the number of feature pixels along each edge whose receptive field crosses the picture's edge.

    A 3x3 convolution reaches one of its pixels further on each side. The border is the sum of these reaches in feature
    pixels of the layer, rounded up.
    """
    block, place, depths = block_of(layer), int(layer.rpartition("_")[2]), (2, 2, 4, 4)
    reach = sum(depth * 2**i for i, depth in enumerate(depths[: block - 1])) + place * 2 ** (block - 1)
    return math.ceil(reach / 2 ** (block - 1))


def held_out(heldout: Path, folders: dict[str, Path]) -> dict[str, list[Path]]:
    """Return the list's pictures by folder. All of them must exist."""
    found: dict[str, list[Path]] = {name: [] for name in folders}
    for line in filter(None, map(str.strip, heldout.read_text(encoding="utf-8").splitlines())):
        name, _, rest = line.partition("/")
        if name not in folders:
            raise OptionError(f"{heldout}: {line!r} must start with one of {', '.join(folders)}")
        path = folders[name] / rest
        if not path.is_file():
            raise PictureError(f"{path}, listed in {heldout}, does not exist")
        found[name].append(path)
    for name, paths in found.items():
        if not paths:
            raise OptionError(f"{heldout} lists nothing of {name}/")
    return found


def read_bars(texts: Sequence[str]) -> dict[str, float]:
    try:
        return {name: float(value) for name, _, value in (text.partition("=") for text in texts)}
    except ValueError as error:
        raise OptionError(f"--bars {' '.join(texts)}: each must be NAME=NUMBER, as in relu5_1=0.5") from error


def bar_cell(bars: dict[str, float], name: str, value: float, least: bool = False) -> str:
    """Return a figure's bar and whether it is reached: at most the bar, or at least."""
    if name not in bars:
        return ""
    reached = value >= bars[name] if least else value <= bars[name]
    return f"{'>=' if least else '<='} {bars[name]:g}, {'reached' if reached else 'missed'}"


if __name__ == "__main__":
    try:
        tyro.cli(Encoder)()
    except ImpastoError as error:
        sys.exit(f"encoder: {error}")
