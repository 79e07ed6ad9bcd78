"""Statistics of features: what a style is, apart from any picture.

Gatys' Gram matrix, the channel means and the covariance all follow from one symmetric matrix a layer, the raw moments
of the features with a constant 1 appended, M = mean over pixels of [f; 1] [f; 1]^T. It is (C + 1, C + 1): the Gram
matrix per pixel, bordered by the means. Raw moments add up over pictures, tiles and styles; covariances do not.

The compact encoder's features f are narrow; its heads map them to VGG-19's channels, W f + b. With V = [W b] the wide
Gram matrix is V M V^T, and distances between wide Gram matrices are distances between A M A with A = (V^T V)^(1/2):
the wide features are never computed.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from ..models.moments import at_least_float32
from ..models.moments import covariance as covariance
from ..models.moments import raw_moments as raw_moments
from ..models.vgg import VGG


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


def weights_of(mask: Tensor, features: Tensor) -> Tensor:
    """Return a mask (N, 1, H, W) of a picture in the size of its features (N, C, H', W'): the mean of each cell."""
    return F.interpolate(mask.to(features.device), features.shape[-2:], mode="area")


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
