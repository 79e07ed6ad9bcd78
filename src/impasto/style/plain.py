"""What is painted where a photograph is plain: how fine it is, and how regular.

A sky or a wall has nothing to paint but strokes. The losses of the features are content with any texture there, and a
network finds the cheapest: dots, hatching and grids that repeat with its own grid. People see these first.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from ..models.colours import colour

PLAIN, PLAIN_VARIANCE = 4, 5e-4
"""Side of the squares that are judged as plain or not, and the variance of the photograph's colours in them at which a
square counts as half plain."""
FINE = 7
"""What is finer than this, in pixels, is too fine for a plain area."""
PLAIN_WEIGHT = 0.12
"""Weight of the loss in plain areas; the style's is 1."""
HALVED_FINE = 5
"""What is coarser than this, in pixels of a picture of half the size, is not part of a lattice."""
NEAREST, FARTHEST = 4, 20
"""Between which distances, in pixels of a picture of half the size, a lattice repeats itself."""
FEW = 8
"""A distance counts less if fewer than one in this many of the plain pixels have one at that distance."""
LATTICE_WEIGHT = 15.0
"""Weight of the loss on lattices; the style's is 1."""
LEAST_VARIANCE = 1e-3
"""Lower bound of the variance of a style's colours."""


def colour_variance(colours: Tensor) -> Tensor:
    """Return the variance of styles' colours, (N,), from their covariance and mean (N, 3, 4)."""
    return colours[:, :, :3].diagonal(dim1=1, dim2=2).mean(1).clamp(min=LEAST_VARIANCE)


def plainness(photos: Tensor) -> Tensor:
    """Return how plain each 4x4 square of photographs (N, 3, H, W) is, (N, 1, H / 4, W / 4), from 0 to 1.

    A square is plain if the photograph hardly varies within the 20 pixels around it.
    """
    small = F.avg_pool2d(photos.float(), PLAIN)
    mean = F.avg_pool2d(small, 5, 1, 2, count_include_pad=False)
    spread = F.avg_pool2d(small.square(), 5, 1, 2, count_include_pad=False) - mean.square()
    return 1 / (1 + spread.clamp(min=0).mean(1, keepdim=True) / PLAIN_VARIANCE)


def plain_loss(paintings: Tensor, photos: Tensor, colours: Tensor) -> Tensor:
    """Return how much finer than a brush stroke is painted where the photographs are plain, (N,).

    Compares what is finer than 7x7 pixels with the recoloured photographs', as `tone_loss` compares large shapes. A
    position weighs more, the less the photograph varies within the 20 pixels around it. Soft strokes are free: in a
    plain area they are all that there is to see, and a loss on them would turn them into dots and hatching.

    Parameters
    ----------
    paintings, photos : Tensor
        (N, 3, H, W), in [0, 1].
    colours : Tensor
        (N, 3, 4), covariance and mean of the styles' colours.
    """
    with torch.no_grad():
        plain = plainness(photos)
        wanted = colour(photos, colours)
        variance = colour_variance(colours)
    odd = paintings - wanted
    fine = odd - F.avg_pool2d(odd, FINE, 1, FINE // 2, count_include_pad=False)
    return (plain * F.avg_pool2d(fine.square(), PLAIN)).mean((1, 2, 3)) / variance


def lattice_loss(paintings: Tensor, photos: Tensor, colours: Tensor) -> Tensor:
    """Return how regular the fine strokes are where the photographs are plain, (N,).

    It is the energy of the fine strokes, as far as they are not the recoloured photographs', times their regularity
    (see `regularity`).

    Parameters
    ----------
    paintings, photos : Tensor
        (N, 3, H, W), in [0, 1].
    colours : Tensor
        (N, 3, 4), covariance and mean of the styles' colours.
    """
    with torch.no_grad():
        wanted = colour(photos, colours)
        plain = plainness(photos)
        variance = colour_variance(colours)
    energy, regular = regularity(paintings - wanted, plain)
    return plain.mean((1, 2, 3)) * energy * regular / variance


def regularity(pictures: Tensor, plain: Tensor) -> tuple[Tensor, Tensor]:
    """Return the energy of the fine strokes in plain areas and how regular they are, (N,) each.

    The regularity is the root of the mean fourth power of their autocorrelation at distances from 8 to 40 pixels.
    Strokes at random places hardly correlate. A grid or a weave does, at its period and its multiples.

    Parameters
    ----------
    pictures : Tensor
        (N, 3, H, W).
    plain : Tensor
        (N, 1, H / 4, W / 4), their `plainness`.
    """
    height, width = (PLAIN // 2 * side for side in plain.shape[-2:])
    padded = height + FARTHEST, width + FARTHEST  # so that nothing correlates around the border
    lags = torch.arange(-FARTHEST, FARTHEST + 1, device=pictures.device)
    distances = (lags[:, None].square() + lags.square()).sqrt()
    among = (distances >= NEAREST) & (distances <= FARTHEST)

    def products(x: Tensor) -> Tensor:
        """Return the sums over pixels and channels of the products at each lag, (N, 41, 41)."""
        power = torch.fft.rfft2(x.float(), s=padded).abs().square().sum(1)
        return torch.fft.irfft2(power, s=padded)[:, lags[:, None], lags]

    with torch.no_grad():
        weights = F.interpolate(plain.float(), scale_factor=PLAIN // 2)
        pairs = products(weights)
        pairs = torch.maximum(pairs, pairs.amax((1, 2), keepdim=True) / FEW).clamp(min=1e-6)
    halved = F.avg_pool2d(pictures, 2)
    fine = halved - F.avg_pool2d(halved, HALVED_FINE, 1, HALVED_FINE // 2, count_include_pad=False)
    found = products(weights * fine[..., :height, :width]) / pairs
    energy = found[:, FARTHEST, FARTHEST].clamp(min=1e-9)
    correlations = found[:, among] / energy[:, None]
    return energy, correlations.pow(4).mean(1).clamp(min=1e-16).sqrt()
