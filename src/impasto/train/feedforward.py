"""Training of feed-forward networks: one image transformation network, one or many styles.

Johnson, Alahi, Fei-Fei 2016: content, style and total variation through a frozen encoder. Every style loss is relative
to its style, so it says the same of all of them; and each style's content weight settles where the content stays as far
from the photograph as was asked for. So no weight has to be guessed for a style.

Two more losses. A share of the pictures is painted with strength 0, and compared with the photograph itself: what the
norms' plain maps are learnt from (`models.norm`). And a picture that is moved a little, with a little noise, must be
painted alike: the loss against flicker.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..device import Compute, channels_last
from ..models.norm import Conditions
from ..models.padding import reflection_pad
from ..models.transformer import Transformer, save_transformer
from ..models.vgg import CONTENT_LAYER, STYLE_LAYERS, VGG
from ..options import TrainPaintersOptions
from ..style.losses import content_loss, content_spread, gram_loss, total_variation
from ..style.statistics import head_metric, raw_moments
from ..style.wasserstein import MomentsTarget, covariance_metric, moments_loss
from .data import PictureBank
from .move import moved
from .optimisers import Optimisers

LAYERS = {"vgg16": (("relu1_2", "relu2_2", "relu3_3", "relu4_3"), "relu3_3")}
"""Encoder -> its style layers and its content layer, where they are not Gatys': Johnson's of VGG-16."""
MARGIN = 8
"""Pixels by which paintings are continued before the encoder sees them, as in `optimize`."""
ZOOM = (0.8, 2.0)
"""How much photographs are enlarged."""
IDENTITY_WEIGHT = 20.0
"""Weight of the mean squared difference to the photograph at strength 0."""
FOLLOW = 0.1
"""How far the statistics of strength 0 go towards those of a step."""
STABILITY_EVERY, MOST_NOISE = 4, 0.03
"""One picture in so many is painted a second time, moved, with noise of up to that deviation."""
STROKES = (0.5, 0.5**0.5, 1.0, 2**0.5, 2.0)
"""Sizes of the strokes that are trained on, over `--style-scale`."""
SPREAD_PHOTOS, LEAST_SPREAD = 32, 0.1
"""Photographs whose content features' mean spread is taken, and the least share of it that a photograph has."""
FIRST_WEIGHT, LEAST_WEIGHT, MOST_WEIGHT = 0.05, 0.005, 0.5
"""Of the content: where it begins, and between what it settles."""
BALANCE_RATE, BALANCE_FROM = 0.02, 300
"""How fast a content weight follows, a picture of its style, and from which step on."""


Styles = Mapping[str, Sequence[Mapping[str, Tensor]]]
"""Name -> for each of `STROKES`: layer -> raw moments (1, C + 1, C + 1) of the encoder's features."""


class FeedforwardRecipe:
    """The network, its styles as what the loss aims at, and the photographs.

    Parameters
    ----------
    net : Transformer
        The network; what of it requires no gradient does not learn.
    options : TrainPaintersOptions
        How it is trained.
    styles : Styles
        What the loss aims at, for each of the network's styles.
    photos : PictureBank
        What it is trained on.
    encoder : VGG
        The frozen network of the loss.
    compute : Compute
        Device and precision.
    """

    def __init__(
        self,
        net: Transformer,
        options: TrainPaintersOptions,
        styles: Styles,
        photos: PictureBank,
        encoder: VGG,
        compute: Compute,
    ):
        self.options, self.photos, self.encoder, self.compute = options, photos, encoder, compute
        self.layers, self.content_layer = style_and_content_layers(encoder)
        self.net = channels_last(net.to(compute.device))
        learning = [p for p in net.parameters() if p.requires_grad]
        inner = [w for w in net.inner_weights() if w.requires_grad]
        mine = {id(w) for w in inner}
        others = [p for p in learning if id(p) not in mine]
        self.optimisers = Optimisers(inner, others, (options.rate, options.small_rate))
        targets = [m for strokes in styles.values() for m in strokes]
        self.distances = {k: self._distance(k, [m[k] for m in targets]) for k in self.layers}
        self.content_weights = torch.full((len(styles),), FIRST_WEIGHT)
        if options.content_weight is not None:
            self.content_weights.fill_(options.content_weight)

    @cached_property
    def least_spread(self) -> float:
        """What a photograph's content features count as spread out at least: some crops are of one colour."""
        photos = self.compute.picture(self.sample(SPREAD_PHOTOS))
        with torch.no_grad(), self.compute.autocast():
            features = self.encoder(reflection_pad(photos, MARGIN), [self.content_layer])[self.content_layer]
        return LEAST_SPREAD * float(content_spread(features.float()).mean())

    def _distance(self, layer: str, moments: list[Tensor]) -> Any:
        """(moments (N, ...), indices (N,)) -> (N,), the distance of a layer's moments to the targets'."""
        target = torch.cat([m.to(self.compute.device) for m in moments])
        if self.options.style_loss == "gram":
            metric = head_metric(self.encoder, layer)
            return lambda own, index: gram_loss(own, target[index], metric)
        wanted = MomentsTarget.of(target, covariance_metric(self.encoder, layer))
        return lambda own, index: moments_loss(own, wanted.pick(index.cpu()))

    def picture(self, step: int, i: int) -> "Drawn":
        """The picture number i of a step."""
        o, styles = self.options, len(self.net.config.styles)
        rng = np.random.default_rng((o.seed, 1, step, i))
        photo = self.photos.crop(rng, o.crop, ZOOM)
        if rng.random() < 0.5:
            photo = photo.flip(2)
        # Every style once, in an order of its own, before any comes again.
        number = step * o.batch + i
        order = np.random.default_rng((o.seed, 2, number // styles)).permutation(styles)
        plain, other = rng.random() < o.identity, rng.random() < o.strokes
        stroke = int(rng.integers(len(STROKES))) if other else STROKES.index(1.0)
        return Drawn(photo, int(order[number % styles]), stroke, bool(plain))

    def sample(self, count: int) -> Tensor:
        """Photographs (N, 3, S, S), the same at every step of every run with that seed."""
        rng = np.random.default_rng((self.options.seed, 4))
        return torch.stack([self.photos.crop(rng, self.options.crop, (1.0, 1.5)) for _ in range(count)])

    def loss(self, step: int, pictures: Sequence[int]) -> tuple[Tensor, dict[str, Tensor]]:
        """The sum of the pictures' losses; the sums of their terms, and of each style's content and count."""
        drawn = {i: self.picture(step, i) for i in pictures}
        plain = [d for d in drawn.values() if d.plain]
        styled = {i: d for i, d in drawn.items() if not d.plain}
        total = torch.zeros((), device=self.compute.device)
        found = dict.fromkeys(("style", "content", "tv", "styled", "stability", "identity"), total)
        found |= {k: torch.zeros(self.styles) for k in ("contents", "counts")}  # the same in every process
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
        if plain:
            x = self.compute.picture(torch.stack([d.photo for d in plain]))
            y = self.paint(x, self.conditions(plain))
            found["identity"] = IDENTITY_WEIGHT * (y - x).square().mean() * len(plain)
            total = total + found["identity"]
        self.net.eval()
        found["seen"] = self.net.seen()
        return total, found

    def conditions(self, drawn: Sequence["Drawn"]) -> Conditions:
        """How the network shall paint them."""
        weights = Conditions.of(torch.tensor([d.style for d in drawn]), self.styles).weights
        strength = tuple(0.0 if d.plain else 1.0 for d in drawn)
        stroke = torch.tensor([math.log2(STROKES[d.stroke]) for d in drawn])[:, None]
        return Conditions(weights, strength, stroke * weights).to(self.compute.device)

    @property
    def styles(self) -> int:
        """How many."""
        return len(self.net.config.styles)

    def paint(self, x: Tensor, conditions: Conditions) -> Tensor:
        """The network's painting, float32."""
        with self.compute.autocast():
            return self.net(x, conditions).float()

    def _styled(self, x: Tensor, y: Tensor, drawn: Sequence["Drawn"]) -> tuple[Tensor, dict[str, Tensor]]:
        """Style, content and total variation of paintings y of photographs x."""
        index = torch.tensor([d.style for d in drawn])
        target = torch.tensor([len(STROKES) * d.style + d.stroke for d in drawn])
        with self.compute.autocast():
            features = self.encoder(reflection_pad(y, MARGIN), dict.fromkeys((*self.layers, self.content_layer)))
            with torch.no_grad():
                photo = self.encoder(reflection_pad(x, MARGIN), [self.content_layer])[self.content_layer]
        style = torch.stack([self.distances[k](raw_moments(features[k]), target) for k in self.layers]).mean(0)  # (N,)
        content = content_loss(features[self.content_layer], photo, self.least_spread)
        weights = self.content_weights[index].to(content)
        found = {
            "style": style.sum(),
            "content": content.sum(),
            "tv": self.options.tv_weight * total_variation(y).sum(),
            "styled": torch.tensor(float(len(index))),
        }
        total = found["style"] + (weights * content).sum() + found["tv"]
        for k, v in (("contents", content.detach().cpu()), ("counts", torch.ones(len(index)))):
            found[k] = torch.zeros(self.styles).index_add_(0, index, v.float())
        return total, found

    def _stability(self, x: Tensor, y: Tensor, drawn: "Drawn", rng: np.random.Generator) -> Tensor:
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
            self.net.normalise()
        if "seen" in sums:
            self.net.follow(sums["seen"], FOLLOW)
        counts, contents = sums.get("counts"), sums.get("contents")
        if counts is not None and contents is not None and step > BALANCE_FROM and self.options.content_weight is None:
            excess = contents / counts.clamp(min=1) / self.options.content - 1
            change = BALANCE_RATE * counts * excess.clamp(-1, 1)
            self.content_weights = (self.content_weights * change.exp()).clamp(LEAST_WEIGHT, MOST_WEIGHT)
        n = max(1.0, float(sums.get("styled", 0.0)))
        shown = {k: float(sums.get(k, 0.0)) / n for k in ("style", "content", "tv", "stability")}
        shown["identity"] = float(sums.get("identity", 0.0)) / self.options.batch
        shown["content_weight"] = math.exp(float(self.content_weights.clamp(min=1e-9).log().mean()))
        return shown

    def state_dict(self) -> dict[str, Any]:
        """The content weights."""
        return {"content_weights": self.content_weights}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The inverse."""
        self.content_weights = state["content_weights"]

    def write(self, net: nn.Module, path: Path, step: int) -> None:
        """Write the network as a model file."""
        assert isinstance(net, Transformer)
        save_transformer(net, path, training=self.account(step), licence="MIT")

    def account(self, step: int) -> dict[str, Any]:
        """How the network was trained, for its file."""
        o = self.options
        return {
            "recipe": "impasto train feedforward",
            "steps": step,
            "batch": o.batch,
            "crop": o.crop,
            "photographs": len(self.photos),
            "encoder": self.encoder.name,
            "style_loss": o.style_loss,
            "content": o.content,
            "picture": o.picture,
        }


@dataclass(frozen=True)
class Drawn:
    """A picture of a batch: the photograph (3, S, S), indices of style and stroke, whether strength is 0."""

    photo: Tensor
    style: int
    stroke: int
    plain: bool


def style_and_content_layers(encoder: VGG) -> tuple[tuple[str, ...], str]:
    """The style layers and the content layer that a network is trained with."""
    return LAYERS.get(encoder.name, (STYLE_LAYERS, CONTENT_LAYER))
