"""The loss that a network which paints is trained with: that of `optimize`, for a batch of paintings.

Johnson, Alahi, Fei-Fei 2016: content, style and total variation of the paintings, seen through a frozen encoder. Every
style loss is relative to its style, so it says the same of all of them.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from ..device import Compute
from ..models.vgg import VGG
from ..options import CONTENT_LAYERS, STYLE_LAYER_WEIGHTS, named_weights
from .losses import content_loss, total_variation
from .statistics import raw_moments
from .wasserstein import MomentsTarget, covariance_metric, moments_loss

LEAST_SPREAD = 0.1
"""Some crops are of one colour: the least that their content features' spread counts as, over the batch's mean."""


class PaintingLoss:
    """The loss of paintings, for each picture of a batch: style, content and total variation.

    Parameters
    ----------
    encoder : VGG
        The frozen network that looks.
    content_weight, tv_weight : float
        Weights of content and total variation; the style's is 1.
    compute : Compute
        Device and precision.
    """

    def __init__(self, encoder: VGG, content_weight: float, tv_weight: float, compute: Compute):
        self.encoder, self.compute = encoder, compute
        self.content_weight, self.tv_weight = content_weight, tv_weight
        self.style = normalised(named_weights(STYLE_LAYER_WEIGHTS, "--layers"))
        self.content = normalised(named_weights(CONTENT_LAYERS, "--content-layers"))
        self.metrics = {k: covariance_metric(encoder, k) for k in (*self.style, *self.content)}

    def features(self, pictures: Tensor, layers: Sequence[str]) -> dict[str, Tensor]:
        """Return the features of pictures (N, 3, H, W) at some layers."""
        with self.compute.autocast():
            return self.encoder(self.compute.picture(pictures), list(dict.fromkeys(layers)))

    def moments(self, pictures: Tensor) -> dict[str, Tensor]:
        """Return each style layer's raw moments (N, C + 1, C + 1)."""
        return {k: raw_moments(f) for k, f in self.features(pictures, tuple(self.style)).items()}

    def style_loss(self, layer: str, moments: Tensor, target: Tensor) -> Tensor:
        """Return a layer's style loss, (N,), from the raw moments (N, C + 1, C + 1) of paintings and of styles."""
        return moments_loss(moments, MomentsTarget.of(target, self.metrics[layer]))

    def __call__(self, paintings: Tensor, photos: Tensor, targets: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the weighted terms, (N,) each.

        Parameters
        ----------
        paintings, photos : Tensor
            (N, 3, H, W), in [0, 1].
        targets : mapping of str to Tensor
            Style layer -> raw moments (N, C + 1, C + 1) of the styles.
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
            "variation": self.tv_weight * total_variation(paintings),
        }


def normalised(weights: Mapping[str, float]) -> dict[str, float]:
    """Return weights that sum to 1."""
    return {k: w / sum(weights.values()) for k, w in weights.items()}
