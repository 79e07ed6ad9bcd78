"""The matching of colours (`models.colours`) in operations that every runtime has, in float32.

Runtimes have no eigenvalues, and some have no float64. The optimal transport T between two Gaussians of covariances A
and B is the symmetric positive definite matrix with T A T = B. With the Cholesky factors A = K K^T and B = L L^T, and
the orthogonal factor Q of the polar decomposition K^T L = P Q, it is T = L Q^T K^-1. The polar decomposition comes from
Newton's iteration (Higham, "Computing the Polar Decomposition - with Applications", SIAM Journal on Scientific and
Statistical Computing 7, 1986). The condition numbers are those of the factors, so float32 is enough.
"""

import torch
from torch import Tensor

from ..models.colours import EPSILON

STEPS = 10
"""Iterations. The condition number of K^T L is at most about 10^4; this many are enough for 10^16."""
NEXT, LAST = torch.tensor([1, 2, 0]), torch.tensor([2, 0, 1])
"""The next index, and the one after it, of each of three in a circle."""


def colours_in(picture: Tensor) -> Tensor:
    """Return the covariance and mean (N, 3, 4) of the colours of pictures (N, 3, H, W), float32.

    The sums are taken row by row, because float32 is not accurate enough for one sum over all pixels.
    """
    mean = picture.mean(3, keepdim=True).mean(2, keepdim=True)
    rows = (picture - mean).permute(0, 2, 1, 3)  # (N, H, 3, W)
    products = (rows @ rows.transpose(2, 3)).mean(1) / picture.shape[3]
    return torch.cat([products, mean[:, :, :, 0]], 2)


def matched(painting: Tensor, colours: Tensor) -> Tensor:
    """Match the colours of paintings (N, 3, H, W) to those of styles (N, 3, 4), as `colour`, but not clamped."""
    own = colours_in(painting)
    matrix = transport(own[:, :, :3], colours[:, :, :3])
    centred = painting - own[:, :, 3:, None]
    mapped = (matrix @ centred.flatten(2)).view(painting.shape)
    return mapped + colours[:, :, 3:, None]


def transport(own: Tensor, wanted: Tensor) -> Tensor:
    """Return the optimal transport matrices (N, 3, 3) between colours with these covariances (N, 3, 3)."""
    ridge = EPSILON * torch.eye(3)
    k, w = cholesky(own + ridge), cholesky(wanted + ridge)
    return w @ orthogonal(k.transpose(1, 2) @ w).transpose(1, 2) @ inverse_transposed(k).transpose(1, 2)


def cholesky(matrix: Tensor) -> Tensor:
    """Return the lower triangular L with L L^T = matrix, for positive definite matrices (N, 3, 3)."""
    a = [[matrix[:, i, j] for j in range(i + 1)] for i in range(3)]
    zero = torch.zeros_like(a[0][0])
    l00 = a[0][0].sqrt()
    l10, l20 = a[1][0] / l00, a[2][0] / l00
    l11 = (a[1][1] - l10 * l10).clamp(min=1e-12).sqrt()
    l21 = (a[2][1] - l20 * l10) / l11
    l22 = (a[2][2] - l20 * l20 - l21 * l21).clamp(min=1e-12).sqrt()
    return torch.stack([l00, zero, zero, l10, l11, zero, l20, l21, l22], 1).view(-1, 3, 3)


def orthogonal(matrix: Tensor) -> Tensor:
    """Return the orthogonal factor Q of the polar decomposition P Q of regular matrices (N, 3, 3)."""
    for _ in range(STEPS):
        inverse = inverse_transposed(matrix)
        sizes = [m.square().sum((1, 2), keepdim=True) for m in (inverse, matrix)]
        gain = (sizes[0] / sizes[1]).sqrt().sqrt()
        matrix = 0.5 * (gain * matrix + inverse / gain)
    return matrix


def inverse_transposed(matrix: Tensor) -> Tensor:
    """Return the transposed inverses of matrices (N, 3, 3): the cofactors over the determinant."""
    below, bottom = matrix.index_select(1, NEXT), matrix.index_select(1, LAST)
    first = below.index_select(2, NEXT) * bottom.index_select(2, LAST)
    cofactors = first - below.index_select(2, LAST) * bottom.index_select(2, NEXT)
    return cofactors / (matrix[:, :1] * cofactors[:, :1]).sum(2, keepdim=True)
