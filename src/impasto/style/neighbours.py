"""The `nn` style loss: every place of the painting is drawn to the place of the style picture that is most like it.

Kolkin, Kucera, Paris, Sýkora, Shechtman, Shakhnarovich, "Neural Neighbor Style Transfer", 2022 (arXiv:2203.13215).
The features of several layers, brought to one grid, make a hypercolumn a place. Each hypercolumn of the content is
replaced by its nearest neighbour among the style's, by centred cosine distance, and the picture is optimised until its
own hypercolumns are those. The paper's last pass does the same layer by layer, matched anew before every step:
`nearest` and `neighbour_loss` take any features.
"""

from collections.abc import Iterable, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from .statistics import at_least_float32

GRID_STRIDE = 4
"""Picture pixels per hypercolumn, along one side (the paper's)."""
CHUNK = 2048
"""Columns of each side that `nearest` compares at a time: on a CPU faster than 1,024 and than 4,096."""


def grid_size(size: tuple[int, int], stride: int = GRID_STRIDE) -> tuple[int, int]:
    """Height and width of the grid of hypercolumns for a picture of that height and width."""
    return max(1, size[0] // stride), max(1, size[1] // stride)


def hypercolumns(
    features: Mapping[str, Tensor],
    layers: Sequence[str],
    size: tuple[int, int],
    metrics: Mapping[str, Tensor | None] | None = None,
    widths: Mapping[str, float] | None = None,
) -> Tensor:
    """The layers' features on one grid, one after the other along the channels.

    Coarser layers are enlarged bilinearly. Finer ones are averaged over each cell, where the paper reduces them
    bilinearly too: at a quarter of the size that would skip three of four features.

    Parameters
    ----------
    features : dict of str to Tensor
        Layer -> (N, C, H, W), any floating type.
    layers : sequence of str
        Which of them, in order.
    size : tuple of int
        Height and width of the grid (`grid_size`).
    metrics : dict of str to (Tensor or None), optional
        Layer -> A (C, C) from `wasserstein.covariance_metric`: centred hypercolumns have then the lengths and cosines
        that they have behind the encoder's heads.
    widths : dict of str to int, optional
        Layer -> what its features are divided by, so that wide layers do not outweigh the others (as the
        authors' code does).
        The number of channels if not given; behind a head it is the head's width.

    Returns
    -------
    Tensor
        (N, sum of C, height, width), float32, or float64 if the features are; differentiable.
    """
    parts = []
    for layer in layers:
        f = at_least_float32(features[layer])
        metric = None if metrics is None else metrics.get(layer)
        finer = f.shape[-2] > size[0] or f.shape[-1] > size[1]
        if finer:
            f = F.adaptive_avg_pool2d(f, size)
        width = (widths or {}).get(layer, f.shape[1])
        # On the smaller of the two grids: a map along the channels and the resizing may change places.
        f = f / width if metric is None else F.conv2d(f, (metric / width)[:, :, None, None])
        parts.append(f if tuple(f.shape[-2:]) == size else F.interpolate(f, size, mode="bilinear", align_corners=False))
    return torch.cat(parts, 1)


def columns(*features: Tensor) -> Tensor:
    """Features (N, C, H, W) of pictures of whatever sizes as a list of columns (total of N H W, C)."""
    return torch.cat([f.permute(0, 2, 3, 1).flatten(0, 2) for f in features])


def rotations(picture: Tensor) -> Iterable[Tensor]:
    """A picture (N, C, H, W) turned by 0, 90, 180 and 270 degrees, one after the other.

    The paper matches against the style picture in the four orientations. It is the picture that has to be turned: a
    network's features of the turned picture are not its features turned.
    """
    return (torch.rot90(picture, quarters, (2, 3)) for quarters in range(4))


@torch.no_grad()
def nearest(content: Tensor, style: Tensor, chunk: int = CHUNK, dtype: torch.dtype | None = None) -> Tensor:
    """For each content column the style column at the least centred cosine distance.

    The distance is 1 - <x, y> / (||x|| ||y||) with x and y centred, the content's by the content's mean column, the
    style's by the style's. Of equals the first wins, so the result depends on nothing but the columns and the chunk.

    Parameters
    ----------
    content, style : Tensor
        (P, C) and (Q, C), float32 or float64.
    chunk : int
        How many columns of each are compared at a time. Beyond its inputs and its result the search holds about
        chunk (chunk + 4 C) numbers, whatever P and Q: for 2,048 columns 26 MB with C = 272, 48 MB with C = 960.
    dtype : torch.dtype, optional
        What the products are computed in; that of the columns if not given. bfloat16, where the processor has it, is
        more than twice as fast; of a photograph's columns one in six had another neighbour then, and the mean distance
        grew by 0.1 %.

    Returns
    -------
    Tensor
        (P,), int64: indices into `style`.
    """
    dtype = dtype or content.dtype
    content_mean, style_mean = content.mean(0), style.mean(0)
    found = torch.zeros(len(content), dtype=torch.int64, device=content.device)
    for start in range(0, len(content), chunk):
        x = F.normalize(content[start : start + chunk] - content_mean, dim=1).to(dtype)
        best = x.new_full((len(x),), -torch.inf)
        index = found[start : start + chunk]  # a view
        for first in range(0, len(style), chunk):
            y = F.normalize(style[first : first + chunk] - style_mean, dim=1).to(dtype)
            value, place = (x @ y.t()).max(1)
            better = value > best
            best = torch.where(better, value, best)
            index.copy_(torch.where(better, place + first, index))
    return found


def match(content: Tensor, style: Tensor, chunk: int = CHUNK, dtype: torch.dtype | None = None) -> Tensor:
    """The features of the content, each column replaced by its nearest style column, as they are in the style.

    Parameters
    ----------
    content : Tensor
        (N, C, H, W), hypercolumns or one layer's features; each picture is centred by its own mean.
    style : Tensor
        (Q, C), from `columns`.
    chunk, dtype
        As for `nearest`.

    Returns
    -------
    Tensor
        (N, C, H, W), without gradient, in channels_last order.
    """
    n, _, h, w = content.shape
    found = torch.stack([nearest(columns(c[None]), style, chunk, dtype) for c in content])
    return style.detach()[found].view(n, h, w, -1).permute(0, 3, 1, 2)


def neighbour_loss(features: Tensor, matched: Tensor, centre: Tensor, weights: Tensor | None = None) -> Tensor:
    """Mean centred cosine distance of the picture's columns to the style columns that they were matched with.

    Kolkin et al. 2022: mean over the places of 1 - cos(f - c, t - c). Here c is one fixed point on both sides, the
    style's mean column: centred each by its own mean, as in the search, the picture could be off by any constant for
    free. (The authors' code takes c = 0 for hypercolumns; behind a head that would bring in its bias.)

    Parameters
    ----------
    features, matched : Tensor
        (N, C, H, W), of the picture and from `match`.
    centre : Tensor
        (C,), `style.mean(0)` of the style's columns.
    weights : Tensor, optional
        (1 or N, 1, H, W), each place's weight, 0 or more; where all are 0 the loss is 0.

    Returns
    -------
    Tensor
        (N,), in [0, 2].
    """
    centre = centre[:, None, None]
    distances = 1 - F.cosine_similarity(features - centre, matched - centre, dim=1)  # (N, H, W)
    if weights is None:
        return distances.mean((1, 2))
    return (distances * weights[:, 0]).sum((1, 2)) / weights[:, 0].sum((1, 2)).clamp(min=1e-12)
