"""The arbitrary-style network: any style in one pass, from the moments of its features.

Ghiasi, Lee, Kudlur, Dumoulin, Shlens, "Exploring the structure of a real-time, arbitrary neural artistic stylization
network", BMVC 2017: an image transformation network whose conditional instance norms have no styles of their own. A
second network predicts the norms' scales and shifts. Here it sees no picture of the style but its `StyleTarget`, the
raw moments of the encoder's features. So style files, built-in styles and blends are styles like any other, and a style
is measured once for many photographs.

The colours are not left to the prediction: what the network paints is brought to the style's mean and covariance of
colours, which the moments hold (`models.colours`).
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..device import channels_last
from ..errors import WeightsError
from .colours import ColourReader, colour
from .model_file import read_model_file, write_model_file
from .norm import Conditions, Places
from .transformer import Transformer, TransformerConfig

LEAST_VARIANCE = 1e-4
"""Added to variances before their logarithm is taken; features are of the order of one."""

LARGEST = {"width": 256, "blocks": 64, "hidden": 4096, "directions": 16}
"""What a file may ask for."""


@dataclass(frozen=True)
class ArbitraryConfig:
    """The shape of an arbitrary-style network.

    Parameters
    ----------
    encoder : str
        The digest of the encoder whose moments it takes.
    layers : dict of str to int
        The layers whose moments it takes, and their channels.
    width, blocks : int
        Of the image transformation network, as in `TransformerConfig`.
    hidden : int
        Width of the predicting network.
    directions : int
        How many times as many variances as channels are seen of a layer's covariance.
    """

    encoder: str
    layers: dict[str, int]
    width: int
    blocks: int
    hidden: int
    directions: int = 2

    def to_dict(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "ArbitraryConfig":
        """The inverse of `to_dict`; KeyError, TypeError or ValueError if it is not that."""
        layers = {str(k): int(c) for k, c in dict(values["layers"]).items()}
        numbers = {k: int(values[k]) for k in LARGEST}
        if not layers or not all(1 <= numbers[k] <= most for k, most in LARGEST.items()):
            raise ValueError("its numbers are out of range")
        if not all(1 <= c <= 4096 for c in layers.values()):
            raise ValueError("its layers' channels are out of range")
        return cls(str(values["encoder"]), layers, **numbers)


class StyleSummary(nn.Module):
    """Of a layer's raw moments what a style is told by: means, deviations, and deviations along learnt directions.

    The latter see how channels go together, which Gram matrices are there for, in a few numbers.

    Parameters
    ----------
    channels, directions : int
        Of the layer, and how many.
    """

    def __init__(self, channels: int, directions: int):
        super().__init__()
        self.directions = nn.Parameter(torch.randn(directions, channels) / channels**0.5)
        size = 2 * channels + directions
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("deviation", torch.ones(size))
        self.mean: Tensor
        self.deviation: Tensor

    def raw(self, moments: Tensor) -> Tensor:
        """(N, C + 1, C + 1) -> (N, 2 C + D), as it comes."""
        mean = moments[:, :-1, -1]
        covariance = moments[:, :-1, :-1] - mean[:, :, None] * mean[:, None, :]
        along = ((self.directions @ covariance) * self.directions).sum(2)
        variances = torch.cat([covariance.diagonal(dim1=1, dim2=2), along], 1)
        return torch.cat([mean, 0.5 * (variances.clamp(min=0) + LEAST_VARIANCE).log()], 1)

    def forward(self, moments: Tensor) -> Tensor:
        """The same, in units of what styles differ by."""
        return (self.raw(moments) - self.mean) / self.deviation

    @torch.no_grad()
    def calibrate(self, moments: Tensor) -> None:
        """Take what styles (N, C + 1, C + 1) differ by from many of them."""
        values = self.raw(moments)
        self.mean.copy_(values.mean(0))
        self.deviation.copy_(values.std(0).clamp(min=1e-3))


class ArbitraryNetwork(nn.Module):
    """Paints any photograph in any style.

    Parameters
    ----------
    config : ArbitraryConfig
        Its shape.
    """

    def __init__(self, config: ArbitraryConfig):
        super().__init__()
        self.config = config
        self.transformer = Transformer(TransformerConfig((), config.width, config.blocks))
        self.first = next(iter(config.layers))
        """The layer that tells a style's colours."""
        self.colours = ColourReader(config.layers[self.first])
        self.summaries = nn.ModuleDict({k: StyleSummary(c, config.directions * c) for k, c in config.layers.items()})
        seen = sum((2 + config.directions) * c for c in config.layers.values())
        self.predict = nn.Sequential(
            nn.Linear(seen, config.hidden),
            nn.SiLU(),
            nn.Linear(config.hidden, config.hidden),
            nn.SiLU(),
            nn.Linear(config.hidden, 2 * self.transformer.channels),
        )

    def maps(self, moments: Mapping[str, Tensor]) -> Tensor:
        """The norms' scales and shifts for styles.

        Parameters
        ----------
        moments : mapping of str to Tensor
            Layer -> raw moments (N, C + 1, C + 1), as `StyleTarget.at` gives them.

        Returns
        -------
        Tensor
            (N, 2, all channels of the norms), float32.
        """
        with torch.autocast(next(self.parameters()).device.type, enabled=False):
            seen = torch.cat([self.summaries[k](moments[k].float()) for k in self.config.layers], 1)
            return self.predict(seen).unflatten(1, (2, -1))

    def conditions(self, moments: Mapping[str, Tensor], strength: float | tuple[float, ...]) -> Conditions:
        """What `forward` takes for styles whose moments are given as to `maps`, with one strength or one for each."""
        maps = self.maps(moments)
        strengths = strength if isinstance(strength, tuple) else (float(strength),) * len(maps)
        with torch.no_grad():
            colours = self.colours(moments[self.first])
        return Conditions(maps.new_zeros(len(maps), 0), strengths, maps=maps, colours=colours)

    def forward(self, image: Tensor, conditions: Conditions | Places) -> Tensor:
        """Paint (N, 3, H, W), sRGB in [0, 1], of any size, with `conditions` of this network; float32."""
        return colour(self.transformer(image, conditions), conditions)

    def initialise(self, generator: torch.Generator) -> None:
        """He's initialisation; every style begins with nearly the same maps, those of a new transformation network."""
        self.transformer.initialise(generator)
        linear = [m for m in self.predict if isinstance(m, nn.Linear)]
        for m in linear:
            m.weight.data.normal_(0, (2 / m.in_features) ** 0.5, generator=generator)
            m.bias.data.zero_()
        for summary in self.summaries.values():
            assert isinstance(summary, StyleSummary)
            d = summary.directions
            d.data.normal_(0, d.shape[1] ** -0.5, generator=generator)
        linear[-1].weight.data *= 0.1
        scales = torch.cat([n.plain_scale.data for n in self.transformer.norms()])
        linear[-1].bias.data.copy_(torch.cat([scales, torch.zeros_like(scales)]))

    def begin_as(self, net: Transformer) -> None:
        """Take over a trained network's convolutions and plain maps; styles begin nearly as the mean of its styles."""
        self.transformer.begin_as(net)
        last = self.predict[-1]
        assert isinstance(last, nn.Linear)
        means = [torch.cat([getattr(n, name).data.mean(0) for n in net.norms()]) for name in ("scale", "shift")]
        last.bias.data.copy_(torch.cat(means))


def save_arbitrary(net: ArbitraryNetwork, path: Path, *, training: dict[str, Any], licence: str) -> None:
    """Write a network as a model file that `load_arbitrary` reads, in float16.

    Raises
    ------
    WeightsError
        If a weight does not fit into float16, or the file cannot be written.
    """
    write_model_file(path, "arbitrary", net.config.to_dict(), net.state_dict(), licence=licence, training=training)


def load_arbitrary(path: Path) -> tuple[ArbitraryNetwork, dict[str, str]]:
    """A network from a model file, and the file's metadata: in eval mode, frozen, channels_last, float32, on the CPU.

    Raises
    ------
    WeightsError
        If the file is missing, damaged or of something else.
    """
    values, tensors, metadata = read_model_file(path, "arbitrary")
    try:
        with torch.random.fork_rng(devices=[]):  # initial weights are drawn, which the caller's seed must not notice
            net = ArbitraryNetwork(ArbitraryConfig.from_dict(values))
        net.load_state_dict(tensors)
    except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
        raise WeightsError(f"{path} does not hold an arbitrary-style network: {error}") from error
    return channels_last(net.eval().requires_grad_(False)), metadata
