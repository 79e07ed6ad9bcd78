"""Statistics of features: what a style is, apart from any picture.

Gatys' Gram matrix, the channel means and the covariance all follow from one symmetric matrix a layer, the raw moments
of the features with a constant 1 appended, M = mean over pixels of [f; 1] [f; 1]^T. It is (C + 1, C + 1): the Gram
matrix per pixel, bordered by the means. Raw moments add up over pictures, tiles and styles; covariances do not.

The compact encoder's features f are narrow; its heads map them to VGG-19's channels, W f + b. With V = [W b] the wide
Gram matrix is V M V^T, and distances between wide Gram matrices are distances between A M A with A = (V^T V)^(1/2):
the wide features are never computed.
"""

from typing import Any

import torch
from torch import Tensor

from ..models.vgg import VGG


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


def gram_matrix(features: Tensor, normalise: bool = True) -> Tensor:
    """Gram matrix F F^T of features (Gatys, Ecker, Bethge 2016, equation 3).

    Parameters
    ----------
    features : Tensor
        (N, C, H, W).
    normalise : bool
        Divide by the number of pixels, so that it does not depend on the picture's size.

    Returns
    -------
    Tensor
        (N, C, C), float32, or float64 if the features are.
    """
    f = at_least_float32(features).flatten(2)
    gram = f @ f.transpose(1, 2)
    return gram / f.shape[2] if normalise else gram


def covariance(moments: Tensor) -> Tensor:
    """Covariance matrices (N, C, C) from raw moments (N, C + 1, C + 1)."""
    mean = moments[:, :-1, -1]
    return moments[:, :-1, :-1] - mean[:, :, None] * mean[:, None, :]


def head_metric(encoder: VGG, layer: str) -> Tensor | None:
    """The matrix A = (V^T V)^(1/2) of a layer's head V = [W b], or None where the layer has no head.

    Returns
    -------
    Tensor or None
        (C + 1, C + 1), float32, symmetric: for raw moments M of the narrow features, ||A (M - M') A|| is the
        Frobenius distance of the Gram matrices behind the head.
    """
    if layer not in encoder.heads:
        return None
    head = encoder.heads[layer]
    assert isinstance(head, torch.nn.Conv2d)
    assert head.bias is not None
    v = torch.cat([head.weight.flatten(1), head.bias[:, None]], 1).double()
    return matrix_sqrt(v.t() @ v).float()


def matrix_sqrt(matrix: Tensor) -> Tensor:
    """Symmetric square root of a symmetric positive semi-definite matrix; rounding below zero counts as zero."""
    values, vectors = torch.linalg.eigh(matrix)
    return vectors * values.clamp(min=0).sqrt() @ vectors.t()


def pack(matrix: Tensor) -> Tensor:
    """Upper triangle, row by row, of symmetric matrices (N, C, C) -> (N, C (C + 1) / 2)."""
    i, j = torch.triu_indices(matrix.shape[-1], matrix.shape[-1])
    return matrix[..., i, j]


def unpack(triangle: Tensor) -> Tensor:
    """The inverse of `pack`."""
    c = int((2 * triangle.shape[-1]) ** 0.5)
    i, j = torch.triu_indices(c, c)
    matrix = triangle.new_zeros(*triangle.shape[:-1], c, c)
    matrix[..., i, j] = triangle
    matrix[..., j, i] = triangle
    return matrix
