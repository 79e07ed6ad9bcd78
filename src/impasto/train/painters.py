"""The loss that networks which paint are trained with, whatever they know of a style.

Johnson, Alahi, Fei-Fei 2016: content, style and total variation through a frozen encoder. Every style loss is relative
to its style, so it says the same of all of them; and each style's content weight settles where the content stays as far
from the photograph as was asked for. So no weight has to be guessed for a style.

Two more losses. A share of the pictures is painted with strength 0, and compared with the photograph itself: what the
norms' plain maps are learnt from (`models.norm`). And a picture that is moved a little, with a little noise, must be
painted alike: the loss against flicker.
"""

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from ..device import Compute
from ..models.norm import PER_STYLE, Conditions
from ..models.padding import reflection_pad
from ..models.transformer import Transformer
from ..models.vgg import VGG
from ..options import TrainPaintersOptions
from ..style.losses import content_loss, content_spread, total_variation
from ..style.statistics import raw_moments
from .balance import ContentBalance
from .distance import style_and_content_layers
from .move import moved
from .optimisers import Optimisers
from .photographs import PhotographsRecipe
from .pictures import PictureSet

MARGIN = 8
"""Pixels by which paintings are continued before the encoder sees them, as in `optimize`."""
IDENTITY_WEIGHT = 60.0
"""Weight of the mean squared difference to the photograph where that is what must come back."""
FOLLOW = 0.1
"""How far the statistics of strength 0 go towards those of a step."""
STABILITY_EVERY, MOST_NOISE = 4, 0.03
"""One picture in so many is painted a second time, moved, with noise of up to that deviation."""
SPREAD_PHOTOS, LEAST_SPREAD = 32, 0.1
"""Photographs whose content features' mean spread is taken, and the least share of it that a photograph has."""


@dataclass(frozen=True)
class Drawn:
    """A picture of a batch.

    Parameters
    ----------
    photo : Tensor
        (3, S, S), in [0, 1].
    style : int
        Which content weight is its.
    plain : bool
        Whether it is painted with strength 0.
    """

    photo: Tensor
    style: int
    plain: bool

    @property
    def back(self) -> bool:
        """Whether the photograph itself must come back."""
        return self.plain


D = TypeVar("D", bound=Drawn)
Options = TypeVar("Options", bound=TrainPaintersOptions)


class PaintersRecipe(PhotographsRecipe[Options], Generic[D, Options]):
    """A network that paints, the photographs, and the encoder of its loss.

    Parameters
    ----------
    net : nn.Module
        The network: (picture, conditions) -> painting. What of it requires no gradient does not learn.
    transformer : Transformer
        The image transformation network that it is, or has.
    options : TrainPaintersOptions
        How it is trained.
    styles : int
        How many content weights there are.
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
        net: nn.Module,
        transformer: Transformer,
        options: Options,
        styles: int,
        photos: PictureSet,
        encoder: VGG,
        compute: Compute,
        first: Sequence[float] | None = None,
    ):
        super().__init__(net, options, photos, compute)
        self.encoder, self.transformer, self.styles = encoder, transformer, styles
        self.layers, self.content_layer = style_and_content_layers(encoder)
        inner = [w for w in transformer.inner_weights() if w.requires_grad]
        shared = [p for n, p in transformer.named_parameters() if n.rpartition(".")[2] not in PER_STYLE]
        known, mine = ({id(p) for p in tensors} for tensors in (shared, inner))
        learning = [p for p in net.parameters() if p.requires_grad and p.numel() and id(p) not in mine]
        others = [p for p in learning if id(p) in known], [p for p in learning if id(p) not in known]
        self.optimisers = Optimisers(
            inner, options.rate, *zip(others, (options.small_rate, options.style_rate), strict=True)
        )
        self.balance = ContentBalance(styles, options.content, options.content_weight, first)

    @cached_property
    def least_spread(self) -> float:
        """What a photograph's content features count as spread out at least: some crops are of one colour."""
        photos = self.compute.picture(self.sample(SPREAD_PHOTOS))
        with torch.no_grad(), self.compute.autocast():
            features = self.encoder(reflection_pad(photos, MARGIN), [self.content_layer])[self.content_layer]
        return LEAST_SPREAD * float(content_spread(self.encoder.wide(self.content_layer, features.float())).mean())

    @abstractmethod
    def draw(self, step: int, pictures: Sequence[int]) -> dict[int, D]:
        """Some pictures of a step's batch, by their numbers."""

    @abstractmethod
    def conditions(self, drawn: Sequence[D]) -> Conditions:
        """How the network shall paint them, on the device."""

    @abstractmethod
    def style_losses(self, layer: str, moments: Tensor, drawn: Sequence[D]) -> Tensor:
        """(N,), how far a layer's raw moments (N, C + 1, C + 1) of the paintings are from their styles'."""

    def loss(self, step: int, pictures: Sequence[int]) -> tuple[Tensor, dict[str, Tensor]]:
        """The sum of the pictures' losses; the sums of their terms, and of each style's content and count."""
        drawn = self.draw(step, pictures)
        back = [d for d in drawn.values() if d.back]
        styled = {i: d for i, d in drawn.items() if not d.back}
        total = torch.zeros((), device=self.compute.device)
        found = dict.fromkeys(("style", "content", "tv", "styled", "stability", "identity"), total)
        found |= {k: torch.zeros(self.styles) for k in ("contents", "styles", "counts")}  # the same in every process
        self.net.train()
        if styled:
            x = self.compute.picture(torch.stack([d.photo for d in styled.values()]))
            y = self.paint(x, self.conditions(list(styled.values())))
            total, terms = self._styled(x, y, list(styled.values()))
            found |= terms
            tried = [(k, d) for k, (i, d) in enumerate(styled.items()) if i % STABILITY_EVERY == 0]
            for k, d in tried if self.options.stability else ():
                rng = np.random.default_rng((self.options.seed, 3, step, list(styled)[k]))
                flicker = STABILITY_EVERY * self.options.stability * self._stability(x[k], y[k], d, rng)
                found["stability"] = found["stability"] + flicker
                total = total + flicker
        if back:
            x = self.compute.picture(torch.stack([d.photo for d in back]))
            y = self.paint(x, self.conditions(back))
            found["identity"] = IDENTITY_WEIGHT * (y - x).square().mean() * len(back)
            total = total + found["identity"]
        self.net.eval()
        found["seen"] = self.transformer.seen()
        return total, found

    def _styled(self, x: Tensor, y: Tensor, drawn: Sequence[D]) -> tuple[Tensor, dict[str, Tensor]]:
        """Style, content and total variation of paintings y of photographs x."""
        index = torch.tensor([d.style for d in drawn])
        with self.compute.autocast():
            features = self.encoder(reflection_pad(y, MARGIN), dict.fromkeys((*self.layers, self.content_layer)))
            with torch.no_grad():
                photo = self.encoder(reflection_pad(x, MARGIN), [self.content_layer])[self.content_layer]
        each = [self.style_losses(k, raw_moments(features[k]), drawn) for k in self.layers]
        style = torch.stack(each).mean(0)  # (N,)
        painted, photo = (self.encoder.wide(self.content_layer, f) for f in (features[self.content_layer], photo))
        content = content_loss(painted, photo, self.least_spread)
        weights = self.balance.weights[index].to(content)
        found = {
            "style": style.sum(),
            "content": content.sum(),
            "tv": self.options.tv_weight * total_variation(y).sum(),
            "styled": torch.tensor(float(len(index))),
        }
        total = found["style"] + (weights * content).sum() + found["tv"]
        each_style = (("contents", content), ("styles", style), ("counts", torch.ones(len(index))))
        for k, v in each_style:
            found[k] = torch.zeros(self.styles).index_add_(0, index, v.detach().float().cpu())
        return total, found

    def _stability(self, x: Tensor, y: Tensor, drawn: D, rng: np.random.Generator) -> Tensor:
        """How otherwise a photograph (3, S, S) is painted when moved: the mean square over the painting's variance."""
        (before, after), inside = moved(torch.stack([x, y.detach()])[:, None], rng)
        noise = torch.from_numpy(rng.standard_normal(tuple(before.shape), dtype=np.float32)).to(before)
        before = self.compute.picture(before + float(rng.uniform(0, MOST_NOISE)) * noise)
        again = self.paint(before, self.conditions([drawn]))
        difference = (again - after)[..., inside:-inside, inside:-inside]
        return difference.square().mean() / after.var((2, 3)).mean().clamp(min=1e-3)

    def after(self, step: int, sums: dict[str, Tensor]) -> dict[str, float]:
        """Let the content weights follow; the figures are means a styled picture."""
        if self.optimisers.weights:
            self.transformer.normalise()
        if "seen" in sums:
            self.transformer.follow(sums["seen"], FOLLOW)
        if "counts" in sums:
            self.balance.follow(step, sums["counts"], sums["contents"], sums["styles"])
        n = max(1.0, float(sums.get("styled", 0.0)))
        shown = {k: float(sums.get(k, 0.0)) / n for k in ("style", "content", "tv", "stability")}
        shown["identity"] = float(sums.get("identity", 0.0)) / self.options.batch
        shown["content_weight"] = math.exp(float(self.balance.weights.clamp(min=1e-9).log().mean()))
        return shown

    def state_dict(self) -> dict[str, Any]:
        """The content weights."""
        return self.balance.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The inverse."""
        self.balance.load_state_dict(state)

    def account(self, step: int) -> dict[str, Any]:
        """How the network was trained, for its file."""
        o = self.options
        return {
            "steps": step,
            "batch": o.batch,
            "crop": o.crop,
            "photographs": len(self.photos),
            "encoder": self.encoder.name,
            "style_loss": o.style_loss,
            "content": o.content,
        }
