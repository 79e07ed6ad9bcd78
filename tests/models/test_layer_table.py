"""The table of a network's layers has their real shapes, and counts every parameter once."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from impasto.errors import OptionError, WeightsError
from impasto.models.layer_table import layer_table, load_any
from impasto.models.model_file import write_model_file
from impasto.models.network import Network, NetworkConfig, save_network
from impasto.models.vgg import COMPACT, VGG, VGGConfig

TINY = VGGConfig((4, 6, 8, 8, 8), (2, 2, 4, 4, 4), {})
HEADED = replace(TINY, heads={"relu1_1": 7, "relu4_2": 5}, padding="reflect")


def tiny(config: VGGConfig = HEADED) -> VGG:
    net = VGG(config, "tiny").eval()
    net.initialise(torch.Generator().manual_seed(0))
    return net


def parameters(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


@pytest.mark.parametrize("config", [TINY, HEADED, replace(TINY, batch_norm=True), COMPACT])
def test_an_encoder(config: VGGConfig) -> None:
    net = tiny(config)
    rows = {row.layer: row for row in layer_table(net, (70, 45))}
    for layer, f in net(torch.rand(1, 3, 70, 45), net.layers).items():
        assert rows[layer].shape == f.shape[1:]
        if layer in net.heads:
            assert rows[f"heads.{layer}"].shape == net.heads[layer](f).shape[1:]
    assert sum(row.parameters for row in rows.values()) == parameters(net)
    assert rows["conv1_1"].parameters == sum(p.numel() for p in net.features[: net.layers["conv1_1"] + 1].parameters())


def test_an_encoder_and_a_small_picture() -> None:
    with pytest.raises(OptionError, match="tiny needs pictures of at least 32 pixels a side"):
        layer_table(tiny(), (31, 200))


@pytest.mark.parametrize("size", [(70, 45), (64, 64)], ids=str)
def test_a_network_that_paints(size: tuple[int, int]) -> None:
    """The shapes are those of the features that the norms receive, also for a picture that has to be padded."""
    net = painting_network()
    rows = {row.layer: row for row in layer_table(net, size)}
    assert sum(row.parameters for row in rows.values()) == parameters(net)
    seen: dict[str, tuple[int, ...]] = {}
    for name, module in net.named_modules():
        if isinstance(module, nn.Conv2d) and name in rows and name != "up":
            module.register_forward_hook(noted(seen, name))
    painting = net(torch.rand(1, 3, *size), torch.ones(1, net.layout.size))
    assert rows["last"].shape == painting.shape[1:]
    del seen["last"]  # it gives four pixels at once, and those of the continuation
    assert {"down.0", "down.1", "blocks.0", "blocks.1", "fine.1"} <= seen.keys()
    assert {k: rows[k].shape for k in seen} == seen
    h, w = (-(-side // 4) * 4 for side in size)
    assert rows["up"].shape == (8, h // 2, w // 2)


def noted(seen: dict[str, tuple[int, ...]], name: str) -> Callable[[nn.Module, Any, Tensor], None]:
    def note(module: nn.Module, given: Any, output: Tensor) -> None:
        seen[name] = tuple(output.shape[1:])

    return note


def test_what_reads_the_style_comes_first() -> None:
    net = painting_network()
    rows = layer_table(net, (64, 64))
    first = ["summaries.relu1_1", "summaries.relu2_1", "predictor", "learnt", "noises", "down.0"]
    assert [r.layer for r in rows[:6]] == first
    length = net.layout.predicted
    assert [r.shape for r in rows[:4]] == [(16, 1, 1), (24, 1, 1), (length, 1, 1), (length, 1, 1)]
    assert rows[3].parameters == 2 * length  # of two learnt styles


def painting_network() -> Network:
    config = NetworkConfig("", {"relu1_1": 4, "relu2_1": 6}, 8, 1, 1, 2, hidden=16, styles=("one", "two"))
    return Network(config).eval().requires_grad_(False)


def test_networks_by_name_and_file(tmp_path: Path) -> None:
    assert isinstance(load_any("compact"), VGG)
    assert isinstance(load_any("network"), Network)
    net = painting_network()
    save_network(net, tmp_path / "own.safetensors", training={}, licence="MIT")
    found = load_any(str(tmp_path / "own.safetensors"))
    assert isinstance(found, Network)
    assert found.config == net.config
    with pytest.raises(WeightsError):
        load_any(str(tmp_path / "none.safetensors"))
    write_model_file(tmp_path / "old.safetensors", "arbitrary", {}, {"a": torch.zeros(1)}, licence="MIT")
    with pytest.raises(WeightsError, match="of an earlier version; train it again"):
        load_any(str(tmp_path / "old.safetensors"))
