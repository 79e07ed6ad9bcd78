"""Time to the classic recipe's final loss: the recipe itself, one-scale baselines, and coarse to fine.

The recipe (preset `gatys`) is 5,000 Adam steps at 0.0003 at full size. Its curve was recorded once and is next to this
file. Its time is the number of its steps times the seconds per step, measured here as run by public code. The
baselines, Adam at 0.02 and L-BFGS, run the same way. Ours starts from the photo like the recipe, minimises the same
objective on smaller pictures, adds the change to the full-size picture, and ends with steps at full size, in bfloat16
if the processor supports it. The goal is the recipe's loss at full size in float32, evaluated after each full-size
step. Each run of ours is a separate process. Its time includes targets, first calls and these evaluations, but not
imports and reading files.
"""

import copy
import math
import shlex
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated

import skimage
import torch
import torch.nn.functional as F
import tyro
from speed import PlainVGG, random_vgg19
from torch import Tensor
from typing_extensions import Doc

from impasto.device import Compute, choose_compute
from impasto.errors import ImpastoError, PictureError
from impasto.image.color import match_palette
from impasto.image.read import read_image
from impasto.image.resize import fit_size, resize
from impasto.models.moments import gram_matrix
from impasto.models.vgg import CONTENT_LAYER, VGG
from impasto.models.weights import load_encoder
from impasto.stylizers.gatys import COMPACT_FEATURE_SCALE, LAYER_WEIGHTS, GatysLoss
from impasto.stylizers.schedule import GATYS_SHORT_SIDE
from impasto.tools.metrics import markdown_table

CURVE = Path(__file__).with_suffix(".csv")
FULL = Compute(torch.device("cpu"), None)
HEADER = ("run", "steps", "s/step", "seconds to the goal", "loss", "recipe / run", "run / ours")
HISTORY = 8
"""Pairs of steps and gradient changes that L-BFGS remembers."""
FIRST_STEP = 1.25
"""Length of its first step relative to Polyak's step, at which a linear loss would be zero."""


@dataclass(frozen=True)
class Run:
    """A run to the goal: steps at each size, seconds to the goal (inf if it gave up), and the last loss."""

    steps: tuple[int, ...]
    seconds: float
    loss: float

    def row(self, recipe: float, ours: float) -> tuple[object, ...]:
        """Return the table's figures; `recipe` and `ours` are seconds."""
        steps, ratios = " + ".join(map(str, self.steps)), (recipe / self.seconds, self.seconds / ours)
        return steps, self.seconds / sum(self.steps), self.seconds, f"{self.loss:.4g}", *(f"{r:.4g}" for r in ratios)


@dataclass(frozen=True)
class SeedRecipe:
    """Time to the classic recipe's final loss: the recipe, two baselines, and ours."""

    style: Annotated[Path | None, Doc("The painting, which is not included in the project.")] = None
    curve: Annotated[Path, Doc("The recipe's losses on the same pair; the last row is the goal.")] = CURVE
    photo: Annotated[str, Doc("Name of a scikit-image photograph, used at a short side of 400.")] = "coffee"
    shares: Annotated[tuple[float, ...], Doc("Ours: coarse sizes relative to full size.")] = (0.125, 0.25, 0.5)
    steps: Annotated[tuple[int, ...], Doc("Ours: steps at each of them.")] = (6, 4, 4)
    repeats: Annotated[int, Doc("Timed repetitions of ours and of single steps; the median is reported.")] = 5
    patience: Annotated[float, Doc("Give up a run after this many seconds.")] = 600
    others: Annotated[tuple[str, ...], Doc("More pairs for ours, each PHOTO=FILE.")] = ()

    def __call__(self) -> None:
        """Print the tables."""
        if self.style is None:
            print("seed_recipe: give the painting of the recipe's curve by --style FILE")
            return
        steps, first, goal = read_curve(self.curve)
        content, style = read_pair(self.photo, self.style)
        print(f"`{shlex.join(['python', *sys.argv])}`: {torch.get_num_threads()} threads, ", end="")
        print(f"ours in {choose_compute('cpu')}, medians of {self.repeats}\n")
        ours = self.race(self.photo, self.style, goal)
        plain = PlainVGG(load_encoder("compact"))
        recipe = steps * plain_step_seconds(plain, content, style, self.repeats)
        runs = {
            "the recipe": Run((steps,), recipe, goal),
            "Adam at 0.02, one scale": self.baseline(plain, content, style, goal, "adam"),
            "L-BFGS, one scale": self.baseline(plain, content, style, goal, "lbfgs"),
            "ours": ours,
        }
        print(markdown_table(HEADER, [(name, *run.row(recipe, ours.seconds)) for name, run in runs.items()]))
        with torch.no_grad():
            exact = gatys_loss(load_encoder("compact"), FULL, content, style)
            recoloured = float(exact(match_palette(content, style))["total"])
        print(f"\nThe goal is {goal / first:.2%} of the first loss; ", end="")
        print(f"the photo with the painting's mean and covariance of colours is at {recoloured / first:.2%}.\n")
        self.extrapolate(steps, ours.steps, content, style)
        if self.others:
            print("\nOther pairs, ours, to the same share of their first loss:\n")
            pairs = [pair.split("=", 1) for pair in self.others]
            others = [(p, Path(s).stem, self.race(p, Path(s), goal / first)) for p, s in pairs]
            print(markdown_table(HEADER[:5], [(f"{p}, {s}", *run.row(recipe, 1)[:4]) for p, s, run in others]))

    def race(self, photo: str, style: Path, goal: float) -> Run:
        """Return our run with the median time, each in a fresh process."""
        runs = []
        for _ in range(self.repeats):
            with ProcessPoolExecutor(1, get_context("spawn")) as pool:
                runs.append(pool.submit(self.ours, photo, style, goal).result())
        return sorted(runs, key=lambda r: r.seconds)[len(runs) // 2]

    def ours(self, photo: str, style_file: Path, goal: float) -> Run:
        """Run from coarse to fine, then at full size to the goal. A goal below 1 is a share of the first loss."""
        content, style = read_pair(photo, style_file)
        size, net, low = (content.shape[2], content.shape[3]), load_encoder("compact"), choose_compute("cpu")
        if goal < 1:
            goal *= float(gatys_loss(net, FULL, content, style)(content)["total"])
        begun, x = time.perf_counter(), FULL.picture(content)
        for share, steps in zip(self.shares, self.steps, strict=True):
            small = shrunk(size, share)
            loss = gatys_loss(net, low, resize(content, small), resize(style, small))
            start = enlarge(x, small)
            *_, end = (p for _, p in zip(range(steps), lbfgs(loss, start), strict=False))
            x = x + enlarge(end - start, size)  # finer detail stays as in the photo
        exact = gatys_loss(net, FULL, content, style)
        loss = copy.copy(exact)  # the same targets, but bfloat16
        loss.compute = low
        for i, picture in enumerate(lbfgs(loss, x), start=1):
            with torch.no_grad():
                value = float(exact(picture)["total"])
            seconds = time.perf_counter() - begun
            if value <= goal or seconds > self.patience:
                return Run((*self.steps, i), seconds if value <= goal else math.inf, value)
        raise AssertionError("L-BFGS never ends")

    def baseline(self, plain: PlainVGG, content: Tensor, style: Tensor, goal: float, optimiser: str) -> Run:
        """Run at one scale, the plain way. As in the recipe, the normalised picture is optimised."""
        begun, loss = time.perf_counter(), plain_loss(plain, content, style)
        x = ((content - plain.mean) / plain.std).contiguous().requires_grad_(True)
        # With one iteration per call, L-BFGS evaluates the loss once. Its tolerances are for smaller losses.
        quasi_newton = torch.optim.LBFGS([x], max_iter=1, tolerance_grad=0, tolerance_change=0)
        chosen = torch.optim.Adam([x], lr=0.02) if optimiser == "adam" else quasi_newton
        steps = 0
        while True:
            total = loss(x * plain.std + plain.mean)
            value, seconds = float(total.detach()), time.perf_counter() - begun
            if value <= goal or seconds > self.patience:
                return Run((steps,), seconds if value <= goal else math.inf, value)
            chosen.zero_grad()
            total.backward()
            chosen.step(lambda value=value: value)
            steps += 1

    def extrapolate(self, recipe_steps: int, counts: tuple[int, ...], content: Tensor, style: Tensor) -> None:
        """Print the time of the same steps on VGG-19's shape."""
        net, low, size = random_vgg19(), choose_compute("cpu"), (content.shape[2], content.shape[3])
        recipe = recipe_steps * plain_step_seconds(PlainVGG(net), content, style, self.repeats)
        exact, x = gatys_loss(net, FULL, content, style), FULL.picture(content)
        with torch.no_grad():
            rows, steps, rest = [], 0.0, median_seconds(lambda: exact(x), self.repeats)
        for share, count in zip((*self.shares, 1.0), counts, strict=True):
            small = shrunk(size, share)
            pair, compute = (resize(content, small), resize(style, small)), FULL if share == 1 else low
            targets = median_seconds(lambda pair=pair, compute=compute: gatys_loss(net, compute, *pair), self.repeats)
            loss, x = gatys_loss(net, low, *pair), FULL.picture(pair[0]).requires_grad_(True)
            step = median_seconds(lambda loss=loss, x=x: torch.autograd.grad(loss(x)["total"], x), self.repeats)
            rows.append((f"{small[0]}x{small[1]}", count, step, targets))
            steps, rest = steps + count * step, rest + targets
        print("VGG-19's shape, random weights; an extrapolation from the steps above, not a run:\n")
        print(markdown_table(("size", "steps", "s/step, ours", "s for targets"), rows))
        totals = {"the recipe": recipe, "ours, steps": steps, "ours, with targets and a float32 look": steps + rest}
        rows = [(name, seconds, recipe / seconds) for name, seconds in totals.items()]
        print("\n" + markdown_table(("run", "seconds", "recipe / run"), rows))


def lbfgs(loss: GatysLoss, x: Tensor) -> Iterator[Tensor]:
    """Yield the picture after each step of L-BFGS. A step that increases the loss is reverted and quartered.

    Evaluates the loss once per step, without line search. The first step assumes that the smallest loss is near zero.
    """
    pairs: list[tuple[Tensor, Tensor]] = []
    last: tuple[Tensor, float, Tensor] | None = None
    step = torch.zeros_like(x)
    while True:
        x = x.detach().requires_grad_(True)
        total = loss(x)["total"]
        value = float(total.detach())
        if last is not None and value > last[1]:
            step = step / 4
            x = last[0] + step
        else:
            (gradient,) = torch.autograd.grad(total, x)
            x = x.detach()
            if last is not None and dot(step, gradient - last[2]) > 0:
                pairs = [*pairs, (step, gradient - last[2])][-HISTORY:]
            last = x, value, gradient
            step = -preconditioned(gradient, pairs, FIRST_STEP * value / dot(gradient, gradient))
            x = x + step
        yield x


def preconditioned(gradient: Tensor, pairs: list[tuple[Tensor, Tensor]], first: float) -> Tensor:
    """Return L-BFGS's inverse Hessian, from pairs (s, y), times the gradient; without pairs, `first` times it."""
    q, shares = gradient, []
    for s, y in reversed(pairs):
        shares.append(dot(s, q) / dot(s, y))
        q = q - shares[-1] * y
    q = q * (dot(*pairs[-1]) / dot(pairs[-1][1], pairs[-1][1]) if pairs else first)
    for (s, y), share in zip(pairs, reversed(shares), strict=True):
        q = q + s * (share - dot(y, q) / dot(s, y))
    return q


def dot(a: Tensor, b: Tensor) -> float:
    return float((a * b).sum())


def enlarge(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize to a larger or smaller (H, W) without clamping: pictures exceed [0, 1] here, as in the recipe."""
    return F.interpolate(x, size, mode="bicubic", align_corners=False, antialias=True)


def shrunk(size: tuple[int, int], share: float) -> tuple[int, int]:
    return round(size[0] * share), round(size[1] * share)


def gatys_loss(net: VGG, compute: Compute, content: Tensor, style: Tensor) -> GatysLoss:
    compute.network(net)
    scale = COMPACT_FEATURE_SCALE if net.heads else 1.0
    return GatysLoss(net, compute, compute.picture(content), compute.picture(style), feature_scale=scale)


def plain_loss(plain: PlainVGG, content: Tensor, style: Tensor) -> Callable[[Tensor], Tensor]:
    """Return the recipe's loss as public code computes it: NCHW, float32, raw Gram matrices by autograd."""
    k = COMPACT_FEATURE_SCALE if plain.heads else 1.0
    with torch.no_grad():
        grams = {n: gram_matrix(f * k, normalise=False) for n, f in plain(style).items()}
        target = plain(content)[CONTENT_LAYER] * k

    def loss(x: Tensor) -> Tensor:
        features = plain(x)
        total = (features[CONTENT_LAYER] * k - target).square().mean()
        for name, weight in LAYER_WEIGHTS.items():
            f = features[name] * k
            difference = (gram_matrix(f, normalise=False) - grams[name]).square().mean()
            total = total + 1e6 * weight * difference / f[0].numel()
        return total

    return loss


def plain_step_seconds(plain: PlainVGG, content: Tensor, style: Tensor, repeats: int) -> float:
    """Return the median seconds of the recipe's loss and gradient the plain way, without Adam's update."""
    loss, x = plain_loss(plain, content, style), content.clone().contiguous().requires_grad_(True)
    return median_seconds(lambda: torch.autograd.grad(loss(x), x), repeats)


def median_seconds(work: Callable[[], object], repeats: int) -> float:
    """Return the median seconds of the repetitions, after a warm-up."""
    times = []
    for _ in range(repeats + 1):
        begun = time.perf_counter()
        work()
        times.append(time.perf_counter() - begun)
    return statistics.median(times[1:])


def read_curve(path: Path) -> tuple[int, float, float]:
    """Return the recipe's number of steps, and its first and last total loss."""
    try:
        rows = [row.split(",") for row in path.read_text().splitlines() if not row.startswith("#")]
        iteration, total = rows[0].index("iteration"), rows[0].index("total")
        return int(rows[-1][iteration]), float(rows[1][total]), float(rows[-1][total])
    except (OSError, IndexError, ValueError) as error:
        raise PictureError(f"{path} is not the losses.csv of a run: {error}") from error


def read_pair(photo: str, style: Path) -> tuple[Tensor, Tensor]:
    """Read scikit-image's photograph at a short side of 400 (of `coffee`, the middle 526 columns), and the painting."""
    found = next(iter(Path(skimage.data_dir).glob(f"{photo}.*")), None)
    if found is None:
        raise PictureError(f"scikit-image has no photograph {photo!r} here; coffee, astronaut and chelsea come with it")
    x = read_image(found).tensor
    if photo == "coffee":
        x = x[:, :, :, 37:563]
    x = resize(x, fit_size((x.shape[2], x.shape[3]), short_side=GATYS_SHORT_SIDE, enlarge=True))
    return x, resize(read_image(style).tensor, (x.shape[2], x.shape[3]))


if __name__ == "__main__":
    try:
        tyro.cli(SeedRecipe)()
    except ImpastoError as error:
        sys.exit(f"seed_recipe: {error}")
