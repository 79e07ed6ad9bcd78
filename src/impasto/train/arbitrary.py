"""Training of the network for any style: paintings instead of a list of styles, and two more things to learn.

Ghiasi, Lee, Kudlur, Dumoulin, Shlens 2017. The loss is that of `painters`. Every style is a part of a painting, as
large or as small as chance has it, so that few paintings are many styles; some are a blend of two. And a painting in
its own style must come back as it is.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..device import Compute
from ..models.arbitrary import ArbitraryNetwork, StyleSummary, save_arbitrary
from ..models.norm import Conditions
from ..models.vgg import VGG
from ..options import TrainArbitraryOptions
from ..style.statistics import raw_moments
from .augment import recolour
from .distance import Distance, metric_of
from .painters import Drawn, PaintersRecipe
from .pictures import PictureSet

PART, PART_ZOOM = 256, (0.6, 1.25)
"""Side of the parts of paintings in pixels, or that of the crops if that is larger; how much they are enlarged."""
CALIBRATION = 256
"""Parts of paintings that tell what styles differ by."""
SHOWN = 8
"""Styles on a sheet of samples."""
ANY = "any"
"""What the one content weight of all styles is called in a network's file."""


@dataclass(frozen=True)
class ArbitraryDrawn(Drawn):
    """A picture of a batch, in a style that is a part of a painting, or a blend of two.

    Parameters
    ----------
    parts : Tensor
        (K, 3, P, P), the parts of paintings.
    share : float
        Of the first of them.
    own : bool
        Whether the photograph is the style's own painting.
    moments : dict of str to Tensor
        Layer -> raw moments (1, C + 1, C + 1) of the style.
    """

    parts: Tensor
    share: float
    own: bool
    moments: dict[str, Tensor] = field(default_factory=dict)

    @property
    def back(self) -> bool:
        """Whether the photograph itself must come back."""
        return self.plain or self.own


class ArbitraryRecipe(PaintersRecipe[ArbitraryDrawn, TrainArbitraryOptions]):
    """The network, paintings and photographs.

    Parameters
    ----------
    net : ArbitraryNetwork
        The network.
    options : TrainArbitraryOptions
        How it is trained.
    paintings, photos : PictureSet
        What it is trained on.
    encoder : VGG
        The frozen network of the loss, and what measures styles.
    compute : Compute
        Device and precision.
    first : float or None
        The content weight to begin with, if it has settled in an earlier training.
    calibrate : bool
        Whether the network has still to be told what styles differ by.
    """

    def __init__(
        self,
        net: ArbitraryNetwork,
        options: TrainArbitraryOptions,
        paintings: PictureSet,
        photos: PictureSet,
        encoder: VGG,
        compute: Compute,
        first: float | None = None,
        calibrate: bool = True,
    ):
        settled = None if first is None else [first]
        super().__init__(net, net.transformer, options, 1, photos, encoder, compute, settled)
        self.arbitrary, self.paintings, self.side = net, paintings, max(PART, options.crop)
        self.metrics = {k: metric_of(encoder, k, options.style_loss) for k in self.layers}
        if calibrate:
            self.calibrate(net)

    def calibrate(self, net: ArbitraryNetwork) -> None:
        """Tell the network what styles differ by, and how colours are read from their moments."""
        rng = np.random.default_rng((self.options.seed, 5))
        found: list[dict[str, Tensor]] = []
        colours: list[Tensor] = []
        for _ in range(CALIBRATION):
            part = torch.stack([self.part(rng)])
            features = self.features(part)
            found.append({k: raw_moments(f) for k, f in features.items()})
            colours.append(raw_moments(torch.cat([self.compute.picture(part).float(), features[net.first].float()], 1)))
        for layer, summary in net.summaries.items():
            assert isinstance(summary, StyleSummary)
            summary.calibrate(torch.cat([m[layer] for m in found]))
        net.colours.calibrate(torch.cat(colours).mean(0))

    @property
    def net(self) -> ArbitraryNetwork:
        """The network."""
        return self.arbitrary

    @property
    def what(self) -> str:
        """What styles it learns from, in words."""
        return f"{len(self.paintings)} paintings"

    def part(self, rng: np.random.Generator) -> Tensor:
        """A part of a painting, (3, P, P), some of them in other colours."""
        x = self.paintings.crop(rng, self.side, PART_ZOOM)
        return recolour(x, rng) if rng.random() < self.options.recoloured else x

    @torch.no_grad()
    def features(self, parts: Tensor) -> dict[str, Tensor]:
        """Layer -> features of parts of paintings (N, 3, P, P), on the device."""
        with self.compute.autocast():
            return self.encoder(self.compute.picture(parts), self.layers)

    def measure(self, parts: Tensor) -> dict[str, Tensor]:
        """Layer -> raw moments of parts of paintings (N, 3, P, P), on the device."""
        return {k: raw_moments(f) for k, f in self.features(parts).items()}

    def draw(self, step: int, pictures: Sequence[int]) -> dict[int, ArbitraryDrawn]:
        """Some pictures of a step's batch, by their numbers, their styles measured."""
        drawn = {i: self.picture(step, i) for i in pictures}
        moments = self.measure(torch.cat([d.parts for d in drawn.values()]))
        first = 0
        for d in drawn.values():
            for k, m in moments.items():
                d.moments[k] = torch.lerp(m[first + len(d.parts) - 1], m[first], d.share)[None]
            first += len(d.parts)
        return drawn

    def picture(self, step: int, i: int) -> ArbitraryDrawn:
        """The picture number i of a step."""
        photo, rng = self.photograph(step, i)
        o = self.options
        plain, own, mixed = (bool(rng.random() < share) for share in (o.identity, o.own, o.mixed))
        parts = torch.stack([self.part(rng) for _ in range(2 if mixed and not own else 1)])
        if own and not plain:
            top, left = (int(v) for v in rng.integers(self.side - o.crop + 1, size=2))
            photo = parts[0, :, top : top + o.crop, left : left + o.crop]
        return ArbitraryDrawn(photo, 0, plain, parts, float(rng.random()) if len(parts) > 1 else 1.0, own)

    def conditions(self, drawn: Sequence[ArbitraryDrawn]) -> Conditions:
        """How the network shall paint them, on the device."""
        moments = {k: torch.cat([d.moments[k] for d in drawn]) for k in self.layers}
        return self.arbitrary.conditions(moments, tuple(0.0 if d.plain else 1.0 for d in drawn))

    def style_losses(self, layer: str, moments: Tensor, drawn: Sequence[ArbitraryDrawn]) -> Tensor:
        """(N,), how far a layer's raw moments (N, C + 1, C + 1) of the paintings are from their styles'."""
        targets = torch.cat([d.moments[layer] for d in drawn])
        distance = Distance(targets, self.metrics[layer], self.options.style_loss)
        return distance(moments, torch.arange(len(drawn)))

    @torch.no_grad()
    def shown(self, count: int) -> list[Conditions]:
        """What a sheet of samples shows: some paintings' styles, each for `count` photographs."""
        rng = np.random.default_rng((self.options.seed, 6))
        moments = self.measure(torch.stack([self.part(rng) for _ in range(SHOWN)]))
        each = [{k: m[i : i + 1].expand(count, -1, -1) for k, m in moments.items()} for i in range(SHOWN)]
        return [self.arbitrary.conditions(m, 1.0) for m in each]

    def write(self, net: nn.Module, path: Path, step: int) -> None:
        """Write the network as a model file."""
        assert isinstance(net, ArbitraryNetwork)
        save_arbitrary(net, path, training=self.account(step), licence="MIT")

    def account(self, step: int) -> dict[str, Any]:
        """How the network was trained, for its file."""
        o = self.options
        known = {"recipe": "impasto train arbitrary", "from": o.base, "paintings": len(self.paintings)}
        known["content_weights"] = {ANY: round(float(self.balance.weights[0]), 5)}
        return {**known, **super().account(step), "own": o.own, "mixed": o.mixed, "recoloured": o.recoloured}
