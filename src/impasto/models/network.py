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

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..device import with_gradients
from ..errors import WeightsError
from .colours import ColourReader
from .download import DIGEST_DIGITS, file_digest
from .model_file import build_network, read_metadata, read_model_file, write_model_file
from .moments import covariance
from .passes import ORIGIN, STRIDE, Features, Kept, Operations, Origins, WholePass, affected_rows, fixed_noise, padded

KIND = "network"
"""The `kind` in its model files."""
EARLIER = ("transformer", "arbitrary")
"""The kinds of earlier networks, which are no longer supported."""
VERSION = 2
"""The version of the architecture. Weights of another version would load, but paint badly."""
LEAST_VARIANCE = 1e-4
"""Added to variances before the logarithm; features are of the order of one."""
RANGES = dict.fromkeys(("blocks", "fine", "rank", "noise"), (0, 64))
RANGES |= {"width": (4, 256), "hidden": (1, 4096)}
"""Smallest and largest values allowed in a file."""


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
        Channels at half resolution; twice as many at a quarter.
    blocks, fine : int
        Residual blocks at a quarter of the resolution and at half.
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
    blocks: int = 2
    fine: int = 4
    rank: int = 8
    noise: int = 4
    hidden: int = 320
    styles: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the configuration as plain values for JSON."""
        return {"version": VERSION, **asdict(self)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "NetworkConfig":
        """Return the configuration from `to_dict`'s result. Raises KeyError, TypeError or ValueError if invalid."""
        if values.get("version") != VERSION:
            raise ValueError("it is of another version; train it again with `impasto train network`")
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
    linear : set of int
        The norms without a ReLU: that of the upsampling convolution, and those that end a residual branch. With a ReLU,
        upsampled features die in training: the features that skip the deeper layers are easier to learn from, and a
        channel whose shift has become negative enough has no gradient.
    mixed : list of int
        Channels of each low-rank filter, in the same order.
    constants : list of slice
        The shifts of the norms without a ReLU, within the affine. They do not affect the painting.
    noise : list of slice
        The noise amplitudes of each resolution, low to high, within the part for noise.
    predicted : int
        Length of the part of an affine that depends on the style. The part "prepare" follows: how far the photograph is
        denoised and mottled (`models.prepare`), 1 and 1 by default.
    size : int
        Length of an affine.
    """

    def __init__(self, config: NetworkConfig):
        w = config.width
        self.norms, self.mixed, self.linear = [w, 2 * w], list[int](), set[int]()
        for level, (count, c) in enumerate(((config.blocks, 2 * w), (config.fine, w))):
            if level:  # of the upsampling convolution
                self.norms.append(c)
                self.linear.add(len(self.norms) - 1)
            for _ in range(count):
                self.norms += [c, c]
                self.linear.add(len(self.norms) - 1)
                self.mixed += [c] if config.rank else []
        self.rank = config.rank
        channels = sum(self.norms)
        filters = 2 * config.rank * sum(self.mixed)
        lengths = {
            "scale": channels,
            "shift": channels,
            "half": w,
            "photo": 3,
            "paint": 3,
            "filters": filters,
            "noise": 2 * config.noise,
        }
        self.noise = [slice(i * config.noise, (i + 1) * config.noise) for i in range(2)]
        self.parts: dict[str, slice] = {}
        begin = 0
        for name, length in lengths.items():
            self.parts[name] = slice(begin, begin + length)
            begin += length
        self.predicted, self.size = begin, begin + 2
        self.parts["prepare"] = slice(self.predicted, self.size)
        self.constants, at = list[slice](), self.parts["shift"].start
        for i, c in enumerate(self.norms):
            self.constants += [slice(at, at + c)] if i in self.linear else []
            at += c


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
        # Uniform, of the same variance as those of `initialise`: on the device `meta`, where a file's network is built
        # first, normal numbers and quotients would load PyTorch's compiler, which takes longer than a painting.
        bound = (3 / channels) ** 0.5
        self.directions = nn.Parameter(torch.empty(2 * channels, channels).uniform_(-bound, bound))
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

        self.down = nn.ModuleList([convolution(12, w), convolution(w, 2 * w, 2)])
        self.blocks = nn.ModuleList([convolution(2 * w, 2 * w) for _ in range(2 * config.blocks)])
        self.up = convolution(2 * w, w)
        self.fine = nn.ModuleList([convolution(w, w) for _ in range(2 * config.fine)])
        self.last = nn.Conv2d(w, 12, 5)
        self.noises = nn.ParameterList([torch.zeros(config.noise, c) for c in (2 * w, w)])
        """The mixing matrix from noise to features at each resolution."""
        self.register_buffer("noise", fixed_noise(config.noise), persistent=False)
        self.noise: Tensor
        self.summaries = nn.ModuleDict({k: StyleSummary(c) for k, c in config.layers.items()})
        self.predictor = nn.Sequential(
            nn.Linear(4 * sum(config.layers.values()), config.hidden),
            nn.SiLU(),
            nn.Linear(config.hidden, config.hidden),
            nn.SiLU(),
            nn.Linear(config.hidden, self.layout.predicted),
        )
        self.colours = ColourReader(next(iter(config.layers.values())))
        self.learnt = nn.Parameter(torch.zeros(len(config.styles), self.layout.predicted))
        """The offset to the prediction for each of `config.styles`, (styles, `layout.predicted`)."""
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
            return self.complete(self.predictor(torch.cat(seen, 1)))

    def complete(self, predicted: Tensor, prepare: float = 1.0) -> Tensor:
        """Return affines (N, `layout.size`) from the parts that depend on the style, (N, `layout.predicted`)."""
        return F.pad(predicted, (0, self.layout.size - self.layout.predicted), value=prepare)

    def shifted(self, affine: Tensor, offset: Tensor) -> Tensor:
        """Return affines (N, `layout.size`) plus offsets (1 or N, `layout.predicted`) that were learnt for styles."""
        return affine + self.complete(offset, 0.0)

    def learnt_style(self, name: str) -> Tensor | None:
        """Return the offset to the prediction for a style, (1, `layout.predicted`); None if it has not learnt it."""
        return self.learnt[[self.config.styles.index(name)]] if name in self.config.styles else None

    def unpainted(self, affine: Tensor) -> Tensor:
        """Return affines (N, `layout.size`) changed so that the network returns the photograph unchanged."""
        affine = affine.clone()
        affine[:, self.layout.parts["photo"]] = 1
        affine[:, self.layout.parts["paint"]] = affine[:, self.layout.parts["prepare"]] = 0
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
            (N, 3, H, W), sRGB in [0, 1], of any size; or (N, 6, H, W), with strokes of an underpainting, which are
            added once the noise is removed.
        affine : Tensor
            (N, `layout.size`), the style of each picture; with masks, (R, `layout.size`), that of each region.
        statistics : Tensor, optional
            (N or 1 or R, 2, `channels`): the norms' means and variances from `statistics`, for tiles of one picture or
            frames of one film. By default, each picture's own.
        masks : Tensor, optional
            (R, 1, H, W), which sum to 1 everywhere: the regions of one picture (N = 1), each with its own style.
        origins : sequence of (int, int)
            Row and column, multiples of 4, of each tile's first pixel in the whole picture. They align the noise. One
            for all pictures, or N.

        Returns
        -------
        Tensor
            (N, 3, H, W), float32: the painting before its colours are set (`models.colours.colour`).
        """
        height, width = image.shape[-2:]
        image, masks = padded(image), None if masks is None else padded(masks)
        return self.run(WholePass(self, affine, statistics, masks, origins), image)[:, :, :height, :width]

    def statistics(
        self, image: Tensor, affine: Tensor, masks: Tensor | None = None, origins: Origins = ORIGIN
    ) -> Tensor:
        """Return the means and variances (N or R, 2, `channels`), float32, that the norms compute for pictures."""
        return self.measured(image, affine, masks, origins)[0]

    def measured(
        self, image: Tensor, affine: Tensor, masks: Tensor | None = None, origins: Origins = ORIGIN
    ) -> tuple[Tensor, Tensor]:
        """Return `statistics`, and the painting (N, 3, H, W) as `forward` returns it."""
        found: list[Tensor] = []
        height, width = image.shape[-2:]
        masks = None if masks is None else padded(masks)
        painted = self.run(WholePass(self, affine, None, masks, origins, found), padded(image))
        return torch.cat(found, 2), painted[:, :, :height, :width]

    def prepared(self, image: Tensor, origins: Origins = ORIGIN) -> Tensor:
        """Return pictures (N, 3, H, W) denoised and mottled, as by affines whose part "prepare" is 1 and 1."""
        height, width = image.shape[-2:]
        o = WholePass(self, image.new_ones(1, self.layout.size), None, None, origins)
        return o.mottled(o.denoised(padded(image)))[:, :3, :height, :width]

    def run(self, o: "Operations[Features, Kept]", image: Features) -> Features:
        """Apply the layers, by the operations `o`, to pictures whose sides are multiples of the stride."""
        image, photo = o.keep(o.mottled(o.denoised(image)))
        x, half = o.keep(o.norm(o.convolved(o.unshuffled(image), self.down[0])))
        x = o.norm(o.convolved(x, self.down[1]))
        x = self._blocks(o, self.blocks, o.noisy(x, 0))
        x = o.add(o.norm(o.enlarged(x, self.up)), half, "half")
        x = self._blocks(o, self.fine, o.noisy(x, 1))
        return o.finished(o.softened(o.pictured(x, self.last)), photo)

    @staticmethod
    def _blocks(o: "Operations[Features, Kept]", convolutions: nn.ModuleList, x: Features) -> Features:
        for first, second in zip(convolutions[::2], convolutions[1::2], strict=True):
            x, before = o.keep(x)
            x = o.mix(o.norm(o.convolved(x, first)))
            x = o.add(o.norm(o.convolved(x, second)), before)
        return x

    @property
    def margin(self) -> int:
        """The margin of a tile in pixels, a multiple of the stride: nothing beyond it changes what is painted inside.

        The tile must begin at a multiple of the stride and be painted with given statistics.
        """
        return -(-affected_rows(self) // STRIDE) * STRIDE

    @property
    def channels(self) -> int:
        """Total number of channels of all norms."""
        return sum(self.layout.norms)

    def convolutions(self) -> list[Tensor]:
        """Return the weights of all 3x3 convolutions that are followed by a norm."""
        modules = (*self.down, *self.blocks, self.up, *self.fine)
        return [m.weight for m in modules if isinstance(m, nn.Conv2d)]

    @torch.no_grad()
    def normalise(self) -> None:
        """Remove what does not affect the painting, for training: an optimiser lets it grow, and rounding suffers.

        That is the length of the convolutions before norms, which are rescaled to that of He's initial weights, and the
        shifts of the norms without a ReLU: they add a constant, which the next norm removes again, or, at the end, the
        matching of the colours.
        """
        for w in self.convolutions():
            w *= 2**0.5 / w.flatten(1).norm(dim=1).clamp(min=1e-12)[:, None, None, None]
        last = self.predictor[-1]
        assert isinstance(last, nn.Linear)
        for shifts in self.layout.constants:
            last.weight[shifts] = last.bias[shifts] = self.learnt[:, shifts] = 0

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
        scales = [torch.full((c,), 0.3 if i in self.layout.linear else 1.0) for i, c in enumerate(self.layout.norms)]
        last.bias[parts["scale"]] = torch.cat(scales)
        last.bias[parts["photo"]] = last.bias[parts["paint"]] = last.bias[parts["noise"]] = 1
        filters, at, rank = last.bias[parts["filters"]], 0, self.config.rank
        for c in self.layout.mixed:  # the first factor of each; the second starts at 0
            filters[at : at + c * rank].normal_(0, c**-0.5, generator=generator)
            at += 2 * c * rank


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
