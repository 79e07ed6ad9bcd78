"""Conditional instance norm, whose backward is fast on the CPU.

PyTorch's own backward of a group norm takes 30 times as long as its forward for channels_last tensors on the CPU: most
of the time of training a network with a norm behind every convolution. Here it is a few sums and products. The ReLU
that follows is done in the same place, so that its input need not be kept.
"""

import math
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

EPSILON = 1e-5
"""Added to the variance."""
PER_STYLE = ("scale", "shift", "stroke_scale", "stroke_shift")
"""What a norm has for each style: its parameters (styles, channels)."""


@dataclass(frozen=True)
class Conditions:
    """What the norms shall do with each picture of a batch.

    Parameters
    ----------
    weights : Tensor
        (N, S), each row the shares of the network's S styles; they sum to 1.
    strength : tuple of float
        N numbers: 1 is the style, 0 the photograph, between and beyond them the norms' maps are inter- or extrapolated.
    stroke : Tensor, optional
        (N, S), the logarithm to base 2 of the size of each style's strokes over the one that was mostly trained on.
    maps : Tensor, optional
        (N, 2, all channels), scales and shifts of all norms, one norm behind the other, of styles that were not learnt
        but predicted: in place of those that the weights share.
    colours : Tensor, optional
        (N, 3, 4), the covariance and mean [K, m] of the colours that the paintings shall have.
    """

    weights: Tensor
    strength: tuple[float, ...]
    stroke: Tensor | None = None
    maps: Tensor | None = None
    colours: Tensor | None = None

    @classmethod
    def of(cls, styles: Tensor, count: int, strength: float = 1.0, stroke: float = 1.0) -> "Conditions":
        """Of style indices (N,), all of them with one strength; `count` is how many styles the network has."""
        weights = F.one_hot(styles, count).float()
        return cls(weights, (strength,) * len(styles), math.log2(stroke) * weights if stroke != 1 else None)

    def to(self, device: torch.device) -> "Conditions":
        """On that device."""
        optional = {k: getattr(self, k) for k in ("stroke", "maps", "colours")}
        moved = {k: None if t is None else t.to(device) for k, t in optional.items()}
        return replace(self, weights=self.weights.to(device), **moved)


@dataclass(frozen=True)
class Places:
    """Styles by place, for one picture: each part's features are normalised by themselves, and added up by masks.

    Parameters
    ----------
    masks : Tensor
        (R, 1, H, W), [0, 1], which sum to 1 everywhere; of the picture's size.
    conditions : sequence of Conditions
        R of them, each of one picture.
    """

    masks: Tensor
    conditions: tuple[Conditions, ...]

    def at(self, height: int, width: int) -> Tensor:
        """The masks at the size of some features."""
        return F.adaptive_avg_pool2d(self.masks, (height, width))


class ConditionalNorm(nn.Module):
    """Conditional instance norm: each channel of a picture to mean 0 and variance 1, then a style's scale and shift.

    Dumoulin, Shlens, Kudlur, "A Learned Representation for Artistic Style", ICLR 2017. It is an affine map a channel,
    which depends on the picture. Of strength 0 it is another affine map, the same for all pictures: normalised by what
    channels are on the average of the training, the network can give back the photograph, its colours and its light
    included. Between the two the maps are interpolated. A style's map goes along a line as its strokes get larger, by
    the logarithm of their size.

    Parameters
    ----------
    channels, styles : int
        How many.
    relu : bool
        Whether a ReLU follows.
    first : int
        How many channels the norms before this one have: where its own begin in `Conditions.maps`.
    """

    def __init__(self, channels: int, styles: int, relu: bool = True, first: int = 0):
        super().__init__()
        self.relu, self.own = relu, slice(first, first + channels)
        self.scale = nn.Parameter(torch.ones(styles, channels))
        self.shift = nn.Parameter(torch.zeros(styles, channels))
        self.stroke_scale = nn.Parameter(torch.zeros(styles, channels))
        self.stroke_shift = nn.Parameter(torch.zeros(styles, channels))
        self.plain_scale = nn.Parameter(torch.ones(channels))
        self.plain_shift = nn.Parameter(torch.zeros(channels))
        self.register_buffer("plain_mean", torch.zeros(channels))
        self.register_buffer("plain_deviation", torch.ones(channels))
        self.plain_mean: Tensor
        self.plain_deviation: Tensor
        self.seen: Tensor | None = None
        """In training, (3, C): pixels, sums and sums of squares of what was painted with strength 0."""

    def forward(self, x: Tensor, conditions: Conditions | Places, phases: int = 1) -> Tensor:
        """Normalise.

        Parameters
        ----------
        x : Tensor
            (N, phases C, H, W); the statistics are a picture's, over all its phases.
        conditions : Conditions or Places
            Of the N pictures, or of the parts of one.

        Returns
        -------
        Tensor
            (N, phases C, H, W), channels_last, in the type of `x`; the statistics are taken in float32.
        """
        n, c, h, w = x.shape
        x = x.contiguous(memory_format=torch.channels_last)
        # The phases of a channels_last tensor, side by side: (N, C, H, W phases), without a copy.
        x = x.permute(0, 2, 3, 1).reshape(n, h, w * phases, c // phases).permute(0, 3, 1, 2)
        if isinstance(conditions, Places):
            x = self._by_place(x, conditions, conditions.at(h, w).repeat_interleave(phases, 3).to(x))
        else:
            scale, shift, plain = self.maps(conditions)
            if self.training and plain is not None:
                self._look(x.detach()[[i for i, s in enumerate(conditions.strength) if s == 0]])
            x = _Norm.apply(x, scale, shift, plain, self.relu)  # type: ignore[assignment]
        return x.permute(0, 2, 3, 1).reshape(n, h, w, c).permute(0, 3, 1, 2)

    def maps(self, conditions: Conditions) -> tuple[Tensor, Tensor, Tensor | None]:
        """Scale of the normalised picture, shift, and scale of the picture as it is (None for 0), (N, C) each."""
        scale, shift = self._style(conditions)
        if all(s == 1 for s in conditions.strength):
            return scale, shift, None
        s = scale.new_tensor(conditions.strength)[:, None]
        slope = self.plain_scale / self.plain_deviation
        return s * scale, s * shift + (1 - s) * (self.plain_shift - slope * self.plain_mean), (1 - s) * slope

    def _style(self, conditions: Conditions) -> tuple[Tensor, Tensor]:
        """Scale and shift of strength 1, (N, C) each."""
        if conditions.maps is not None:
            scale, shift = conditions.maps[:, :, self.own].unbind(1)
            return scale, shift
        shares = conditions.weights[:, :, None]  # (N, S, 1); a matrix product would be autocast
        scale, shift = (shares * self.scale).sum(1), (shares * self.shift).sum(1)
        if conditions.stroke is not None:
            larger = shares * conditions.stroke[:, :, None]
            scale, shift = scale + (larger * self.stroke_scale).sum(1), shift + (larger * self.stroke_shift).sum(1)
        return scale, shift

    def _by_place(self, x: Tensor, places: Places, masks: Tensor) -> Tensor:
        """A picture (1, C, H, W), each part normalised by its own statistics; masks (R, 1, H, W)."""
        found = torch.zeros_like(x)
        for mask, conditions in zip(masks, places.conditions, strict=True):
            scale, shift, plain = self.maps(conditions)
            scale, shift = scale[:, :, None, None], shift[:, :, None, None]
            share = mask.float() / mask.float().sum().clamp(min=1e-6)
            mean = (x.float() * share).sum((2, 3), keepdim=True)
            variance = ((x.float() - mean).square() * share).sum((2, 3), keepdim=True)
            gain = scale * (variance + EPSILON).rsqrt()
            part = x * (gain if plain is None else gain + plain[:, :, None, None]).to(x.dtype) + (
                shift - gain * mean
            ).to(x.dtype)
            found += mask * (part.relu() if self.relu else part)
        return found

    def _look(self, x: Tensor) -> None:
        """Take what channels are in pictures (N, C, H, W) that are painted with strength 0 into `seen`."""
        x = x.float()
        pixels = x.new_full((x.shape[1],), x[:, 0].numel())
        found = torch.stack([pixels, x.sum((0, 2, 3)), x.square().sum((0, 2, 3))])
        self.seen = found if self.seen is None else self.seen + found

    @torch.no_grad()
    def follow(self, seen: Tensor, share: float) -> None:
        """Let mean and deviation of strength 0 go by a share towards those of `seen`, if that is of pictures."""
        pixels, sums, squares = seen.to(self.plain_mean)
        if pixels[0] > 0:
            mean = sums / pixels
            deviation = (squares / pixels - mean.square()).clamp(min=0).add(EPSILON).sqrt()
            self.plain_mean.lerp_(mean, share)
            self.plain_deviation.lerp_(deviation, share)


class _Norm(torch.autograd.Function):
    """Scale (x - mean) / deviation + plain x + shift, and a ReLU; all but x are (N, C), float32."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, shift: Tensor, plain: Tensor | None, relu: bool) -> Tensor:
        n, c, h, w = x.shape
        mean, inverse = scale.new_empty(n, c), scale.new_empty(n, c)
        each = []
        for i in range(n):
            y, m, r = torch.native_group_norm(x[i : i + 1], scale[i], shift[i], 1, c, h * w, c, EPSILON)
            mean[i], inverse[i] = m[0], r[0]
            if plain is not None and plain[i].any():
                y += plain[i].to(x.dtype)[:, None, None] * x[i : i + 1]
            each.append(y.clamp_(min=0) if relu else y)
        out = torch.cat(each) if n > 1 else each[0]  # one picture is kept once: a third of the memory at the peak
        ctx.save_for_backward(x, scale, plain, mean, inverse, out if relu else None)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        x, scale, plain, mean, inverse, out = ctx.saved_tensors
        g = grads[0].contiguous(memory_format=torch.channels_last)
        if out is not None:
            g = torch.ops.aten.threshold_backward(g, out, 0)
        pixels = x.shape[2] * x.shape[3]
        shift, along = _sums(g), _sums(g * x)
        spread = (along - mean * shift) * inverse  # sum of g times the normalised x
        gain = scale * inverse
        slope = -gain * inverse * spread / pixels
        constant = -gain * shift / pixels - slope * mean
        if plain is not None:
            gain = gain + plain
        gain, slope, constant = (v.to(x.dtype).repeat(1, x.shape[3])[:, None] for v in (gain, slope, constant))
        gradient = torch.addcmul(torch.addcmul(constant, _rows(x), slope), _rows(g), gain)
        gradient = gradient.view(x.shape[0], *x.shape[2:], x.shape[1]).permute(0, 3, 1, 2)
        return gradient, spread, shift, None if plain is None else along, None


def _rows(x: Tensor) -> Tensor:
    """A channels_last tensor (N, C, H, W) as (N, H, W C): what broadcasts along rows alone is ten times as fast."""
    return x.permute(0, 2, 3, 1).flatten(2)


def _sums(x: Tensor) -> Tensor:
    """Over the pixels, (N, C), in float32 at least: over columns in the type of `x`, which is fast, then over rows."""
    columns = _rows(x).sum(1)
    columns = columns.to(torch.promote_types(columns.dtype, torch.float32))
    return columns.view(x.shape[0], x.shape[3], x.shape[1]).sum(1)
