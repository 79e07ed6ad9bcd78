"""The raw moments of features, and their covariance; what they are for says `style.statistics`."""

from typing import Any

import torch
from torch import Tensor


def at_least_float32(x: Tensor) -> Tensor:
    """Half precision as float32, all else as it is: what statistics and losses compute in."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def raw_moments(features: Tensor, weights: Tensor | None = None) -> Tensor:
    """Raw first and second moments of features over their pixels, or over a part of them.

    Weighted, they are a region's guided Gram matrix (Gatys, Ecker, Bethge, Hertzmann, Shechtman, "Controlling
    Perceptual Factors in Neural Style Transfer", CVPR 2017, section 4).

    Parameters
    ----------
    features : Tensor
        (N, C, H, W), any floating type; the sums are done in float32, of float64 in float64.
    weights : Tensor, optional
        (1 or N, 1, H, W), each pixel's weight, 0 or more; where all are 0 the moments are 0. No gradient goes there.

    Returns
    -------
    Tensor
        (N, C + 1, C + 1), symmetric: [[G, m], [m^T, 1]] with G = F F^T / (H W) and m the channel means.
    """
    if weights is not None:
        dtype = torch.promote_types(features.dtype, torch.float32)
        weights = weights.to(features.device, dtype).expand(len(features), -1, -1, -1)
        weights = weights.flatten(1)[:, :, None]  # (N, H W, 1)
        weights = weights / weights.sum(1, keepdim=True).clamp(min=1e-12)
    return _RawMoments.apply(features, weights)  # type: ignore[no-any-return]


class _RawMoments(torch.autograd.Function):
    """F F^T with one matrix product backward, where autograd would take two, and no float32 copy of F kept between."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, weights: Tensor | None) -> Tensor:
        ctx.save_for_backward(features, weights)
        f = at_least_float32(features).permute(0, 2, 3, 1).flatten(1, 2)  # (N, H W, C), a view if channels_last
        n, pixels, c = f.shape
        moments = f.new_ones(n, c + 1, c + 1)
        if weights is None:
            moments[:, :-1, :-1] = (f.transpose(1, 2) @ f).div_(pixels)
            moments[:, :-1, -1] = moments[:, -1, :-1] = f.mean(1)
        else:
            weighted = f * weights
            moments[:, :-1, :-1] = weighted.transpose(1, 2) @ f
            moments[:, :-1, -1] = moments[:, -1, :-1] = weighted.sum(1)
            moments[:, -1, -1] = weights.sum((1, 2))
        return moments

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        features, weights = ctx.saved_tensors
        n, c, h, w = features.shape
        g = grads[0] + grads[0].transpose(1, 2)
        # In the features' own precision: that is what this gradient is rounded to before it enters the network.
        g = (g / (h * w) if weights is None else g).to(features.dtype)
        f = features.permute(0, 2, 3, 1).flatten(1, 2)
        gradient = torch.baddbmm(g[:, :-1, -1:].transpose(1, 2), f, g[:, :-1, :-1])  # (N, H W, C)
        if weights is not None:
            gradient *= weights.to(gradient.dtype)
        return gradient.view(n, h, w, c).permute(0, 3, 1, 2), None


def covariance(moments: Tensor) -> Tensor:
    """Covariance matrices (N, C, C) from raw moments (N, C + 1, C + 1)."""
    mean = moments[:, :-1, -1]
    return moments[:, :-1, :-1] - mean[:, :, None] * mean[:, None, :]
