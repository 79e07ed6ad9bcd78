"""One run of a frozen VGG over a picture, forward and back, without autograd.

Every buffer of the backward pass is its own, so gradients are masked and added to in place; of the forward pass the
features alone are kept.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from .convolution import convolve, convolve_back
from .moments import at_least_float32
from .pooling import max_pool, max_pool_back

if TYPE_CHECKING:
    from .vgg import VGG


class Look:
    """One run of a frozen VGG over a picture, through which a gradient can be taken back to the picture.

    Made by `VGG.look`.

    Parameters
    ----------
    encoder, image, layers, visit, keep, checkpointing
        As for `VGG.look`, the layers in the network's order.
    """

    @torch.no_grad()
    def __init__(
        self,
        encoder: "VGG",
        image: Tensor,
        layers: Sequence[str],
        visit: Callable[[str, Tensor], None],
        keep: bool,
        checkpointing: bool,
    ):
        self.encoder, self.checkpointing = encoder, checkpointing
        self.wanted = {encoder.layers[k]: k for k in layers}
        self.places = self._steps()
        self.kept: dict[int, Tensor] = {}
        """Place -> features behind that module; -1 is the picture, as the first convolution takes it."""
        # Where nothing but the picture is seen beyond its border, its normalisation is a matter of the first weights.
        self.folded = encoder.config.padding == "reflect"
        x = image if self.folded else (image - encoder.mean) / encoder.std
        if torch.is_autocast_enabled(image.device.type):
            x = x.to(torch.get_autocast_dtype(image.device.type))
        if keep:
            self.kept[-1] = x
        before = -1
        for i in self.places:
            x = self._forward(before, i, x)
            if keep and (not checkpointing or self._pools(i)):
                self.kept[i] = x
            if i in self.wanted:
                visit(self.wanted[i], x)
            before = i
        if keep and self.places:
            self.kept[before] = x

    def _steps(self) -> list[int]:
        """Return the places of what is computed: a convolution's ReLU stands for both, unless the former is wanted."""
        features = self.encoder.features
        fused = [
            i
            for i, m in enumerate(features)
            if isinstance(m, nn.Conv2d) and isinstance(features[i + 1], nn.ReLU) and i not in self.wanted
        ]
        return [i for i in range(max(self.wanted, default=-1) + 1) if i not in fused]

    def _pools(self, i: int) -> bool:
        return isinstance(self.encoder.features[i], nn.MaxPool2d)

    def _convolution(self, before: int, i: int) -> int | None:
        """Return the place of the convolution that step `i` consists of, alone or with its ReLU; None for others."""
        return next((j for j in range(before + 1, i + 1) if isinstance(self.encoder.features[j], nn.Conv2d)), None)

    def _forward(self, before: int, i: int, x: Tensor) -> Tensor:
        """Return the features behind place `i` from those at the place before."""
        net, j = self.encoder, self._convolution(before, i)
        if j is not None:
            return convolve(x, net.kernel(j, x), reflect=net.config.padding == "reflect", relu=j < i)
        if not self._pools(i):
            return F.relu(x)
        return max_pool(x) if net.pooling == "max" else net.AVERAGE_POOLING_GAIN * F.avg_pool2d(x, 2)

    @torch.no_grad()
    def gradient(self, add: Callable[[str, Tensor, Tensor], object]) -> Tensor:
        """Return the gradient of the picture, (N, 3, H, W), float32. It can be taken once.

        Parameters
        ----------
        add : callable
            (layer, features, gradient): adds the gradient of whatever was measured at that layer, in place. Called
            for each of the layers that were asked for, deepest first.
        """
        steps = list(zip([-1, *self.places], self.places, strict=False))
        g: Tensor | None = None
        masked = False  # whether the ReLU at hand has been applied to the gradient already
        while steps:
            before, i = steps.pop()
            if before not in self.kept:
                self._recompute(before)
            y, x = self.kept.pop(i), self.kept[before]
            if i in self.wanted:
                # In place from here on: dense, and of this pass alone.
                g = torch.zeros_like(y) if g is None else g.contiguous(memory_format=_layout(y))
                add(self.wanted[i], y, g)
                masked = False
            assert g is not None
            j, net = self._convolution(before, i), self.encoder
            if j is None or j < i:
                g = g if masked else _mask(g, y)
            if j is not None:
                g = convolve_back(g, net.kernel(j, g), reflect=net.config.padding == "reflect")
            elif self._pools(i) and net.pooling == "max":
                g = max_pool_back(x, g)
            elif self._pools(i):
                pooled = torch.ops.aten.avg_pool2d_backward(g, x, [2, 2], [2, 2], [0, 0], False, True, None)
                g = pooled.mul_(net.AVERAGE_POOLING_GAIN)
            masked = self._pools(i) and net.pooling == "max"  # only what was above zero has been given a gradient
        assert g is not None
        return at_least_float32(g) if self.folded else at_least_float32(g) / self.encoder.std

    def _recompute(self, place: int) -> None:
        """Keep the features of a block again, from those that it began with, up to a place."""
        first = max(k for k in self.kept if k < place)
        before, x = first, self.kept[first]
        for i in self.places:
            if first < i <= place:
                x = self.kept[i] = self._forward(before, i, x)
                before = i


def _mask(gradient: Tensor, y: Tensor) -> Tensor:
    """Return a gradient behind a ReLU's derivative, by what the ReLU gave; in place unless it is a part of another."""
    if not gradient.is_contiguous(memory_format=_layout(y)):
        return torch.ops.aten.threshold_backward(gradient, y, 0)  # type: ignore[no-any-return]
    torch.ops.aten.threshold_backward.grad_input(gradient, y, 0, grad_input=gradient)
    return gradient


def _layout(x: Tensor) -> torch.memory_format:
    return torch.channels_last if x.is_contiguous(memory_format=torch.channels_last) else torch.contiguous_format


def features_of(image: Tensor, encoder: "VGG", layers: tuple[str, ...]) -> tuple[Tensor, ...]:
    """Return the features of some layers, in the network's order, differentiable with respect to the picture."""
    return _Features.apply(image, encoder, layers)  # type: ignore[no-any-return]


class _Features(torch.autograd.Function):
    """`Look` as autograd knows it."""

    @staticmethod
    def forward(ctx: Any, image: Tensor, encoder: "VGG", layers: tuple[str, ...]) -> tuple[Tensor, ...]:
        found: dict[str, Tensor] = {}
        ctx.look = encoder.look(image, layers, found.__setitem__, keep=ctx.needs_input_grad[0])
        for layer in layers:  # what is given back would hold itself in memory
            ctx.look.kept.pop(encoder.layers[layer], None)
        ctx.layers = layers
        ctx.save_for_backward(*found.values())
        return tuple(found[k] for k in layers)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        look, of = ctx.look, dict(zip(ctx.layers, grads, strict=True))
        look.kept |= {look.encoder.layers[k]: f for k, f in zip(ctx.layers, ctx.saved_tensors, strict=True)}
        return look.gradient(lambda layer, _, g: g.add_(of[layer])), None, None
