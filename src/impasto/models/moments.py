"""Raw moments of features, and their covariance: the statistics that describe a style.

Gatys' Gram matrix, the channel means and the covariance all follow from one symmetric matrix per layer, the raw moments
of the features with a constant 1 appended, M = mean over pixels of [f; 1] [f; 1]^T. It is (C + 1, C + 1): the Gram
matrix per pixel, bordered by the means. Raw moments add up over pictures, tiles and styles; covariances do not.

The compact encoder's features f are narrow; its heads map them to VGG-19's channels, W f + b. With V = [W b], the wide
Gram matrix is V M V^T, and distances between wide Gram matrices are distances between A M A with A = (V^T V)^(1/2).
The wide features are never computed.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def at_least_float32(x: Tensor) -> Tensor:
    """Convert half precision to float32 for statistics and losses; return other types unchanged."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def raw_moments(features: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return raw first and second moments of features over all pixels, or weighted.

    Weighted moments are the guided Gram matrix of a region (Gatys, Ecker, Bethge, Hertzmann, Shechtman, "Controlling
    Perceptual Factors in Neural Style Transfer", CVPR 2017, section 4).

    Parameters
    ----------
    features : Tensor
        (N, C, H, W), any floating type; summed in float32, or in float64 for float64 features.
    weights : Tensor, optional
        (1 or N, 1, H, W), each pixel's weight, 0 or more. If all are 0, the moments are 0. They get no gradient.

    Returns
    -------
    Tensor
        (N, C + 1, C + 1), symmetric: [[G, m], [m^T, 1]] with G = F F^T / (H W) and m the channel means.
    """
    if weights is not None:
        dtype = torch.promote_types(features.dtype, torch.float32)
        weights = weights.to(features.device, dtype)
        weights = weights / weights.sum((1, 2, 3), keepdim=True).clamp(min=1e-12)
    return _RawMoments.apply(features, weights)  # type: ignore[no-any-return]


class _RawMoments(torch.autograd.Function):
    """F F^T with one matrix product in the backward pass, where autograd would use two."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, weights: Tensor | None) -> Tensor:
        ctx.save_for_backward(features, weights)
        sums = moment_sums(features, weights)
        return sums.div_(features.shape[2] * features.shape[3]) if weights is None else sums

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        features, weights = ctx.saved_tensors
        of = grads[0] / (features.shape[2] * features.shape[3]) if weights is None else grads[0]
        return moments_gradient(features, of, weights), None


LARGE, PART = 2**18, 2**16
"""Number of pixels above which sums in float32 are not accurate, and how many are then summed at a time."""
CHUNK = 16384
"""Pixels in half precision that are converted to float32 at a time. Their products must not be rounded: the errors of
bfloat16 sums exceed a style's small variances, and then the gradient of the `moments` loss is off by many times its
size."""


def moment_sums(features: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return the sums of [f; 1] [f; 1]^T over the pixels. Sums of parts of a picture add up to those of the whole.

    Parameters
    ----------
    features : Tensor
        (N, C, H, W), any floating type; summed in float32 at least.
    weights : Tensor, optional
        (1 or N, 1, H, W), each pixel's weight.

    Returns
    -------
    Tensor
        (N, C + 1, C + 1), float32, or float64 for float64 features. The last entry is the number of pixels, or the sum
        of their weights.
    """
    n, c, h, w = features.shape
    if h * w > LARGE and h > 1:
        total = torch.zeros(n, c + 1, c + 1, dtype=torch.float64, device=features.device)
        for top in range(0, h, strip := max(1, PART // w)):
            rows = slice(top, top + strip)
            total += moment_sums(features[:, :, rows], None if weights is None else weights[:, :, rows])
        return total.to(torch.promote_types(features.dtype, torch.float32))
    f = features.permute(0, 2, 3, 1).flatten(1, 2)  # (N, H W, C), a view if channels_last
    sums = f.new_empty(n, c + 1, c + 1, dtype=torch.promote_types(f.dtype, torch.float32))
    if weights is not None:
        weights = weights.to(sums).expand(n, -1, -1, -1).flatten(1)[:, :, None]  # (N, H W, 1)
    products, added = _products(f, weights)
    sums[:, :-1, :-1], sums[:, :-1, -1], sums[:, -1, :-1] = products, added, added
    sums[:, -1, -1] = h * w if weights is None else weights.sum((1, 2))
    return sums


def _products(f: Tensor, weights: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return the sums of products (N, C, C) and the sums (N, C) of (N, P, C), with weights (N, P, 1)."""
    n, p, c = f.shape
    dtype = torch.promote_types(f.dtype, torch.float32)
    if f.dtype == dtype and weights is None:
        return f.transpose(1, 2) @ f, f.sum(1)
    products, sums = f.new_zeros(n, c, c, dtype=dtype), f.new_zeros(n, c, dtype=dtype)
    for begin in range(0, p, CHUNK):
        part = f[:, begin : begin + CHUNK].to(dtype)
        weighted = part if weights is None else part * weights[:, begin : begin + CHUNK]
        products.baddbmm_(weighted.transpose(1, 2), part)
        sums += weighted.sum(1)
    if weights is not None:  # rounding makes them slightly unsymmetric
        products = (products + products.transpose(1, 2)) / 2
    return products, sums


def moments_gradient(features: Tensor, of: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return the gradient of the features, (N, C, H, W), from the gradient of their `moment_sums`.

    Parameters
    ----------
    features, weights
        As for `moment_sums`; the products are computed in the features' dtype.
    of : Tensor
        (N, C + 1, C + 1), the gradient of the sums.
    """
    matrix, shift = _symmetric(of, features)
    rows = features.permute(0, 2, 3, 1)
    found = torch.baddbmm(shift, rows.flatten(1, 2), matrix).view(rows.shape).permute(0, 3, 1, 2)
    return found if weights is None else found * weights.to(found)


def add_moments_gradient(features: Tensor, of: Tensor, gradient: Tensor, weights: Tensor | None = None) -> None:
    """Add `moments_gradient` to a gradient (N, C, H, W) with the features' dtype, in place."""
    if not gradient.is_contiguous(memory_format=torch.channels_last):
        gradient += moments_gradient(features, of, weights)
        return
    if weights is not None:
        strip = max(1, LARGE // gradient.shape[3])
        for f, g, w in zip(*(t.split(strip, 2) for t in (features, gradient, weights.to(gradient))), strict=True):
            found, rows = (t.permute(0, 2, 3, 1) for t in (moments_gradient(f, of), g))
            # Copy the weights for each channel: products with a few channels at a time are slow.
            rows.addcmul_(found, w.permute(0, 2, 3, 1).expand_as(rows).contiguous())
        return
    matrix, shift = _symmetric(of, features)
    gradient.permute(0, 2, 3, 1).flatten(1, 2).baddbmm_(features.permute(0, 2, 3, 1).flatten(1, 2), matrix)
    # Add whole rows of the picture: additions of a few channels are too short to be fast.
    gradient.permute(0, 2, 3, 1).flatten(2).add_(shift.repeat(1, 1, gradient.shape[3]))


def _symmetric(of: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
    """Return the matrices that multiply the features, (N, C, C), and the vectors to add, (N, 1, C), in their dtype."""
    g = (of + of.transpose(1, 2)).to(features.dtype)
    return g[:, :-1, :-1], g[:, :-1, -1:].transpose(1, 2)


def covariance(moments: Tensor) -> Tensor:
    """Return covariance matrices (N, C, C) from raw moments (N, C + 1, C + 1)."""
    mean = moments[:, :-1, -1]
    return moments[:, :-1, :-1] - mean[:, :, None] * mean[:, None, :]


def gram_matrix(features: Tensor, normalise: bool = True) -> Tensor:
    """Return the Gram matrix F F^T of features (Gatys, Ecker, Bethge 2016, equation 3).

    Parameters
    ----------
    features : Tensor
        (N, C, H, W).
    normalise : bool
        Whether to divide by the number of pixels, so that it does not depend on the picture's size.

    Returns
    -------
    Tensor
        (N, C, C), float32, or float64 for float64 features.
    """
    f = at_least_float32(features).flatten(2)
    gram = f @ f.transpose(1, 2)
    return gram / f.shape[2] if normalise else gram


def weights_of(mask: Tensor, features: Tensor) -> Tensor:
    """Reduce a mask (N, 1, H, W) of a picture to the size of its features (N, C, H', W') by averaging each cell."""
    mask = mask.to(features.device)
    same = mask.shape[-2:] == features.shape[-2:]
    return mask if same else F.interpolate(mask, features.shape[-2:], mode="area")


def matrix_sqrt(matrix: Tensor) -> Tensor:
    """Return the symmetric square root of a symmetric positive semi-definite matrix; clamps eigenvalues at zero."""
    values, vectors = torch.linalg.eigh(matrix)
    return vectors * values.clamp(min=0).sqrt() @ vectors.t()


def pack(matrix: Tensor) -> Tensor:
    """Return the upper triangle, row by row, of symmetric matrices (N, C, C) as (N, C (C + 1) / 2)."""
    i, j = torch.triu_indices(matrix.shape[-1], matrix.shape[-1])
    return matrix[..., i, j]


def unpack(triangle: Tensor) -> Tensor:
    """Return the symmetric matrices (N, C, C) from the result of `pack`."""
    c = int((2 * triangle.shape[-1]) ** 0.5)
    i, j = torch.triu_indices(c, c)
    matrix = triangle.new_zeros(*triangle.shape[:-1], c, c)
    matrix[..., i, j] = triangle
    matrix[..., j, i] = triangle
    return matrix
