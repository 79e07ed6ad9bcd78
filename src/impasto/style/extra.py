"""Optional losses in addition to style and content: histogram, Laplacian, self-similarity. One function each.

The losses are differentiable, accept float32 or float64, and return one value per picture, (N,).
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from ..models.moments import at_least_float32

QUANTILES = 256
"""Quantiles per channel that represent a style's histogram."""
POOLING = 4
"""Side, in pixels, of the cells that the Laplacian loss averages (as in the paper)."""
POSITIONS = 1024
"""Positions that the self-similarity loss compares (as in the paper)."""


def quantiles(features: Tensor, count: int = QUANTILES) -> Tensor:
    """Return the quantiles (i + 1/2) / count of each channel over the pixels: the target of `histogram_loss`.

    The weighted mean of several styles' quantiles is the barycentre of their histograms.

    Parameters
    ----------
    features : Tensor
        (N, C, H, W), any floating type.
    count : int
        Number of quantiles.

    Returns
    -------
    Tensor
        (N, C, count), ascending, float32, or float64 for float64 features.
    """
    return _resample(at_least_float32(features).flatten(2).sort(2).values, count)


def _resample(rising: Tensor, count: int) -> Tensor:
    """Resample quantiles (N, C, Q) to (N, C, count), linearly between two, constant beyond the first and the last."""
    return F.interpolate(rising, count, mode="linear", align_corners=False)


def histogram_loss(features: Tensor, target: Tensor) -> Tensor:
    """Return the scale-free histogram loss of one layer: ||F - R(F)||^2 / ||S||^2.

    Risser, Wilmot, Barnes, "Stable and Controllable Neural Texture Synthesis and Style Transfer Using Histogram
    Losses", 2017 (arXiv:1701.08893): R(F) is F with each channel remapped to the style's histogram, constant for the
    gradient. Here, F is remapped by rank: the loss compares its sorted values with the style's quantiles. It is the
    squared Wasserstein-2 distance of the two histograms, and the gradient is exact. Divided by the style's mean square,
    it is 1 for features that are all zero.

    Parameters
    ----------
    features : Tensor
        (N, C, H, W) of the picture. Channels are compared one by one, so the loss differs before and after a head.
    target : Tensor
        (N, C, Q) of the style, from `quantiles`.
    """
    rising = at_least_float32(features).flatten(2).sort(2).values
    difference = rising - _resample(target, rising.shape[2])
    return difference.square().mean(2).sum(1) / target.square().mean(2).sum(1).clamp(min=1e-12)


def laplacian_loss(image: Tensor, content: Tensor, pooling: int = POOLING) -> Tensor:
    """Return the mean squared difference of two pictures' Laplacians, which keeps the photo's edges.

    Li, Xu, Nie, Chua, "Laplacian-Steered Neural Style Transfer", ACM Multimedia 2017 (arXiv:1707.01253): the sum of
    (D(x) - D(x_c))^2, with D the filter [0 -1 0; -1 4 -1; 0 -1 0] of the picture averaged over cells of pooling^2
    pixels. Here it is the mean over channels and positions, which does not depend on the size, and only over positions
    where the filter lies within the picture.

    Parameters
    ----------
    image, content : Tensor
        (N, C, H, W), sRGB, range [0, 1].
    pooling : int
        Side of a cell, in pixels.

    Raises
    ------
    ValueError
        If the picture has fewer than three cells per side.
    """
    height, width = image.shape[-2:]
    if min(height, width) < 3 * pooling:
        raise ValueError(f"a {width}x{height} picture is too small for a Laplacian of {pooling}x{pooling} pixel cells")
    d = F.avg_pool2d(image - content, pooling)  # all operations are linear
    cross = d[:, :, :-2, 1:-1] + d[:, :, 2:, 1:-1] + d[:, :, 1:-1, :-2] + d[:, :, 1:-1, 2:]
    return (4 * d[:, :, 1:-1, 1:-1] - cross).square().mean((1, 2, 3))


def sample_positions(size: tuple[int, int], seed: int, count: int = POSITIONS) -> Tensor:
    """Sample positions of a grid without repetition; the same seed gives the same positions.

    Parameters
    ----------
    size : tuple of int
        Height and width of the features.
    seed : int
        Seed of the random choice.
    count : int
        Number of positions. If the grid has fewer, all of them.

    Returns
    -------
    Tensor
        (P,), int64, ascending: indices y W + x.
    """
    order = torch.randperm(size[0] * size[1], generator=torch.Generator().manual_seed(seed))
    return order[:count].sort().values


def self_similarity_loss(features: Tensor, target: Tensor, positions: Tensor, metric: Tensor | None = None) -> Tensor:
    """Return the self-similarity content loss, which preserves how similar positions are to each other.

    Kolkin, Salavon, Shakhnarovich, "Style Transfer by Relaxed Optimal Transport and Self-Similarity" (STROTSS), CVPR
    2019: with D_ij the cosine distances of the features at positions i and j, the mean over i and j of
    |D_ij / sum_i D_ij - D^c_ij / sum_i D^c_ij|. Here it is the sum over i and the mean over j, which does not shrink
    with the number of positions.

    Parameters
    ----------
    features, target : Tensor
        (N, C, H, W) of the picture and the content; only `positions` are used.
    positions : Tensor
        (P,), indices y W + x, from `sample_positions`.
    metric : Tensor, optional
        (C + 1, C + 1), from `head_metric`: compute the cosines after the encoder's head.

    Returns
    -------
    Tensor
        (N,), in [0, 2].
    """
    found = _relative_distances(features, positions, metric)
    return (found - _relative_distances(target, positions, metric)).abs().sum((1, 2)) / len(positions)


def _relative_distances(features: Tensor, positions: Tensor, metric: Tensor | None) -> Tensor:
    """Return the cosine distances (N, P, P) of the features at P positions, each row divided by its sum."""
    f = at_least_float32(features.flatten(2)[:, :, positions.to(features.device)])  # (N, C, P)
    if metric is not None:
        f = metric @ torch.cat([f, f.new_ones(len(f), 1, f.shape[2])], 1)
    f = F.normalize(f, dim=1)
    distances = 1 - f.transpose(1, 2) @ f
    return distances / distances.sum(2, keepdim=True).clamp(min=1e-12)
