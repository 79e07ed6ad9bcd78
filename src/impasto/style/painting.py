"""The training loss of a network that paints: the loss of `optimize` for a batch of paintings, and a tone loss.

Johnson, Alahi, Fei-Fei 2016: content, style and total variation of the paintings, measured with a frozen encoder. Every
style loss is relative to its style, so values are comparable between styles.

The tone loss compares the light and colours of large shapes with the photograph's in the style's palette. `optimize`
does not need it: it starts from the photograph and hardly changes large shapes. Without it, a network would paint
clouds of light anywhere, which the other terms do not measure.
"""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ..device import Compute
from ..models.colours import colour
from ..models.moments import raw_moments
from ..models.vgg import VGG
from ..options import CONTENT_LAYERS, named_weights
from .losses import MomentsTarget, content_loss, covariance_metric, moments_loss, total_variation

STYLE_LAYER_WEIGHTS = "relu1_1:256,relu2_1:64,relu3_1:128,relu4_1:32"
"""The style layers and their weights. The deep ones weigh eight times as much as in `optimize`, whose pictures come
near to the style in every layer. A network's distances are several times as large in the deep layers, and with the
weights of `optimize` they hardly fall."""
TONE = 16
"""Side of the squares, in pixels, whose mean colours are compared."""
PLAIN, PLAIN_VARIANCE = 4, 5e-4
"""Side of the squares that are judged as plain or not, and the variance of the photograph's colours in them at which a
square counts as half plain."""
FINE = 7
"""What is finer than this, in pixels, is too fine for a plain area."""
PLAIN_WEIGHT = 0.12
"""Weight of the loss in plain areas; the style's is 1."""
NEAR = 7
"""Side of the neighbourhoods, in squares of `PLAIN` pixels, whose lightest and darkest colours bound a painting's."""
RANGE_WEIGHT = 0.25
"""Weight of the loss for leaving those bounds; the style's is 1."""
HALVED_FINE = 5
"""What is coarser than this, in pixels of the halved picture, is not part of a lattice."""
NEAREST, FARTHEST = 4, 20
"""Between which distances, in pixels of the halved picture, a lattice repeats itself."""
LATTICE_WEIGHT = 15.0
"""Weight of the loss on lattices; the style's is 1."""
LEAST_SPREAD = 0.1
"""Lower bound of the spread of content features, relative to the batch's mean, because some crops have one colour."""
LEAST_VARIANCE = 1e-3
"""Lower bound of the variance of a style's colours."""


class PaintingLoss:
    """The loss of each painting in a batch: style, content, tone and total variation.

    Parameters
    ----------
    encoder : VGG
        The frozen encoder.
    content_weight, tone_weight, tv_weight : float
        Weights of content, tone and total variation; the style's is 1.
    compute : Compute
        Device and precision.
    """

    def __init__(self, encoder: VGG, compute: Compute, *, content_weight: float, tone_weight: float, tv_weight: float):
        self.encoder, self.compute = encoder, compute
        self.content_weight, self.tone_weight, self.tv_weight = content_weight, tone_weight, tv_weight
        self.style = normalised(named_weights(STYLE_LAYER_WEIGHTS, "--layers"))
        self.content = normalised(named_weights(CONTENT_LAYERS, "--content-layers"))
        self.metrics = {k: covariance_metric(encoder, k) for k in (*self.style, *self.content)}

    def features(self, pictures: Tensor, layers: Sequence[str]) -> dict[str, Tensor]:
        """Return the features of pictures (N, 3, H, W) at the layers."""
        with self.compute.autocast():
            return self.encoder(self.compute.picture(pictures), list(dict.fromkeys(layers)))

    def moments(self, pictures: Tensor) -> dict[str, Tensor]:
        """Return the raw moments (N, C + 1, C + 1) of each style layer."""
        return {k: raw_moments(f) for k, f in self.features(pictures, tuple(self.style)).items()}

    def style_loss(self, layer: str, moments: Tensor, target: Tensor) -> Tensor:
        """Return a layer's style loss, (N,), from the raw moments (N, C + 1, C + 1) of paintings and styles."""
        return moments_loss(moments, MomentsTarget.of(target, self.metrics[layer]))

    def __call__(
        self, paintings: Tensor, photos: Tensor, targets: Mapping[str, Tensor], colours: Tensor
    ) -> dict[str, Tensor]:
        """Return the weighted terms, (N,) each.

        Parameters
        ----------
        paintings, photos : Tensor
            (N, 3, H, W), in [0, 1].
        targets : mapping of str to Tensor
            Style layer -> raw moments (N, C + 1, C + 1) of the styles.
        colours : Tensor
            (N, 3, 4), covariance and mean of the styles' colours.
        """
        painted = self.features(paintings, (*self.style, *self.content))
        with torch.no_grad():
            photo = self.features(photos, tuple(self.content))
        style = paintings.new_zeros(len(paintings))
        for k, share in self.style.items():
            style = style + share * self.style_loss(k, raw_moments(painted[k]), targets[k])
        content = paintings.new_zeros(len(paintings))
        for k, share in self.content.items():
            content = content + share * content_loss(painted[k], photo[k], LEAST_SPREAD, self.metrics[k])
        return {
            "style": style,
            "content": self.content_weight * content,
            "tone": self.tone_weight * tone_loss(paintings, photos, colours),
            "plain": PLAIN_WEIGHT * plain_loss(paintings, photos, colours),
            "range": RANGE_WEIGHT * range_loss(paintings, photos, colours),
            "lattice": LATTICE_WEIGHT * lattice_loss(paintings, photos, colours),
            "variation": self.tv_weight * total_variation(paintings),
        }


def tone_loss(paintings: Tensor, photos: Tensor, colours: Tensor) -> Tensor:
    """Return the tone loss, (N,): how far the mean colours of 16x16 squares are from the recoloured photographs'.

    The photographs are recoloured to the styles' palettes. The loss is the mean square difference, divided by the
    variance of the style's colours.

    Parameters
    ----------
    paintings, photos : Tensor
        (N, 3, H, W), in [0, 1].
    colours : Tensor
        (N, 3, 4), covariance and mean of the styles' colours.
    """
    with torch.no_grad():
        wanted = F.avg_pool2d(colour(photos, colours), TONE)
        spread = colours[:, :, :3].diagonal(dim1=1, dim2=2).mean(1).clamp(min=LEAST_VARIANCE)
    return (F.avg_pool2d(paintings, TONE) - wanted).square().mean((1, 2, 3)) / spread


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
        variance = colours[:, :, :3].diagonal(dim1=1, dim2=2).mean(1).clamp(min=LEAST_VARIANCE)
    odd = paintings - wanted
    fine = odd - F.avg_pool2d(odd, FINE, 1, FINE // 2, count_include_pad=False)
    return (plain * F.avg_pool2d(fine.square(), PLAIN)).mean((1, 2, 3)) / variance


def range_loss(paintings: Tensor, photos: Tensor, colours: Tensor) -> Tensor:
    """Return how far paintings leave the range of the recoloured photographs' colours nearby, (N,).

    Means of 4x4 squares are compared with the least and the greatest within 28 pixels, channel by channel. Bright rims
    around dark objects, grids and cracks lie outside this range. Strokes along the photograph's own edges stay in it,
    wherever they are moved.

    Parameters
    ----------
    paintings, photos : Tensor
        (N, 3, H, W), in [0, 1].
    colours : Tensor
        (N, 3, 4), covariance and mean of the styles' colours.
    """
    with torch.no_grad():
        wanted = F.avg_pool2d(colour(photos, colours), PLAIN)
        highest = F.max_pool2d(wanted, NEAR, 1, NEAR // 2)
        lowest = -F.max_pool2d(-wanted, NEAR, 1, NEAR // 2)
        variance = colours[:, :, :3].diagonal(dim1=1, dim2=2).mean(1).clamp(min=LEAST_VARIANCE)
    painted = F.avg_pool2d(paintings, PLAIN)
    outside = F.relu(painted - highest) + F.relu(lowest - painted)
    return outside.square().mean((1, 2, 3)) / variance


def lattice_loss(paintings: Tensor, photos: Tensor, colours: Tensor) -> Tensor:
    """Return how regular the fine strokes in plain areas are, (N,).

    A network paints an area of one colour alike in each cell of its grid, unless noise drives the strokes. This is the
    energy of what is added to the recoloured photographs, times the fourth-power mean of its autocorrelation at
    distances from 8 to 40 pixels. Strokes at random places hardly correlate; a grid or weave does, at its period.

    Parameters
    ----------
    paintings, photos : Tensor
        (N, 3, H, W), in [0, 1].
    colours : Tensor
        (N, 3, 4), covariance and mean of the styles' colours.
    """
    size = tuple(side // PLAIN * (PLAIN // 2) for side in photos.shape[-2:])
    padded = tuple(side + FARTHEST for side in size)  # so that nothing correlates around the border
    lags = torch.arange(-FARTHEST, FARTHEST + 1, device=photos.device)
    distances = (lags[:, None].square() + lags.square()).sqrt()
    among = (distances >= NEAREST) & (distances <= FARTHEST)

    def products(x: Tensor) -> Tensor:
        """Return the sums over pixels and channels of products of each lag, (N, 2 FARTHEST + 1, 2 FARTHEST + 1)."""
        power = torch.fft.rfft2(x.float(), s=padded).abs().square().sum(1)
        return torch.fft.irfft2(power, s=padded)[:, lags[:, None], lags]

    with torch.no_grad():
        wanted = colour(photos, colours)
        plain = F.interpolate(plainness(photos), scale_factor=PLAIN // 2)
        pairs = products(plain).clamp(min=1)
        variance = colours[:, :, :3].diagonal(dim1=1, dim2=2).mean(1).clamp(min=LEAST_VARIANCE)
    odd = F.avg_pool2d(paintings - wanted, 2)
    odd = odd - F.avg_pool2d(odd, HALVED_FINE, 1, HALVED_FINE // 2, count_include_pad=False)
    found = products(plain * odd[..., : size[0], : size[1]]) / pairs
    regular = found[:, among].pow(4).mean(1).clamp(min=1e-36).pow(0.25)
    energy = found[:, FARTHEST, FARTHEST].clamp(min=1e-9)
    return plain.mean((1, 2, 3)) * regular.square() / energy / variance


def normalised(weights: Mapping[str, float]) -> dict[str, float]:
    """Return the weights scaled to sum to 1."""
    return {k: w / sum(weights.values()) for k, w in weights.items()}
