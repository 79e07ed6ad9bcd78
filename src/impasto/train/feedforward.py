"""Training of feed-forward networks: one image transformation network, one or many styles.

Johnson, Alahi, Fei-Fei 2016; Dumoulin, Shlens, Kudlur 2017. The loss is that of `painters`.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..device import Compute
from ..models.colours import ColourReader
from ..models.norm import Conditions
from ..models.transformer import Transformer, save_transformer
from ..models.vgg import VGG
from ..options import TrainLearntOptions
from ..style.statistics import raw_moments
from .distance import Distance, metric_of
from .painters import Drawn, PaintersRecipe
from .pictures import PictureSet

STROKES = (0.5, 0.5**0.5, 1.0, 2**0.5, 2.0)
"""Sizes of the strokes that are trained on, over `--style-scale`."""
READ_PHOTOS = 32
"""Photographs from which it is told how colours are read from the encoder's features."""
SHOWN = 8
"""Styles on a sheet of samples."""

Styles = Mapping[str, Sequence[Mapping[str, Tensor]]]
"""Name -> for each of `STROKES`: layer -> raw moments (1, C + 1, C + 1) of the encoder's features."""


@dataclass(frozen=True)
class LearntDrawn(Drawn):
    """A picture of a batch, in one of the network's styles; `stroke` is an index of `STROKES`."""

    stroke: int


class FeedforwardRecipe(PaintersRecipe[LearntDrawn, TrainLearntOptions]):
    """The network, its styles as what the loss aims at, and the photographs.

    Parameters
    ----------
    net : Transformer
        The network; what of it requires no gradient does not learn.
    options : TrainLearntOptions
        How it is trained.
    styles : Styles
        What the loss aims at, for each of the network's styles.
    photos : PictureSet
        What it is trained on.
    encoder : VGG
        The frozen network of the loss.
    compute : Compute
        Device and precision.
    first : sequence of float or None
        The content weights to begin with, if they have settled in an earlier training.
    """

    def __init__(
        self,
        net: Transformer,
        options: TrainLearntOptions,
        styles: Styles,
        photos: PictureSet,
        encoder: VGG,
        compute: Compute,
        first: Sequence[float] | None = None,
    ):
        super().__init__(net, net, options, len(styles), photos, encoder, compute, first)
        targets = [m for strokes in styles.values() for m in strokes]
        self.distances = {
            k: Distance(
                torch.cat([m[k] for m in targets]).to(compute.device),
                metric_of(encoder, k, options.style_loss),
                options.style_loss,
            )
            for k in self.layers
        }
        if net.config.colours:
            read = self.layers[0]
            middles = torch.cat([strokes[STROKES.index(1.0)][read] for strokes in styles.values()])
            net.colours.copy_(self.colours_of(read, middles.to(compute.device)))

    @torch.no_grad()
    def colours_of(self, layer: str, moments: Tensor) -> Tensor:
        """The raw moments (S, 4, 4) of styles' colours, by those of their features at the first style layer."""
        photos = self.compute.picture(self.sample(READ_PHOTOS))
        with self.compute.autocast():
            features = self.encoder(photos, [layer])[layer]
        reader = ColourReader(features.shape[1]).to(photos.device)
        reader.calibrate(raw_moments(torch.cat([photos.float(), features.float()], 1)).mean(0))
        colours = reader(moments)
        k, m = colours[:, :, :3], colours[:, :, 3:]
        both = torch.cat([k + m @ m.transpose(1, 2), m], 2)
        return torch.cat([both, torch.cat([m.transpose(1, 2), torch.ones_like(m[:, :1])], 2)], 1)

    @property
    def net(self) -> Transformer:
        """The network."""
        return self.transformer

    @property
    def what(self) -> str:
        """What styles it learns from, in words."""
        return f"{self.styles} styles"

    def draw(self, step: int, pictures: Sequence[int]) -> dict[int, LearntDrawn]:
        """Some pictures of a step's batch, by their numbers."""
        return {i: self.picture(step, i) for i in pictures}

    def picture(self, step: int, i: int) -> LearntDrawn:
        """The picture number i of a step."""
        o = self.options
        photo, rng = self.photograph(step, i)
        # Every style once, in an order of its own, before any comes again.
        number = step * o.batch + i
        order = np.random.default_rng((o.seed, 2, number // self.styles)).permutation(self.styles)
        plain, other = rng.random() < o.identity, rng.random() < o.strokes
        stroke = int(rng.integers(len(STROKES))) if other else STROKES.index(1.0)
        return LearntDrawn(photo, int(order[number % self.styles]), bool(plain), stroke)

    def conditions(self, drawn: Sequence[LearntDrawn]) -> Conditions:
        """How the network shall paint them, on the device."""
        weights = Conditions.of(torch.tensor([d.style for d in drawn]), self.styles).weights
        strength = tuple(0.0 if d.plain else 1.0 for d in drawn)
        stroke = torch.tensor([math.log2(STROKES[d.stroke]) for d in drawn])[:, None]
        return Conditions(weights, strength, stroke * weights).to(self.compute.device)

    def style_losses(self, layer: str, moments: Tensor, drawn: Sequence[LearntDrawn]) -> Tensor:
        """(N,), how far a layer's raw moments (N, C + 1, C + 1) of the paintings are from their styles'."""
        index = torch.tensor([len(STROKES) * d.style + d.stroke for d in drawn])
        return self.distances[layer](moments, index)

    def shown(self, count: int) -> list[Conditions]:
        """What a sheet of samples shows: up to eight of the styles, each for `count` photographs."""
        columns = range(0, self.styles, max(1, self.styles // SHOWN))[:SHOWN]
        return [Conditions.of(torch.full((count,), i), self.styles).to(self.compute.device) for i in columns]

    def write(self, net: nn.Module, path: Path, step: int) -> None:
        """Write the network as a model file."""
        assert isinstance(net, Transformer)
        save_transformer(net, path, training=self.account(step), licence="MIT")

    def account(self, step: int) -> dict[str, Any]:
        """How the network was trained, for its file."""
        o = self.options
        known = {"recipe": "impasto train feedforward", "from": o.base, **super().account(step), "picture": o.picture}
        weights = [round(float(w), 5) for w in self.balance.weights]
        return {**known, "content_weights": dict(zip(self.net.config.styles, weights, strict=True))}
