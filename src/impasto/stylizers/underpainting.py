"""An underpainting: the strokes of a smaller painting, for the network to paint over where the photograph is plain.

A network of one scale has no strokes larger than its own to hold on to. In a sky or on a wall there is nothing else, so
it fills these with fine, regular texture. The strokes of a painting of half the size, enlarged, are twice as long. The
network paints over them as over what is in the photograph, but softly: how plain a place is depends on the photograph.

Only where the photograph is plain, and not up to the edges of objects: there, contours would have fringes and halos.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from ..image.picture import opaque, visible
from ..image.resize import blur, fit_size, resize
from ..models.colours import colour
from ..style.plain import resized_plainness, underpainting_gain

if TYPE_CHECKING:
    from .network import MeasuredStyle, NetworkStylizer

MOST_SIDE, LEAST_SIDE = 512, 32
"""Longest and shortest long side of the smaller painting, in pixels."""
READ_SIDE = 2 * MOST_SIDE
"""Long side, in pixels, of the photograph that it is painted from."""
COARSE = 6.0
"""Deviation of a blur, in pixels of the smaller painting. What it leaves is tone and not strokes."""
LEAST_DEVIATION = 0.03
"""Lower bound of the deviation of the colours that the strokes are compared with."""


def underpainting(
    stylizer: "NetworkStylizer",
    reduced: Callable[[int], Tensor],
    size: tuple[int, int],
    places: "Sequence[tuple[Tensor, MeasuredStyle]]",
) -> Tensor | None:
    """Return what to add to photographs before the network paints them; None if nothing.

    If the options do not say how strong the strokes are, the styles do: none for calm styles.

    Parameters
    ----------
    stylizer : NetworkStylizer
        What paints.
    reduced : callable
        Takes a long side in pixels and returns the photographs, reduced to it: (N, 3 or 4, H, W), sRGB, [0, 1].
    size : (int, int)
        Height and width of the painting.
    places : sequence of (Tensor, MeasuredStyle)
        The regions' masks, of any size, and their styles.

    Returns
    -------
    Tensor or None
        (N, 3, h, w), of the size of the smaller painting.
    """
    gains = [min(stylizer.options.strength, 1.0) * g for g in strengths(stylizer, [s for _, s in places])]
    long = min(max(size) // 2, MOST_SIDE)
    if not any(gains) or long < LEAST_SIDE:
        return None
    net, compute, small_size = stylizer.net, stylizer.compute, fit_size(size, long_side=long)
    content = reduced(READ_SIDE)
    photo, alpha = opaque(content), visible(content)
    regions = [(resize(mask, small_size), style) for mask, style in places]
    with torch.autocast(compute.device.type, enabled=False):  # only the network is in low precision
        small = compute.picture(resize(photo, small_size))
        masks = stylizer.masks_of(small, regions, None if alpha is None else resize(alpha, small_size))
        affine, colours = stylizer.styles_of(long, [s for _, s in places], alpha is not None)
        with compute.autocast():
            painted = net(small, affine, None, masks)
        painted, recoloured = (colour(x, colours, masks=masks) for x in (painted, small))
        plain = torch.cat([resized_plainness(x, small_size, to_edges=False) for x in photo.float().split(1)])
        gain = plain.new_tensor(gains)[:, None, None, None]
        gain = gain if masks is None else (gain * masks[: len(gains)].to(gain)).sum(0, keepdim=True)
        return strokes_of(painted, small, recoloured, (gain * plain).to(painted))


def strengths(stylizer: "NetworkStylizer", regions: "Sequence[MeasuredStyle]") -> list[float]:
    """Return how strong the strokes of each region are, and last those of the rest; 1 is as in a painting."""
    given = stylizer.options.underpainting
    if given is not None:
        return [given] * (len(regions) + 1)
    own = zip(stylizer.shares, stylizer.styles, strict=True)
    rest = sum(share * underpainting_gain(style.calm) for share, style in own)
    return [*(underpainting_gain(style.calm) for style in regions), rest]


def strokes_of(painted: Tensor, photo: Tensor, recoloured: Tensor, weight: Tensor) -> Tensor:
    """Return what paintings add to photographs, in the photographs' contrast and less what is coarse, (N, 3, h, w).

    Parameters
    ----------
    painted, photo, recoloured : Tensor
        (N, 3, h, w): the paintings, the photographs, and the photographs in the style's colours.
    weight : Tensor
        (N, 1, h, w), how much of the strokes to return.
    """
    strokes = painted - recoloured
    strokes = strokes - blur(strokes, COARSE)
    own, wanted = (x.float().std((2, 3)).mean(1).clamp(min=LEAST_DEVIATION) for x in (photo, recoloured))
    return (own / wanted)[:, None, None, None] * weight * strokes


def enlarged_rows(strokes: Tensor, size: tuple[int, int], top: int, count: int) -> Tensor:
    """Return rows (N, 3, count, W) of strokes (N, 3, h, w), enlarged bilinearly to height and width `size`."""
    height, ratio = strokes.shape[2], strokes.shape[2] / size[0]
    places = ((torch.arange(top, top + count, dtype=torch.float64) + 0.5) * ratio - 0.5).clamp(0, height - 1)
    above = places.floor().long()
    share = (places - above).to(strokes)[:, None]
    above = above.to(strokes.device)
    rows = torch.lerp(strokes[:, :, above], strokes[:, :, (above + 1).clamp(max=height - 1)], share)
    return F.interpolate(rows, (count, size[1]), mode="bilinear", align_corners=False)
