"""The training loss of a network that paints: the loss of `optimize` for a batch, and four pixel losses.

Johnson, Alahi, Fei-Fei 2016: content, style and total variation of the paintings, measured with a frozen encoder. Every
style loss is relative to its style, so values are comparable between styles. Where the photograph is plain, the style
counts less.

The losses of the pixels compare paintings with the photographs in the styles' colours: the tone of large shapes, what
is around edges, and what is in plain areas (`plain`). `optimize` does not need the tone: it starts from the photograph
and hardly changes large shapes. Without it, a network would paint clouds of light anywhere, which the other terms do
not measure.
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
from .plain import (
    LATTICE_WEIGHT,
    PLAIN,
    PLAIN_WEIGHT,
    RIM_WEIGHT,
    Rims,
    lattice_loss,
    plain_loss,
    plainness,
    squares_of,
)

STYLE_LAYER_WEIGHTS = "relu1_1:256,relu2_1:64,relu3_1:128,relu4_1:32"
"""The style layers and their weights. The deep ones weigh eight times as much as in `optimize`, whose pictures come
near to the style in every layer. A network's distances are several times as large in the deep layers, and with the
weights of `optimize` they hardly fall."""
STYLE_IN_PLAIN = 0.3
"""Weight of plain areas in the style loss; that of everything else is 1. With the same weight everywhere, the style
loss fills skies and walls with texture, and what a loss of the pixels forbids there comes back at another size."""
TONE = 16
"""Side of the squares, in pixels, whose mean colours are compared."""
RIM = 7
"""What is finer than this, in pixels of the halved picture, is compared around edges."""
NEAR = 7
"""Side of the neighbourhoods, in squares of `PLAIN` pixels, in which edges are looked for."""
EDGE_WEIGHT, ELSEWHERE = 0.25, 0.3
"""Weight of the loss around edges (the style's is 1), and the share of it that applies elsewhere."""
LEAST_SPREAD = 0.1
"""Lower bound of the spread of content features, relative to the batch's mean, because some crops have one colour."""
LEAST_VARIANCE = 1e-3
"""Lower bound of the variance of a style's colours."""


class PaintingLoss:
    """The loss of each painting in a batch, from its features, its pixels and its total variation.

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
            deviation = colours[:, :, :3].diagonal(dim1=1, dim2=2).mean(1).clamp(min=LEAST_VARIANCE).sqrt()
            deviation = deviation[:, None, None, None]
            recoloured, plain = colour(photos, colours) / deviation, plainness(photos)
            rims = Rims(photos, plain)
            busy = 1 - (1 - STYLE_IN_PLAIN) * plain
        added = paintings / deviation - recoloured
        style = paintings.new_zeros(len(paintings))
        for k, share in self.style.items():
            weights = F.interpolate(busy, size=painted[k].shape[-2:], mode="area")
            style = style + share * self.style_loss(k, raw_moments(painted[k], weights), targets[k])
        style = busy.mean((1, 2, 3)) * style
        content = paintings.new_zeros(len(paintings))
        for k, share in self.content.items():
            content = content + share * content_loss(painted[k], photo[k], LEAST_SPREAD, self.metrics[k])
        return {
            "style": style,
            "content": self.content_weight * content,
            "tone": self.tone_weight * tone_loss(added),
            "plain": PLAIN_WEIGHT * plain_loss(added, plain),
            "edges": EDGE_WEIGHT * edge_loss(added, recoloured),
            "rim": RIM_WEIGHT * rims(squares_of(added)),
            "lattice": LATTICE_WEIGHT * lattice_loss(added, plain),
            "variation": self.tv_weight * total_variation(paintings),
        }


def tone_loss(added: Tensor) -> Tensor:
    """Return the tone loss, (N,): how far the mean colours of 16x16 squares are from the recoloured photographs'.

    Parameters
    ----------
    added : Tensor
        (N, 3, H, W), paintings less the photographs in the styles' colours, in standard deviations of these colours.
    """
    return F.avg_pool2d(added, TONE).square().mean((1, 2, 3))


def edge_loss(added: Tensor, recoloured: Tensor) -> Tensor:
    """Return how much paintings differ from the recoloured photographs around edges, (N,).

    Compares the means of 2x2 pixels, less what is coarser than 14. Bright rims around dark objects, hard lines in faces
    and relief where clouds have soft edges are of these sizes. A position weighs more, the more the recoloured
    photograph varies within 14 pixels. Elsewhere strokes are cheap, but not free: free ones became lumps.

    Parameters
    ----------
    added : Tensor
        As for `tone_loss`.
    recoloured : Tensor
        (N, 3, H, W), the photographs in the styles' colours, in standard deviations of these colours.
    """
    with torch.no_grad():
        squares = F.avg_pool2d(recoloured, PLAIN)
        highest, lowest = (F.max_pool2d(x, NEAR, 1, NEAR // 2) for x in (squares, -squares))
        contrast = (highest + lowest).square().mean(1, keepdim=True)
        weight = ELSEWHERE + (1 - ELSEWHERE) * contrast / (1 + contrast)
        weight = F.interpolate(weight, scale_factor=PLAIN // 2)
    halved = F.avg_pool2d(added, 2)[..., : weight.shape[2], : weight.shape[3]]
    fine = halved - F.avg_pool2d(halved, RIM, 1, RIM // 2, count_include_pad=False)
    return (weight * fine.square()).mean((1, 2, 3))


def normalised(weights: Mapping[str, float]) -> dict[str, float]:
    """Return the weights scaled to sum to 1."""
    return {k: w / sum(weights.values()) for k, w in weights.items()}
