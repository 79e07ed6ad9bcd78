"""The image transformation network: one pass paints a photograph in a style that was learnt.

Johnson, Alahi, Fei-Fei, "Perceptual Losses for Real-Time Style Transfer and Super-Resolution", ECCV 2016 (the network
is in its supplementary material), with nearest-neighbour resizing and convolution in place of the transposed
convolutions (Odena, Dumoulin, Olah, "Deconvolution and Checkerboard Artifacts", Distill 2016). Its norms are
conditional instance norms (Dumoulin, Shlens, Kudlur, "A Learned Representation for Artistic Style", ICLR 2017): styles
share the convolutions and differ in the norms' scales and shifts alone.

A network can hold its styles' colours besides, which its paintings are given (`models.colours`).

The upper two convolutions are computed at the size before their resizing, and the last one at half size. A picture of
twice the size is then kept as its four phases, (N, 4 C, H, W): the even and odd rows of even and odd columns, each a
group of C channels. It is the same function, in fewer and wider operations.
"""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..device import channels_last
from ..errors import WeightsError
from .colours import colour
from .model_file import read_model_file, write_model_file
from .moments import covariance
from .norm import PER_STYLE, ConditionalNorm, Conditions, Places
from .padding import fill, reflection_pad

STRIDE = 4
"""The deepest features have one pixel for so many of the picture's, along each side."""
LEAST_SIDE = 16
"""Pixels; smaller pictures are continued to it."""
OF_STYLES = (*PER_STYLE, "colours")
"""The names of what a network has for each style."""


@dataclass(frozen=True)
class TransformerConfig:
    """The shape of an image transformation network.

    Parameters
    ----------
    styles : tuple of str
        The names of what it has learnt, in order.
    width : int
        Channels behind the first convolution; behind the third there are four times as many. 32 is the paper's.
    blocks : int
        Residual blocks.
    colours : bool
        Whether paintings are given their style's mean and covariance of colours.
    """

    styles: tuple[str, ...]
    width: int = 32
    blocks: int = 5
    colours: bool = False

    def to_dict(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "TransformerConfig":
        """The inverse of `to_dict`; TypeError or ValueError if it is not that."""
        styles = tuple(str(s) for s in values["styles"])
        config = cls(styles, int(values["width"]), int(values["blocks"]), bool(values.get("colours", False)))
        if not config.styles or not 1 <= config.width <= 256 or not 0 <= config.blocks <= 64:
            raise ValueError("its numbers are out of range")
        return config


class Transformer(nn.Module):
    """The image transformation network.

    Parameters
    ----------
    config : TransformerConfig
        Its shape.
    """

    def __init__(self, config: TransformerConfig):
        super().__init__()
        self.config = config
        w, styles = config.width, len(config.styles)
        widths = (w, 2 * w, 4 * w)

        def convolution(inputs: int, outputs: int, side: int, stride: int = 1) -> nn.Conv2d:
            return nn.Conv2d(inputs, outputs, side, stride, bias=False)  # the norm behind it has a shift

        self.down = nn.ModuleList([convolution(3, w, 9), convolution(w, 2 * w, 3, 2), convolution(2 * w, 4 * w, 3, 2)])
        self.residual = nn.ModuleList([convolution(4 * w, 4 * w, 3) for _ in range(2 * config.blocks)])
        self.up = nn.ModuleList([convolution(4 * w, 2 * w, 3), convolution(2 * w, w, 3)])
        self.last = nn.Conv2d(w, 3, 9)
        channels = (*widths, *(4 * w,) * (2 * config.blocks), 2 * w, w)
        added = range(4, 4 + 2 * config.blocks, 2)  # of a residual branch the last norm has no ReLU
        norms = [
            ConditionalNorm(c, styles, relu=i not in added, first=sum(channels[:i])) for i, c in enumerate(channels)
        ]
        self.down_norms, self.residual_norms = nn.ModuleList(norms[:3]), nn.ModuleList(norms[3:-2])
        self.up_norms = nn.ModuleList(norms[-2:])
        self.channels = sum(channels)
        """Of all norms together."""
        self.colours: Tensor
        """If it has them: (styles, 4, 4), the raw moments of each style's colours."""
        if config.colours:
            self.register_buffer("colours", torch.eye(4).repeat(styles, 1, 1))

    def forward(self, image: Tensor, conditions: Conditions | Places) -> Tensor:
        """Paint.

        Parameters
        ----------
        image : Tensor
            (N, 3, H, W), sRGB in [0, 1], of any size.
        conditions : Conditions or Places
            The style and strength of each picture, or of each part of the one picture.

        Returns
        -------
        Tensor
            (N, 3, H, W) in [0, 1], in the type that the convolutions give; of a network with colours, float32.
        """
        height, width = image.shape[-2:]
        x = fill(image, STRIDE, LEAST_SIDE)
        for i, (convolution, norm) in enumerate(zip(self.down, self.down_norms, strict=True)):
            x = norm(convolution(reflection_pad(x, 1 if i else 4)), conditions)
        for i in range(0, len(self.residual), 2):
            y = self.residual_norms[i](self.residual[i](reflection_pad(x)), conditions)
            y = self.residual_norms[i + 1](self.residual[i + 1](reflection_pad(y)), conditions)
            x = x + y
        first, second = self.inner_weights()[-2:]
        x = resized_convolution(reflection_pad(x), first)
        x = shuffle(self.up_norms[0](x, conditions, phases=4))
        # Two more, by which the last convolution sees beyond the border.
        x = resized_convolution(reflection_pad(x, 3), second)
        x = self.up_norms[1](x, conditions, phases=4)
        x = shuffle(F.conv2d(x, last_kernel(self.last.weight)))
        assert self.last.bias is not None
        painting = torch.sigmoid(x[:, :, :height, :width] + self.last.bias[:, None, None])
        return colour(painting, self.with_colours(conditions)) if self.config.colours else painting

    def with_colours(self, conditions: Conditions | Places) -> Conditions | Places:
        """The conditions with the colours of their styles; of a blend, those of its parts side by side."""
        if isinstance(conditions, Places):
            parts = (self.with_colours(c) for c in conditions.conditions)
            return replace(conditions, conditions=tuple(p for p in parts if isinstance(p, Conditions)))
        moments = (conditions.weights[:, :, None, None] * self.colours).sum(1)  # a matrix product would be autocast
        return replace(conditions, colours=torch.cat([covariance(moments), moments[:, :-1, -1:]], 2))

    @torch.no_grad()
    def begin_as(self, known: "Transformer") -> None:
        """Take over what a trained network of the same shape knows: convolutions, plain maps and, by name, styles.

        A style that it does not know begins as the mean of its styles.
        """
        own, theirs = self.state_dict(), known.state_dict()
        rows = [known.config.styles.index(s) if s in known.config.styles else None for s in self.config.styles]
        for key, value in own.items():
            if key.rpartition(".")[2] not in OF_STYLES:
                value.copy_(theirs[key])
            elif rows and key in theirs:
                value.copy_(torch.stack([theirs[key].mean(0) if i is None else theirs[key][i] for i in rows]))

    def inner_weights(self) -> list[Tensor]:
        """The weights of all 3x3 convolutions."""
        modules = (*self.down[1:], *self.residual, *self.up)
        return [m.weight for m in modules if isinstance(m, nn.Conv2d)]

    @torch.no_grad()
    def normalise(self) -> None:
        """Bring every convolution that a norm follows to the length of He's weights, for training.

        To a styled painting their length means nothing, so that an optimiser lets it grow. The plain maps see it.
        """
        first = self.down[0]
        assert isinstance(first, nn.Conv2d)
        for w in (first.weight, *self.inner_weights()):
            w *= 2**0.5 / w.flatten(1).norm(dim=1).clamp(min=1e-12)[:, None, None, None]

    def norms(self) -> list[ConditionalNorm]:
        """All of them."""
        return [m for m in self.modules() if isinstance(m, ConditionalNorm)]

    def seen(self) -> Tensor:
        """What the norms have seen of strength 0 since this was asked for last, (3, all channels)."""
        found = [n.seen if n.seen is not None else torch.zeros(3, len(n.plain_mean)) for n in self.norms()]
        for norm in self.norms():
            norm.seen = None
        return torch.cat([f.cpu() for f in found], 1)

    def follow(self, seen: Tensor, share: float) -> None:
        """Let the norms' statistics of strength 0 follow what was `seen`, in training."""
        for norm, part in zip(self.norms(), seen.split([len(n.plain_mean) for n in self.norms()], 1), strict=True):
            norm.follow(part, share)

    def initialise(self, generator: torch.Generator) -> None:
        """He's initialisation of the convolutions, from `generator`; the residual branches begin small."""
        for m in self.modules():
            if isinstance(m, nn.Conv2d):
                m.weight.data.normal_(0, (2 / m.weight[0].numel()) ** 0.5, generator=generator)
        self.last.weight.data *= 0.3
        assert self.last.bias is not None
        self.last.bias.data.zero_()
        for i, norm in enumerate(self.residual_norms):
            assert isinstance(norm, ConditionalNorm)
            if i % 2:
                norm.scale.data.fill_(0.3)
                norm.plain_scale.data.fill_(0.3)


def shuffle(x: Tensor) -> Tensor:
    """Phases (N, 4 C, H, W) -> the picture (N, C, 2 H, 2 W)."""
    n, c, h, w = x.shape
    x = x.permute(0, 2, 3, 1).reshape(n, h, w, 2, 2, c // 4)
    return x.permute(0, 1, 3, 2, 4, 5).reshape(n, 2 * h, 2 * w, c // 4).permute(0, 3, 1, 2)


def resized_convolution(x: Tensor, weight: Tensor) -> Tensor:
    """Nearest-neighbour resizing to twice the size, then a 3x3 convolution: as the phases, from the small picture.

    An output row of the even phase sees the rows -1, 0, 0 of the small picture, one of the odd phase 0, 0, 1.

    Parameters
    ----------
    x : Tensor
        (N, I, H + 2, W + 2), padded by one.
    weight : Tensor
        (O, I, 3, 3).

    Returns
    -------
    Tensor
        (N, 4 O, H, W).
    """
    outputs, inputs = weight.shape[:2]
    kernel = weight.flatten(2) @ RESIZED.to(weight)  # (O, I, 4 * 9)
    kernel = kernel.view(outputs, inputs, 4, 3, 3).permute(2, 0, 1, 3, 4).flatten(0, 1)
    return F.conv2d(x, kernel.contiguous(memory_format=torch.channels_last))


def last_kernel(weight: Tensor) -> Tensor:
    """A 9x9 convolution (O, I, 9, 9) as one of phases, (4 O, 4 I, 5, 5)."""
    outputs, inputs = weight.shape[:2]
    kernel = weight.flatten(2) @ PHASED.to(weight)  # (O, I, 4 * 4 * 25)
    kernel = kernel.view(outputs, inputs, 4, 4, 5, 5).permute(2, 0, 3, 1, 4, 5)
    return kernel.reshape(4 * outputs, 4 * inputs, 5, 5).contiguous(memory_format=torch.channels_last)


def _resized() -> Tensor:
    """(9, 4 * 9): what of a 3x3 kernel's taps goes to which tap of which phase's kernel."""
    taps = torch.tensor([[[1.0, 0, 0], [0, 1, 1], [0, 0, 0]], [[0, 0, 0], [1, 1, 0], [0, 0, 1]]])
    return torch.einsum("pas,qbt->stpqab", taps, taps).reshape(9, 36)


def _phased() -> Tensor:
    """(81, 4 * 4 * 25): where a 9x9 kernel's taps go, for each phase of the output and of the input."""
    taps = torch.zeros(2, 2, 5, 9)  # phase of the output, phase of the input, tap there, tap here
    for phase in range(2):
        for tap in range(9):
            cell, source = divmod(phase + tap - 4, 2)
            taps[phase, source, cell + 2, tap] = 1
    return torch.einsum("pfas,qgbt->stpqfgab", taps, taps).reshape(81, 400)


RESIZED, PHASED = _resized(), _phased()
"""What the kernels of the two are, by the kernels that they stand for."""


def save_transformer(net: Transformer, path: Path, *, training: dict[str, Any], licence: str) -> None:
    """Write a network as a model file that `load_transformer` reads, in float16.

    Raises
    ------
    WeightsError
        If a weight does not fit into float16, or the file cannot be written.
    """
    write_model_file(path, "transformer", net.config.to_dict(), net.state_dict(), licence=licence, training=training)


def load_transformer(path: Path) -> tuple[Transformer, dict[str, str]]:
    """A network from a model file, and the file's metadata: in eval mode, frozen, channels_last, float32, on the CPU.

    Raises
    ------
    WeightsError
        If the file is missing, damaged or of something else.
    """
    values, tensors, metadata = read_model_file(path, "transformer")
    try:
        with torch.random.fork_rng(devices=[]):  # initial weights are drawn, which the caller's seed must not notice
            net = Transformer(TransformerConfig.from_dict(values))
        net.load_state_dict(tensors)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise WeightsError(f"{path} does not hold an image transformation network: {error}") from error
    return channels_last(net.eval().requires_grad_(False)), metadata
