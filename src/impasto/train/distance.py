"""What a training measures paintings by: the encoder's layers, and the distance of their moments to a style's."""

from torch import Tensor

from ..models.vgg import CONTENT_LAYER, STYLE_LAYERS, VGG
from ..style.losses import gram_loss
from ..style.statistics import head_metric
from ..style.wasserstein import MomentsTarget, covariance_metric, moments_loss

LAYERS = {"vgg16": (("relu1_2", "relu2_2", "relu3_3", "relu4_3"), "relu3_3")}
"""Encoder -> its style layers and its content layer, where they are not Gatys': Johnson's of VGG-16."""


class Distance:
    """How far a layer's moments are from those of styles.

    Parameters
    ----------
    encoder : VGG
        Whose layer it is.
    layer : str
        Which one.
    targets : Tensor
        (M, C + 1, C + 1), the raw moments of M styles, on the device.
    loss : "moments" or "gram"
        Wasserstein, or Gatys'.
    """

    def __init__(self, encoder: VGG, layer: str, targets: Tensor, loss: str):
        self.gram = targets if loss == "gram" else None
        self.metric = head_metric(encoder, layer)
        self.wanted = None if loss == "gram" else MomentsTarget.of(targets, covariance_metric(encoder, layer))

    def __call__(self, moments: Tensor, index: Tensor) -> Tensor:
        """(N,), of raw moments (N, C + 1, C + 1) to the styles numbered by `index` (N,)."""
        if self.wanted is None:
            assert self.gram is not None
            return gram_loss(moments, self.gram[index.to(self.gram.device)], self.metric)
        return moments_loss(moments, self.wanted.pick(index.cpu()))


def style_and_content_layers(encoder: VGG) -> tuple[tuple[str, ...], str]:
    """The style layers and the content layer that a network is trained with."""
    return LAYERS.get(encoder.name, (STYLE_LAYERS, CONTENT_LAYER))
