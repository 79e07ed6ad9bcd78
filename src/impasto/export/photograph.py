"""The style of strength 0: that of the photograph itself, unpainted, as `NetworkStylizer` predicts it."""

import copy
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..models.network import Network
from ..models.vgg import VGG
from ..stylizers.network import PHOTO_SIZE


class PhotographStyle(nn.Module):
    """Predicts the affine of photographs.

    Parameters
    ----------
    net : Network
        The network whose predictor is used.
    encoder : VGG
        Its encoder.
    dtype : torch.dtype
        The dtype of the encoder's features and of the predictor.
    """

    def __init__(self, net: Network, encoder: VGG, dtype: torch.dtype):
        super().__init__()
        self.layers, self.parts, self.dtype = tuple(net.config.layers), net.layout.parts, dtype
        self.left_out = net.layout.size - net.layout.predicted
        self.summaries, self.predictor = copy.deepcopy(net.summaries), copy.deepcopy(net.predictor).to(dtype)
        last = max(encoder.layers[k] for k in self.layers)
        self.places = {encoder.layers[k]: k for k in self.layers}
        self.features = nn.Sequential(*copy.deepcopy(list(encoder.features)[: last + 1])).to(dtype)
        self.reflect = encoder.config.padding == "reflect"
        self.register_buffer("mean", encoder.mean.clone())
        self.register_buffer("std", encoder.std.clone())
        self.mean: Tensor
        self.std: Tensor

    def forward(self, photo: Tensor) -> Tensor:
        """Return the affines (N, `layout.size`) of photographs (N, 3, H, W), float32, sRGB in [0, 1]."""
        seen = self.measured(reduced(photo))
        summaries = [self.summaries[k](seen[k]) for k in self.layers]
        affine = self.predictor(torch.cat(summaries, 1).to(self.dtype)).float()
        ones = torch.ones_like(affine[:, self.parts["photo"]])
        photo_at, paint_at = self.parts["photo"], self.parts["paint"]
        assert paint_at.start == photo_at.stop
        affine = torch.cat([affine[:, : photo_at.start], ones, 0 * ones, affine[:, paint_at.stop :]], 1)
        return F.pad(affine, (0, self.left_out))  # not denoised, not mottled

    def measured(self, photo: Tensor) -> dict[str, Tensor]:
        """Return the raw moments (N, C + 1, C + 1) of each layer's features."""
        x, found = ((photo - self.mean) / self.std).to(self.dtype), {}
        for i, module in enumerate(self.features):
            if isinstance(module, nn.Conv2d) and self.reflect:
                x = F.pad(x, (1, 1, 1, 1), mode="reflect")
            x = module(x)
            if i in self.places:
                found[self.places[i]] = moments(x.float())
        return found


def moments(features: Tensor) -> Tensor:
    """Return the raw moments (N, C + 1, C + 1) of features (N, C, H, W), as `models.moments.raw_moments`."""
    x = torch.cat([features, torch.ones_like(features[:, :1])], 1).flatten(2)
    return x @ x.transpose(1, 2) / x.shape[2]


def reduced(photo: Tensor) -> Tensor:
    """Return photographs (N, 3, H, W) at a long side of at most `PHOTO_SIZE`, as `image.resize.resize` makes them."""
    height, width = photo.shape[2], photo.shape[3]
    long = torch.sym_max(height, width)
    limit = torch.sym_min(long, PHOTO_SIZE)
    sides = [cast(int, torch.sym_max(1, (2 * side * limit + long) // (2 * long))) for side in (height, width)]
    rows, columns = resizing(height, sides[0]), resizing(width, sides[1])
    return (rows @ photo @ columns.t()).clamp(0, 1)


def resizing(old: int, new: int) -> Tensor:
    """Return the weights (new, old) of antialiased bicubic resizing of one side."""
    ratio = old / new
    wide = torch.sym_max(1.0, ratio)
    centres = (torch.arange(new, dtype=torch.float32) + 0.5) * ratio
    x = ((torch.arange(old, dtype=torch.float32) + 0.5 - centres[:, None]) / wide).abs()
    near, far = (1.5 * x - 2.5) * x * x + 1, ((-0.5 * x + 2.5) * x - 4) * x + 2  # Keys' cubic with a = -1/2
    weights = torch.where(x < 1, near, torch.where(x < 2, far, torch.zeros_like(x)))
    return weights / weights.sum(1, keepdim=True)
