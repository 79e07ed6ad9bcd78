"""Figures that are computed from pixels, without a network: SSIM, MS-SSIM, noise, lattices, distance of palettes.

Pictures are (1, 3, H, W), float32, sRGB, [0, 1].
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from ..image.color import srgb_to_oklab, srgb_to_ycbcr
from ..style.plain import plainness, regularity

SSIM_SIDE, SSIM_SIGMA = 11, 1.5
"""Side of SSIM's Gaussian window and its standard deviation, in pixels (Wang et al. 2004)."""
C1, C2 = 0.01**2, 0.03**2
"""SSIM's constants for values in [0, 1] (Wang et al. 2004)."""
SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""MS-SSIM's exponents, from the finest scale to the coarsest (Wang et al. 2003)."""
WINDOW, WINDOW_STEP = 8, 4
"""Side of the noise figure's windows and the distance between them, in pixels."""
CLEAN = 0.995
"""Quantile of the photograph's and the style's windows above which a window counts as noise."""
LEAST_SIDE, LEAST_PLAIN, LEAST_ENERGY = 64, 0.05, (0.1 / 255) ** 2
"""Side in pixels, share of plain areas and energy of fine strokes below which there is no lattice to look for."""
DIRECTIONS, QUANTILES, MOST_COLOURS = 64, 256, 2**15
"""Settings of the palette distance: directions, quantiles along each, and approximate number of pixels sampled."""


def ssim(picture: Tensor, reference: Tensor) -> float:
    """Return the structural similarity of the luma of two pictures of the same size: 1 if equal, at least -1.

    Wang, Bovik, Sheikh, Simoncelli, "Image Quality Assessment: From Error Visibility to Structural Similarity", IEEE
    Transactions on Image Processing 13, 2004: Gaussian windows of 11 pixels that lie inside the picture.
    """
    light, structure = _similarity(_luma(picture), _luma(reference))
    return float((light * structure).mean())


def ms_ssim(picture: Tensor, reference: Tensor) -> float:
    """Return the multi-scale structural similarity of the luma of two pictures of the same size, from 0 to 1.

    Wang, Simoncelli, Bovik, "Multi-Scale Structural Similarity for Image Quality Assessment", Asilomar Conference 2003.
    It has five scales. Where a short side under 176 pixels leaves no room for a window, the coarse scales are left out
    and the exponents of the others are enlarged to the same sum. A negative mean of a scale counts as 0.
    """
    x, y = _luma(picture), _luma(reference)
    fitting = int(math.log2(max(1, min(x.shape[-2:]) // SSIM_SIDE))) + 1
    weights = SCALE_WEIGHTS[:fitting]
    found = 1.0
    for scale, weight in enumerate(weights, start=1):
        light, structure = _similarity(x, y)
        mean = float((light * structure if scale == len(weights) else structure).mean())
        found *= max(0.0, mean) ** (weight * sum(SCALE_WEIGHTS) / sum(weights))
        x, y = F.avg_pool2d(x, 2), F.avg_pool2d(y, 2)
    return found


def _luma(picture: Tensor) -> Tensor:
    return srgb_to_ycbcr(picture)[:, :1].double()


def _similarity(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Return SSIM's luminance term and its contrast-structure term for every window, (1, 1, H - 10, W - 10) each."""
    mean_x, mean_y, squares_x, squares_y, products = (_window_mean(v) for v in (x, y, x * x, y * y, x * y))
    variances = squares_x - mean_x**2 + squares_y - mean_y**2
    covariance = products - mean_x * mean_y
    light = (2 * mean_x * mean_y + C1) / (mean_x**2 + mean_y**2 + C1)
    return light, (2 * covariance + C2) / (variances + C2)


def _window_mean(x: Tensor) -> Tensor:
    """Return the mean of (1, 1, H, W) in every Gaussian window, (1, 1, H - 10, W - 10)."""
    at = torch.arange(SSIM_SIDE, dtype=x.dtype, device=x.device) - SSIM_SIDE // 2
    weights = torch.exp(-0.5 * (at / SSIM_SIGMA) ** 2)
    weights /= weights.sum()
    return F.conv2d(F.conv2d(x, weights.view(1, 1, 1, -1)), weights.view(1, 1, -1, 1))


def noise(picture: Tensor, photo: Tensor, style: Tensor) -> float:
    """Return the share of windows with fine texture that neither the photograph nor the style has, in percent.

    A window's texture is its contrast across its main direction (`cross_contrast`): edges and strokes have little. It
    counts as noise above the 99.5th percentile of the photograph's and the style's own windows together. The photograph
    itself therefore has about 1 or less.
    """
    own = torch.cat([cross_contrast(photo), cross_contrast(style)])
    limit = torch.quantile(own, CLEAN)
    return 100 * float((cross_contrast(picture) > limit).float().mean())


def cross_contrast(picture: Tensor) -> Tensor:
    """Return the contrast of each window across its main direction, (windows,).

    It is the smaller eigenvalue of the structure tensor (Förstner, Gülch, "A Fast Operator for Detection and Precise
    Location of Distinct Points, Corners and Centres of Circular Features", ISPRS 1987), averaged over windows of 8 x 8
    pixels, 4 apart, and summed over red, green and blue. Gradients are central differences per pixel.
    """
    padded = F.pad(picture, (1, 1, 1, 1), mode="replicate")
    dx = (padded[:, :, 1:-1, 2:] - padded[:, :, 1:-1, :-2]) / 2
    dy = (padded[:, :, 2:, 1:-1] - padded[:, :, :-2, 1:-1]) / 2
    products = torch.cat([(a * b).sum(1, keepdim=True) for a, b in ((dx, dx), (dy, dy), (dx, dy))], 1)
    xx, yy, xy = F.avg_pool2d(products, WINDOW, WINDOW_STEP).flatten(2)[0]
    return (xx + yy - ((xx - yy) ** 2 + 4 * xy**2).sqrt()) / 2


def lattice(picture: Tensor, photo: Tensor) -> float:
    """Return how regular the fine strokes are where the photograph is plain, in percent: 0 to 100.

    See `style.plain.regularity`. It does not depend on the strokes' contrast. 0 if hardly any of the photograph is
    plain, or a picture has fewer than 64 pixels a side.
    """
    if min(photo.shape[-2:]) < LEAST_SIDE:
        return 0.0
    plain = plainness(photo)
    if float(plain.mean()) < LEAST_PLAIN:
        return 0.0
    energy, regular = regularity(picture, plain)
    return 100 * float(regular) if float(energy) > LEAST_ENERGY else 0.0


def palette(picture: Tensor) -> Tensor:
    """Return quantiles of a picture's colours along fixed directions of OKLab, (DIRECTIONS, QUANTILES)."""
    colours = picture.flatten(2)
    colours = colours[:, :, :: max(1, colours.shape[2] // MOST_COLOURS)]
    along = _directions().to(colours) @ srgb_to_oklab(colours[:, :, None])[0].flatten(1)
    return torch.quantile(along, (torch.arange(QUANTILES) + 0.5).to(along) / QUANTILES, dim=1).t()


def palette_distance(quantiles: Tensor, reference: Tensor) -> float:
    """Return the sliced 1-Wasserstein distance of two palettes in OKLab. From black to white it is 1.

    Rabin, Peyré, Delon, Bernot, "Wasserstein Barycenter and its Application to Texture Mixing", SSVM 2011. The mean
    over the directions is doubled, so that a shift of all colours by d gives d.

    Parameters
    ----------
    quantiles, reference : Tensor
        From `palette`.
    """
    return 2 * float((quantiles - reference).abs().mean())


def _directions() -> Tensor:
    """Return directions spread evenly over the sphere, (DIRECTIONS, 3): points of a spiral with the golden angle."""
    i = torch.arange(DIRECTIONS, dtype=torch.float64)
    height = 1 - (2 * i + 1) / DIRECTIONS
    radius, angle = (1 - height**2).sqrt(), math.pi * (3 - math.sqrt(5)) * i
    return torch.stack([radius * angle.cos(), radius * angle.sin(), height], 1)
