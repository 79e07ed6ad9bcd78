"""Prepare photographs for painting: remove their noise, and keep plain areas from being quite plain.

What a camera, JPEG or a dithered palette leaves in a sky or on a wall is fainter than anything in the picture, but
painting raises its contrast, and it shows as a weave or as blocks. A guided filter removes it and keeps edges.

Where a photograph is then plain, nothing starts a stroke, and the network and the optimisation repeat the same one:
ripples, lumps. Painters never leave an area that even. Slow, random changes of light take the place of noise.
"""

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .layers import fill, reflection_pad

SQUARE = 4
"""Side in pixels of the squares that the filter's numbers are computed for."""
BORDER = 3 * SQUARE
"""Pixels around a picture that the filter looks at, at each side."""
NEAR, PLAIN = 3, 5.7 / 255
"""Side, in squares, of the neighbourhoods whose plainest square decides how plain they are, and the contrast at which a
square is half plain."""
NOISE = 8 / 255
"""Contrast (standard deviation) of which the filter keeps half."""
WAVES, SHORTEST, LONGEST = 96, 64.0, 400.0
"""Number of the waves that light changes by, and their range of lengths in pixels."""
MOTTLE = 5 / 255
"""Standard deviation of these changes in areas of a brightness of 7/9; less in darker ones."""
BAND = 1024
"""Rows that are prepared at a time, a multiple of `SQUARE`."""
LEAST_MOTTLE, MORE_MOTTLE = 0.3, 0.9
"""The factor on it for black, and how much higher it is for white."""


def denoised_inside(pictures: Tensor) -> tuple[Tensor, Tensor]:
    """Return pictures (N, 3, H + 2 `BORDER`, W + 2 `BORDER`), float32, without their noise, and how plain they are.

    He, Sun, Tang, "Guided Image Filtering", TPAMI 2013: within a neighbourhood, the result is a linear function of the
    picture: nearly constant where contrast is low, nearly the identity where it is high. The colours share its slope.
    The function is computed for squares and interpolated between them (He, Sun, "Fast Guided Filter", 2015).

    A place is as plain as the plainest square near it, so plain areas reach up to the edges of objects.

    Returns
    -------
    (Tensor, Tensor)
        (N, 3, H, W), and (N, 1, H, W) from 0 to 1.
    """
    mean = _around(F.avg_pool2d(pictures, SQUARE))
    squares = _around(F.avg_pool2d(pictures.square().mean(1, keepdim=True), SQUARE))
    spread = (squares - mean.square().mean(1, keepdim=True)).clamp(min=0)
    slope = spread / (spread + NOISE**2)
    plain = F.max_pool2d(PLAIN**2 / (spread + PLAIN**2), NEAR, 1)
    numbers = torch.cat([_around(torch.cat([slope, (1 - slope) * mean], 1)), plain], 1)
    numbers = F.interpolate(numbers, scale_factor=SQUARE, mode="bilinear", align_corners=False)
    slope, shift, plain = numbers[:, :, SQUARE:-SQUARE, SQUARE:-SQUARE].split([1, 3, 1], 1)
    return slope * pictures[:, :, BORDER:-BORDER, BORDER:-BORDER] + shift, plain


def _around(squares: Tensor) -> Tensor:
    """Return the means of 3x3 squares: (N, C, h, w) becomes (N, C, h - 2, w - 2)."""
    return F.avg_pool2d(squares, 3, 1)


def mottle(pictures: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Return what to add to pictures (N, 3, H, W) so that no area is quite plain, (N, 1, H, W).

    Parameters
    ----------
    rows, columns : Tensor
        (H,) or (N, H), and (W,) or (N, W), float32: the pixels' places in the whole picture.
    """
    along, across, phases = WAVE_TABLE.to(rows)
    down, right = rows[..., None] * along, columns[..., None] * across + phases
    field = torch.cat([down.cos(), -down.sin()], -1) @ torch.cat([right.cos(), right.sin()], -1).transpose(-1, -2)
    light = LEAST_MOTTLE + MORE_MOTTLE * pictures.mean(1, keepdim=True)
    return MOTTLE * (2 / WAVES) ** 0.5 * light * (field if field.dim() == 2 else field[:, None])


@torch.inference_mode(False)  # in whatever mode the module is first imported
def _waves() -> Tensor:
    """Return the waves' angles per row and per column, and their phases, (3, `WAVES`); the same on every machine.

    Each octave of lengths has as many waves as any other.
    """
    random = np.random.RandomState(0)
    lengths = np.exp(random.uniform(math.log(SHORTEST), math.log(LONGEST), WAVES))
    directions, phases = (random.uniform(0, 2 * math.pi, WAVES) for _ in range(2))
    angles = 2 * math.pi / lengths
    found = np.stack([angles * np.sin(directions), angles * np.cos(directions), phases])
    return torch.from_numpy(found.astype(np.float32))


WAVE_TABLE = _waves()


def prepared(photo: Tensor, denoise: float, mottled: float) -> Tensor:
    """Return a photograph (1, 3, H, W), float32, as the network prepares it for painting, with the same shape.

    Parameters
    ----------
    denoise, mottled : float
        How far to denoise it, from 0 to 1, and the factor on `mottle`.
    """
    (height, width), found = photo.shape[-2:], torch.empty_like(photo)
    bordered = reflection_pad(fill(photo, SQUARE, 2 * BORDER), BORDER)
    columns = torch.arange(width, device=photo.device).float()
    for top in range(0, height, BAND):  # so that a large picture takes little more memory
        end = min(top + BAND, height)
        below = -(-end // SQUARE) * SQUARE + 2 * BORDER
        x, _ = denoised_inside(bordered[:, :, top:below])
        x = torch.lerp(photo[:, :, top:end], x[:, :, : end - top, :width], denoise)
        rows = torch.arange(top, end, device=photo.device).float()
        found[:, :, top:end] = x + mottled * mottle(x, rows, columns)
    return found
