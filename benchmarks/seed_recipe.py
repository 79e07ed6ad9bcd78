"""How soon `optimize`'s way of working reaches the final loss of the classic recipe.

The recipe (preset `gatys`): 5,000 Adam steps at 0.0003 at full size. Ours: the same objective from coarse to fine with
larger steps; what counts is the recipe's own loss at full size in float32. The recipe's curve is run once and kept as a
CSV file (`impasto stylize CONTENT STYLE --preset gatys --run DIR` writes it as DIR/losses.csv); its time is the number
of its steps times the seconds of a step, measured here the way public code runs it.
"""

import csv
import math
import shlex
import statistics
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import skimage
import torch
import tyro
from speed import PlainVGG
from torch import Tensor
from typing_extensions import Doc

from impasto.device import Compute, choose_compute
from impasto.errors import ImpastoError, PictureError
from impasto.image.io import read_image
from impasto.image.resize import resize
from impasto.models.vgg import CONTENT_LAYER, VGG
from impasto.models.weights import load_encoder
from impasto.stylize.gatys import COMPACT_FEATURE_SCALE, LAYER_WEIGHTS, GatysLoss
from impasto.tools.metrics import markdown_table

FULL = Compute(torch.device("cpu"), None)


@dataclass(frozen=True)
class SeedRecipe:
    """Time to the classic recipe's final loss: the recipe's own, and ours."""

    style: Annotated[Path | None, Doc("The painting.")] = None
    curve: Annotated[Path | None, Doc("The recipe's losses.csv on the same pair; its last row is the goal.")] = None
    content: Annotated[Path | None, Doc("The photograph; scikit-image's coffee, 400x526 of it, if not given.")] = None
    scales: Annotated[tuple[float, ...], Doc("Shares of the full size, coarse to fine.")] = (0.25, 0.5, 1.0)
    iterations: Annotated[tuple[int, ...], Doc("Iterations at each; the last scale goes on until the goal.")] = (
        30,
        15,
        60,
    )
    rates: Annotated[tuple[float, ...], Doc("Adam's rate at each, in normalised picture space.")] = (0.08, 0.05, 0.03)
    repeats: Annotated[int, Doc("Timed repetitions; the median counts.")] = 5

    def __call__(self) -> None:
        """Print the table."""
        if self.style is None or self.curve is None:
            print("seed_recipe: give the painting by --style FILE and the recipe's losses by --curve FILE")
            return
        content = benchmark_photo() if self.content is None else read_image(self.content).tensor
        size = (content.shape[2], content.shape[3])
        style = resize(read_image(self.style).tensor, size)
        net = load_encoder("compact")
        FULL.network(net)
        steps, goal = read_goal(self.curve)
        step = plain_seconds(net, content, style, self.repeats)
        runs = [self.race(net, content, style, goal) for _ in range(self.repeats)]
        seconds, counts = statistics.median(r[0] for r in runs), runs[0][1]
        print(f"`{shlex.join(['python', *sys.argv])}`: {size[0]}x{size[1]}, {torch.get_num_threads()} threads\n")
        rows = [
            ("the recipe", f"{steps}", f"{step:.3f}", steps * step, goal),
            ("ours", " + ".join(map(str, counts)), "", seconds, runs[0][2]),
            ("recipe / ours", "", "", steps * step / seconds, ""),
        ]
        print(markdown_table(("run", "steps", "s/step", "seconds to the goal", "recipe's loss, float32"), rows))

    def race(self, net: VGG, content: Tensor, style: Tensor, goal: float) -> tuple[float, list[int], float]:
        """Seconds until the recipe's loss is below the goal, iterations at each scale, and the loss then."""
        begun = time.perf_counter()
        x, counts = content, []
        for share, iterations, rate in zip(self.scales, self.iterations, self.rates, strict=True):
            last = share == self.scales[-1]
            size = (round(content.shape[2] * share), round(content.shape[3] * share))
            compute = FULL if last else choose_compute("cpu")
            loss = gatys_loss(net, compute, resize(content, size), resize(style, size))
            counts.append(0)
            for picture, value in descend(loss, resize(x, size), net, iterations, rate):
                x = picture
                if last and value <= goal:
                    return time.perf_counter() - begun, counts, value
                counts[-1] += 1
        return math.inf, counts, math.nan


def gatys_loss(net: VGG, compute: Compute, content: Tensor, style: Tensor) -> GatysLoss:
    return GatysLoss(
        net, compute, compute.picture(content), compute.picture(style), feature_scale=COMPACT_FEATURE_SCALE
    )


def descend(loss: GatysLoss, start: Tensor, net: VGG, iterations: int, rate: float) -> Iterator[tuple[Tensor, float]]:
    """Adam in normalised picture space; yields a picture and its own loss, the start's first."""
    x = ((FULL.picture(start) - net.mean) / net.std).requires_grad_(True)
    optimiser = torch.optim.Adam([x], lr=rate, betas=(0.9, 0.99))
    for i in range(iterations + 1):
        picture = x * net.std + net.mean
        total = loss(picture)["total"]
        yield picture.detach(), float(total.detach())
        if i < iterations:
            optimiser.zero_grad()
            total.backward()
            optimiser.step()


def plain_seconds(net: VGG, content: Tensor, style: Tensor, repeats: int) -> float:
    """Median seconds of a recipe step as public code runs it: NCHW, float32, raw Gram matrices by autograd, Adam."""
    plain = PlainVGG(net)
    k = COMPACT_FEATURE_SCALE
    with torch.no_grad():
        grams = {n: raw_gram(f * k) for n, f in plain(style).items()}
        target = plain(content)[CONTENT_LAYER] * k
    x = content.clone().contiguous().requires_grad_(True)
    optimiser = torch.optim.Adam([x], lr=0.0003)
    times = []
    for i in range(repeats + 1):
        begun = time.perf_counter()
        features = plain(x)
        total = (features[CONTENT_LAYER] * k - target).square().mean()
        for name, weight in LAYER_WEIGHTS.items():
            f = features[name] * k
            difference = (raw_gram(f) - grams[name]).square().mean()
            total = total + 1e6 * weight * difference / f[0].numel()
        optimiser.zero_grad()
        total.backward()
        optimiser.step()
        if i:
            times.append(time.perf_counter() - begun)
    return statistics.median(times)


def raw_gram(features: Tensor) -> Tensor:
    f = features.flatten(2)[0]
    return f @ f.t()


def read_goal(path: Path) -> tuple[int, float]:
    """The recipe's number of steps and its last total loss."""
    try:
        with path.open(newline="") as file:
            last = list(csv.DictReader(file))[-1]
        return int(last["iteration"]), float(last["total"])
    except (OSError, KeyError, IndexError, ValueError) as error:
        raise PictureError(f"{path} is not a losses.csv of a run: {error}") from error


def benchmark_photo() -> Tensor:
    """The middle of scikit-image's coffee cup, (1, 3, 400, 526)."""
    (path,) = Path(skimage.data_dir).glob("coffee.*")
    return read_image(path).tensor[:, :, :, 37:563]


if __name__ == "__main__":
    try:
        tyro.cli(SeedRecipe)()
    except ImpastoError as error:
        sys.exit(f"seed_recipe: {error}")
