"""What is painted where a photograph is plain: how fine it is, and how regular.

A sky or a wall has nothing to paint but strokes. The losses of the features are content with any texture there, and a
network finds the cheapest: dots, hatching and grids that repeat with its own grid. People see these first.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from ..image.picture import opaque, visible
from ..image.resize import fit_size, resize

PLAIN, PLAIN_VARIANCE = 4, 5e-4
"""Side of the squares that are judged as plain or not, and the variance of the photograph's colours in them at which a
square counts as half plain."""
AROUND = 5
"""Side, in squares, of the neighbourhoods in which a photograph's colours are compared."""
LONG_SIDE = 512
"""Long side, in pixels, at which photographs and paintings of any size are judged."""
LEAST_WEIGHT, CALM, WEIGHT_FALL = 0.3, 0.5, 1.2
"""Weight of plain areas for calm styles, the least calmness of these, and the slope of the weight below it."""
DETAIL, DETAILED, CROWDED = 13, 0.28, 0.36
"""What is finer than this, in pixels, is detail. A picture with a larger share of its contrast in details than the
second number begins to count as crowded, and from the third number on it does fully."""
STROKES = 0.75
"""Strength of an underpainting's strokes for styles of which plain areas take twice as much as of calm ones."""
FINE = 7
"""What is finer than this, in pixels, is too fine for a plain area."""
PLAIN_WEIGHT = 0.12
"""Weight of the loss in plain areas; the style's is 1."""
RIM, RIM_SIDES = 5, (3, 13)
"""Sides, in squares, of the neighbourhoods in which an edge is looked for, and whose mean colours are compared."""
RIM_CONTRAST, RIM_LEVELS = 0.2, 5
"""Contrast in a neighbourhood, from 0 to 1, at which it has half an edge, and number of levels of brightness."""
HALVED_FINE = 5
"""What is coarser than this, in pixels of a picture of half the size, is not part of a lattice."""
NEAREST, FARTHEST = 4, 20
"""Between which distances, in pixels of a picture of half the size, a lattice repeats itself."""
FEW = 8
"""Where fewer than one in this many pixels have a partner at some distance, their correlation counts less."""
LATTICE_WEIGHT = 15.0
"""Weight of the loss on lattices; the style's is 1."""
RIM_WEIGHT = 3.0
"""Weight of the loss on rims; the style's is 1."""


def plainness(photos: Tensor, *, to_edges: bool = True) -> Tensor:
    """Return how plain each 4x4 square of photographs (N, 3, H, W) is, (N, 1, H / 4, W / 4), from 0 to 1.

    A square is plain if the photograph hardly varies within the 20x20 pixels around it.

    Parameters
    ----------
    to_edges : bool
        Whether one of the neighbourhoods of 20x20 pixels that contain the square is enough. Then plain areas reach up
        to the edges of objects, where strokes would be a halo.
    """
    small = F.avg_pool2d(photos.float(), PLAIN)
    mean = F.avg_pool2d(small, AROUND, 1, AROUND // 2, count_include_pad=False)
    spread = F.avg_pool2d(small.square(), AROUND, 1, AROUND // 2, count_include_pad=False) - mean.square()
    plain = 1 / (1 + spread.clamp(min=0).mean(1, keepdim=True) / PLAIN_VARIANCE)
    return F.max_pool2d(plain, AROUND, 1, AROUND // 2) if to_edges else plain


def style_weights(photo: Tensor, size: tuple[int, int], weight: float) -> Tensor:
    """Return how much of the style each pixel of a painting takes: 1, or less where the photograph is plain.

    The statistics of a style are those of its strokes. Plain areas can hold only little of them, and if they count as
    much as the rest, an optimisation fills them with lumps and specks.

    Parameters
    ----------
    photo : Tensor
        (1, 3, H, W), sRGB, [0, 1].
    size : (int, int)
        Height and width of the painting in pixels.
    weight : float
        What a wholly plain pixel takes, from 0 to 1.

    Returns
    -------
    Tensor
        (1, 1, *size), from `weight` to 1.
    """
    return 1 - (1 - weight) * resized_plainness(photo, size)


def resized_plainness(photo: Tensor, size: tuple[int, int], *, to_edges: bool = True) -> Tensor:
    """Return the `plainness` of a photograph (1, 3, H, W), judged at `LONG_SIDE` and resized, (1, 1, *size)."""
    height, width = fit_size((photo.shape[-2], photo.shape[-1]), long_side=LONG_SIDE, enlarge=True)
    small = resize(photo, (max(height, PLAIN), max(width, PLAIN)))
    return resize(plainness(small, to_edges=to_edges), size)


def calmness(painting: Tensor) -> float:
    """Return how calm a style's picture (1, 3 or 4, H, W) is, from 0 to 1: the share of it that is plain.

    A picture of many small shapes, such as a crowd, has no plain areas either, but not because of its strokes. It is
    recognised by how much of its contrast is in details, and counts as calm.
    """
    size = fit_size((painting.shape[-2], painting.shape[-1]), long_side=LONG_SIDE)
    small = resize(painting, size)
    picture, shown = opaque(small), visible(small)
    weights = torch.ones_like(picture[:, :1]) if shown is None else shown

    def mean(x: Tensor) -> float:
        return float((weights * x).sum() / weights.sum().clamp(min=1e-6))

    plain = mean(resized_plainness(picture, size))
    details = picture - F.avg_pool2d(picture, DETAIL, 1, DETAIL // 2, count_include_pad=False)
    whole = sum(mean(c.square()) - mean(c) ** 2 for c in picture.split(1, 1)) / 3
    share = mean(details.square().mean(1, keepdim=True)) / max(whole, 1e-6)
    crowded = min(1.0, max(0.0, (share - DETAILED) / (CROWDED - DETAILED)))
    return round(max(plain, plain + crowded * (CALM - plain)), 4)  # as style files have it


def plain_weight(calm: float | None) -> float:
    """Return how much of a style plain areas of a photograph take, given the style's `calmness`, if it is known.

    If a painting is full of strokes, its statistics are those of its sky, too. If it has plain areas, they are means
    over these and its strokes, and fill a sky with lumps and specks.
    """
    return LEAST_WEIGHT if calm is None else LEAST_WEIGHT + WEIGHT_FALL * max(0.0, CALM - calm)


def underpainting_gain(calm: float | None) -> float:
    """Return how strong the strokes of an underpainting are, given the style's `calmness`: none if it is calm.

    1 is as strong as in a painting. It grows with how much of the style plain areas take (`plain_weight`).
    """
    return STROKES * (plain_weight(calm) / LEAST_WEIGHT - 1)


def plain_loss(added: Tensor, plain: Tensor) -> Tensor:
    """Return how much finer than a brush stroke is painted where the photographs are plain, (N,).

    Takes what is finer than 7x7 pixels. Soft strokes are free: in a plain area they are all that there is to see, and a
    loss on them would turn them into dots and hatching.

    Parameters
    ----------
    added : Tensor
        (N, 3, H, W), paintings less the photographs in the styles' colours, in standard deviations of these colours.
    plain : Tensor
        (N, 1, H / 4, W / 4), the photographs' `plainness`.
    """
    fine = added - F.avg_pool2d(added, FINE, 1, FINE // 2, count_include_pad=False)
    return (plain * F.avg_pool2d(fine.square(), PLAIN)).mean((1, 2, 3))


def squares_of(pictures: Tensor) -> Tensor:
    """Return the mean colours of 4x4 squares of pictures (N, 3, H, W), (N, 3, H / 4, W / 4).

    The squares have soft edges and overlap by four pixels. With hard ones, the gradient of a loss shows as a grid.
    """
    soft = F.avg_pool2d(F.avg_pool2d(pictures, 2), 3, 1, 1, count_include_pad=False)
    return F.avg_pool2d(soft, PLAIN // 2)


class Rims:
    """Measures halos in paintings: plain areas that change their colour towards the edges of objects.

    The mean colour of 3x3 squares beside an edge is compared with that of the 13x13 around them. Strokes cancel in
    these means, but a halo has the same colour all along the edge. Only plain squares of a similar brightness count,
    so that the two sides of an edge are not mixed. Their levels of brightness are those of a bilateral grid (Chen,
    Paris, Durand 2007).

    Parameters
    ----------
    photos : Tensor
        (N, 3, H, W), sRGB, [0, 1].
    plain : Tensor
        (N, 1, H / 4, W / 4), their `plainness`, less where nothing is to be measured.
    """

    def __init__(self, photos: Tensor, plain: Tensor):
        grey = F.avg_pool2d(photos.float(), PLAIN).mean(1, keepdim=True)
        ticks = torch.linspace(0, 1, RIM_LEVELS, device=grey.device)[:, None, None]
        levels = (1 - (RIM_LEVELS - 1) * (grey - ticks).abs()).clamp(min=0)
        contrast = F.max_pool2d(grey, RIM, 1, RIM // 2) + F.max_pool2d(-grey, RIM, 1, RIM // 2)
        beside = plain.square() / (1 + (RIM_CONTRAST / contrast.clamp(min=1e-6)).square())
        self.weights, self.beside = (plain * levels)[:, :, None], (beside * levels)[:, :, None]
        self.areas = [self._sums(self.weights, side).clamp(min=1e-3 * side**2) for side in RIM_SIDES]

    def __call__(self, squares: Tensor) -> Tensor:
        """Return the loss, (N,).

        Parameters
        ----------
        squares : Tensor
            (N, 3, H / 4, W / 4), the paintings' `squares_of` less those of the photographs in the styles' colours, in
            standard deviations of these colours.
        """
        return self.of_rows(squares, 0, squares.shape[2])

    def of_rows(self, squares: Tensor, start: int, end: int) -> Tensor:
        """Return the part of the loss that the rows [start, end) of the squares contribute, (N,)."""
        first, last = max(0, start - max(RIM_SIDES) // 2), end + max(RIM_SIDES) // 2
        weighted = self.weights[..., first:last, :] * squares[:, None, :, first:last]
        inside, around = (
            self._sums(weighted, s) / a[..., first:last, :] for s, a in zip(RIM_SIDES, self.areas, strict=True)
        )
        difference = (inside - around)[..., start - first : end - first, :]
        return (self.beside[..., start:end, :] * difference.square()).sum((1, 2, 3, 4)) / squares[0].numel()

    @staticmethod
    def _sums(x: Tensor, side: int) -> Tensor:
        """Return the sums over the `side` x `side` squares around each of (N, L, C, h, w)."""
        flat = x.flatten(1, 2)
        ones, channels = flat.new_ones(flat.shape[1], 1, side, 1), flat.shape[1]  # convolutions are faster than pooling
        flat = F.conv2d(flat, ones, padding=(side // 2, 0), groups=channels)
        return F.conv2d(flat, ones.transpose(2, 3), padding=(0, side // 2), groups=channels).view_as(x)


def lattice_loss(added: Tensor, plain: Tensor) -> Tensor:
    """Return the energy of the fine strokes in plain areas, times their regularity (see `regularity`), (N,).

    Parameters
    ----------
    added, plain : Tensor
        As for `plain_loss`.
    """
    energy, regular = regularity(added, plain)
    return plain.mean((1, 2, 3)) * energy * regular


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
