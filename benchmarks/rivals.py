"""Other designs of a network for any style, with the interface of `impasto.models.arbitrary`, to be compared with it.

`adain` is Huang and Belongie's ("Arbitrary Style Transfer in Real-time with Adaptive Instance Normalization", ICCV
2017) on the bundled encoder: its features at relu4_1 take the style's means and deviations, and a mirrored decoder
paints them. `microast` is the design of Wang, Zhang, Xing et al. ("MicroAST: Towards Super-Fast Ultra-Resolution
Arbitrary Style Transfer", AAAI 2023): an encoder and a decoder of its own, small, with separable convolutions; the
features take the style's means and deviations, and the decoder's filters are modulated. What theirs has from a second
encoder is predicted here from the style's moments, as in ours. `transport` whitens and colours the features of four
layers at once (Li, Fang, Yang et al., "Universal Style Transfer via Feature Transforms", NeurIPS 2017), by the optimal
transport of Lu et al. (ICCV 2019), and one decoder with skips paints them. `norms` is ours without the colours.
"""

from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from impasto.models.arbitrary import ArbitraryConfig, ArbitraryNetwork
from impasto.models.colours import bounded, gaussian_transport
from impasto.models.norm import ConditionalNorm, Conditions, Places
from impasto.models.padding import reflection_pad
from impasto.models.transformer import Transformer
from impasto.models.vgg import VGG
from impasto.style.statistics import covariance, raw_moments

EPSILON = 1e-5
HIDDEN = 192
ADAIN_LAYER, ADAIN_DEPTHS = "relu4_1", (1, 4, 2, 2)
"""Where features are modulated, and the decoder's convolutions in each block, from the deepest on."""
TRANSPORTED = ("relu1_1", "relu2_1", "relu3_1", "relu4_1")
DECODER = (16, 32, 64, 96)
"""The layers that `transport` moves, and its decoder's channels at the size of each."""
RIDGE = 3e-3
"""Added to the variances of features that are moved, over the style's mean: how far directions can be amplified."""


class Trunk(Transformer):
    """What paints, of another design: it shares the interface of `Transformer`, and nothing else."""

    def __init__(self, channels: int):
        nn.Module.__init__(self)
        self.channels = channels

    def inner_weights(self) -> list[Tensor]:
        """The weights of all convolutions within, which Muon trains."""
        convolutions = [m for m in self.modules() if isinstance(m, nn.Conv2d) and m.groups == 1]
        return [m.weight for m in convolutions if min(m.in_channels, m.out_channels) > 3]

    def normalise(self) -> None:
        """Nothing: the length of these weights matters."""

    def norms(self) -> list[ConditionalNorm]:
        """None of ours."""
        return []

    def seen(self) -> Tensor:
        """Nothing is remembered."""
        return torch.zeros(())

    def follow(self, seen: Tensor, share: float) -> None:
        """Nothing follows."""

    def initialise(self, generator: torch.Generator) -> None:
        """He's initialisation."""
        for m in self.modules():
            if isinstance(m, nn.Conv2d):
                m.weight.data.normal_(0, (2 / m.weight[0].numel()) ** 0.5, generator=generator)
                assert m.bias is not None
                m.bias.data.zero_()


def convolution(inputs: int, outputs: int, side: int = 3, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    """A convolution that its picture is padded for."""
    return nn.Conv2d(inputs, outputs, side, stride, groups=groups)


def padded(module: nn.Module, x: Tensor) -> Tensor:
    """A convolution with reflection padding."""
    assert isinstance(module, nn.Conv2d)
    return module(reflection_pad(x, module.kernel_size[0] // 2))


def larger(x: Tensor) -> Tensor:
    """Twice the size."""
    return F.interpolate(x, scale_factor=2, mode="nearest")


def adaptive_norm(x: Tensor, scale: Tensor, shift: Tensor, strength: Tensor) -> Tensor:
    """Means `shift` and deviations `scale` (N, C) in place of the channels' own, as far as `strength` (N, 1, 1, 1)."""
    flat = x.float().flatten(2)
    mean, deviation = flat.mean(2)[..., None, None], (flat.var(2, correction=0) + EPSILON).sqrt()[..., None, None]
    new = (x - mean) / deviation * scale[..., None, None] + shift[..., None, None]
    return (x + strength * (new - x)).to(x.dtype)


def maps_of(conditions: Conditions | Places, like: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Scales and shifts (N, channels), and the strength (N, 1, 1, 1)."""
    assert isinstance(conditions, Conditions)
    assert conditions.maps is not None
    scale, shift = conditions.maps.unbind(1)
    return scale, shift, like.new_tensor(conditions.strength)[:, None, None, None]


class AdaInTrunk(Trunk):
    """The bundled encoder, frozen, and its mirror image.

    Parameters
    ----------
    encoder : VGG
        The bundled encoder; it is no part of the weights.
    """

    def __init__(self, encoder: VGG):
        super().__init__(encoder.width(ADAIN_LAYER))
        self.frozen = (encoder,)
        widths = [*encoder.config.widths[3::-1], 3]
        blocks: list[nn.Module] = []
        for i, depth in enumerate(ADAIN_DEPTHS):
            sizes = [widths[i]] * depth + [widths[i + 1]]
            blocks.append(nn.ModuleList([convolution(a, b) for a, b in pairwise(sizes)]))
        self.decoder = nn.ModuleList(blocks)

    def forward(self, image: Tensor, conditions: Conditions | Places) -> Tensor:
        """Paint."""
        height, width = image.shape[-2:]
        image = F.pad(image, (0, -width % 8, 0, -height % 8), mode="replicate")
        x = self.frozen[0](image, [ADAIN_LAYER])[ADAIN_LAYER]
        x = adaptive_norm(x, *maps_of(conditions, x))
        for i, block in enumerate(self.decoder):
            assert isinstance(block, nn.ModuleList)
            for k, module in enumerate(block):
                last = i == len(self.decoder) - 1 and k == len(block) - 1
                x = padded(module, x) if last else padded(module, x).relu()
            x = larger(x) if i < len(self.decoder) - 1 else x
        return torch.sigmoid(x[..., :height, :width])


class Plain(ArbitraryNetwork):
    """A network whose paintings' colours are left to it."""

    def conditions(self, moments: Mapping[str, Tensor], strength: float | tuple[float, ...]) -> Conditions:
        """Without colours."""
        return replace(super().conditions(moments, strength), colours=None)


class AdaInNetwork(Plain):
    """AdaIN: nothing is predicted, the style's own means and deviations are the maps."""

    def maps(self, moments: Mapping[str, Tensor]) -> Tensor:
        """Deviations and means at the one layer, (N, 2, C)."""
        m = moments[ADAIN_LAYER].float()
        mean = m[:, :-1, -1]
        variance = m[:, :-1, :-1].diagonal(dim1=1, dim2=2) - mean.square()
        return torch.stack([(variance.clamp(min=0) + EPSILON).sqrt(), mean], 1)


class Separable(nn.Module):
    """A convolution of each channel by itself, then one of all channels at each place."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1):
        super().__init__()
        self.each, self.all = convolution(inputs, inputs, 3, stride, inputs), convolution(inputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, I, H, W) -> (N, O, H / stride, W / stride)."""
        return self.all(padded(self.each, x))


class MicroAstTrunk(Trunk):
    """A small encoder, adaptive norm, and a small decoder whose filters a style modulates."""

    def __init__(self, width: int = 16):
        w = width
        super().__init__(2 * 4 * w + 4 * 4 * w + 2 * w + w)
        self.first, self.last = convolution(3, w, 9), convolution(w, 3, 9)
        self.down = nn.ModuleList([Separable(w, 2 * w, 2), Separable(2 * w, 4 * w, 2)])
        self.encoding = nn.ModuleList([convolution(4 * w, 4 * w) for _ in range(4)])
        self.decoding = nn.ModuleList([convolution(4 * w, 4 * w) for _ in range(4)])
        self.up = nn.ModuleList([Separable(4 * w, 2 * w), Separable(2 * w, w)])
        self.plain = nn.Parameter(torch.stack([torch.ones(self.channels), torch.zeros(self.channels)]))
        self.widths = (4 * w,) * 6 + (2 * w, w)

    def forward(self, image: Tensor, conditions: Conditions | Places) -> Tensor:
        """Paint."""
        height, width = image.shape[-2:]
        x = padded(self.first, F.pad(image, (0, -width % 4, 0, -height % 4), mode="replicate")).relu()
        for module in self.down:
            x = module(x).relu()
        scale, shift, strength = maps_of(conditions, x)
        s = strength[:, :, 0, 0]
        maps = list(zip(scale.split(self.widths, 1), shift.split(self.widths, 1), strict=True))
        modulated = zip(
            (s * scale + (1 - s) * self.plain[0]).split(self.widths, 1),
            (s * shift + (1 - s) * self.plain[1]).split(self.widths, 1),
            strict=True,
        )
        filters = [(a[..., None, None], b[..., None, None]) for a, b in modulated]
        for k in (0, 2):
            x = x + padded(self.encoding[k + 1], padded(self.encoding[k], x).relu())
            x = adaptive_norm(x, *maps[k // 2], strength)
        for k in (0, 2):
            (a, b), (c, d) = filters[2 + k], filters[3 + k]
            x = x + padded(self.decoding[k + 1], (padded(self.decoding[k], x) * a + b).relu()) * c + d
        for module, (a, b) in zip(self.up, filters[6:], strict=True):
            x = (module(larger(x)) * a + b).relu()
        return torch.sigmoid(padded(self.last, x)[..., :height, :width])


class TransportNetwork(Plain):
    """Nothing is predicted, the style's moments are the maps."""

    def maps(self, moments: Mapping[str, Tensor]) -> Tensor:
        """The raw moments of the moved layers, one behind the other, (N, 2, half of them all)."""
        flat = torch.cat([moments[k].float().flatten(1) for k in TRANSPORTED], 1)
        return F.pad(flat, (0, flat.shape[1] % 2)).unflatten(1, (2, -1))


class TransportTrunk(Trunk):
    """The bundled encoder, frozen; its features, moved to the style's means and covariances; a decoder with skips."""

    def __init__(self, encoder: VGG):
        self.widths = [encoder.width(k) for k in TRANSPORTED]
        super().__init__(-(-sum((c + 1) ** 2 for c in self.widths) // 2))
        self.frozen = (encoder,)
        above = [*DECODER[1:], 0]
        self.decoder = nn.ModuleList(
            nn.ModuleList([convolution(c + a, d), convolution(d, d)])
            for c, a, d in zip(self.widths, above, DECODER, strict=True)
        )
        self.last, self.plain = convolution(DECODER[0], 3, 5), convolution(self.widths[0], 3, 1)

    def initialise(self, generator: torch.Generator) -> None:
        """He's initialisation; it begins with what a linear function of the first layer gives."""
        super().initialise(generator)
        self.last.weight.data.zero_()

    def forward(self, image: Tensor, conditions: Conditions | Places) -> Tensor:
        """Paint."""
        height, width = image.shape[-2:]
        image = F.pad(image, (0, -width % 8, 0, -height % 8), mode="replicate")
        moved = self.moved(image, conditions)
        x = moved[-1][:, :0]
        for features, block in zip(reversed(moved), reversed(self.decoder), strict=True):
            assert isinstance(block, nn.ModuleList)
            x = torch.cat([larger(x) if x.shape[1] else x, features], 1)
            for module in block:
                x = padded(module, x).relu()
        return bounded((padded(self.last, x) + self.plain(moved[0]))[..., :height, :width])

    @torch.no_grad()
    def moved(self, image: Tensor, conditions: Conditions | Places) -> list[Tensor]:
        """The layers' features, (N, C, H, W) each, as far as the strength says."""
        assert isinstance(conditions, Conditions)
        assert conditions.maps is not None
        flat, found = conditions.maps.flatten(1), []
        for features in self.frozen[0](image, TRANSPORTED).values():
            n, c, h, w = features.shape
            target, flat = flat[:, : (c + 1) ** 2].unflatten(1, (c + 1, c + 1)), flat[:, (c + 1) ** 2 :]
            matrix, shift = transport_of(raw_moments(features).double(), target.double())
            pixels = features.permute(0, 2, 3, 1).reshape(n, -1, c)
            new = torch.baddbmm(shift.to(pixels)[:, None], pixels, matrix.to(pixels).transpose(1, 2))
            strength = pixels.new_tensor(conditions.strength)[:, None, None]
            found.append(torch.lerp(pixels, new, strength).view(n, h, w, c).permute(0, 3, 1, 2))
        return found


def transport_of(moments: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """The map, (N, C, C) and (N, C), that gives features of some raw moments the mean and covariance of others."""
    wanted = covariance(target)
    ridge = RIDGE * wanted.diagonal(dim1=1, dim2=2).mean(1)[:, None, None] * torch.eye(wanted.shape[1]).to(wanted)
    matrix = gaussian_transport(covariance(moments) + ridge, wanted + ridge)
    return matrix, target[:, :-1, -1] - (matrix @ moments[:, :-1, -1:])[:, :, 0]


N = TypeVar("N", bound=ArbitraryNetwork)


def with_trunk(net: N, trunk: Trunk, generator: torch.Generator) -> N:
    """A network for any style with another trunk, initialised."""
    net.initialise(generator)
    trunk.initialise(generator)
    net.transformer = trunk
    last = nn.Linear(net.config.hidden, 2 * trunk.channels)
    last.weight.data.normal_(0, 0.1 * (2 / net.config.hidden) ** 0.5, generator=generator)
    net.predict[-1] = last
    last.bias.data.copy_(torch.cat([torch.ones(trunk.channels), torch.zeros(trunk.channels)]))
    return net


def rival(design: str, encoder: VGG, layers: Mapping[str, int], seed: int = 0) -> ArbitraryNetwork:
    """The network of a design, `adain`, `microast` or `transport`, initialised."""
    generator = torch.Generator().manual_seed(seed)
    config = ArbitraryConfig(encoder.digest, dict(layers), 16, 1, HIDDEN)
    if design == "microast":
        return with_trunk(Plain(config), MicroAstTrunk(), generator)
    if design == "adain":
        net: ArbitraryNetwork = with_trunk(AdaInNetwork(config), AdaInTrunk(encoder), generator)
    else:
        net = with_trunk(TransportNetwork(config), TransportTrunk(encoder), generator)
    net.predict.requires_grad_(False)
    net.summaries.requires_grad_(False)
    return net
