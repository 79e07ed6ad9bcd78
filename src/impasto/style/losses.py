"""Losses from the literature, one function each.

Unless a docstring says otherwise, functions are differentiable, take float32 and return one value per picture, (N,).

The `moments` style loss is the Wasserstein-2 distance of features, modelled as Gaussians. For Gaussians, optimal
transport has a closed form (Dowson, Landau, "The Fréchet Distance between Multivariate Normal Distributions", J.
Multivariate Analysis 12, 1982; Olkin, Pukelsheim, "The Distance between Two Random Vectors with Given Dispersion
Matrices", Linear Algebra and its Applications 48, 1982):

    W2^2 = ||m - m_s||^2 + tr(C) + tr(C_s) - 2 tr((C_s^1/2 C C_s^1/2)^1/2).

Lu et al., "A Closed-form Solution to Universal Style Transfer", ICCV 2019, transform features by this transport.
Crowson's style-transfer-pytorch uses it as the loss of an optimisation.

Only the trace of a root is needed, and its gradient is half the inverse root, so one eigendecomposition gives both. On
one CPU thread, it takes 0.9 ms at 144 channels and 40 ms at 512, in float64. The coupled Newton-Schulz iteration takes
25 steps and 9 ms or 540 ms for an error of 1e-4, and by then its inverse root is far from converged.
"""

from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ..models.moments import at_least_float32, covariance, matrix_sqrt
from ..models.vgg import VGG


def gram_loss(moments: Tensor, target: Tensor, metric: Tensor | None = None) -> Tensor:
    """Return Gatys' style loss of one layer in a scale-free form: ||G - G_s||^2 / ||G_s||^2.

    Gatys, Ecker, Bethge, "Image Style Transfer Using Convolutional Neural Networks", CVPR 2016, equation 4, divides by
    4 C^2 (H W)^2. Dividing by the norm of the style's Gram matrix instead gives every layer and every style about the
    same weight.

    Parameters
    ----------
    moments, target : Tensor
        Raw moments (N, C + 1, C + 1) of the picture and the style (`moments.raw_moments`).
    metric : Tensor, optional
        (C + 1, C + 1), from `head_metric`: measure distances after the encoder's head.
    """
    difference = moments - target
    if metric is not None:
        difference, target = metric @ difference @ metric, metric @ target @ metric
    else:
        difference, target = difference[:, :-1, :-1], target[:, :-1, :-1]
    return difference.square().sum((1, 2)) / target.square().sum((1, 2)).clamp(min=1e-12)


def content_loss(features: Tensor, target: Tensor, least: float = 0.0, metric: Tensor | None = None) -> Tensor:
    """Return Gatys' content loss (2016, equation 1) in a scale-free form: ||F - F_c||^2 / ||F_c - mean F_c||^2.

    Parameters
    ----------
    features, target : Tensor
        (N, C, H, W) of the picture and the content; the mean is over the pixels of each channel.
    least : float
        Lower bound of the spread ||F_c - mean F_c||^2, relative to the batch's mean, for contents that show almost
        nothing.
    metric : Tensor, optional
        (C, C), A from `covariance_metric`: measure distances of A F, which are those after the encoder's head.

    Returns
    -------
    Tensor
        (N,), float32.
    """
    target = at_least_float32(target)
    spread = _squares(target - target.mean((2, 3), keepdim=True), metric)
    floor = (least * spread.mean()).clamp(min=1e-12 * target[0].numel())
    return _squares(at_least_float32(features) - target, metric) / torch.maximum(spread, floor)


def _squares(difference: Tensor, metric: Tensor | None) -> Tensor:
    """Return the sums of squares (N,) of A times the differences (N, C, H, W)."""
    if metric is None:
        return difference.square().sum((1, 2, 3))
    rows = difference.permute(0, 2, 3, 1)
    return (rows @ metric.to(rows)).square().sum((1, 2, 3))


def temporal_loss(image: Tensor, moved: Tensor, trust: Tensor) -> Tensor:
    """Return the mean squared difference from the last painting of a film, moved along, weighted by trust.

    Ruder, Dosovitskiy, Brox, "Artistic Style Transfer for Videos", GCPR 2016: the sum of c (x - w)^2 over the number of
    all values. The weights c are 0 where something comes into view and at the borders of motion, else 1. Here they may
    lie in between.

    Parameters
    ----------
    image, moved : Tensor
        (N, 3, H, W), the picture, and the painting of the last frame, moved to where its parts are now.
    trust : Tensor
        (N, 1, H, W), in [0, 1]: how far the motion can be trusted.
    """
    return (trust * (image - moved).square()).mean((1, 2, 3))


def total_variation(image: Tensor, wrap: bool = False) -> Tensor:
    """Return the mean squared difference of neighbouring pixels, the anisotropic L2 total variation.

    Mahendran, Vedaldi, "Understanding Deep Image Representations by Inverting Them", CVPR 2015, equation 4, beta = 2,
    as used by Johnson et al. Here it is the mean over channels and pairs of pixels, which does not depend on the size.

    Parameters
    ----------
    image : Tensor
        (N, C, H, W).
    wrap : bool
        Whether pixels at opposite borders are neighbours, as in a picture that tiles the plane.
    """
    return _TotalVariation.apply(image, wrap)  # type: ignore[no-any-return]


class _TotalVariation(torch.autograd.Function):
    """Computes the loss and its gradient from the same differences."""

    @staticmethod
    def forward(ctx: Any, image: Tensor, wrap: bool) -> Tensor:
        differences = _differences(image, wrap)
        ctx.save_for_backward(*differences)
        ctx.wrap, ctx.shape = wrap, image.shape
        last = image.is_contiguous(memory_format=torch.channels_last)
        ctx.layout = torch.channels_last if last else torch.contiguous_format
        return torch.stack([d.square().mean((1, 2, 3)) for d in differences]).sum(0)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        found: Tensor | None = None
        for dim, d in zip((2, 3), ctx.saved_tensors, strict=True):
            d = d * (grads[0] * (2 / d[0].numel()))[:, None, None, None]
            if ctx.wrap:
                found = d - d.roll(-1, dim) if found is None else found + d - d.roll(-1, dim)
                continue
            if found is None:
                found = torch.zeros(ctx.shape, dtype=d.dtype, device=d.device).contiguous(memory_format=ctx.layout)
            side = found.shape[dim]
            found.narrow(dim, 1, side - 1).add_(d)
            found.narrow(dim, 0, side - 1).sub_(d)
        assert found is not None
        return found, None


def _differences(image: Tensor, wrap: bool) -> tuple[Tensor, Tensor]:
    """Return the differences of every pixel from the one above it and from the one to its left."""
    if wrap:
        return image - image.roll(1, 2), image - image.roll(1, 3)
    return image[:, :, 1:] - image[:, :, :-1], image[:, :, :, 1:] - image[:, :, :, :-1]


EPSILON = 1e-4
"""Variance added to every channel of both Gaussians, relative to the style's mean square per channel. It bounds the
gradient, which is infinite if the picture has no variance in a direction in which the style has some."""


@dataclass(frozen=True)
class MomentsTarget:
    """The target of `moments_loss` for one layer of a style, computed once by `MomentsTarget.of`.

    With A the metric (or the identity), K_s = A C_s A, e the added variance and R = (K_s + e)^1/2:

    Parameters
    ----------
    mean : Tensor
        (N, C), m_s. All tensors are float64 on the CPU.
    metric : Tensor
        (C, C), A^2 = W^T W, the metric for squared distances of the means.
    root : Tensor
        (N, C, C), R A.
    offset : Tensor
        (N, C, C), e (K_s + e).
    trace : Tensor
        (N,), tr(K_s) + 2 C e.
    floor : Tensor
        (N,), e^2, the smallest possible eigenvalue of R (K + e) R.
    scale : Tensor
        (N,), tr(K_s) + ||A m_s||^2, the divisor of the distance.
    """

    mean: Tensor
    metric: Tensor
    root: Tensor
    offset: Tensor
    trace: Tensor
    floor: Tensor
    scale: Tensor

    @classmethod
    def of(cls, target: Tensor, metric: Tensor | None = None) -> "MomentsTarget":
        """Return the target for one layer.

        Parameters
        ----------
        target : Tensor
            Raw moments (N, C + 1, C + 1) of the style (`moments.raw_moments`).
        metric : Tensor, optional
            (C, C), from `covariance_metric`: measure distances after the encoder's head.
        """
        with torch.no_grad():
            target = target.to("cpu", torch.float64)
            mean, channels = target[:, :-1, -1], target.shape[-1] - 1
            eye = torch.eye(channels, dtype=torch.float64)
            a = eye if metric is None else metric.to(eye)
            values, vectors = torch.linalg.eigh(a @ covariance(target) @ a)
            values = values.clamp(min=0)  # rounding, above all to float16, makes some negative
            trace = values.sum(1)
            scale = (trace + (mean @ a).square().sum(1)).clamp(min=1e-12)
            e = EPSILON * scale / channels
            smooth = values + e[:, None]  # (N, C), eigenvalues of K_s + e
            root = (vectors * smooth.sqrt()[:, None]) @ vectors.transpose(1, 2)
            offset = e[:, None, None] * ((vectors * smooth[:, None]) @ vectors.transpose(1, 2))
            return cls(mean, a @ a, root @ a, offset, trace + 2 * channels * e, e.square(), scale)

    def pick(self, index: Tensor) -> "MomentsTarget":
        """Return the targets of the styles at the indices (M,)."""
        return MomentsTarget(
            *(v if v is self.metric else v[index] for v in (getattr(self, f.name) for f in fields(self)))
        )


def moments_loss(moments: Tensor, target: MomentsTarget) -> Tensor:
    """Return the scale-free squared Wasserstein-2 distance of one layer's features, modelled as Gaussians.

    It is W2^2 (see the formula at the top of this module) of N(m, C + e) and N(m_s, C_s + e), divided by the style's
    mean square tr(C_s) + ||m_s||^2. It is 0 for the style's mean and covariance, about 1 for features that are all zero
    (like `gram_loss`), and a few tenths to 4 between photographs. The variance e, `EPSILON` times the mean square per
    channel, keeps value and gradient finite for covariances of any rank.

    Parameters
    ----------
    moments : Tensor
        Raw moments (N, C + 1, C + 1) of the picture (`moments.raw_moments`).
    target : MomentsTarget
        The target of the style, for N layers or one. With its metric A, distances are measured after the encoder's head
        W f + b: the bias of the wide mean W m + b cancels, and the wide covariance W C W^T differs from A C A by a
        rotation.

    Returns
    -------
    Tensor
        (N,), with the dtype and device of `moments`; computed in float64 on the CPU. Not differentiable twice.
    """
    return _MomentsLoss.apply(moments, target)  # type: ignore[no-any-return]


class _MomentsLoss(torch.autograd.Function):
    """The loss with its gradient: one eigendecomposition of P = R (K + e) R gives tr P^1/2 and P^-1/2."""

    @staticmethod
    def forward(ctx: Any, moments: Tensor, target: MomentsTarget) -> Tensor:
        m = moments.detach().to("cpu", torch.float64)
        mean, c = m[:, :-1, -1], covariance(m)
        difference = mean - target.mean
        moved = difference @ target.metric
        product = target.root @ c @ target.root.transpose(1, 2) + target.offset
        if product.isfinite().all():
            values, vectors = torch.linalg.eigh(product)
        else:  # eigh would raise an error; the optimiser reports a loss that is not finite
            values, vectors = product[:, 0] * torch.nan, product * torch.nan
        roots = torch.maximum(values, target.floor[:, None]).sqrt()
        traces = (c * target.metric).sum((1, 2)) + target.trace
        loss = ((difference * moved).sum(1) + traces - 2 * roots.sum(1)) / target.scale
        if ctx.needs_input_grad[0]:
            # d loss / d C = (A^2 - R P^-1/2 R) / scale, and C = G - m m^T.
            turned = vectors.transpose(1, 2) @ target.root
            by_covariance = target.metric - turned.transpose(1, 2) @ (turned / roots[:, :, None])
            by_covariance = by_covariance / target.scale[:, None, None]
            by_mean = 2 * (moved / target.scale[:, None] - (by_covariance @ mean[:, :, None])[:, :, 0])
            ctx.save_for_backward(by_covariance, by_mean)
        return loss.to(moments)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        by_covariance, by_mean = ctx.saved_tensors
        n, c = by_mean.shape
        g = grads[0].new_zeros(n, c + 1, c + 1)
        g[:, :-1, :-1] = by_covariance
        g[:, :-1, -1] = by_mean  # only the last column: the last row holds the same numbers
        return g * grads[0][:, None, None], None


def head_metric(encoder: VGG, layer: str) -> Tensor | None:
    """Return the matrix A = (V^T V)^(1/2) of a layer's head V = [W b], or None if the layer has no head.

    Returns
    -------
    Tensor or None
        (C + 1, C + 1), float32, symmetric: for raw moments M of the narrow features, ||A (M - M') A|| is the
        Frobenius distance of the Gram matrices after the head.
    """
    if layer not in encoder.heads:
        return None
    head = encoder.heads[layer]
    assert isinstance(head, torch.nn.Conv2d)
    assert head.bias is not None
    v = torch.cat([head.weight.flatten(1), head.bias[:, None]], 1).double()
    return matrix_sqrt(v.t() @ v).float()


def covariance_metric(encoder: VGG, layer: str) -> Tensor | None:
    """Return the matrix A = (W^T W)^(1/2) of a layer's head W f + b, or None if the layer has no head.

    Returns
    -------
    Tensor or None
        (C, C), float32, symmetric: for differences of narrow features f, and for centred features, A f has the same
        lengths, covariances (up to a rotation) and cosines as W f. For raw moments, which include the bias, use
        `head_metric`.
    """
    if layer not in encoder.heads:
        return None
    head = encoder.heads[layer]
    assert isinstance(head, torch.nn.Conv2d)
    w = head.weight.flatten(1).double()
    return matrix_sqrt(w.t() @ w).float()
