"""An underpainting: the strokes of a smaller painting, for the network to paint over where the photograph is plain.

A network of one scale has no strokes larger than its own to hold on to. In a sky or on a wall there is nothing else, so
it fills these with fine, regular texture. The strokes of a painting of half the size, enlarged, are twice as long. The
network paints over them as over what is in the photograph.

Only where the photograph is plain, and not up to the edges of objects: there, contours would have fringes and halos.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from ..image.picture import opaque, visible
from ..image.resize import blur, fit_size, resize
from ..models.colours import colour
from ..style.plain import resized_plainness

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
    content: Tensor,
    size: tuple[int, int],
    places: "Sequence[tuple[Tensor, MeasuredStyle]]",
) -> Tensor | None:
    """Return what to add to photographs before the network paints them; None if nothing.

    Parameters
    ----------
    stylizer : NetworkStylizer
        What paints. Its options say how strong the strokes are.
    content : Tensor
        (N, 3 or 4, H, W), sRGB, [0, 1]: the photographs, reduced to `READ_SIDE`.
    size : (int, int)
        Height and width of the painting.
    places : sequence of (Tensor, MeasuredStyle)
        The regions' masks, of any size, and their styles.

    Returns
    -------
    Tensor or None
        (N, 3, h, w), of the size of the smaller painting.
    """
    gain = stylizer.options.underpainting * min(stylizer.options.strength, 1.0)
    long = min(max(size) // 2, MOST_SIDE)
    if not gain or long < LEAST_SIDE:
        return None
    net, compute, small_size = stylizer.net, stylizer.compute, fit_size(size, long_side=long)
    photo, alpha = opaque(content), visible(content)
    regions = [(resize(mask, small_size), style) for mask, style in places]
    with torch.autocast(compute.device.type, enabled=False):  # only the network is in low precision
        small = compute.picture(resize(photo, small_size))
        masks = stylizer.masks_of(small, regions, None if alpha is None else resize(alpha, small_size))
        affine, colours = stylizer.styles_of(long, [s for _, s in places], alpha is not None, strength=1.0)
        with compute.autocast():
            painted = net(small, affine, None, masks)
        painted, recoloured = (colour(x, colours, masks=masks) for x in (painted, small))
        strokes = painted - recoloured
        strokes = strokes - blur(strokes, COARSE)
        own, wanted = (x.float().std((2, 3)).mean(1).clamp(min=LEAST_DEVIATION) for x in (small, recoloured))
        plain = [resized_plainness(x, small_size, to_edges=False) for x in photo.float().split(1)]
        return (gain * own / wanted)[:, None, None, None] * torch.cat(plain).to(strokes) * strokes


def enlarged_rows(strokes: Tensor, size: tuple[int, int], top: int, count: int) -> Tensor:
    """Return rows (N, 3, count, W) of strokes (N, 3, h, w), enlarged bilinearly to height and width `size`."""
    height, ratio = strokes.shape[2], strokes.shape[2] / size[0]
    places = ((torch.arange(top, top + count, dtype=torch.float64) + 0.5) * ratio - 0.5).clamp(0, height - 1)
    above = places.floor().long()
    share = (places - above).to(strokes)[:, None]
    above = above.to(strokes.device)
    rows = torch.lerp(strokes[:, :, above], strokes[:, :, (above + 1).clamp(max=height - 1)], share)
    return F.interpolate(rows, (count, size[1]), mode="bilinear", align_corners=False)
