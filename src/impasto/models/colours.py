"""A painting's colours, brought to the mean and covariance of a style's.

The optimal transport between two Gaussians is one linear map (Olkin, Pukelsheim, "The Distance between Two Random
Vectors with Given Dispersion Matrices", Linear Algebra and its Applications 48, 1982). It follows from
the style, so a network need not learn it, and it is differentiable, so a network learns to paint with it.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from .moments import covariance, raw_moments

EPSILON = 1e-4
"""Added to the variances of both colours, which are of the order of 0.05: how flat a picture can be for its map."""
RIDGE = 1e-6
"""Added to the features' variances, over their mean, where the reader is fitted."""


class ColourReader(nn.Module):
    """Reads a style's colours from the raw moments of an encoder's first layer.

    Those features still hold the picture's colours: a linear function of them gives a pixel back, so the same function
    of their mean and covariance gives the colours' mean and covariance, and a style file need not hold these.

    Parameters
    ----------
    channels : int
        Of the features.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.register_buffer("weight", torch.zeros(3, channels))
        self.register_buffer("bias", torch.zeros(3))
        self.weight: Tensor
        self.bias: Tensor

    def forward(self, moments: Tensor) -> Tensor:
        """Raw moments (N, C + 1, C + 1) -> the colours' covariance and mean (N, 3, 4), float32."""
        moments = moments.float()
        mean = moments[:, :-1, -1] @ self.weight.t() + self.bias
        return torch.cat([self.weight @ covariance(moments) @ self.weight.t(), mean[:, :, None]], 2)

    @torch.no_grad()
    def calibrate(self, moments: Tensor) -> None:
        """Fit it by least squares.

        Parameters
        ----------
        moments : Tensor
            (3 + C + 1, 3 + C + 1), raw moments of the colours and the features of many pictures, side by side.
        """
        moments = moments.double()
        both = covariance(moments[None])[0]
        features = both[3:, 3:]
        features = features + RIDGE * features.diagonal().mean() * torch.eye(len(features)).to(features)
        weight = torch.linalg.solve(features, both[3:, :3]).t()
        self.weight.copy_(weight)
        self.bias.copy_(moments[:3, -1] - weight @ moments[3:-1, -1])


def colour(painting: Tensor, colours: Tensor, moments: Tensor | None = None, masks: Tensor | None = None) -> Tensor:
    """Bring a painting's colours to the mean and covariance of its style's.

    Parameters
    ----------
    painting : Tensor
        (N, 3, H, W).
    colours : Tensor
        (N, 3, 4), the covariance and mean of each style's colours; with masks, (R, 3, 4), those of each part.
    moments : Tensor, optional
        (N or R, 4, 4), the raw moments of the painting's colours, or of its parts' (`colour_moments`), for a painting
        that is part of another. They are its own if not given.
    masks : Tensor, optional
        (R, 1, H, W), which sum to 1 everywhere: the parts of one painting (N = 1).

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


def colour_moments(painting: Tensor, masks: Tensor | None = None) -> Tensor:
    """Return the raw moments (N or R, 4, 4) of the colours of paintings (N, 3, H, W), or of the parts of one.

    Parameters
    ----------
    masks : Tensor, optional
        (R, 1, H, W), the parts of one painting.
    """
    return raw_moments(painting) if masks is None else torch.cat([raw_moments(painting, m[None]) for m in masks])


def colours_of(moments: Tensor) -> Tensor:
    """Return covariance and mean (N, 3, 4) from raw moments (N, 4, 4)."""
    return torch.cat([covariance(moments), moments[:, :-1, -1:]], 2)


def _mapped(x: Tensor, matrix: Tensor, shift: Tensor) -> Tensor:
    """Return the colours (N, 3, H, W) through one map (N, 3, 3) and (N, 3) a picture."""
    rows = x.permute(0, 2, 3, 1)
    mapped = torch.baddbmm(shift[:, None], rows.flatten(1, 2), matrix.transpose(1, 2))
    return mapped.view(rows.shape).permute(0, 3, 1, 2)


def transport(moments: Tensor, colours: Tensor) -> tuple[Tensor, Tensor]:
    """Return the map that brings colours to others.

    Parameters
    ----------
    moments : Tensor
        (N, 4, 4), the raw moments of the colours that there are.
    colours : Tensor
        (N, 3, 4), the covariance and mean of those wanted.

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
    """The symmetric matrices (N, C, C) that bring covariances to others, both positive definite, and move least."""
    root = symmetric_root(wanted)
    return root @ torch.linalg.inv(symmetric_root(root @ own @ root)) @ root


def symmetric_root(matrix: Tensor) -> Tensor:
    """The square root of symmetric positive definite matrices (N, C, C); equal eigenvalues do no harm to gradients."""
    return _Root.apply(matrix)  # type: ignore[no-any-return]


class _Root(torch.autograd.Function):
    """With P = U diag(r^2) U^T the root's derivative along D is U (U^T D U / (r_i + r_j)) U^T."""

    @staticmethod
    def forward(ctx: Any, matrix: Tensor) -> Tensor:
        if matrix.isfinite().all():
            values, vectors = torch.linalg.eigh(matrix)
        else:  # eigh would raise; a loss that is not finite is the training's to report
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
    """Into [0, 1]; a gradient that would bring a number back passes, one that would take it farther away does not."""
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
