"""The layers of a network: names, output shapes, parameters."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from ..errors import OptionError, WeightsError
from .model_file import read_metadata
from .network import EARLIER, KIND, Network, StyleSummary
from .networks import NETWORK, find_network
from .passes import STRIDE
from .vgg import VGG
from .weights import MODELS, load_encoder


@dataclass(frozen=True)
class LayerRow:
    """One row of `layer_table`: a layer's name, output (C, H, W) and number of parameters."""

    layer: str
    shape: tuple[int, int, int]
    parameters: int


def load_any(name: str) -> VGG | Network:
    """Return a network of any kind, by its name or the path of its file.

    A network that is not downloaded yet has its shape alone.

    Raises
    ------
    WeightsError
        If the name is unknown, or the file is missing, damaged or not a network.
    """
    known = MODELS.get(name)
    if known is not None and known.config is not None:
        with torch.device("meta"):
            return VGG(known.config, name)
    if name == NETWORK or (Path(name).is_file() and _kind(Path(name)) in (KIND, *EARLIER)):
        return find_network(name)
    return load_encoder(name)


def _kind(path: Path) -> str:
    try:
        return read_metadata(path).get("kind", "")
    except WeightsError:
        return ""  # torchvision's weights, or not a model file: the encoders' loader decides


def layer_table(net: VGG | Network, size: tuple[int, int]) -> list[LayerRow]:
    """Return the layers of a network in order, for a picture of `size` = (H, W) pixels.

    The parameters of all rows add up to those of the network. An encoder's heads follow their layers, named
    `heads.relu1_1` and so on. In a network that paints, the style predictor comes first.

    Raises
    ------
    OptionError
        If the picture is too small for an encoder's last layer.
    """
    return _encoder_rows(net, size) if isinstance(net, VGG) else _network_rows(net, size)


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


def _network_rows(net: Network, size: tuple[int, int]) -> list[LayerRow]:
    rows = []
    for layer, summary in net.summaries.items():
        assert isinstance(summary, StyleSummary)
        rows.append(LayerRow(f"summaries.{layer}", (len(summary.mean), 1, 1), _count([summary])))
    rows.append(LayerRow("predictor", (net.layout.predicted, 1, 1), _count([net.predictor])))
    rows.append(LayerRow("learnt", (net.layout.predicted, 1, 1), net.learnt.numel()))
    rows.append(LayerRow("noises", (len(net.noises), 1, 1), _count([net.noises])))
    height, width = (-(-side // STRIDE) * STRIDE for side in size)  # pictures are padded to this
    for name, module, stride in (
        *((f"down.{i}", m, 2 << i) for i, m in enumerate(net.down)),
        *((f"blocks.{i}", m, 4) for i, m in enumerate(net.blocks)),
        ("up", net.up, 2),
        *((f"fine.{i}", m, 2) for i, m in enumerate(net.fine)),
    ):
        assert isinstance(module, nn.Conv2d)
        rows.append(LayerRow(name, (module.out_channels, height // stride, width // stride), _count([module])))
    return [*rows, LayerRow("last", (3, *size), _count([net.last]))]


def _count(modules: Iterable[nn.Module]) -> int:
    return sum(p.numel() for m in modules for p in m.parameters())
