"""Losses of the literature, one function each, and their weighted sum.

Unless a docstring says otherwise the functions are differentiable, take float32 and give one value a picture, (N,).
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ..device import Compute
from ..models.padding import reflection_pad
from ..models.vgg import CONTENT_LAYER, VGG
from ..options import StyleLoss
from .statistics import at_least_float32, head_metric, masked_moments, raw_moments
from .wasserstein import MomentsTarget, covariance_metric, moments_loss

LEAST_REGION = 1e-4
"""Share of the picture's area below which a region has no say."""


def gram_loss(moments: Tensor, target: Tensor, metric: Tensor | None = None) -> Tensor:
    """Gatys' style loss of one layer, made free of scale: ||G - G_s||^2 / ||G_s||^2.

    Gatys, Ecker, Bethge, "Image Style Transfer Using Convolutional Neural Networks", CVPR 2016, equation 4, has
    ||G - G_s||^2 / (4 C^2 (H W)^2); dividing by the size of the style's own Gram matrix instead gives every layer
    and every style about the same weight.

    Parameters
    ----------
    moments, target : Tensor
        Raw moments (N, C + 1, C + 1) of the picture and the style (`statistics.raw_moments`).
    metric : Tensor, optional
        (C + 1, C + 1), from `statistics.head_metric`: distances are then those behind the encoder's head.
    """
    difference = moments - target
    if metric is not None:
        difference, target = metric @ difference @ metric, metric @ target @ metric
    else:
        difference, target = difference[:, :-1, :-1], target[:, :-1, :-1]
    return difference.square().sum((1, 2)) / target.square().sum((1, 2)).clamp(min=1e-12)


def content_loss(features: Tensor, target: Tensor) -> Tensor:
    """Gatys' content loss (2016, equation 1), made free of scale: ||F - F_c||^2 / ||F_c - mean F_c||^2.

    Parameters
    ----------
    features, target : Tensor
        (N, C, H, W) of the picture and the content; the mean is each channel's over its pixels.
    """
    target = at_least_float32(target)
    spread = (target - target.mean((2, 3), keepdim=True)).square().sum((1, 2, 3))
    return (at_least_float32(features) - target).square().sum((1, 2, 3)) / spread.clamp(min=1e-12)


def total_variation(image: Tensor) -> Tensor:
    """Mean squared difference of neighbouring pixels, the anisotropic L2 total variation.

    Mahendran, Vedaldi, "Understanding Deep Image Representations by Inverting Them", CVPR 2015, equation 4, beta = 2,
    as Johnson et al. use it; here the mean over channels and pairs of pixels, so that it does not depend on the size.

    Parameters
    ----------
    image : Tensor
        (N, C, H, W).
    """
    down = (image[:, :, 1:] - image[:, :, :-1]).square().mean((1, 2, 3))
    right = (image[:, :, :, 1:] - image[:, :, :, :-1]).square().mean((1, 2, 3))
    return down + right


def distance(loss: StyleLoss, target: Tensor, encoder: VGG, layer: str) -> Callable[[Tensor], Tensor]:
    """The distance of a picture's raw moments to the style's at one layer, behind the layer's head where it has one.

    Parameters
    ----------
    target : Tensor
        The style's raw moments (1, C + 1, C + 1), on the device of those to come.
    """
    if loss == "moments":
        return partial(moments_loss, target=MomentsTarget.of(target, covariance_metric(encoder, layer)))
    metric = head_metric(encoder, layer)
    return partial(gram_loss, target=target, metric=None if metric is None else metric.to(target.device))


class Part(NamedTuple):
    """A part of the picture with a style of its own: its share of the area, its mask (None: all), layers' distances."""

    share: float
    mask: Tensor | None
    distances: Mapping[str, Callable[[Tensor], Tensor]]


def divide(
    style: Mapping[str, Tensor], regions: Sequence[tuple[Tensor, Mapping[str, Tensor]]]
) -> list[tuple[float, Tensor | None, Mapping[str, Tensor]]]:
    """Share of the area, mask and moments of every part: the regions, and the rest that `style` is for.

    Where masks overlap each gets its share; a part without area is left out.
    """
    if not regions:
        return [(1.0, None, style)]
    masks = torch.cat([m for m, _ in regions], 1)
    masks = masks / masks.sum(1, keepdim=True).clamp(min=1.0)
    masks = torch.cat([masks, (1 - masks.sum(1, keepdim=True)).clamp(min=0)], 1)
    shares = masks.mean((0, 2, 3)).tolist()
    moments = [*(m for _, m in regions), style]
    return [(share, masks[:, i : i + 1], moments[i]) for i, share in enumerate(shares) if share > LEAST_REGION]


class PerceptualLoss:
    """Weighted sum of content, style and total-variation loss of a picture, through one encoder.

    Parameters
    ----------
    encoder : VGG
        Its heads, where a layer has one, define the space that distances are measured in.
    compute : Compute
        Precision of the encoder; the losses are float32.
    content : Tensor or None
        (1, 3, H, W), the picture whose features are kept; None leaves the content loss out.
    style : dict of str to Tensor
        Layer -> raw moments (1, C + 1, C + 1) to be matched.
    content_weight, style_weight, tv_weight : float
        Weights of the terms; a term of weight 0 is not computed.
    style_loss : "gram" or "moments"
        Which distance of each layer's moments: `gram_loss` or `wasserstein.moments_loss`.
    layer_weights : dict of str to float, optional
        Weight of each style layer; equal if not given. They are normalised to sum to one.
    content_layer : str
        Where the content loss is taken.
    regions : sequence of (Tensor, dict)
        Masks (1, 1, H, W) of the picture's size, [0, 1], each with the raw moments to be matched there; `style` is then
        for the rest. A region counts by its area.
    margin : int
        Pixels by which the picture is continued by reflection before the encoder sees it. A network sees the pixels at
        a border in fewer receptive fields than others, so that an optimiser can hide colours there almost for free;
        with a margin the border is as expensive as the inside.
    """

    def __init__(
        self,
        encoder: VGG,
        compute: Compute,
        content: Tensor | None,
        style: Mapping[str, Tensor],
        *,
        content_weight: float,
        style_weight: float,
        tv_weight: float = 0.0,
        style_loss: StyleLoss = "gram",
        layer_weights: Mapping[str, float] | None = None,
        content_layer: str = CONTENT_LAYER,
        margin: int = 0,
        regions: Sequence[tuple[Tensor, Mapping[str, Tensor]]] = (),
    ):
        self.encoder, self.compute, self.margin = encoder, compute, margin
        self.weights = {
            "content": content_weight if content is not None else 0.0,
            "style": style_weight,
            "tv": tv_weight,
        }
        shares = layer_weights or dict.fromkeys(style, 1.0)
        total = sum(shares.values())
        self.shares = {k: shares[k] / total for k in style if shares.get(k)} if style_weight else {}
        device = compute.device
        self.parts = [
            Part(share, mask, {k: distance(style_loss, moments[k].to(device), encoder, k) for k in self.shares})
            for share, mask, moments in divide(style, regions)
        ]
        self.content_layer = content_layer
        self.content = None
        if self.weights["content"] and content is not None:
            with torch.no_grad():
                self.content = self._content_features(self._features(content, (content_layer,)))

    def _features(self, image: Tensor, layers: tuple[str, ...]) -> dict[str, Tensor]:
        margin = min(self.margin, min(image.shape[-2:]) - 1)
        with self.compute.autocast():
            return self.encoder(reflection_pad(image, margin) if margin > 0 else image, layers)

    def _moments(self, features: Tensor, mask: Tensor | None, image: Tensor) -> Tensor:
        if mask is None:
            return raw_moments(features)
        margin = min(self.margin, min(image.shape[-2:]) - 1)
        mask = mask.to(image.device)
        weights = reflection_pad(mask, margin) if margin > 0 else mask
        return masked_moments(features, F.interpolate(weights, features.shape[-2:], mode="area"))

    def _content_features(self, features: Mapping[str, Tensor]) -> Tensor:
        f = features[self.content_layer].float()
        return self.encoder.heads[self.content_layer](f) if self.content_layer in self.encoder.heads else f

    def __call__(self, image: Tensor) -> dict[str, Tensor]:
        """The weighted terms `content`, `style`, `tv` (those that are on) and their sum `total`, each a scalar.

        Parameters
        ----------
        image : Tensor
            (1, 3, H, W), sRGB; [0, 1] where it matters, but not checked.
        """
        layers = (*self.shares, *((self.content_layer,) if self.content is not None else ()))
        features = self._features(image, tuple(dict.fromkeys(layers)))
        terms: dict[str, Tensor] = {}
        if self.content is not None:
            terms["content"] = (
                self.weights["content"] * content_loss(self._content_features(features), self.content).sum()
            )
        if self.shares:
            parts = [
                part.share * share * part.distances[k](self._moments(features[k], part.mask, image)).sum()
                for part in self.parts
                for k, share in self.shares.items()
            ]
            terms["style"] = self.weights["style"] * torch.stack(parts).sum()
        if self.weights["tv"]:
            terms["tv"] = self.weights["tv"] * total_variation(image).sum()
        return {"total": torch.stack(list(terms.values())).sum(), **terms}
