"""Losses of the literature, one function each.

Unless a docstring says otherwise the functions are differentiable, take float32 and return one value a picture, (N,).
"""

from typing import Any

import torch
from torch import Tensor

from .statistics import at_least_float32


def gram_loss(moments: Tensor, target: Tensor, metric: Tensor | None = None) -> Tensor:
    """Gatys' style loss of one layer, made free of scale: ||G - G_s||^2 / ||G_s||^2.

    Gatys, Ecker, Bethge, "Image Style Transfer Using Convolutional Neural Networks", CVPR 2016, equation 4, has
    ||G - G_s||^2 / (4 C^2 (H W)^2); dividing by the size of the style's own Gram matrix instead gives every layer
    and every style about the same weight.

    Parameters
    ----------
    moments, target : Tensor
        Raw moments (N, C + 1, C + 1) of the picture and the style (`statistics.raw_moments`).
    metric : Tensor, optional
        (C + 1, C + 1), from `statistics.head_metric`: distances are then those behind the encoder's head.
    """
    difference = moments - target
    if metric is not None:
        difference, target = metric @ difference @ metric, metric @ target @ metric
    else:
        difference, target = difference[:, :-1, :-1], target[:, :-1, :-1]
    return difference.square().sum((1, 2)) / target.square().sum((1, 2)).clamp(min=1e-12)


def content_loss(features: Tensor, target: Tensor, least: float = 0.0, metric: Tensor | None = None) -> Tensor:
    """Gatys' content loss (2016, equation 1), made free of scale: ||F - F_c||^2 / ||F_c - mean F_c||^2.

    Parameters
    ----------
    features, target : Tensor
        (N, C, H, W) of the picture and the content; the mean is each channel's over its pixels.
    least : float
        The spread ||F_c - mean F_c||^2 counts as at least this share of the batch's mean, for contents that show
        next to nothing.
    metric : Tensor, optional
        (C, C), A from `wasserstein.covariance_metric`: distances are then those of A F, which are those behind the
        encoder's head.

    Returns
    -------
    Tensor
        (N,), float32.
    """
    target = at_least_float32(target)
    spread = _squares(target - target.mean((2, 3), keepdim=True), metric)
    floor = (least * spread.mean()).clamp(min=1e-12 * target[0].numel())
    return _squares(at_least_float32(features) - target, metric) / torch.maximum(spread, floor)


def _squares(difference: Tensor, metric: Tensor | None) -> Tensor:
    """Return the sums of squares (N,) of A times differences (N, C, H, W)."""
    if metric is None:
        return difference.square().sum((1, 2, 3))
    rows = difference.permute(0, 2, 3, 1)
    return (rows @ metric.to(rows)).square().sum((1, 2, 3))


def total_variation(image: Tensor, wrap: bool = False) -> Tensor:
    """Mean squared difference of neighbouring pixels, the anisotropic L2 total variation.

    Mahendran, Vedaldi, "Understanding Deep Image Representations by Inverting Them", CVPR 2015, equation 4, beta = 2,
    as Johnson et al. use it; here the mean over channels and pairs of pixels, so that it does not depend on the size.

    Parameters
    ----------
    image : Tensor
        (N, C, H, W).
    wrap : bool
        Whether pixels at opposite borders are neighbours, too, as in a picture that tiles the plane.
    """
    return _TotalVariation.apply(image, wrap)  # type: ignore[no-any-return]


class _TotalVariation(torch.autograd.Function):
    """The loss and its gradient from the same differences."""

    @staticmethod
    def forward(ctx: Any, image: Tensor, wrap: bool) -> Tensor:
        differences = _differences(image, wrap)
        ctx.save_for_backward(*differences)
        ctx.wrap, ctx.shape = wrap, image.shape
        last = image.is_contiguous(memory_format=torch.channels_last)
        ctx.layout = torch.channels_last if last else torch.contiguous_format
        return torch.stack([d.square().mean((1, 2, 3)) for d in differences]).sum(0)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        found: Tensor | None = None
        for dim, d in zip((2, 3), ctx.saved_tensors, strict=True):
            d = d * (grads[0] * (2 / d[0].numel()))[:, None, None, None]
            if ctx.wrap:
                found = d - d.roll(-1, dim) if found is None else found + d - d.roll(-1, dim)
                continue
            if found is None:
                found = torch.zeros(ctx.shape, dtype=d.dtype, device=d.device).contiguous(memory_format=ctx.layout)
            side = found.shape[dim]
            found.narrow(dim, 1, side - 1).add_(d)
            found.narrow(dim, 0, side - 1).sub_(d)
        assert found is not None
        return found, None


def _differences(image: Tensor, wrap: bool) -> tuple[Tensor, Tensor]:
    """Return the differences of every pixel from the one above it and from the one to its left."""
    if wrap:
        return image - image.roll(1, 2), image - image.roll(1, 3)
    return image[:, :, 1:] - image[:, :, :-1], image[:, :, :, 1:] - image[:, :, :, :-1]
