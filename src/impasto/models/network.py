"""The network that paints any photograph in any style in one pass.

An image transformation network (Johnson, Alahi, Fei-Fei, "Perceptual Losses for Real-Time Style Transfer and
Super-Resolution", ECCV 2016) with conditional instance norms (Dumoulin, Shlens, Kudlur, "A Learned Representation for
Artistic Style", ICLR 2017), whose scales and shifts a second network predicts from the style (Ghiasi, Lee, Kudlur,
Dumoulin, Shlens, "Exploring the structure of a real-time, arbitrary neural artistic stylization network", BMVC 2017).

For the network, a style is one vector, its **affine**: the scales and shifts of all norms, low-rank filters, how much
of the photograph is kept at each resolution, and how much paint is added. It comes from `Network.predict`, from a
learnt style file, or from a combination of several. The forward pass has no state, and no branch depends on the
picture.

The predictor sees the raw moments of the style, not its picture, so style files, built-in styles and blends are styles
like any other. Colours are set in a separate step, `models.colours`: the moments contain the mean and covariance of the
style's colours, and the painting's colours are matched to them.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..device import with_gradients
from ..errors import WeightsError
from .colours import ColourReader
from .download import DIGEST_DIGITS, file_digest
from .layers import fill, instance_norm, reflection_pad, statistics_of
from .model_file import build_network, read_metadata, read_model_file, write_model_file
from .moments import covariance

KIND = "network"
"""The `kind` in its model files."""
EARLIER = ("transformer", "arbitrary")
"""The kinds of earlier networks, which are no longer supported."""
STRIDE, LEAST_SIDE = 8, 24
"""Stride of the deepest features, and the side to which smaller pictures are padded, in pixels."""
LEAST_VARIANCE = 1e-4
"""Added to variances before the logarithm; features are of the order of one."""
NOISE_SIDE = 128
"""Side of the square of noise, in features. It repeats beyond that."""
RANGES = dict.fromkeys(("blocks", "upper", "fine", "rank", "noise"), (0, 64))
RANGES |= {"width": (4, 256), "hidden": (1, 4096)}
"""Smallest and largest values allowed in a file."""

Origins = Sequence[tuple[int, int]]
ORIGIN: Origins = ((0, 0),)
"""The origin of pictures that are not part of larger ones."""


@dataclass(frozen=True)
class NetworkConfig:
    """The shape of a network.

    Parameters
    ----------
    encoder : str
        The digest of the encoder that computes the style's moments.
    layers : dict of str to int
        The layers of these moments, shallow to deep, and their channels.
    width : int
        Channels at half resolution; twice as many at a quarter, four times at an eighth.
    blocks, upper, fine : int
        Residual blocks at an eighth of the resolution, and on the way up at a quarter and at half.
    rank : int
        Rank of the filters that the style predicts for each block; 0 for none.
    noise : int
        Channels of noise added at each resolution; 0 for none.
    hidden : int
        Width of the predictor.
    styles : tuple of str
        The names of the styles that it has learnt individually, in addition to the prediction.
    """

    encoder: str
    layers: Mapping[str, int]
    width: int = 32
    blocks: int = 5
    upper: int = 2
    fine: int = 2
    rank: int = 4
    noise: int = 4
    hidden: int = 68
    styles: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the configuration as plain values for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "NetworkConfig":
        """Return the configuration from `to_dict`'s result. Raises KeyError, TypeError or ValueError if invalid."""
        layers = {str(k): int(c) for k, c in dict(values["layers"]).items()}
        numbers = {k: int(values[k]) for k in RANGES}
        if not layers or not all(low <= numbers[k] <= high for k, (low, high) in RANGES.items()):
            raise ValueError("its numbers are out of range")
        if not all(1 <= c <= 4096 for c in layers.values()):
            raise ValueError("its layers' channels are out of range")
        return cls(str(values["encoder"]), layers, **numbers, styles=tuple(str(s) for s in values["styles"]))


class Layout:
    """The layout of an affine vector.

    Parameters
    ----------
    config : NetworkConfig
        The network's shape.

    Attributes
    ----------
    norms : list of int
        Channels of each norm, in the order of the forward pass.
    residual : set of int
        The norms that end a residual branch; they have no ReLU.
    mixed : list of int
        Channels of each low-rank filter, in the same order.
    noise : list of slice
        The noise amplitudes of each resolution, low to high, within the part for noise.
    size : int
        Length of an affine.
    """

    def __init__(self, config: NetworkConfig):
        w, levels = config.width, (config.blocks, config.upper, config.fine)
        self.norms, self.mixed, self.residual = [w, 2 * w, 4 * w], list[int](), set[int]()
        for level, (count, c) in enumerate(zip(levels, (4 * w, 2 * w, w), strict=True)):
            self.norms += [c] if level else []  # of the upsampling convolution
            for _ in range(count):
                self.norms += [c, c]
                self.residual.add(len(self.norms) - 1)
                self.mixed += [c] if config.rank else []
        self.rank = config.rank
        channels = sum(self.norms)
        filters = 2 * config.rank * sum(self.mixed)
        lengths = {
            "scale": channels,
            "shift": channels,
            "quarter": 2 * w,
            "half": w,
            "photo": 3,
            "paint": 3,
            "filters": filters,
            "noise": 3 * config.noise,
        }
        self.noise = [slice(i * config.noise, (i + 1) * config.noise) for i in range(3)]
        self.parts: dict[str, slice] = {}
        begin = 0
        for name, length in lengths.items():
            self.parts[name] = slice(begin, begin + length)
            begin += length
        self.size = begin


class StyleSummary(nn.Module):
    """Summarises a layer's raw moments as means, deviations, and deviations along learnt directions.

    The deviations along directions show how channels vary together, as Gram matrices do.

    Parameters
    ----------
    channels : int
        Channels of the layer; there are twice as many directions.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.directions = nn.Parameter(torch.randn(2 * channels, channels) / channels**0.5)
        self.register_buffer("mean", torch.zeros(4 * channels))
        self.register_buffer("deviation", torch.ones(4 * channels))
        self.mean: Tensor
        self.deviation: Tensor

    def raw(self, moments: Tensor) -> Tensor:
        """Return the summary (N, 4 C) of moments (N, C + 1, C + 1), in the features' units."""
        k = covariance(moments)
        along = ((self.directions @ k) * self.directions).sum(2)
        variances = torch.cat([k.diagonal(dim1=1, dim2=2), along], 1)
        return torch.cat([moments[:, :-1, -1], 0.5 * (variances.clamp(min=0) + LEAST_VARIANCE).log()], 1)

    def forward(self, moments: Tensor) -> Tensor:
        """Return the summary (N, 4 C) of moments (N, C + 1, C + 1), normalised by how much styles differ."""
        return (self.raw(moments) - self.mean) / self.deviation

    @torch.no_grad()
    def calibrate(self, moments: Tensor) -> None:
        """Compute the normalisation from the moments (N, C + 1, C + 1) of many styles."""
        values = self.raw(moments)
        self.mean.copy_(values.mean(0))
        self.deviation.copy_(values.std(0).clamp(min=1e-3))


class Network(nn.Module):
    """Paints photographs in styles, which are given as tensors.

    Parameters
    ----------
    config : NetworkConfig
        Its shape.
    """

    def __init__(self, config: NetworkConfig):
        super().__init__()
        self.config, self.layout = config, Layout(config)
        w = config.width

        def convolution(inputs: int, outputs: int, stride: int = 1) -> nn.Conv2d:
            return nn.Conv2d(inputs, outputs, 3, stride, bias=False)  # the norm after it has a shift

        self.down = nn.ModuleList([convolution(12, w), convolution(w, 2 * w, 2), convolution(2 * w, 4 * w, 2)])
        self.blocks = nn.ModuleList([convolution(4 * w, 4 * w) for _ in range(2 * config.blocks)])
        self.up = nn.ModuleList([convolution(4 * w, 2 * w), convolution(2 * w, w)])
        self.upper = nn.ModuleList([convolution(2 * w, 2 * w) for _ in range(2 * config.upper)])
        self.fine = nn.ModuleList([convolution(w, w) for _ in range(2 * config.fine)])
        self.last = nn.Conv2d(w, 12, 5)
        self.noises = nn.ParameterList([torch.zeros(config.noise, c) for c in (4 * w, 2 * w, w)])
        """The mixing matrix from noise to features at each resolution."""
        self.register_buffer("noise", _noise(config.noise), persistent=False)
        self.noise: Tensor
        self.summaries = nn.ModuleDict({k: StyleSummary(c) for k, c in config.layers.items()})
        self.predictor = nn.Sequential(
            nn.Linear(4 * sum(config.layers.values()), config.hidden),
            nn.SiLU(),
            nn.Linear(config.hidden, config.hidden),
            nn.SiLU(),
            nn.Linear(config.hidden, self.layout.size),
        )
        self.colours = ColourReader(next(iter(config.layers.values())))
        self.learnt = nn.Parameter(torch.zeros(len(config.styles), self.layout.size))
        """The offset to the prediction for each of `config.styles`, (styles, `layout.size`)."""
        self.digest = ""
        """The hash of its file."""

    def predict(self, moments: Mapping[str, Tensor]) -> Tensor:
        """Return the affines of styles.

        Parameters
        ----------
        moments : mapping of str to Tensor
            Layer -> raw moments (N, C + 1, C + 1), as returned by `StyleTarget.at`.

        Returns
        -------
        Tensor
            (N, `layout.size`), float32.
        """
        with torch.autocast(self.last.weight.device.type, enabled=False):
            seen = [self.summaries[k](moments[k].float()) for k in self.config.layers]
            return self.predictor(torch.cat(seen, 1))

    def learnt_style(self, name: str) -> Tensor | None:
        """Return the offset to the prediction for a style, (1, `layout.size`); None if it has not learnt the style."""
        return self.learnt[[self.config.styles.index(name)]] if name in self.config.styles else None

    def unpainted(self, affine: Tensor) -> Tensor:
        """Return affines (N, `layout.size`) changed so that the network returns the photograph unchanged."""
        affine = affine.clone()
        affine[:, self.layout.parts["photo"]], affine[:, self.layout.parts["paint"]] = 1, 0
        return affine

    def style_colours(self, moments: Mapping[str, Tensor]) -> Tensor:
        """Return the covariance and mean (N, 3, 4) of styles' colours, from the moments that `predict` takes."""
        return self.colours(moments[next(iter(self.config.layers))])

    def forward(
        self,
        image: Tensor,
        affine: Tensor,
        statistics: Tensor | None = None,
        masks: Tensor | None = None,
        origins: Origins = ORIGIN,
    ) -> Tensor:
        """Paint.

        Parameters
        ----------
        image : Tensor
            (N, 3, H, W), sRGB in [0, 1], of any size.
        affine : Tensor
            (N, `layout.size`), the style of each picture; with masks, (R, `layout.size`), that of each region.
        statistics : Tensor, optional
            (N or 1 or R, 2, `channels`): the norms' means and variances from `statistics`, for tiles of one picture or
            frames of one film. By default, each picture's own.
        masks : Tensor, optional
            (R, 1, H, W), which sum to 1 everywhere: the regions of one picture (N = 1), each with its own style.
        origins : sequence of (int, int)
            Row and column, multiples of 8, of each tile's first pixel in the whole picture. They align the noise. One
            for all pictures, or N.

        Returns
        -------
        Tensor
            (N, 3, H, W), float32: the painting before its colours are set (`models.colours.colour`).
        """
        height, width = image.shape[-2:]
        image, masks = _padded(image), None if masks is None else _padded(masks)
        return self._run(_Pass(self.layout, affine, statistics, masks), image, origins)[:, :, :height, :width]

    def statistics(
        self, image: Tensor, affine: Tensor, masks: Tensor | None = None, origins: Origins = ORIGIN
    ) -> Tensor:
        """Return the means and variances (N or R, 2, `channels`), float32, that the norms compute for pictures."""
        found: list[Tensor] = []
        masks = None if masks is None else _padded(masks)
        self._run(_Pass(self.layout, affine, None, masks, found), _padded(image), origins)
        return torch.cat(found, 2)

    def _run(self, style: "_Pass", image: Tensor, origins: Origins) -> Tensor:
        x = F.pixel_unshuffle(image, 2).contiguous(memory_format=torch.channels_last)
        half = style.norm(self.down[0](reflection_pad(x)))
        quarter = style.norm(self.down[1](reflection_pad(half)))
        x = style.norm(self.down[2](reflection_pad(quarter)))
        x = self._noisy(style, 0, x, origins)
        x = self._blocks(style, self.blocks, x)
        x = style.norm(resized_convolution(blurred(x, 1), self.up[0]))
        x = self._noisy(style, 1, x + style.scaled(quarter, "quarter"), origins)
        x = self._blocks(style, self.upper, x)
        x = style.norm(resized_convolution(blurred(x, 1), self.up[1]))
        x = self._noisy(style, 2, x + style.scaled(half, "half"), origins)
        x = self._blocks(style, self.fine, x)
        x = blurred(F.pixel_shuffle(self.last(reflection_pad(x, 2)).float().contiguous(), 2))
        return style.scaled(x, "paint") + style.scaled(image, "photo")

    def _noisy(self, style: "_Pass", level: int, x: Tensor, origins: Origins) -> Tensor:
        """Add noise to the features of one resolution, so that strokes can form in plain areas."""
        if not self.config.noise:
            return x
        at = STRIDE >> level  # picture pixels per feature pixel
        noise = torch.cat([_noise_part(self.noise[level], row // at, column // at, x) for row, column in origins])
        return style.add_noise(x, noise, self.noises[level], self.layout.noise[level])

    @staticmethod
    def _blocks(style: "_Pass", convolutions: nn.ModuleList, x: Tensor) -> Tensor:
        for first, second in zip(convolutions[::2], convolutions[1::2], strict=True):
            y = style.mix(style.norm(first(reflection_pad(x))))
            x = x + style.norm(second(reflection_pad(y)))
        return x

    @property
    def channels(self) -> int:
        """Total number of channels of all norms."""
        return sum(self.layout.norms)

    def convolutions(self) -> list[Tensor]:
        """Return the weights of all 3x3 convolutions that are followed by a norm."""
        modules = (*self.down, *self.blocks, *self.up, *self.upper, *self.fine)
        return [m.weight for m in modules if isinstance(m, nn.Conv2d)]

    @torch.no_grad()
    def normalise(self) -> None:
        """Rescale the convolutions before norms to the length of He's initial weights, for training.

        Their length does not affect the painting, so an optimiser lets it grow.
        """
        for w in self.convolutions():
            w *= 2**0.5 / w.flatten(1).norm(dim=1).clamp(min=1e-12)[:, None, None, None]

    @torch.no_grad()
    def begin_as(self, known: "Network") -> None:
        """Copy the weights of a network of the same shape, and those of its learnt styles that this one has, too.

        Raises
        ------
        WeightsError
            If the other network has another shape.
        """
        if replace(known.config, styles=self.config.styles) != self.config:
            raise WeightsError(f"the network to start from has another shape: {known.config}; give the same shape")
        state = known.state_dict()
        rows = [known.learnt_style(name) for name in self.config.styles]
        state["learnt"] = torch.cat([self.learnt[:0], *(self.learnt[:1] * 0 if r is None else r for r in rows)])
        self.load_state_dict(state)

    @torch.no_grad()
    def initialise(self, generator: torch.Generator) -> None:
        """Draw new weights by He's rule. All styles then start with nearly the same affine.

        Residual branches and the paint added to the photograph start small, so a new network returns the photograph.
        """
        for m in self.modules():
            if isinstance(m, nn.Conv2d | nn.Linear):
                m.weight.normal_(0, (2 / m.weight[0].numel()) ** 0.5, generator=generator)
                if m.bias is not None:
                    m.bias.zero_()
        for summary in self.summaries.values():
            assert isinstance(summary, StyleSummary)
            summary.directions.normal_(0, summary.directions.shape[1] ** -0.5, generator=generator)
        self.last.weight *= 0.1
        last = self.predictor[-1]
        assert isinstance(last, nn.Linear)
        last.weight *= 0.1
        parts = self.layout.parts
        scales = [torch.full((c,), 0.3 if i in self.layout.residual else 1.0) for i, c in enumerate(self.layout.norms)]
        last.bias[parts["scale"]] = torch.cat(scales)
        last.bias[parts["quarter"]] = 1
        last.bias[parts["photo"]] = last.bias[parts["paint"]] = last.bias[parts["noise"]] = 1
        filters, at, rank = last.bias[parts["filters"]], 0, self.config.rank
        for c in self.layout.mixed:  # the first factor of each; the second starts at 0
            filters[at : at + c * rank].normal_(0, c**-0.5, generator=generator)
            at += 2 * c * rank


class _Pass:
    """The style-dependent operations of one forward pass.

    Consumes the affines and the statistics in the order of the network's layers.

    Parameters
    ----------
    layout, affine, statistics, masks
        As for `Network.forward`.
    found : list of Tensor, optional
        Receives the statistics that the norms compute.
    """

    def __init__(
        self,
        layout: Layout,
        affine: Tensor,
        statistics: Tensor | None,
        masks: Tensor | None,
        found: list[Tensor] | None = None,
    ):
        self.layout, self.statistics, self.masks, self.found = layout, statistics, masks, found
        self.parts = {k: affine[:, s] for k, s in layout.parts.items()}
        self.norms = self.channels = self.filters = 0
        """Number of norms and filters used so far."""

    def norm(self, x: Tensor) -> Tensor:
        """Apply the next instance norm, and its ReLU if it has one, to features (N, C, H, W)."""
        relu = self.norms not in self.layout.residual
        own = slice(self.channels, self.channels + x.shape[1])
        self.norms, self.channels = self.norms + 1, own.stop
        scale, shift = self.parts["scale"][:, own], self.parts["shift"][:, own]
        given = None if self.statistics is None else self.statistics[:, :, own]
        if given is None and (self.masks is not None or self.found is not None):
            given = statistics_of(x, None if self.masks is None else _masks_at(self.masks, x))
        if self.found is not None and given is not None:
            self.found.append(given)
        if self.masks is None:
            return instance_norm(x, scale, shift, relu=relu, statistics=given)
        assert given is not None
        return self.by_place(
            x, lambda i: instance_norm(x, scale[i], shift[i], relu=relu, statistics=given[i if len(given) > 1 else [0]])
        )

    def scaled(self, x: Tensor, part: str) -> Tensor:
        """Multiply each channel of features or pictures (N, C, H, W) by its number in the affine."""
        factor = self.parts[part].to(x.dtype)[:, :, None, None]
        return x * factor if self.masks is None else self.by_place(x, lambda i: x * factor[i])

    def add_noise(self, x: Tensor, noise: Tensor, mixing: Tensor, amplitudes: slice) -> Tensor:
        """Add noise (N or 1, K, H, W), scaled by the affine's K amplitudes and mixed by (K, C), to (N, C, H, W)."""
        each = self.parts["noise"][:, amplitudes, None] * mixing  # (N, K, C)
        rows = noise.permute(0, 2, 3, 1)  # (N, H, W, K)

        def added(each: Tensor) -> Tensor:
            mixed = rows.flatten(1, 2) @ each.to(rows.dtype)
            return x + mixed.view(-1, *rows.shape[1:3], x.shape[1]).permute(0, 3, 1, 2)

        return added(each) if self.masks is None else self.by_place(x, lambda i: added(each[i]))

    def mix(self, x: Tensor) -> Tensor:
        """Add the next low-rank filter's result, a 1x1 convolution given by the style, to features (N, C, H, W)."""
        if not self.layout.mixed:
            return x
        c, rank = x.shape[1], self.layout.rank
        own = self.parts["filters"][:, self.filters : self.filters + 2 * c * rank].to(x.dtype)
        self.filters += 2 * c * rank
        first, second = own[:, : c * rank].reshape(-1, c, rank), own[:, c * rank :].reshape(-1, rank, c)

        def mixed(first: Tensor, second: Tensor) -> Tensor:
            rows = x.permute(0, 2, 3, 1)
            return x + (rows.flatten(1, 2) @ first @ second).view(rows.shape).permute(0, 3, 1, 2)

        return mixed(first, second) if self.masks is None else self.by_place(x, lambda i: mixed(first[i], second[i]))

    def by_place(self, x: Tensor, of: Callable[[list[int]], Tensor]) -> Tensor:
        """Return the sum over regions i of `of([i])` times the region's mask at the size of `x`."""
        assert self.masks is not None
        found = torch.zeros_like(x)
        for i, mask in enumerate(_masks_at(self.masks, x)):
            found += mask.to(x.dtype) * of([i])
        return found


def _padded(image: Tensor) -> Tensor:
    """Pad pictures or masks by reflection to sides that are multiples of the network's stride."""
    return fill(image, STRIDE, LEAST_SIDE)


def _noise(channels: int) -> Tensor:
    """Return the noise (3, `channels`, side, side) of every network: normal, the same on every machine.

    At half of the size it is blurred by [1, 2, 1] / 4 along both sides. Its finest waves would show as a weave, since
    no blur follows before the picture has its full size.
    """
    shape = (3, channels, NOISE_SIDE, NOISE_SIDE)
    noise = np.random.RandomState(0).standard_normal(shape)
    for axis in (1, 2):
        noise[2] = (np.roll(noise[2], -1, axis) + 2 * noise[2] + np.roll(noise[2], 1, axis)) / 4
    return torch.from_numpy(noise.astype(np.float32))


def _noise_part(noise: Tensor, row: int, column: int, like: Tensor) -> Tensor:
    """Return the part (1, K, H, W) of the repeated noise (K, side, side) that starts at a row and column."""
    rows, columns = (
        (torch.arange(side, device=noise.device) + begin) % NOISE_SIDE
        for side, begin in zip(like.shape[-2:], (row, column), strict=True)
    )
    return noise[:, rows][:, :, columns].to(like.dtype)[None]


def _masks_at(masks: Tensor, x: Tensor) -> Tensor:
    """Reduce masks (R, 1, H, W) to the size of features."""
    return F.adaptive_avg_pool2d(masks, (x.shape[2], x.shape[3]))


def blurred(x: Tensor, pad: int = 0) -> Tensor:
    """Blur features or pictures (N, C, H, W) with [1, 2, 1] / 4 in both directions, then pad by reflection.

    This removes the highest frequency of the grid, +1, -1, +1. In plain areas, where nothing starts a stroke, a network
    would draw such waves, and resizing would turn them into hatching.
    """
    return F.avg_pool2d(F.avg_pool2d(reflection_pad(x, pad + 1), 2, 1), 2, 1)


def resized_convolution(x: Tensor, convolution: nn.Module) -> Tensor:
    """Resize to twice the size bilinearly, then convolve.

    Odena, Dumoulin, Olah, "Deconvolution and Checkerboard Artifacts", Distill 2016. It is computed at the small size,
    as the four phases of the large one. An even large row is 1/4 of the previous small row and 3/4 of its own; an odd
    one is 3/4 of its own and 1/4 of the next. So each phase is a 3x3 convolution of the small rows.

    Parameters
    ----------
    x : Tensor
        (N, I, H + 2, W + 2), padded by one.
    convolution : Conv2d
        3x3, without a bias.

    Returns
    -------
    Tensor
        (N, O, 2 H, 2 W), channels_last.
    """
    assert isinstance(convolution, nn.Conv2d)
    weight = convolution.weight
    outputs, inputs = weight.shape[:2]
    kernel = weight.flatten(2) @ PHASES.to(weight)  # (O, I, 4 * 9)
    kernel = kernel.view(outputs, inputs, 4, 3, 3).permute(2, 0, 1, 3, 4).flatten(0, 1)
    x = F.conv2d(x, kernel.contiguous(memory_format=torch.channels_last))  # (N, 4 O, H, W), phase after phase
    n, _, h, w = x.shape
    x = x.permute(0, 2, 3, 1).reshape(n, h, w, 2, 2, outputs)
    return x.permute(0, 1, 3, 2, 4, 5).reshape(n, 2 * h, 2 * w, outputs).permute(0, 3, 1, 2)


@torch.inference_mode(False)  # in whatever mode the module is first imported
def _phases() -> Tensor:
    """Return the matrix (9, 4 * 9) from the taps of a 3x3 kernel to the taps of the four phases' kernels."""
    rows = torch.tensor([[0.75, 0.25, 0], [0.25, 0.75, 0], [0, 0.75, 0.25], [0, 0.25, 0.75]])  # large by small ones
    taps = torch.stack([rows[0:3].t(), rows[1:4].t()])  # (phase, tap at the small size, tap at the large one)
    return torch.einsum("pas,qbt->stpqab", taps, taps).reshape(9, 36)


PHASES = _phases()


def save_network(net: Network, path: Path, *, training: dict[str, Any], licence: str) -> None:
    """Write a network as a model file that `load_network` reads, in float16.

    Raises
    ------
    WeightsError
        If a weight does not fit into float16, or the file cannot be written.
    """
    write_model_file(path, KIND, net.config.to_dict(), net.state_dict(), licence=licence, training=training)


@with_gradients
def load_network(path: Path) -> tuple[Network, dict[str, str]]:
    """Load a network and its metadata from a model file.

    The network is in eval mode, frozen, channels_last, float32, on the CPU.

    Raises
    ------
    WeightsError
        If the file is missing, damaged, or not such a network.
    """
    if read_metadata(path).get("kind") in EARLIER:
        raise WeightsError(f"{path} is a network of an earlier version; train it again with `impasto train network`")
    values, tensors, metadata = read_model_file(path, KIND)
    net = build_network(path, "a network that paints", lambda: Network(NetworkConfig.from_dict(values)), tensors)
    net.digest = file_digest(path)[:DIGEST_DIGITS]
    return net, metadata
