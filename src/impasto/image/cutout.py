"""Cut-outs: pictures with transparent places, whose hidden colours must have no say in anything.

Such a picture is a tensor (N, 4, H, W): sRGB, not multiplied by the alpha, which comes last. `resize` weighs its
colours by the alpha. A network sees it through `opaque`, and its statistics are weighted by what is `visible`.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

TRUSTED = 1 / 8
"""From this alpha on a pixel's own colour counts in full; below, it goes over into that of the visible ones around."""


def visible(picture: Tensor) -> Tensor | None:
    """Return how visible each pixel is, (N, 1, H, W), in [0, 1]; None for a picture (N, 3, H, W), all of it visible."""
    return picture[:, 3:] if picture.shape[1] == 4 else None


def opaque(picture: Tensor) -> Tensor:
    """Return a picture (N, 3, H, W): where nothing is visible, the colours of the visible places around continue.

    Colours are averaged from the visible pixels to ever coarser grids, and what is hidden takes them from the finest
    grid that has any: the pull-push of Gortler, Grzeszczuk, Szeliski, Cohen, "The Lumigraph", SIGGRAPH 1996.

    Parameters
    ----------
    picture : Tensor
        (N, 3, H, W), which is returned as it is, or (N, 4, H, W).
    """
    shown = visible(picture)
    if shown is None:
        return picture
    weight = (shown / TRUSTED).clamp(0, 1)
    return _filled(picture[:, :3] * weight, weight).clamp(0, 1)


def _filled(colours: Tensor, weight: Tensor) -> Tensor:
    """Return colours (N, 3, H, W) without holes, from colours times their weights (N, 1, H, W) in [0, 1]."""
    height, width = weight.shape[-2:]
    if height == width == 1 or weight.min() >= 1:
        return colours / weight.clamp(min=1e-6)
    sums, share = (F.avg_pool2d(x, 2, ceil_mode=True, count_include_pad=False) for x in (colours, weight))
    trusted = (4 * share).clamp(max=1)  # one visible pixel of the four is enough
    coarse = _filled(sums * (trusted / share.clamp(min=1e-6)), trusted)
    return colours + (1 - weight) * F.interpolate(coarse, (height, width), mode="bilinear", align_corners=False)


def over_white(picture: Tensor) -> Tensor:
    """Return a picture (N, 3 or 4, H, W) laid over white, (N, 3, H, W)."""
    shown = visible(picture)
    return picture if shown is None else torch.lerp(torch.ones_like(picture[:, :3]), picture[:, :3], shown)
