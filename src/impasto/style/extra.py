"""Optional terms beside the style and content losses: histograms, Laplacian, self-similarity. One function each.

They are differentiable, take float32 or float64 and give one value a picture, (N,).
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from ..models.moments import at_least_float32

QUANTILES = 256
"""Quantiles a channel that stand for a style's histogram."""
POOLING = 4
"""Side, in pixels, of the cells that the Laplacian loss averages over (the paper's)."""
POSITIONS = 1024
"""Places that the self-similarity loss compares (the paper's)."""


def quantiles(features: Tensor, count: int = QUANTILES) -> Tensor:
    """What `histogram_loss` needs of a style: the quantiles (i + 1/2) / count of each channel over the pixels.

    The quantiles of several styles blend by weight: that is the barycentre of their histograms.

    Parameters
    ----------
    features : Tensor
        (N, C, H, W), any floating type.
    count : int
        How many.

    Returns
    -------
    Tensor
        (N, C, count), rising, float32, or float64 if the features are.
    """
    return _stretch(at_least_float32(features).flatten(2).sort(2).values, count)


def _stretch(rising: Tensor, count: int) -> Tensor:
    """Quantiles (N, C, Q) at other places (N, C, count): on the line between two, constant beyond the outermost."""
    return F.interpolate(rising, count, mode="linear", align_corners=False)


def histogram_loss(features: Tensor, target: Tensor) -> Tensor:
    """Histogram loss of one layer, made free of scale: ||F - R(F)||^2 / ||S||^2.

    Risser, Wilmot, Barnes, "Stable and Controllable Neural Texture Synthesis and Style Transfer Using Histogram
    Losses", 2017 (arXiv:1701.08893): R(F) is F with each channel remapped to the style's histogram, held fixed for the
    gradient. Remapped by rank, it is the sorted values against the style's quantiles, the squared Wasserstein-2
    distance of the two histograms, and that gradient is exact. Dividing by the style's mean square makes it 1 for
    features that are all zero.

    Parameters
    ----------
    features : Tensor
        (N, C, H, W) of the picture. Channels count one by one, so that narrow features and those behind a head differ.
    target : Tensor
        (N, C, Q) of the style, from `quantiles`.
    """
    rising = at_least_float32(features).flatten(2).sort(2).values
    difference = rising - _stretch(target, rising.shape[2])
    return difference.square().mean(2).sum(1) / target.square().mean(2).sum(1).clamp(min=1e-12)


def laplacian_loss(image: Tensor, content: Tensor, pooling: int = POOLING) -> Tensor:
    """Mean squared difference of the Laplacians of two pictures: keeps the photo's edges.

    Li, Xu, Nie, Chua, "Laplacian-Steered Neural Style Transfer", ACM Multimedia 2017 (arXiv:1707.01253): the sum of
    (D(x) - D(x_c))^2, with D the filter [0 -1 0; -1 4 -1; 0 -1 0] of the picture averaged over cells of pooling^2
    pixels. Here the mean over channels and places, so that it does not depend on the size, and only where the filter
    lies within the picture.

    Parameters
    ----------
    image, content : Tensor
        (N, C, H, W), sRGB, range [0, 1].
    pooling : int
        Side of a cell, in pixels.

    Raises
    ------
    ValueError
        If the picture has less than three cells a side.
    """
    height, width = image.shape[-2:]
    if min(height, width) < 3 * pooling:
        raise ValueError(f"a {width}x{height} picture has no Laplacian in cells of {pooling}x{pooling} pixels")
    d = F.avg_pool2d(image - content, pooling)  # all of it is linear
    cross = d[:, :, :-2, 1:-1] + d[:, :, 2:, 1:-1] + d[:, :, 1:-1, :-2] + d[:, :, 1:-1, 2:]
    return (4 * d[:, :, 1:-1, 1:-1] - cross).square().mean((1, 2, 3))


def sample_positions(size: tuple[int, int], seed: int, count: int = POSITIONS) -> Tensor:
    """Places of a grid drawn without repetition, the same for the same seed.

    Parameters
    ----------
    size : tuple of int
        Height and width of the features.
    seed : int
        What they are drawn from.
    count : int
        How many; all the places where there are fewer.

    Returns
    -------
    Tensor
        (P,), int64, rising: indices y W + x.
    """
    order = torch.randperm(size[0] * size[1], generator=torch.Generator().manual_seed(seed))
    return order[:count].sort().values


def self_similarity_loss(features: Tensor, target: Tensor, positions: Tensor, metric: Tensor | None = None) -> Tensor:
    """Self-similarity content loss: which places of the picture are alike shall stay, whatever they look like.

    Kolkin, Salavon, Shakhnarovich, "Style Transfer by Relaxed Optimal Transport and Self-Similarity" (STROTSS), CVPR
    2019: with D_ij the cosine distances of the features at places i and j, the mean over i and j of
    |D_ij / sum_i D_ij - D^c_ij / sum_i D^c_ij|. Here it is the sum over i and the mean over j, which does not shrink
    with the number of places.

    Parameters
    ----------
    features, target : Tensor
        (N, C, H, W) of the picture and the content; only the `positions` of them are used.
    positions : Tensor
        (P,), indices y W + x, from `sample_positions`.
    metric : Tensor, optional
        (C + 1, C + 1), from `head_metric`: the cosines are then those behind the encoder's head.

    Returns
    -------
    Tensor
        (N,), in [0, 2].
    """
    found = _relative_distances(features, positions, metric)
    return (found - _relative_distances(target, positions, metric)).abs().sum((1, 2)) / len(positions)


def _relative_distances(features: Tensor, positions: Tensor, metric: Tensor | None) -> Tensor:
    """Cosine distances (N, P, P) of the features at P places, each row over its sum."""
    f = at_least_float32(features.flatten(2)[:, :, positions.to(features.device)])  # (N, C, P)
    if metric is not None:
        f = metric @ torch.cat([f, f.new_ones(len(f), 1, f.shape[2])], 1)
    f = F.normalize(f, dim=1)
    distances = 1 - f.transpose(1, 2) @ f
    return distances / distances.sum(2, keepdim=True).clamp(min=1e-12)
