"""Sizes, antialiased resizing, and random crops for training."""

import math
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import OptionError

LEAST_ALPHA = 1e-4
"""Smallest divisor when premultiplied colours are divided by their alpha."""


def resize(image: Tensor, size: tuple[int, int], *, wrap: bool = False) -> Tensor:
    """Resize by antialiased bicubic interpolation, clamped to [0, 1].

    Parameters
    ----------
    image : Tensor
        (N, C, H, W), float32, range [0, 1]: pictures (C = 3, sRGB), cut-outs (C = 4, alpha last) or masks (C = 1).
        The colours of a cut-out are weighted by their alpha.
    size : tuple of int
        The new (height, width) in pixels.
    wrap : bool
        Whether the picture tiles the plane seamlessly; the result then does, too.

    Returns
    -------
    Tensor
        (N, C, height, width), float32, range [0, 1]; `image` itself if it has that size already.

    Raises
    ------
    OptionError
        If a side is less than 1 pixel.
    """
    height, width = size
    if height < 1 or width < 1:
        raise OptionError(f"a picture cannot be resized to {width}x{height}; each side needs at least 1 pixel")
    if tuple(image.shape[-2:]) == (height, width):
        return image
    change = interpolate_wrapped if wrap else F.interpolate
    if image.shape[1] != 4:
        return change(image, (height, width), mode="bicubic", antialias=True).clamp(0, 1)
    alpha = image[:, 3:]
    image = change(torch.cat((image[:, :3] * alpha, alpha), 1), (height, width), mode="bicubic", antialias=True)
    alpha = image[:, 3:].clamp(0, 1)
    return torch.cat(((image[:, :3] / alpha.clamp(min=LEAST_ALPHA)).clamp(0, 1), alpha), 1)


def resize_rows(
    read: Callable[[int, int], Tensor], old: tuple[int, int], size: tuple[int, int], top: int, count: int
) -> Tensor:
    """Return some rows of the picture that `resize` would return, from few rows of the old picture.

    Parameters
    ----------
    read : callable
        Takes two row numbers and returns the old picture's rows from the first to before the second.
    old, size : (int, int)
        Height and width in pixels of the old and of the resized picture.
    top, count : int
        The first row to return, and the number of rows.
    """
    if old == size:
        return read(top, top + count)
    begin, weights = _row_weights(old[0], size[0], top, count)
    image = read(begin, begin + weights.shape[1])
    if image.shape[1] == 4:
        image = torch.cat((image[:, :3] * image[:, 3:], image[:, 3:]), 1)
    if old[1] != size[1]:
        image = F.interpolate(image, (image.shape[2], size[1]), mode="bicubic", antialias=True)
    image = torch.matmul(weights.to(image), image.contiguous())
    if image.shape[1] != 4:
        return image.clamp(0, 1)
    alpha = image[:, 3:].clamp(0, 1)
    return torch.cat(((image[:, :3] / alpha.clamp(min=LEAST_ALPHA)).clamp(0, 1), alpha), 1)


def _row_weights(old: int, new: int, top: int, count: int) -> tuple[int, Tensor]:
    """Return the weights of PyTorch's antialiased bicubic interpolation from `old` rows to `new`, for some new rows.

    Returns
    -------
    (int, Tensor)
        The first old row that has a weight, and the weights (count, old rows).
    """
    ratio = old / new
    wide = max(1.0, ratio)
    centres = (torch.arange(top, top + count, dtype=torch.float64) + 0.5) * ratio
    begin, end = max(0, math.floor(float(centres[0]) - 2 * wide)), min(old, math.ceil(float(centres[-1]) + 2 * wide))
    x = ((torch.arange(begin, end) + 0.5 - centres[:, None]) / wide).abs()
    near, far = (1.5 * x - 2.5) * x * x + 1, ((-0.5 * x + 2.5) * x - 4) * x + 2  # Keys' cubic with a = -1/2
    weights = torch.where(x < 1, near, torch.where(x < 2, far, 0.0))
    return begin, weights / weights.sum(1, keepdim=True)


def interpolate_wrapped(image: Tensor, size: tuple[int, int], *, mode: str, antialias: bool = False) -> Tensor:
    """Interpolate as `torch.nn.functional.interpolate`, but with wrap-around: beyond a border is the opposite side.

    Parameters
    ----------
    image : Tensor
        (N, C, H, W), any floating type.
    size : tuple of int
        The new (height, width) in pixels.
    mode : "bilinear" or "bicubic"
    antialias : bool
        As in PyTorch.

    Returns
    -------
    Tensor
        (N, C, height, width). Not clamped.
    """
    old = image.shape[-2:]
    # Pad by a number of pixels that becomes a whole number of new ones, so that the grids agree.
    steps = [n // math.gcd(n, m) for n, m in zip(old, size, strict=True)]
    reach = [math.ceil(2 * max(1.0, n / m)) for n, m in zip(old, size, strict=True)]
    pads = [min(s * math.ceil(r / s), n) for s, r, n in zip(steps, reach, old, strict=True)]
    (up, left), (above, before) = pads, [p * m // n for p, m, n in zip(pads, size, old, strict=True)]
    wide = F.pad(image, (left, left, up, up), mode="circular")
    large = F.interpolate(wide, (size[0] + 2 * above, size[1] + 2 * before), mode=mode, antialias=antialias)
    return large[:, :, above : above + size[0], before : before + size[1]]


def blur(image: Tensor, deviation: float) -> Tensor:
    """Blur with a Gaussian, repeating the pixels at the border.

    Parameters
    ----------
    image : Tensor
        (N, C, H, W), float32, range [0, 1].
    deviation : float
        Standard deviation in pixels; 0 leaves the picture unchanged.

    Returns
    -------
    Tensor
        (N, C, H, W), float32, range [0, 1].
    """
    if deviation <= 0:
        return image
    reach, channels = math.ceil(3 * deviation), image.shape[1]
    places = torch.arange(-reach, reach + 1, dtype=image.dtype, device=image.device)
    kernel = torch.exp(-0.5 * (places / deviation) ** 2)
    across = (kernel / kernel.sum()).expand(channels, 1, 1, -1)
    x = F.pad(image, (reach,) * 4, mode="replicate")
    x = x.contiguous(memory_format=torch.channels_last)  # convolutions of each channel are then faster
    return F.conv2d(F.conv2d(x, across, groups=channels), across.transpose(2, 3), groups=channels)


def blur_rows(read: Callable[[int, int], Tensor], height: int, deviation: float, top: int, count: int) -> Tensor:
    """Return some rows of the picture that `blur` would return, from few rows of the old picture.

    Parameters
    ----------
    read : callable
        Takes the first row and the number of rows to return.
    height : int
        Height of the picture.
    deviation : float
        As for `blur`.
    top, count : int
        The first row to return, and the number of rows.
    """
    reach = math.ceil(3 * max(0.0, deviation))
    begin, end = max(0, top - reach), min(height, top + count + reach)
    return blur(read(begin, end - begin), deviation)[:, :, top - begin : top - begin + count]


def fit_size(
    size: tuple[int, int],
    *,
    long_side: int | None = None,
    short_side: int | None = None,
    scale: float | None = None,
    enlarge: bool = False,
) -> tuple[int, int]:
    """Return the size that a picture gets when it is fitted, keeping its proportions.

    Parameters
    ----------
    size : tuple of int
        (H, W) in pixels.
    long_side, short_side : int, optional
        New length of the longer or the shorter side, in pixels.
    scale : float, optional
        Ratio of the new side to the old one.
    enlarge : bool
        Whether the result may be larger than `size`. If not, a smaller picture keeps its size.

    Returns
    -------
    tuple of int
        (H, W) in pixels, each at least 1; `size` if none of the three is given.

    Raises
    ------
    OptionError
        If more than one of the three is given, one is not positive, or `size` has no pixels.
    """
    height, width = size
    if height < 1 or width < 1:
        raise OptionError(f"a {width}x{height} picture has no pixels")
    given = {"long side": long_side, "short side": short_side, "scale": scale}
    asked = {k: v for k, v in given.items() if v is not None}
    if len(asked) > 1:
        raise OptionError(f"the size is given twice, as {' and as '.join(asked)}; keep one of them")
    for what, value in asked.items():
        if not 0 < value < float("inf"):
            raise OptionError(f"the {what} is {value:g}; it must be greater than 0")
    if long_side is not None:
        ratio = long_side / max(size)
    elif short_side is not None:
        ratio = short_side / min(size)
    else:
        ratio = 1.0 if scale is None else scale
    if not enlarge:
        ratio = min(ratio, 1.0)
    return max(1, round(height * ratio)), max(1, round(width * ratio))


def fit(image: Tensor, long_side: int, *, enlarge: bool = False) -> Tensor:
    """Resize so that the longer side measures `long_side`, keeping the proportions.

    Parameters
    ----------
    image : Tensor
        (N, C, H, W), float32, range [0, 1].
    long_side : int
        Length of the longer side in pixels; a smaller picture keeps its size unless `enlarge`.
    enlarge : bool
        Whether a smaller picture is enlarged.

    Returns
    -------
    Tensor
        (N, C, H', W'), float32, range [0, 1].

    Raises
    ------
    OptionError
        If `long_side` is not positive.
    """
    height, width = image.shape[-2:]
    return resize(image, fit_size((height, width), long_side=long_side, enlarge=enlarge))


def random_crop(picture: Tensor, rng: np.random.Generator, size: int, zoom: tuple[float, float]) -> Tensor:
    """Return a random square crop of a picture, enlarged by a random factor.

    Parameters
    ----------
    picture : Tensor
        (3, H, W), uint8.
    rng : numpy Generator
        Source of randomness.
    size : int
        Side of the crop in pixels.
    zoom : (float, float)
        Range of the log-uniform factor by which to enlarge; limited by the picture's size.

    Returns
    -------
    Tensor
        (3, size, size), float32, in [0, 1].
    """
    h, w = picture.shape[-2:]
    side = round(min(size / np.exp(rng.uniform(*np.log(zoom))), h, w))
    top, left = rng.integers(h - side + 1), rng.integers(w - side + 1)
    x = picture[:, top : top + side, left : left + side].float()[None] / 255
    if side != size:
        x = F.interpolate(x, (size, size), mode="bicubic", antialias=True, align_corners=False).clamp(0, 1)
    return x[0]
