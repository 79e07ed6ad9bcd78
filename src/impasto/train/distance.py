"""What a training measures paintings by: the encoder's layers, and the distance of their moments to a style's."""

from torch import Tensor

from ..models.vgg import CONTENT_LAYER, STYLE_LAYERS, VGG
from ..style.losses import gram_loss
from ..style.statistics import head_metric
from ..style.wasserstein import MomentsTarget, covariance_metric, moments_loss

LAYERS = {"vgg16": (("relu1_2", "relu2_2", "relu3_3", "relu4_3"), "relu3_3")}
"""Encoder -> its style layers and its content layer, where they are not Gatys': Johnson's of VGG-16."""


def metric_of(encoder: VGG, layer: str, loss: str) -> Tensor | None:
    """What a layer's moments are measured with behind its head, by `moments` or `gram`; None without a head."""
    return head_metric(encoder, layer) if loss == "gram" else covariance_metric(encoder, layer)


class Distance:
    """How far a layer's moments are from those of styles.

    Parameters
    ----------
    targets : Tensor
        (M, C + 1, C + 1), the raw moments of M styles, on the device.
    metric : Tensor or None
        `metric_of` the layer and the loss.
    loss : "moments" or "gram"
        Wasserstein, or Gatys'.
    """

    def __init__(self, targets: Tensor, metric: Tensor | None, loss: str):
        self.targets, self.metric = targets, metric
        self.wanted = None if loss == "gram" else MomentsTarget.of(targets, metric)

    def __call__(self, moments: Tensor, index: Tensor) -> Tensor:
        """(N,), of raw moments (N, C + 1, C + 1) to the styles numbered by `index` (N,)."""
        if self.wanted is None:
            return gram_loss(moments, self.targets[index.to(self.targets.device)], self.metric)
        return moments_loss(moments, self.wanted.pick(index.cpu()))


def style_and_content_layers(encoder: VGG) -> tuple[tuple[str, ...], str]:
    """The style layers and the content layer that a network is trained with."""
    return LAYERS.get(encoder.name, (STYLE_LAYERS, CONTENT_LAYER))
