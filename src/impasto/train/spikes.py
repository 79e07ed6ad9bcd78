"""A loss against spikes in the features of a network that paints.

A network with instance norms can learn to put one spike, a hundred standard deviations high, into a feature map. The
spike takes up much of the map's variance, so the norm makes everything else smaller, and the network has a way to
change the strength of its own features that the style does not give it. In the painting, each spike is a glowing dot.
The same has been seen in generators of pictures: Karras et al., "Analyzing and Improving the Image Quality of
StyleGAN", CVPR 2020, section 2. No term of the painting's loss measures a dot of a few pixels, so this one does.

It also limits the means of the features. The norm removes them, so they do not affect the painting, but the larger a
mean is in standard deviations, the more of the features is lost to rounding.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..models.layers import EPSILON, statistics_of
from ..models.passes import Origins, WholePass

if TYPE_CHECKING:
    from ..models.network import Network

LIMIT = 12.0
"""Standard deviations from the mean that are not a spike. Highlights of photographs reach this, too."""
MEAN_LIMIT, MEAN_SHARE = 8.0, 3e-4
"""Standard deviations that a mean may have, and the share of the means in the loss, in which spikes have 1."""


class WatchedPass(WholePass):
    """The operations on whole pictures (N, C, H, W), which also measure the spikes that the norms receive.

    Parameters
    ----------
    net, affine, origins
        As for `Network.forward`.
    measure : callable
        `excess`, for training, or `highest`.

    Attributes
    ----------
    spikes : list of Tensor
        For each norm, in order, what `measure` returns, (N,).
    """

    def __init__(self, net: "Network", affine: Tensor, origins: Origins, measure: Callable[[Tensor], Tensor]):
        super().__init__(net, affine, None, None, origins)
        self.measure, self.spikes = measure, list[Tensor]()

    def norm(self, x: Tensor) -> Tensor:
        """Measure spikes, then apply the next instance norm."""
        self.spikes.append(self.measure(x))
        return super().norm(x)


@torch.no_grad()
def highest(x: Tensor) -> Tensor:
    """Return the largest distance of features (N, C, H, W) from their channel's mean, in its deviations, (N,)."""
    mean, factor = _normalisation(x)
    return ((x.float() - mean) * factor).abs().amax((1, 2, 3))


def excess(x: Tensor) -> Tensor:
    """Return how far features (N, C, H, W) exceed `LIMIT` standard deviations, (N,), and their means `MEAN_LIMIT`.

    It is the sum over channels of the mean squared excess. It would be 1 if all of one channel's variance were in
    spikes. That of the means is added with their share.

    The gradient takes the mean and the deviation as constants. Otherwise there would be none where it is needed most: a
    spike that is most of the variance is always about as high in units of the deviation.
    """
    return _Excess.apply(x)  # type: ignore[no-any-return]


class _Excess(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        mean, factor = _normalisation(x)
        z = (x - mean.to(x.dtype)) * factor.to(x.dtype)
        over = z - z.clamp(-LIMIT, LIMIT)
        far = mean * factor
        far = far - far.clamp(-MEAN_LIMIT, MEAN_LIMIT)
        ctx.save_for_backward(over, far, factor)
        return over.square().mean((2, 3), dtype=torch.float32).sum(1) + MEAN_SHARE * far.square().sum((1, 2, 3))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
        over, far, factor = ctx.saved_tensors
        factor = gradient[:, None, None, None] * factor * (2 / (over.shape[2] * over.shape[3]))
        return torch.addcmul((MEAN_SHARE * far * factor).to(over.dtype), over, factor.to(over.dtype))


def _normalisation(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return each channel's mean and the inverse of its standard deviation, (N, C, 1, 1), float32."""
    mean, variance = statistics_of(x).unbind(1)
    return mean[:, :, None, None], (variance + EPSILON).rsqrt()[:, :, None, None]
