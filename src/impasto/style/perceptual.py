"""PerceptualLoss: weighted terms of a picture's loss, all seen through one encoder in one pass."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ..device import Compute
from ..image.cutout import opaque
from ..models.padding import circular_pad
from ..models.vgg import VGG
from .statistics import weights_of


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
