"""Matching the mean and covariance of a painting's colours to the style's.

The optimal transport between two Gaussians is one linear map (Olkin, Pukelsheim, "The Distance between Two Random
Vectors with Given Dispersion Matrices", Linear Algebra and its Applications 48, 1982). It can be computed from the
style, so a network need not learn it. It is differentiable, so a network can be trained through it.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from .moments import covariance, raw_moments

EPSILON = 1e-4
"""Added to the variances of both pictures' colours, which are about 0.05, so that flat pictures have a map, too."""
RIDGE = 1e-6
"""Ridge of the reader's least squares, relative to the mean variance of the features."""


class ColourReader(nn.Module):
    """Reads a style's colours from the raw moments of an encoder's first layer.

    A linear function of these features reconstructs a pixel's colour. The same function maps their mean and covariance
    to those of the colours, so a style file need not store them.

    Parameters
    ----------
    channels : int
        Channels of the features.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.register_buffer("weight", torch.zeros(3, channels))
        self.register_buffer("bias", torch.zeros(3))
        self.weight: Tensor
        self.bias: Tensor

    def forward(self, moments: Tensor) -> Tensor:
        """Return the colours' covariance and mean (N, 3, 4), float32, from raw moments (N, C + 1, C + 1)."""
        moments = moments.float()
        mean = moments[:, :-1, -1] @ self.weight.t() + self.bias
        return torch.cat([self.weight @ covariance(moments) @ self.weight.t(), mean[:, :, None]], 2)

    @torch.no_grad()
    def calibrate(self, moments: Tensor) -> None:
        """Fit the reader by least squares.

        Parameters
        ----------
        moments : Tensor
            (3 + C + 1, 3 + C + 1), raw moments of many pictures' colours concatenated with their features.
        """
        moments = moments.double()
        both = covariance(moments[None])[0]
        features = both[3:, 3:]
        features = features + RIDGE * features.diagonal().mean() * torch.eye(len(features)).to(features)
        weight = torch.linalg.solve(features, both[3:, :3]).t()
        self.weight.copy_(weight)
        self.bias.copy_(moments[:3, -1] - weight @ moments[3:-1, -1])


def colour(painting: Tensor, colours: Tensor, moments: Tensor | None = None, masks: Tensor | None = None) -> Tensor:
    """Match the mean and covariance of a painting's colours to its style's.

    Parameters
    ----------
    painting : Tensor
        (N, 3, H, W).
    colours : Tensor
        (N, 3, 4), the covariance and mean of each style's colours; with masks, (R, 3, 4), those of each region.
    moments : Tensor, optional
        (N or R, 4, 4), the raw moments of the painting's or its regions' colours (`colour_moments`), for a painting
        that is a tile of another. Computed from the painting by default.
    masks : Tensor, optional
        (R, 1, H, W), which sum to 1 everywhere: the regions of one painting (N = 1).

    Returns
    -------
    Tensor
        (N, 3, H, W), float32, within [0, 1].
    """
    painting = painting.float().contiguous(memory_format=torch.channels_last)
    with torch.autocast(painting.device.type, enabled=False):
        matrix, shift = transport(colour_moments(painting, masks) if moments is None else moments, colours)
        matrix, shift = matrix.to(painting), shift.to(painting)
        if masks is None:
            return bounded(_mapped(painting, matrix, shift))
        parts = (m * _mapped(painting, matrix[i : i + 1], shift[i : i + 1]) for i, m in enumerate(masks))
        return bounded(sum(parts, torch.zeros_like(painting)))


def overshoot(painting: Tensor, colours: Tensor) -> Tensor:
    """Return how far paintings (N, 3, H, W) leave [0, 1] once their colours match those of styles (N, 3, 4), (N,).

    It is the mean square of what `colour` cuts off, over the variance of the style's colours.
    """
    painting = painting.float().contiguous(memory_format=torch.channels_last)
    with torch.autocast(painting.device.type, enabled=False):
        matrix, shift = transport(colour_moments(painting), colours)
        matched = _mapped(painting, matrix.to(painting), shift.to(painting))
        variance = colours[:, :, :3].diagonal(dim1=1, dim2=2).mean(1).clamp(min=1e-3)
        return (matched - matched.clamp(0, 1)).square().mean((1, 2, 3)) / variance.to(painting)


def colour_moments(painting: Tensor, masks: Tensor | None = None) -> Tensor:
    """Return the raw moments (N or R, 4, 4) of the colours of paintings (N, 3, H, W), or of the regions of one.

    Parameters
    ----------
    masks : Tensor, optional
        (R, 1, H, W), the regions of one painting.
    """
    return raw_moments(painting) if masks is None else torch.cat([raw_moments(painting, m[None]) for m in masks])


def colours_of(moments: Tensor) -> Tensor:
    """Return covariance and mean (N, 3, 4) from raw moments (N, 4, 4)."""
    return torch.cat([covariance(moments), moments[:, :-1, -1:]], 2)


def _mapped(x: Tensor, matrix: Tensor, shift: Tensor) -> Tensor:
    """Apply one affine map per picture, (N, 3, 3) and (N, 3), to colours (N, 3, H, W)."""
    rows = x.permute(0, 2, 3, 1)
    mapped = torch.baddbmm(shift[:, None], rows.flatten(1, 2), matrix.transpose(1, 2))
    return mapped.view(rows.shape).permute(0, 3, 1, 2)


def transport(moments: Tensor, colours: Tensor) -> tuple[Tensor, Tensor]:
    """Return the optimal transport map from one distribution of colours to another.

    Parameters
    ----------
    moments : Tensor
        (N, 4, 4), the raw moments of the source colours.
    colours : Tensor
        (N, 3, 4), the covariance and mean of the target colours.

    Returns
    -------
    (Tensor, Tensor)
        (N, 3, 3) and (N, 3), float64, on the CPU.
    """
    moments, colours = moments.to("cpu", torch.float64), colours.to("cpu", torch.float64)
    eye = torch.eye(3, dtype=torch.float64)
    matrix = gaussian_transport(covariance(moments) + EPSILON * eye, colours[:, :, :3] + EPSILON * eye)
    return matrix, (colours[:, :, 3:] - matrix @ moments[:, :-1, -1:])[:, :, 0]


def gaussian_transport(own: Tensor, wanted: Tensor) -> Tensor:
    """Return the optimal transport matrices (N, C, C), symmetric, between positive definite covariances."""
    root = symmetric_root(wanted)
    return root @ torch.linalg.inv(symmetric_root(root @ own @ root)) @ root


def symmetric_root(matrix: Tensor) -> Tensor:
    """Return the square root of symmetric positive definite matrices (N, C, C). Equal eigenvalues are no problem."""
    return _Root.apply(matrix)  # type: ignore[no-any-return]


class _Root(torch.autograd.Function):
    """With P = U diag(r^2) U^T, the derivative of the root along D is U (U^T D U / (r_i + r_j)) U^T."""

    @staticmethod
    def forward(ctx: Any, matrix: Tensor) -> Tensor:
        if matrix.isfinite().all():
            values, vectors = torch.linalg.eigh(matrix)
        else:  # eigh would raise an error; the training reports a loss that is not finite
            values, vectors = matrix[:, 0] * torch.nan, matrix * torch.nan
        roots = values.clamp(min=1e-14).sqrt()
        ctx.save_for_backward(roots, vectors)
        return (vectors * roots[:, None]) @ vectors.transpose(1, 2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        roots, vectors = ctx.saved_tensors
        inner = vectors.transpose(1, 2) @ (grads[0] + grads[0].transpose(1, 2)) @ vectors
        return vectors @ (0.5 * inner / (roots[:, :, None] + roots[:, None])) @ vectors.transpose(1, 2)


def bounded(x: Tensor) -> Tensor:
    """Clamp to [0, 1]. For values outside, pass only gradients that move them back."""
    return _Bounded.apply(x)  # type: ignore[no-any-return]


class _Bounded(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.clamp(0, 1)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        (x,), (g,) = ctx.saved_tensors, grads
        return g.masked_fill(((x < 0) & (g > 0)) | ((x > 1) & (g < 0)), 0)
