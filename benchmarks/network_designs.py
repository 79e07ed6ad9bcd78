"""Designs of the network, each trained on the same pictures for the same time, judged on pairs, and timed.

    python benchmarks/network_designs.py PAIRS --folder DATASETS --heldout DATASETS/heldout.txt --minutes 30
    python benchmarks/network_designs.py PAIRS ... --designs default "rank 0" "rank 4" --judge TEACHER

A design is a line in `DESIGNS`: options of `impasto train network`, or classes that replace the project's own. The
number of steps that fit into the time is measured first, so that every schedule runs to its end. --steps gives all
designs the same number of steps instead. A network that exists in --out is not trained again. Losses are those of the
default objective, even if a design was trained with another: means over the pairs, at the size that is judged.
"""

import shlex
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Annotated, Any

import torch
import torch.nn.functional as F
import tyro
from judging import FIGURES, Album, PairOptions, Panel, picture
from speed import interleaved
from torch import Tensor
from typing_extensions import Doc

from impasto.device import choose_compute, freed_memory_kept
from impasto.errors import ImpastoError, OptionError
from impasto.image.resize import fit
from impasto.models.network import Network, load_network
from impasto.models.networks import training_account
from impasto.models.vgg import VGG
from impasto.models.weights import load_encoder
from impasto.options import StylizeOptions, TrainNetworkOptions
from impasto.style.losses import gram_loss, head_metric
from impasto.style.painting import PaintingLoss
from impasto.stylizers.network import NetworkStylizer
from impasto.tools.metrics import markdown_table
from impasto.train.checkpoint import checkpoint_path
from impasto.train.loop import Training, train
from impasto.train.network import NetworkRecipe, Sample
from impasto.train.start import start_network_training

HALF = "half "
"""Prefix of the names of layers at half the size."""
TRIAL, FIRST = 12, 4
"""Number of trial steps, to find out how many fit into the time, and how many of them are not timed, as warm-up."""
PASSES = 7
"""Timed passes of each design; the median is reported."""


class WithoutPhotograph(Network):
    """Keeps nothing of the photograph: the painting is all paint."""

    def predict(self, moments: Mapping[str, Tensor]) -> Tensor:
        """Return the affines (N, `layout.size`), without a share of the photograph."""
        affine = super().predict(moments).clone()
        affine[:, self.layout.parts["photo"]] = 0
        return affine


class GramLoss(PaintingLoss):
    """Uses Gram matrices, after the encoder's heads, as the style loss."""

    def style_loss(self, layer: str, moments: Tensor, target: Tensor) -> Tensor:
        """Return a layer's style loss, (N,)."""
        return gram_loss(moments, target, gram_metric(self.encoder, layer))


@cache
def gram_metric(encoder: VGG, layer: str) -> Tensor | None:
    """Return the metric for a layer's raw moments, computed once."""
    return head_metric(encoder, layer)


class TwoSizesRecipe(NetworkRecipe):
    """Also measures styles at half the size."""

    def targets(self, samples: list[Sample]) -> dict[str, Tensor]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Return the raw moments of each style layer, at full and at half size."""
        small = [replace(s, parts=F.avg_pool2d(s.parts, 2), size=s.size / 2) for s in samples]
        return super().targets(samples) | {HALF + k: m for k, m in super().targets(small).items()}


class TwoSizesLoss(PaintingLoss):
    """The mean of the losses at full size and at half size."""

    def __call__(
        self, paintings: Tensor, photos: Tensor, targets: Mapping[str, Tensor], colours: Tensor
    ) -> dict[str, Tensor]:
        """Return the weighted terms, (N,) each."""
        whole = super().__call__(paintings, photos, targets, colours)
        below = {k: targets[HALF + k] for k in self.style}
        half = super().__call__(F.avg_pool2d(paintings, 2), F.avg_pool2d(photos, 2), below, colours)
        return {k: (term + half[k]) / 2 for k, term in whole.items()}


@dataclass(frozen=True)
class Design:
    """The differences from the default design.

    Parameters
    ----------
    options : dict
        Fields of TrainNetworkOptions.
    network, recipe, loss : type
        Classes that replace the project's own. They must not add state.
    """

    options: Mapping[str, Any] = field(default_factory=dict)
    network: type[Network] = Network
    recipe: type[NetworkRecipe] = NetworkRecipe
    loss: type[PaintingLoss] = PaintingLoss

    def start(self, options: TrainNetworkOptions) -> Training:
        """Return a training of the design, like `start_network_training`."""
        training = start_network_training(replace(options, **self.options))
        recipe = training.recipe
        assert isinstance(recipe, NetworkRecipe)
        recipe.net.__class__, recipe.__class__, recipe.distance.__class__ = self.network, self.recipe, self.loss
        return training

    def load(self, path: Path) -> tuple[Network, int]:
        """Return its network and the number of steps that it was trained for."""
        net, metadata = load_network(path)
        net.__class__ = self.network
        return net, int(training_account(metadata)["steps"])


DESIGNS = {
    "default": Design(),
    "width 24": Design({"width": 24}),
    "width 48": Design({"width": 48}),
    "rank 0": Design({"rank": 0}),
    "rank 4": Design({"rank": 4}),
    "blocks 0": Design({"blocks": 0}),
    "blocks 5": Design({"blocks": 5}),
    "fine 2": Design({"fine": 2}),
    "hidden 68": Design({"hidden": 68}),
    "gram": Design(loss=GramLoss),
    "loss at two sizes": Design(recipe=TwoSizesRecipe, loss=TwoSizesLoss),
    "no photograph": Design(network=WithoutPhotograph),
}
"""Name -> design."""


@dataclass(frozen=True, kw_only=True)
class NetworkDesigns(PairOptions):
    """Train designs, unless their files exist, then judge and time them."""

    heldout: Annotated[Path, Doc("A list of pictures to leave out of training, one per line.")]
    designs: Annotated[tuple[str, ...], Doc("The designs; times are relative to the first.")] = tuple(DESIGNS)
    minutes: Annotated[float, Doc("Minutes of training for each.")] = 30.0
    steps: Annotated[int | None, Doc("Steps for each, instead of minutes.")] = None
    batch: Annotated[int, Doc("Pictures per step.")] = TrainNetworkOptions.batch
    crop: Annotated[int, Doc("Side of the pictures, in pixels.")] = 192
    device: Annotated[str, Doc("`auto`, `cpu`, `cuda` or `mps`.")] = "auto"
    out: Annotated[Path, Doc("Folder for the networks, NAME.safetensors, and their paintings, NAME/NN.png.")] = Path(
        "out/network/designs"
    )

    def __call__(self) -> None:
        """Train, judge, and print the table."""
        for name in self.designs:
            if name not in DESIGNS:
                raise OptionError(f"there is no design {name!r}; choose from {', '.join(DESIGNS)}")
        panel = Panel(self.judge)
        rows: list[tuple[object, ...]] = []
        passes: list[Callable[[], Tensor]] = []
        for name in self.designs:
            path = self.out / f"{name.replace(' ', '-')}.safetensors"
            if not path.is_file():
                self.train(name, path)
            net, steps = DESIGNS[name].load(path)
            album = Album(path.with_suffix(""), panel)
            losses, paint = self.paint(net, album)
            rows.append((name, sum(p.numel() for p in net.parameters()), steps, *album.figures, *losses))
            passes.append(paint)
            print(*rows[-1], file=sys.stderr, flush=True)
        times = [statistics.median(t) for t in interleaved(passes, PASSES)]
        print(f"`{shlex.join(['python', *sys.argv])}`, {panel}\n")
        header = ("design", "parameters", "steps", *FIGURES, "loss", "style", "content", "time")
        print(markdown_table(header, [(*row, t / times[0]) for row, t in zip(rows, times, strict=True)]))

    def train(self, name: str, path: Path) -> None:
        """Train a design and write its network."""
        design, part = DESIGNS[name], path.with_suffix(".part.safetensors")
        path.parent.mkdir(parents=True, exist_ok=True)
        o = TrainNetworkOptions(
            photos=(self.folder / "photos",),
            paintings=(self.folder / "paintings",),
            exclude=self.heldout,
            out=part,
            steps=TRIAL,
            batch=self.batch,
            crop=self.crop,
            device=self.device,  # type: ignore[arg-type]
        )
        steps = self.steps or self.affordable(design, o)
        training = design.start(replace(o, steps=steps, warm_up=min(o.warm_up, steps // 20), checkpoint_every=steps))
        with closing(train(training)) as running, freed_memory_kept():
            for step in running:
                if step.step % 100 == 0 or step.step == steps:
                    print(name, f"{step.step}/{steps}", step.figures, file=sys.stderr, flush=True)
        part.replace(path)
        checkpoint_path(part).unlink(missing_ok=True)

    def affordable(self, design: Design, o: TrainNetworkOptions) -> int:
        """Return how many steps of a design fit into the time."""
        training, times = design.start(o), list[float]()
        with closing(training.batches()) as batches, freed_memory_kept():
            for _ in range(TRIAL):
                begun = time.perf_counter()
                training.advance(batches)
                times.append(time.perf_counter() - begun)
        return max(1, round(60 * self.minutes / statistics.mean(times[FIRST:])))

    def paint(self, net: Network, album: Album) -> tuple[tuple[float, float, float], Callable[[], Tensor]]:
        """Paint the pairs. Return the means of loss, style and content, and a function that runs one pass."""
        compute, encoder, options = (
            choose_compute("cpu"),
            load_encoder("compact"),
            StylizeOptions(method="network", scale=1.0),
        )
        defaults = TrainNetworkOptions(photos=(), out=Path())
        weights = {k: getattr(defaults, k) for k in ("content_weight", "tone_weight", "tv_weight")}
        loss = PaintingLoss(encoder, choose_compute("cpu", "float32"), **weights)
        found: list[tuple[float, float, float]] = []
        paint: Callable[[], Tensor] | None = None
        for pair in self.listed():
            photo = fit(picture(pair.photo), self.size, enlarge=True)
            stylizer = NetworkStylizer(net, [picture(pair.painting)], options, encoder, compute)
            image = stylizer(photo)
            album.add(pair, image)
            with torch.no_grad():
                style_of = stylizer.styles[0].at(max(photo.shape[-2:]))
                terms = loss(image, photo, style_of, net.style_colours(style_of))
            style, content = float(terms["style"]), float(terms["content"])
            found.append((sum(map(float, terms.values())), style, content))
            paint = paint or (lambda stylizer=stylizer, photo=photo: stylizer(photo))
        assert paint is not None
        total, style, content = (statistics.mean(column) for column in zip(*found, strict=True))
        return (total, style, content), paint


if __name__ == "__main__":
    try:
        tyro.cli(NetworkDesigns)()
    except ImpastoError as error:
        sys.exit(f"network_designs: {error}")
