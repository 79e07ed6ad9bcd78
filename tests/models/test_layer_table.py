"""The table of a network's layers: shapes as they come out, and every parameter counted once."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from impasto.errors import OptionError, WeightsError
from impasto.models.arbitrary import ArbitraryConfig, ArbitraryNetwork, save_arbitrary
from impasto.models.layer_table import layer_table, load_any
from impasto.models.norm import Conditions
from impasto.models.transformer import Transformer, TransformerConfig, save_transformer
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


def test_a_network_of_learnt_styles() -> None:
    net = Transformer(TransformerConfig(("one", "two"), width=8, blocks=1)).eval()
    rows = {row.layer: row for row in layer_table(net, (70, 45))}
    assert sum(row.parameters for row in rows.values()) == parameters(net)
    seen = []
    for norm in [*net.down_norms, *net.residual_norms]:
        norm.register_forward_hook(lambda _module, _inputs, output: seen.append(output.shape[1:]))
    painting = net(torch.rand(1, 3, 70, 45), Conditions.of(torch.tensor([0]), 2))
    assert [rows[k].shape for k in ("down.0", "down.1", "down.2", "residual.0", "residual.1")] == seen
    assert rows["last"].shape == painting.shape[1:]
    assert [rows[k].shape for k in ("up.0", "up.1")] == [(16, 36, 24), (8, 72, 48)]


def test_a_network_for_any_style() -> None:
    net = ArbitraryNetwork(ArbitraryConfig("", {"relu1_1": 4, "relu2_1": 6}, 8, 1, 16)).eval()
    rows = layer_table(net, (64, 64))
    assert sum(row.parameters for row in rows) == parameters(net)
    assert [r.layer for r in rows[:4]] == ["summaries.relu1_1", "summaries.relu2_1", "predict", "transformer.down.0"]
    moments = {k: torch.eye(c + 1)[None] for k, c in net.config.layers.items()}
    assert rows[2].shape == (net.maps(moments).numel(), 1, 1)


def test_networks_by_name_and_file(tmp_path: Path) -> None:
    assert isinstance(load_any("compact"), VGG)
    assert isinstance(load_any("palette"), Transformer)
    assert isinstance(load_any("arbitrary"), ArbitraryNetwork)
    net = Transformer(TransformerConfig(("one",), width=4, blocks=1))
    save_transformer(net, tmp_path / "one.safetensors", training={}, licence="MIT")
    found = load_any(str(tmp_path / "one.safetensors"))
    assert isinstance(found, Transformer)
    assert found.config == net.config
    other = ArbitraryNetwork(ArbitraryConfig("", {"relu1_1": 4}, 4, 1, 8))
    save_arbitrary(other, tmp_path / "any.safetensors", training={}, licence="MIT")
    assert isinstance(load_any(str(tmp_path / "any.safetensors")), ArbitraryNetwork)
    with pytest.raises(WeightsError):
        load_any(str(tmp_path / "none.safetensors"))
