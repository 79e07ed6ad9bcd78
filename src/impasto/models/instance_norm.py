"""Instance norm whose affine map is given for each picture, with a backward pass that is fast on the CPU.

PyTorch's own backward of a group norm takes 30 times as long as its forward for channels_last tensors on the CPU: most
of the time of training a network with a norm behind every convolution. Here it is a few sums and products. The ReLU
that follows is done in the same place, so that its input need not be kept.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from .moments import at_least_float32

EPSILON = 1e-5
"""Added to the variance."""
SMALL = 1024
"""Pixels: below, PyTorch's group norm takes a slow path, twenty times as long."""


def instance_norm(
    x: Tensor,
    scale: Tensor,
    shift: Tensor,
    *,
    relu: bool = False,
    statistics: Tensor | None = None,
) -> Tensor:
    """Return scale (x - mean) / deviation + shift, and its ReLU if asked for.

    Parameters
    ----------
    x : Tensor
        (N, C, H, W); made channels_last.
    scale, shift : Tensor
        (N, C), float32.
    relu : bool
        Whether a ReLU follows.
    statistics : Tensor, optional
        (1 or N, 2, C), float32: means and variances to use. They are those of each picture if not given.

    Returns
    -------
    Tensor
        (N, C, H, W), channels_last, in the type of `x`.
    """
    x = x.contiguous(memory_format=torch.channels_last)
    if statistics is None:
        return _InstanceNorm.apply(x, scale, shift, relu)  # type: ignore[no-any-return]
    mean, variance = statistics.unbind(1)
    slope = scale * (variance + EPSILON).rsqrt()
    constant = shift - slope * mean
    y = x * slope.to(x.dtype)[:, :, None, None] + constant.to(x.dtype)[:, :, None, None]
    return y.relu_() if relu else y


def statistics_of(x: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return means and variances (N, 2, C) of features (N, C, H, W), float32; of float64 in float64.

    Parameters
    ----------
    weights : Tensor, optional
        (N, 1, H, W), each pixel's weight.
    """
    x = at_least_float32(x)
    if weights is None:
        rows = _rows(x.contiguous(memory_format=torch.channels_last))
        n, c, h, w = x.shape
        mean = rows.sum(1).view(n, w, c).sum(1) / (h * w)
        variance = (rows - mean.repeat(1, w)[:, None]).square().sum(1).view(n, w, c).sum(1) / (h * w)
        return torch.stack([mean, variance], 1)
    weights = weights.to(x.dtype)
    share = weights / weights.sum((2, 3), keepdim=True).clamp(min=1e-6)
    mean = (x * share).sum((2, 3), keepdim=True)
    variance = ((x - mean).square() * share).sum((2, 3))
    return torch.stack([mean[:, :, 0, 0], variance], 1)


class _InstanceNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, shift: Tensor, relu: bool) -> Tensor:
        n, c, h, w = x.shape
        if h * w < SMALL:
            found = statistics_of(x)
            mean, inverse = found[:, 0], (found[:, 1] + EPSILON).rsqrt()
            slope = scale * inverse
            constant = (shift - slope * mean).to(x.dtype).repeat(1, w)[:, None]
            slope = slope.to(x.dtype).repeat(1, w)[:, None]
            out = torch.addcmul(constant, _rows(x), slope).view(n, h, w, c).permute(0, 3, 1, 2)
            out = out.clamp_(min=0) if relu else out
            ctx.save_for_backward(x, scale, mean, inverse, out if relu else None)
            return out
        mean, inverse = scale.new_empty(n, c), scale.new_empty(n, c)
        each = []
        for i in range(n):
            y, m, r = torch.native_group_norm(x[i : i + 1], scale[i], shift[i], 1, c, h * w, c, EPSILON)
            mean[i], inverse[i] = m[0], r[0]
            each.append(y.clamp_(min=0) if relu else y)
        out = torch.cat(each) if n > 1 else each[0]  # one picture is kept once: a third of the memory at the peak
        ctx.save_for_backward(x, scale, mean, inverse, out if relu else None)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        x, scale, mean, inverse, out = ctx.saved_tensors
        g = grads[0].contiguous(memory_format=torch.channels_last)
        if out is not None:
            g = torch.ops.aten.threshold_backward(g, out, 0)
        pixels = x.shape[2] * x.shape[3]
        shift, along = _sums(g), _sums(g * x)
        spread = (along - mean * shift) * inverse  # sum of g times the normalised x
        total = scale * inverse
        slope = -total * inverse * spread / pixels
        constant = -total * shift / pixels - slope * mean
        total, slope, constant = (v.to(x.dtype).repeat(1, x.shape[3])[:, None] for v in (total, slope, constant))
        gradient = torch.addcmul(torch.addcmul(constant, _rows(x), slope), _rows(g), total)
        gradient = gradient.view(x.shape[0], *x.shape[2:], x.shape[1]).permute(0, 3, 1, 2)
        return gradient, spread, shift, None


def _rows(x: Tensor) -> Tensor:
    """A channels_last tensor (N, C, H, W) as (N, H, W C): what broadcasts along rows alone is ten times as fast."""
    return x.permute(0, 2, 3, 1).flatten(2)


def _sums(x: Tensor) -> Tensor:
    """Over the pixels, (N, C), in float32 at least: over columns in the type of `x`, which is fast, then over rows."""
    columns = _rows(x).sum(1)
    columns = columns.to(torch.promote_types(columns.dtype, torch.float32))
    return columns.view(x.shape[0], x.shape[3], x.shape[1]).sum(1)
