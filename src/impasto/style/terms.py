"""PerceptualLoss: weighted terms of a picture's loss, all seen through one encoder in one pass.

Each term binds a loss of the literature to its target.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ..device import Compute
from ..image.picture import opaque
from ..models.layers import circular_pad
from ..models.moments import add_moments_gradient, at_least_float32, moment_sums, weights_of
from ..models.vgg import VGG
from .extra import histogram_loss, laplacian_loss, self_similarity_loss
from .losses import MomentsTarget, covariance_metric, gram_loss, head_metric, moments_loss, total_variation


class Term:
    """A term of the loss: it measures the features of its layers, and its value follows from the measures.

    Parameters
    ----------
    layers : sequence of str
        The layers that it looks at; none for a term of the pixels.
    """

    sums = False
    """Whether the measures are sums over pixels, so that those of a picture's parts add up to those of the whole."""

    def __init__(self, layers: Sequence[str] = ()):
        self.layers = tuple(layers)

    def measure(self, layer: str, features: Tensor, view: "View") -> Tensor:
        """Return something small of one layer's features (1, C, H, W)."""
        raise NotImplementedError

    def add_gradient(self, layer: str, features: Tensor, of: Tensor, gradient: Tensor, view: "View") -> None:
        """Add the gradient of the features to `gradient`, in place; `of` is the gradient of what `measure` returned.

        Terms without this method are differentiated by autograd.
        """
        raise NotImplementedError

    @property
    def differentiates(self) -> bool:
        """Whether the term has an `add_gradient` of its own."""
        return type(self).add_gradient is not Term.add_gradient

    def total(self, measures: Mapping[str, Tensor], image: Tensor) -> Tensor:
        """Return the term, a scalar, from what was measured at each layer and from the picture (1, 3, H, W)."""
        return torch.stack([m.sum() for m in measures.values()]).sum()


class View:
    """How the encoder sees a picture.

    Parameters
    ----------
    encoder : VGG
        Whose features.
    compute : Compute
        Device, and the encoder's precision.
    wrap : int
        For a picture that tiles the plane: continue it by so many pixels of the opposite side before the encoder sees
        it. They are not measured. 0 for a picture with borders.
    checkpointing : bool
        Save memory (`VGG.look`).
    """

    def __init__(self, encoder: VGG, compute: Compute, *, wrap: int = 0, checkpointing: bool = False):
        self.encoder, self.compute, self.wrap, self.checkpointing = encoder, compute, wrap, checkpointing

    def continued(self, image: Tensor) -> Tensor:
        """Return the picture as the encoder sees it."""
        return circular_pad(image, self.wrap) if self.wrap else image

    def weights(self, mask: Tensor, features: Tensor) -> Tensor:
        """Return a mask (1, 1, H, W) of the picture's size, in the size of the features as terms measure them."""
        return weights_of(mask, features)

    def inside(self, features: Tensor, layer: str) -> Tensor:
        """Return the features without those of the continuation."""
        m = self.wrap // self.encoder.stride(layer)
        return features[:, :, m : features.shape[2] - m, m : features.shape[3] - m] if m else features

    @torch.no_grad()
    def features(self, image: Tensor, layers: Sequence[str]) -> dict[str, Tensor]:
        """Return the features of a picture (1, 3 or 4, H, W) that stays as it is."""
        with self.compute.autocast():
            found = self.encoder(self.continued(self.compute.picture(opaque(image))), layers)
        return {k: self.inside(f, k) for k, f in found.items()}


class PerceptualLoss:
    """The weighted sum of terms of a picture, seen through one encoder.

    The terms measure the features while the encoder runs. The losses follow from the measures, and their gradients
    enter the backward pass at the layers they were taken from.

    Parameters
    ----------
    view : View
        How the terms see the picture.
    terms : dict of str to (float, Term)
        Name -> weight and term; those of weight 0 are left out.
    over : (Tensor, Tensor), optional
        A picture (1, 3, H, W) and a mask (1, 1, H, W) in [0, 1]. The loss is then of the picture given where the mask
        is 1 and of this one where it is 0.
    """

    def __init__(self, view: View, terms: Mapping[str, tuple[float, Term]], over: tuple[Tensor, Tensor] | None = None):
        self.view, self.over = view, over
        self.terms = {k: (w, t) for k, (w, t) in terms.items() if w}
        self.layers = tuple(dict.fromkeys(layer for _, t in self.terms.values() for layer in t.layers))

    def __call__(self, image: Tensor) -> dict[str, Tensor]:
        """Return the weighted terms by their names, and their sum `total`, each a scalar. The sum has a gradient.

        Parameters
        ----------
        image : Tensor
            (1, 3, H, W), sRGB; [0, 1] where it matters, but not checked.
        """
        total, *values = _Total.apply(self.composed(image), self)
        return {"total": total, **dict(zip(self.terms, values, strict=True))}

    def composed(self, image: Tensor) -> Tensor:
        """Return the picture that the loss is of, for the one given."""
        if self.over is None:
            return image
        below, mask = self.over
        return below + mask * (image - below)


Measured = dict[tuple[str, str], Tensor]
"""What was measured: (term, layer) -> Tensor."""


class _Total(torch.autograd.Function):
    """The total, differentiable once, and the terms, which are not."""

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
            raise RuntimeError("the gradient of this total has been taken already; evaluate the loss again")
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

        found = of[None]  # of the terms of the pixels
        if loss.layers:
            with torch.autocast(leaf.device.type, enabled=False):
                g = look.gradient(add)
            g = g if seen is leaf else torch.autograd.grad(seen, leaf, g)[0]
            found = g if found is None else g.add_(found)
        return (torch.zeros_like(leaf) if found is None else found * grads[0]), None


LEAST_REGION = 1e-4
"""Share of the picture's area below which a region has no say."""


class Part(NamedTuple):
    """A part of the picture with a style of its own: its share of the area, and its mask (None: all of it)."""

    share: float
    mask: Tensor | None


def divide(regions: Sequence[Tensor], where: Tensor | None = None) -> list[Part]:
    """Share of the area and mask of every region, and of the rest as the last.

    Parameters
    ----------
    regions : sequence of Tensor
        Masks (1, 1, H, W) in [0, 1]. Where they overlap each gets its share.
    where : Tensor, optional
        Mask of what is painted at all; shares are then of that.

    Returns
    -------
    list of Part
        One more than regions; a part with hardly any area has the share 0.
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
    """`losses.content_loss` at some layers, behind their heads: it measures the sum of squares over the pixels.

    Parameters
    ----------
    encoder : VGG
        The heads' owner.
    features : dict of str to Tensor
        The content's features (1, C, H, W) at least at those layers (`View.features`).
    shares : dict of str to float
        Layer -> its weight.
    shown : Tensor, optional
        (1, 1, H, W) of the content's size, in [0, 1]: how visible it is. The spread is that of what is visible.
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
            root = covariance_metric(encoder, layer)  # A: |A f - A g| is the distance behind the head
            self.metrics[layer] = None if root is None else (root @ root).to(features[layer])
            centred = at_least_float32(features[layer])
            if shown is None:
                centred = centred - centred.mean((2, 3), keepdim=True)
                spread = (centred * self._moved(layer, centred)).sum()
            else:
                weights = weights_of(shown, centred)
                mean = (centred * weights).sum((2, 3), keepdim=True) / weights.sum().clamp(min=1e-6)
                centred = centred - mean
                spread = (weights * centred * self._moved(layer, centred)).sum()
            self.weights[layer] = share / max(float(spread), 1e-12 * centred.numel())

    def _moved(self, layer: str, difference: Tensor, factor: Tensor | float = 1.0) -> Tensor:
        """Return A^2 d of every pixel's difference d (1, C, H, W), times a factor."""
        metric = self.metrics[layer]
        if metric is None:
            return difference * factor
        rows = difference.permute(0, 2, 3, 1)
        return (rows.flatten(0, 2) @ (metric.to(rows) * factor)).view(rows.shape).permute(0, 3, 1, 2)

    def measure(self, layer: str, features: Tensor, view: View) -> Tensor:
        """Return the sum of squares of the differences, a scalar."""
        difference = features - self.targets[layer]
        return (at_least_float32(difference) * self._moved(layer, difference)).sum()

    def add_gradient(self, layer: str, features: Tensor, of: Tensor, gradient: Tensor, view: View) -> None:
        """Add 2 A^2 d to the gradient, times that of the sum."""
        gradient += self._moved(layer, features - self.targets[layer], (2 * of).to(gradient))

    def total(self, measures: Mapping[str, Tensor], image: Tensor) -> Tensor:
        """Return the loss, a scalar: the sums over the content's own spread."""
        return torch.stack([self.weights[k] * m for k, m in measures.items()]).sum()


class MomentsTerm(Term):
    """A loss of each layer's raw moments, `losses.gram_loss` or `losses.moments_loss`: it measures their sums.

    Parameters
    ----------
    kind : "gram" or "moments"
        Which of them.
    encoder : VGG
        Its heads, where a layer has one, define the space that distances are measured in.
    parts : sequence of (Part, dict)
        Each part of the picture with the raw moments (1, C + 1, C + 1) of each layer that it is to have.
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
        """Return each part's sums of products, (parts, C + 1, C + 1)."""
        weights = (None if part.mask is None else view.weights(part.mask, features) for part, _ in self.parts)
        return torch.cat([moment_sums(features, w) for w in weights])

    def add_gradient(self, layer: str, features: Tensor, of: Tensor, gradient: Tensor, view: View) -> None:
        """Add the gradient of the sums' products to the features'."""
        for (part, _), g in zip(self.parts, of, strict=True):
            weights = None if part.mask is None else view.weights(part.mask, features)
            add_moments_gradient(features, g[None], gradient, weights)

    def total(self, measures: Mapping[str, Tensor], image: Tensor) -> Tensor:
        """Return the loss, a scalar, each part counting by its area."""
        found = []
        for layer, sums in measures.items():
            moments = sums / sums[:, -1:, -1:].clamp(min=1e-12)
            for i, (part, distances) in enumerate(self.parts):
                found.append(self.shares[layer] * part.share * distances[layer](moments[i : i + 1]).sum())
        return torch.stack(found).sum()


def distance(kind: Literal["gram", "moments"], target: Tensor, encoder: VGG, layer: str) -> Callable[[Tensor], Tensor]:
    """The distance of a picture's raw moments to the style's at one layer, behind the layer's head where it has one.

    Parameters
    ----------
    target : Tensor
        The style's raw moments (1, C + 1, C + 1), on the device of those to come.
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
        Each part of the picture with the quantiles (1, C, Q) of each layer that it shall have (`extra.quantiles`).
    shares : dict of str to float
        Layer -> its weight.
    """

    def __init__(self, parts: Sequence[tuple[Part, Mapping[str, Tensor]]], shares: Mapping[str, float]):
        super().__init__(list(shares))
        self.shares = shares
        self.parts = [(part, quantiles) for part, quantiles in parts if part.share]

    def measure(self, layer: str, features: Tensor, view: View) -> Tensor:
        """The layer's weighted loss, each part counting by its area; a scalar."""
        found = []
        for part, quantiles in self.parts:
            own = features if part.mask is None else inside(features, view.weights(part.mask, features))
            found.append(part.share * histogram_loss(own, quantiles[layer]).sum())
        return self.shares[layer] * torch.stack(found).sum()


def inside(features: Tensor, weights: Tensor) -> Tensor:
    """The features (1, C, 1, P) of the pixels that a mask of their size holds at least half of; of all, if of none."""
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
        """The loss, a scalar."""
        return laplacian_loss(image, self.content).sum()


class SimilarityTerm(Term):
    """`extra.self_similarity_loss`, the mean over some layers.

    Parameters
    ----------
    encoder : VGG
        The heads' owner.
    features : dict of str to Tensor
        The content's features (1, C, H, W) at the layers.
    positions : dict of str to Tensor
        Layer -> the places to compare, (P,) (`extra.sample_positions`).
    """

    def __init__(self, encoder: VGG, features: Mapping[str, Tensor], positions: Mapping[str, Tensor]):
        super().__init__(list(positions))
        self.targets, self.positions = features, positions
        metrics = {k: head_metric(encoder, k) for k in positions}
        types = {k: torch.promote_types(features[k].dtype, torch.float32) for k in positions}
        self.metrics = {k: m if m is None else m.to(features[k].device, types[k]) for k, m in metrics.items()}

    def measure(self, layer: str, features: Tensor, view: View) -> Tensor:
        """The layer's share of the loss, (1,)."""
        loss = self_similarity_loss(features, self.targets[layer], self.positions[layer], self.metrics[layer])
        return loss / len(self.layers)


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
        """The loss, a scalar."""
        return total_variation(image, self.wrap).sum()
