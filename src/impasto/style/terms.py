"""PerceptualLoss: the weighted terms of a picture's loss, evaluated in one pass of one encoder.

Each term binds a loss from the literature to its target.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from ..device import Compute
from ..image.picture import opaque
from ..models.layers import circular_pad
from ..models.moments import add_moments_gradient, at_least_float32, moment_sums, weights_of
from ..models.vgg import VGG
from .extra import histogram_loss, laplacian_loss, self_similarity_loss
from .losses import (
    MomentsTarget,
    covariance_metric,
    gram_loss,
    head_metric,
    moments_loss,
    temporal_loss,
    total_variation,
)
from .plain import PLAIN, Rims, plainness, squares_of


class Term:
    """A term of the loss. It measures the features of its layers, and computes its value from the measures.

    Parameters
    ----------
    layers : sequence of str
        Its layers; none for a term of the pixels.
    """

    sums = False
    """Whether the measures are sums over pixels, so that measures of tiles add up to those of the whole picture."""

    def __init__(self, layers: Sequence[str] = ()):
        self.layers = tuple(layers)

    def measure(self, layer: str, features: Tensor, view: "View") -> Tensor:
        """Return a small measure of one layer's features (1, C, H, W)."""
        raise NotImplementedError

    def add_gradient(self, layer: str, features: Tensor, of: Tensor, gradient: Tensor, view: "View") -> None:
        """Add the gradient of the features to `gradient`, in place; `of` is the gradient of the measure.

        Terms without this method are differentiated by autograd.
        """
        raise NotImplementedError

    @property
    def differentiates(self) -> bool:
        """Whether the term has its own `add_gradient`."""
        return type(self).add_gradient is not Term.add_gradient

    def total(self, measures: Mapping[str, Tensor], image: Tensor) -> Tensor:
        """Return the term, a scalar, from the measures of its layers and the picture (1, 3, H, W)."""
        return torch.stack([m.sum() for m in measures.values()]).sum()


class View:
    """An encoder and how it is applied to pictures.

    Parameters
    ----------
    encoder : VGG
        The encoder.
    compute : Compute
        Device, and the encoder's precision.
    wrap : int
        For a picture that tiles the plane: pad it with this many pixels of the opposite side before encoding it. They
        are not measured. 0 for a picture with borders.
    checkpointing : bool
        Whether to save memory (`VGG.look`).
    """

    def __init__(self, encoder: VGG, compute: Compute, *, wrap: int = 0, checkpointing: bool = False):
        self.encoder, self.compute, self.wrap, self.checkpointing = encoder, compute, wrap, checkpointing
        self._reduced: dict[tuple[int, int, int], tuple[Tensor, Tensor]] = {}

    def continued(self, image: Tensor) -> Tensor:
        """Return the picture padded for the encoder."""
        return circular_pad(image, self.wrap) if self.wrap else image

    def weights(self, mask: Tensor, features: Tensor) -> Tensor:
        """Reduce a mask (1, 1, H, W) of the picture's size to the size of the features that terms measure, once."""
        key = id(mask), features.shape[-2], features.shape[-1]
        if key not in self._reduced:
            self._reduced[key] = mask, weights_of(mask, features)  # the mask, so that its id stays its own
        return self._reduced[key][1]

    def inside(self, features: Tensor, layer: str) -> Tensor:
        """Return the features without those of the padding."""
        m = self.wrap // self.encoder.stride(layer)
        return features[:, :, m : features.shape[2] - m, m : features.shape[3] - m] if m else features

    @torch.no_grad()
    def features(self, image: Tensor, layers: Sequence[str]) -> dict[str, Tensor]:
        """Return the features of a picture (1, 3 or 4, H, W), without a gradient."""
        with self.compute.autocast():
            found = self.encoder(self.continued(self.compute.picture(opaque(image))), layers)
        return {k: self.inside(f, k) for k, f in found.items()}

    @torch.no_grad()
    def moments(self, image: Tensor, layers: Sequence[str], masks: Sequence[Tensor | None]) -> list[dict[str, Tensor]]:
        """Return, for each mask (None for the whole picture), layer -> raw moments (1, C + 1, C + 1) inside it."""
        features = self.features(image, layers)

        def inside(mask: Tensor | None, layer: str) -> Tensor:
            """Return the moments as `MomentsTerm` computes them, so that the same picture has no distance at all."""
            f = features[layer]
            sums = moment_sums(f, None if mask is None else self.weights(mask, f))
            return sums / sums[:, -1:, -1:].clamp(min=1e-12)

        return [{k: inside(m, k) for k in features} for m in masks]

    def content(self, picture: Tensor, shares: Mapping[str, float], shown: Tensor | None = None) -> "ContentTerm":
        """Return the content term of a picture (1, 3, H, W), by `shares` and `shown` as for `ContentTerm`."""
        return ContentTerm(self.encoder, self.features(picture, tuple(shares)), shares, shown)


class PerceptualLoss:
    """The weighted sum of terms for a picture and one encoder.

    The terms measure the features while the encoder runs. The losses are computed from the measures, and their
    gradients enter the backward pass at their layers.

    Parameters
    ----------
    view : View
        The encoder and how it is applied.
    terms : dict of str to (float, Term)
        Name -> weight and term; terms with weight 0 are left out.
    over : (Tensor, Tensor), optional
        A background picture (1, 3, H, W) and a mask (1, 1, H, W) in [0, 1]. The loss is then computed for the picture
        where the mask is 1 and the background where it is 0.
    """

    def __init__(self, view: View, terms: Mapping[str, tuple[float, Term]], over: tuple[Tensor, Tensor] | None = None):
        self.view, self.over = view, over
        self.terms = {k: (w, t) for k, (w, t) in terms.items() if w}
        self.layers = tuple(dict.fromkeys(layer for _, t in self.terms.values() for layer in t.layers))

    def __call__(self, image: Tensor) -> dict[str, Tensor]:
        """Return name -> weighted term, and their sum as `total`, each a scalar. Only the sum has a gradient.

        Parameters
        ----------
        image : Tensor
            (1, 3, H, W), sRGB, nominally in [0, 1]; the range is not checked.
        """
        total, *values = _Total.apply(self.composed(image), self)
        return {"total": total, **dict(zip(self.terms, values, strict=True))}

    def composed(self, image: Tensor) -> Tensor:
        """Composite the picture over the background, if there is one."""
        if self.over is None:
            return image
        below, mask = self.over
        return below + mask * (image - below)


Measured = dict[tuple[str, str], Tensor]
"""(term, layer) -> its measure."""


class _Total(torch.autograd.Function):
    """Returns the total, which is differentiable once, and the terms, which are not differentiable."""

    @staticmethod
    def forward(ctx: Any, image: Tensor, loss: PerceptualLoss) -> tuple[Tensor, ...]:
        view, terms, keep = loss.view, loss.terms, ctx.needs_input_grad[0]
        leaf = image.detach().requires_grad_(keep)
        found: Measured = {}
        graphs: dict[tuple[str, str], tuple[Tensor, Tensor]] = {}  # of terms that autograd differentiates

        def visit(layer: str, features: Tensor) -> None:
            features = view.inside(features, layer)
            with torch.autocast(features.device.type, enabled=False):
                for name, (_, term) in terms.items():
                    if layer not in term.layers:
                        continue
                    if not keep or term.differentiates:
                        found[name, layer] = term.measure(layer, features, view)
                        continue
                    with torch.enable_grad():
                        own = features.detach().requires_grad_(True)
                        measured = term.measure(layer, own, view)
                    graphs[name, layer] = own, measured
                    found[name, layer] = measured.detach()

        with torch.set_grad_enabled(keep):
            seen = view.continued(leaf) if loss.layers else leaf
        with view.compute.autocast():
            look = view.encoder.look(seen.detach(), loss.layers, visit, keep=keep, checkpointing=view.checkpointing)
        for m in found.values():
            m.requires_grad_(keep)
        with torch.set_grad_enabled(keep):
            values = []
            for name, (weight, term) in terms.items():
                values.append(weight * term.total({k: found[name, k] for k in term.layers}, leaf))
            total = torch.stack(values).sum()
        if keep:
            sources = [*found.values(), leaf]
            of = dict(zip([*found, None], torch.autograd.grad(total, sources, allow_unused=True), strict=True))
            ctx.kept = loss, look, graphs, of, leaf, seen
        values = [v.detach() for v in values]
        ctx.mark_non_differentiable(*values)
        return (total.detach(), *values)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        if ctx.kept is None:
            raise RuntimeError("the gradient of this total was already computed; evaluate the loss again")
        (loss, look, graphs, of, leaf, seen), ctx.kept = ctx.kept, None
        view: View = loss.view

        def add(layer: str, features: Tensor, gradient: Tensor) -> None:
            features, gradient = view.inside(features, layer), view.inside(gradient, layer)
            for name, (_, term) in loss.terms.items():
                known = of.get((name, layer))
                if known is None:
                    continue
                if (name, layer) not in graphs:
                    term.add_gradient(layer, features, known, gradient, view)
                    continue
                own, measured = graphs.pop((name, layer))
                gradient += torch.autograd.grad(measured, own, known)[0].to(gradient.dtype)

        found = of[None]  # from the terms of the pixels
        if loss.layers:
            with torch.autocast(leaf.device.type, enabled=False):
                g = look.gradient(add)
            g = g if seen is leaf else torch.autograd.grad(seen, leaf, g)[0]
            found = g if found is None else g.add_(found)
        return (torch.zeros_like(leaf) if found is None else found * grads[0]), None


LEAST_REGION = 1e-4
"""Regions below this share of the picture's area are ignored."""
LEAST_WEIGHT = 1e-6
"""Lower bound of the mean weight of a part."""
LEAST_DEVIATION = 0.05
"""Lower bound of the standard deviation of a picture's colours."""


class Part(NamedTuple):
    """A part of the picture with its own style: its share of the loss, and its mask (None for the whole picture).

    The share is that of the area, less where the mask has lower weights (`weighted`).
    """

    share: float
    mask: Tensor | None

    def weighted(self, weights: Tensor) -> "Part":
        """Return the part with its mask times weights (1, 1, H, W), and its share times their mean over the part."""
        mask = weights if self.mask is None else self.mask * weights
        area = float(mask.mean() if self.mask is None else mask.sum() / self.mask.sum())
        return Part(self.share * max(area, LEAST_WEIGHT), mask)


def divide(regions: Sequence[Tensor], where: Tensor | None = None) -> list[Part]:
    """Return the share and mask of every region, and of the rest of the picture as the last part.

    Parameters
    ----------
    regions : sequence of Tensor
        Masks (1, 1, H, W) in [0, 1]. Where they overlap, the area is divided among them.
    where : Tensor, optional
        Mask of the painted area. Shares are then relative to it.

    Returns
    -------
    list of Part
        One more than the regions; parts with hardly any area have the share 0.
    """
    if not regions and where is None:
        return [Part(1.0, None)]
    whole = torch.ones_like(regions[0]) if where is None else where
    masks = torch.cat([*regions, torch.zeros_like(whole)], 1)
    masks = masks / masks.sum(1, keepdim=True).clamp(min=1.0)
    masks[:, -1:] = (1 - masks.sum(1, keepdim=True)).clamp(min=0)
    masks = masks * whole
    shares = (masks.mean((0, 2, 3)) / whole.mean().clamp(min=1e-12)).tolist()
    return [Part(s if s > LEAST_REGION else 0.0, masks[:, i : i + 1]) for i, s in enumerate(shares)]


class ContentTerm(Term):
    """`losses.content_loss` after the layers' heads. Its measure is the sum of squares over the pixels.

    Parameters
    ----------
    encoder : VGG
        The encoder, for its heads.
    features : dict of str to Tensor
        The content's features (1, C, H, W), at least at the layers in `shares` (`View.features`).
    shares : dict of str to float
        Layer -> its weight.
    shown : Tensor, optional
        (1, 1, H, W) of the content's size, in [0, 1]: its visibility. The spread is computed over visible pixels.
    """

    sums = True

    def __init__(
        self,
        encoder: VGG,
        features: Mapping[str, Tensor],
        shares: Mapping[str, float],
        shown: Tensor | None = None,
    ):
        super().__init__(list(shares))
        self.targets = {k: features[k] for k in shares}
        self.metrics: dict[str, Tensor | None] = {}
        self.weights: dict[str, float] = {}
        for layer, share in shares.items():
            self.metrics[layer] = squared_metric(encoder, layer, features[layer])
            centred = at_least_float32(features[layer])
            if shown is None:
                centred = centred - centred.mean((2, 3), keepdim=True)
                spread = (centred * self._metric_applied(layer, centred)).sum()
            else:
                weights = weights_of(shown, centred)
                mean = (centred * weights).sum((2, 3), keepdim=True) / weights.sum().clamp(min=1e-6)
                centred = centred - mean
                spread = (weights * centred * self._metric_applied(layer, centred)).sum()
            self.weights[layer] = share / max(float(spread), 1e-12 * centred.numel())

    def _metric_applied(self, layer: str, difference: Tensor, factor: Tensor | float = 1.0) -> Tensor:
        """Return A^2 d for every pixel's difference d (1, C, H, W), times a factor."""
        metric = self.metrics[layer]
        if metric is None:
            return difference * factor
        rows = difference.permute(0, 2, 3, 1)
        return (rows.flatten(0, 2) @ (metric.to(rows) * factor)).view(rows.shape).permute(0, 3, 1, 2)

    def target(self, layer: str, view: View) -> Tensor:
        """Return the content's features (1, C, H, W) where the view sees the picture."""
        return self.targets[layer]

    def measure(self, layer: str, features: Tensor, view: View) -> Tensor:
        """Return the sum of squared differences, a scalar."""
        difference = features - self.target(layer, view)
        return (at_least_float32(difference) * self._metric_applied(layer, difference)).sum()

    def add_gradient(self, layer: str, features: Tensor, of: Tensor, gradient: Tensor, view: View) -> None:
        """Add 2 A^2 d, times the gradient of the sum, to the gradient."""
        gradient += self._metric_applied(layer, features - self.target(layer, view), (2 * of).to(gradient))

    def total(self, measures: Mapping[str, Tensor], image: Tensor) -> Tensor:
        """Return the loss, a scalar: the sums divided by the content's spread."""
        return torch.stack([self.weights[k] * m for k, m in measures.items()]).sum()


def squared_metric(encoder: VGG, layer: str, like: Tensor) -> Tensor | None:
    """Return A^2, where |A f - A g| is the distance after the layer's head; None if it has no head."""
    root = covariance_metric(encoder, layer)
    return None if root is None else (root @ root).to(like)


class MomentsTerm(Term):
    """`losses.gram_loss` or `losses.moments_loss` of each layer's raw moments. Its measures are their sums.

    Parameters
    ----------
    kind : "gram" or "moments"
        The loss.
    encoder : VGG
        The encoder, for its heads. Distances are measured after the head of a layer that has one.
    parts : sequence of (Part, dict)
        Each part of the picture with its target raw moments (1, C + 1, C + 1) for each layer.
    shares : dict of str to float
        Layer -> its weight.
    """

    sums = True

    def __init__(
        self,
        kind: Literal["gram", "moments"],
        encoder: VGG,
        parts: Sequence[tuple[Part, Mapping[str, Tensor]]],
        shares: Mapping[str, float],
    ):
        super().__init__(list(shares))
        self.shares = shares
        self.parts = [
            (part, {k: distance(kind, moments[k], encoder, k) for k in shares}) for part, moments in parts if part.share
        ]

    def measure(self, layer: str, features: Tensor, view: View) -> Tensor:
        """Return the sums of products of each part, (parts, C + 1, C + 1)."""
        weights = (None if part.mask is None else view.weights(part.mask, features) for part, _ in self.parts)
        return torch.cat([moment_sums(features, w) for w in weights])

    def add_gradient(self, layer: str, features: Tensor, of: Tensor, gradient: Tensor, view: View) -> None:
        """Add the gradient of the features from that of the sums of products."""
        for (part, _), g in zip(self.parts, of, strict=True):
            weights = None if part.mask is None else view.weights(part.mask, features)
            add_moments_gradient(features, g[None], gradient, weights)

    def total(self, measures: Mapping[str, Tensor], image: Tensor) -> Tensor:
        """Return the loss, a scalar, with each part weighted by its area."""
        found = []
        for layer, sums in measures.items():
            moments = sums / sums[:, -1:, -1:].clamp(min=1e-12)
            for i, (part, distances) in enumerate(self.parts):
                found.append(self.shares[layer] * part.share * distances[layer](moments[i : i + 1]).sum())
        return torch.stack(found).sum()


def distance(kind: Literal["gram", "moments"], target: Tensor, encoder: VGG, layer: str) -> Callable[[Tensor], Tensor]:
    """Return the function from a picture's raw moments at one layer to their distance from the style's.

    Distances are measured after the layer's head, if it has one.

    Parameters
    ----------
    target : Tensor
        The style's raw moments (1, C + 1, C + 1), on the device of the picture's.
    """
    if kind == "moments":
        return partial(moments_loss, target=MomentsTarget.of(target, covariance_metric(encoder, layer)))
    metric = head_metric(encoder, layer)
    return partial(gram_loss, target=target, metric=None if metric is None else metric.to(target))


class HistogramTerm(Term):
    """`extra.histogram_loss` of each layer.

    Parameters
    ----------
    parts : sequence of (Part, dict)
        Each part of the picture with its target quantiles (1, C, Q) for each layer (`extra.quantiles`).
    shares : dict of str to float
        Layer -> its weight.
    """

    def __init__(self, parts: Sequence[tuple[Part, Mapping[str, Tensor]]], shares: Mapping[str, float]):
        super().__init__(list(shares))
        self.shares = shares
        self.parts = [(part, quantiles) for part, quantiles in parts if part.share]

    def measure(self, layer: str, features: Tensor, view: View) -> Tensor:
        """Return the layer's weighted loss, a scalar, with each part weighted by its area."""
        found = []
        for part, quantiles in self.parts:
            own = features if part.mask is None else inside(features, view.weights(part.mask, features))
            found.append(part.share * histogram_loss(own, quantiles[layer]).sum())
        return self.shares[layer] * torch.stack(found).sum()


def inside(features: Tensor, weights: Tensor) -> Tensor:
    """Return the features (1, C, 1, P) of the pixels where a mask of their size is at least 0.5; if none, of all."""
    chosen = (weights >= 0.5).flatten().nonzero().flatten()
    flat = features.flatten(2)
    return (flat[:, :, chosen] if len(chosen) else flat)[:, :, None]


class LaplacianTerm(Term):
    """`extra.laplacian_loss` of the picture.

    Parameters
    ----------
    content : Tensor
        (1, 3, H, W), sRGB, [0, 1].
    """

    def __init__(self, content: Tensor):
        super().__init__()
        self.content = content

    def total(self, measures: Mapping[str, Tensor], image: Tensor) -> Tensor:
        """Return the loss, a scalar."""
        return laplacian_loss(image, self.content).sum()


class SimilarityTerm(Term):
    """The mean of `extra.self_similarity_loss` over layers.

    Parameters
    ----------
    encoder : VGG
        The encoder, for its heads.
    features : dict of str to Tensor
        The content's features (1, C, H, W) at the layers.
    positions : dict of str to Tensor
        Layer -> the positions to compare, (P,) (`extra.sample_positions`).
    """

    def __init__(self, encoder: VGG, features: Mapping[str, Tensor], positions: Mapping[str, Tensor]):
        super().__init__(list(positions))
        self.targets, self.positions = features, positions
        metrics = {k: head_metric(encoder, k) for k in positions}
        types = {k: torch.promote_types(features[k].dtype, torch.float32) for k in positions}
        self.metrics = {k: m if m is None else m.to(features[k].device, types[k]) for k, m in metrics.items()}

    def measure(self, layer: str, features: Tensor, view: View) -> Tensor:
        """Return the layer's share of the loss, (1,)."""
        loss = self_similarity_loss(features, self.targets[layer], self.positions[layer], self.metrics[layer])
        return loss / len(self.layers)


class RimTerm(Term):
    """`plain.Rims` of the picture, for each part. The photograph is compared at the picture's own contrast.

    Parameters
    ----------
    content : Tensor
        (1, 3, H, W), sRGB, [0, 1], the photograph.
    masks : sequence of Tensor or None
        (1, 1, H, W), [0, 1], where each part is; None for the whole picture.
    """

    def __init__(self, content: Tensor, masks: Sequence[Tensor | None] = (None,)):
        super().__init__()
        plain = plainness(content)
        self.rims = [Rims(content, plain if m is None else plain * F.avg_pool2d(m, PLAIN)) for m in masks]
        squares = squares_of(content)
        self.photo = squares / _deviation(squares)

    def total(self, measures: Mapping[str, Tensor], image: Tensor) -> Tensor:
        """Return the loss, a scalar."""
        return self.of_squares(squares_of(image))

    def of_squares(self, squares: Tensor) -> Tensor:
        """Return the loss of a picture from its squares (1, 3, H / 4, W / 4), a scalar."""
        added = self.added(squares)
        return torch.stack([rims(added).sum() for rims in self.rims]).sum()

    def added(self, squares: Tensor) -> Tensor:
        """Return what is added to the photograph's squares, in standard deviations of the colours."""
        return squares / _deviation(squares) - self.photo


def _deviation(squares: Tensor) -> Tensor:
    """Return the standard deviation of the colours, and at least `LEAST_DEVIATION`."""
    return (squares.var(correction=0) + LEAST_DEVIATION**2).sqrt()


class VariationTerm(Term):
    """`losses.total_variation` of the picture.

    Parameters
    ----------
    wrap : bool
        Whether the picture tiles the plane.
    """

    def __init__(self, wrap: bool = False):
        super().__init__()
        self.wrap = wrap

    def total(self, measures: Mapping[str, Tensor], image: Tensor) -> Tensor:
        """Return the loss, a scalar."""
        return total_variation(image, self.wrap).sum()


class TemporalTerm(Term):
    """`losses.temporal_loss` of the picture.

    Parameters
    ----------
    moved : Tensor
        (1, 3, H, W), sRGB, [0, 1]: the last painting of a film, moved to where its parts are now.
    trust : Tensor
        (1, 1, H, W), [0, 1]: how far the motion can be trusted.
    """

    def __init__(self, moved: Tensor, trust: Tensor):
        super().__init__()
        self.moved, self.trust = moved, trust

    def total(self, measures: Mapping[str, Tensor], image: Tensor) -> Tensor:
        """Return the loss, a scalar."""
        return temporal_loss(image, self.moved, self.trust).sum()
