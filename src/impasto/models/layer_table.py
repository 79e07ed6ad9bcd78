"""What a network consists of: its layers, the shapes of their outputs, their parameters."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from ..errors import OptionError, WeightsError
from .arbitrary import ArbitraryNetwork, StyleSummary, load_arbitrary
from .model_file import read_metadata
from .networks import ARBITRARY, PALETTE, TRANSFORMER, network_path
from .transformer import STRIDE, Transformer, load_transformer
from .vgg import VGG
from .weights import load_encoder

Network = VGG | Transformer | ArbitraryNetwork


@dataclass(frozen=True)
class LayerRow:
    """One row of `layer_table`: a layer's name, output (C, H, W) and number of parameters."""

    layer: str
    shape: tuple[int, int, int]
    parameters: int


def load_any(name: str) -> Network:
    """A network of any kind, by its name or its file.

    Raises
    ------
    WeightsError
        If there is none of that name, or the file is missing, damaged or of something else.
    """
    painter = name in (PALETTE, ARBITRARY)
    path = network_path(name) if painter else Path(name)
    kind = _kind(path) if painter or path.is_file() else ""
    if kind == TRANSFORMER:
        return load_transformer(path)[0]
    return load_arbitrary(path)[0] if kind == ARBITRARY else load_encoder(name)


def _kind(path: Path) -> str:
    try:
        return read_metadata(path).get("kind", "")
    except WeightsError:
        return ""  # weights in the form of torchvision, or nothing: the encoders' loader tells


def layer_table(net: Network, size: tuple[int, int]) -> list[LayerRow]:
    """The layers of a network in order, for a picture of `size` = (H, W) pixels.

    The parameters of all the rows are those of the network. An encoder's heads follow their layers, as
    `heads.relu1_1`. In a network that paints, a convolution stands for the norm behind it too, with all its styles.

    Raises
    ------
    OptionError
        If the picture is too small for an encoder's last layer.
    """
    if isinstance(net, VGG):
        return _encoder_rows(net, size)
    if isinstance(net, Transformer):
        return _transformer_rows(net, size)
    rows = []
    for layer, summary in net.summaries.items():
        assert isinstance(summary, StyleSummary)
        rows.append(LayerRow(f"summaries.{layer}", (len(summary.mean), 1, 1), _count([summary])))
    rows.append(LayerRow("predict", (2 * net.transformer.channels, 1, 1), _count([net.predict])))
    return rows + [
        LayerRow(f"transformer.{r.layer}", r.shape, r.parameters) for r in _transformer_rows(net.transformer, size)
    ]


def _encoder_rows(net: VGG, size: tuple[int, int]) -> list[LayerRow]:
    last = list(net.layers)[-1]
    if min(size) < net.least_side(last):
        raise OptionError(f"{net.name} needs pictures of at least {net.least_side(last)} pixels a side")
    modules = list(net.features)
    rows, before = [], -1
    for layer, i in net.layers.items():
        shape = (net.width(layer), size[0] // net.stride(layer), size[1] // net.stride(layer))
        rows.append(LayerRow(layer, shape, _count(modules[before + 1 : i + 1])))
        if layer in net.heads:
            width = net.config.heads[layer]
            rows.append(LayerRow(f"heads.{layer}", (width, *shape[1:]), _count([net.heads[layer]])))
        before = i
    return rows


def _transformer_rows(net: Transformer, size: tuple[int, int]) -> list[LayerRow]:
    rows = []
    for name, convolutions, norms, strides in (
        ("down", net.down, net.down_norms, (1, 2, STRIDE)),
        ("residual", net.residual, net.residual_norms, (STRIDE,) * len(net.residual)),
        ("up", net.up, net.up_norms, (2, 1)),
    ):
        for i, (convolution, norm, stride) in enumerate(zip(convolutions, norms, strides, strict=True)):
            height, width = (-(-side // STRIDE) * STRIDE // stride for side in size)  # pictures are continued to this
            assert isinstance(convolution, nn.Conv2d)
            shape = (convolution.out_channels, height, width)
            rows.append(LayerRow(f"{name}.{i}", shape, _count([convolution, norm])))
    return [*rows, LayerRow("last", (3, *size), _count([net.last]))]


def _count(modules: Iterable[nn.Module]) -> int:
    return sum(p.numel() for m in modules for p in m.parameters())
