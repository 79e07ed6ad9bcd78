"""The Fréchet distance between the features of two pictures, modelled as Gaussians."""

import torch
from torch import Tensor

from ..models.moments import matrix_sqrt
from ..tools.metrics import TINY, Measured

LAYER = "relu3_1"
"""The layer of `sifid`. Like the features of SinGAN's SIFID, it has a quarter of the picture's resolution."""


def frechet_distance(mean: Tensor, covariance: Tensor, other_mean: Tensor, other_covariance: Tensor) -> float:
    """Return the squared Fréchet distance of two Gaussians.

    ||m - m'||^2 + tr(C) + tr(C') - 2 tr((C'^1/2 C C'^1/2)^1/2): Dowson, Landau, "The Fréchet Distance between
    Multivariate Normal Distributions", J. Multivariate Analysis 12, 1982. Computed in float64.

    Parameters
    ----------
    mean, other_mean : Tensor
        (C,).
    covariance, other_covariance : Tensor
        (C, C), symmetric and positive semi-definite.
    """
    m, c, n, d = (t.to("cpu", torch.float64) for t in (mean, covariance, other_mean, other_covariance))
    root = matrix_sqrt(d)
    roots = torch.linalg.eigvalsh(root @ c @ root).clamp(min=0).sqrt()
    return max(0.0, float((m - n).square().sum() + c.trace() + d.trace() - 2 * roots.sum()))


def sifid(picture: Measured, style: Measured) -> float:
    """Return the Fréchet distance of the features of two pictures at relu3_1, over the variance of the style's.

    After SIFID, the "single image FID" of Shaham, Dekel, Michaeli, "SinGAN: Learning a Generative Model from a Single
    Natural Image", ICCV 2019. SIFID takes the features of an Inception network and does not divide, so its values
    cannot be compared with these.
    """
    k = LAYER
    found = frechet_distance(picture.mean[k][0], picture.cov[k][0], style.mean[k][0], style.cov[k][0])
    return found / max(float(style.cov[k][0].trace()), TINY)
