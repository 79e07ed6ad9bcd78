"""The arbitrary-style network: what it sees of a style, and its file."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from impasto.errors import WeightsError
from impasto.models.arbitrary import (
    ArbitraryConfig,
    ArbitraryNetwork,
    StyleSummary,
    load_arbitrary,
    save_arbitrary,
)
from impasto.models.colours import colour
from impasto.models.norm import Conditions
from impasto.models.transformer import Transformer, TransformerConfig
from impasto.style.statistics import raw_moments

LAYERS = {"relu1_1": 4, "relu2_1": 6}


def features(seed: int, channels: int) -> Tensor:
    g = torch.Generator().manual_seed(seed)
    return torch.randn(1, channels, 9, 11, generator=g) @ torch.randn(11, 11, generator=g)


def moments(seed: int) -> dict[str, Tensor]:
    return {k: raw_moments(features(seed, c)) for k, c in LAYERS.items()}


@pytest.fixture
def net() -> ArbitraryNetwork:
    found = ArbitraryNetwork(ArbitraryConfig("0123", LAYERS, width=4, blocks=1, hidden=8))
    found.initialise(torch.Generator().manual_seed(0))
    found.colours.weight.copy_(torch.randn(3, 4, generator=torch.Generator().manual_seed(9)) / 10)
    found.colours.bias.fill_(0.5)
    return found.eval()


def test_a_summary_is_means_and_the_logarithms_of_deviations() -> None:
    """Of independent channels, and along a direction, with the answers from the features themselves."""
    f = features(1, 5)
    summary = StyleSummary(5, 2)
    seen = summary.raw(raw_moments(f))[0]
    flat = f[0].flatten(1)
    along = summary.directions @ flat
    expected = [flat.mean(1), flat.std(1, correction=0).log(), along.std(1, correction=0).log()]
    torch.testing.assert_close(seen, torch.cat(expected), rtol=1e-3, atol=1e-3)


def test_calibrated_summaries_of_styles_have_mean_0_and_deviation_1() -> None:
    many = torch.cat([raw_moments(features(i, 5)) for i in range(12)])
    summary = StyleSummary(5, 2)
    summary.calibrate(many)
    found = summary(many)
    torch.testing.assert_close(found.mean(0), torch.zeros(12), rtol=0, atol=1e-4)
    torch.testing.assert_close(found.std(0), torch.ones(12), rtol=0, atol=1e-3)


def test_other_moments_are_other_paintings(net: ArbitraryNetwork) -> None:
    x = torch.rand(1, 3, 20, 24, generator=torch.Generator().manual_seed(3))
    one, two = (net(x, net.conditions(moments(i), 1.0)) for i in (1, 2))
    assert one.shape == x.shape
    assert 0 <= one.min() <= one.max() <= 1
    assert (one - two).abs().mean() > 1e-3
    plain = [net(x, net.conditions(moments(i), 0.0)) for i in (1, 2)]
    assert torch.equal(*plain)


def test_predicted_maps_are_the_norms_own(net: ArbitraryNetwork) -> None:
    """A network whose one style has the predicted numbers as its own paints the same: each norm takes its own part."""
    maps = net.maps(moments(1))
    other = Transformer(TransformerConfig(("one",), 4, 1)).eval()
    other.begin_as(net.transformer)
    first = 0
    for norm in other.norms():
        channels = norm.scale.shape[1]
        norm.scale.data.copy_(maps[:, 0, first : first + channels])
        norm.shift.data.copy_(maps[:, 1, first : first + channels])
        first += channels
    assert first == maps.shape[2]
    x = torch.rand(1, 3, 20, 24)
    conditions, own = net.conditions(moments(1), 1.0), Conditions.of(torch.tensor([0]), 1)
    torch.testing.assert_close(net.transformer(x, conditions), other(x, own))
    torch.testing.assert_close(net(x, conditions), colour(other(x, own), conditions))


def test_it_begins_as_a_known_network(net: ArbitraryNetwork) -> None:
    known = Transformer(TransformerConfig(("one", "two"), 4, 1)).eval()
    known.initialise(torch.Generator().manual_seed(5))
    for norm in known.norms():
        norm.scale.data += torch.tensor([[0.5], [-0.5]])
    net.begin_as(known)
    last = net.predict[-1]
    assert isinstance(last, torch.nn.Linear)
    last.weight.data.zero_()
    x = torch.rand(1, 3, 20, 24)
    middle = Conditions(torch.tensor([[0.5, 0.5]]), (1.0,))
    torch.testing.assert_close(net.transformer(x, net.conditions(moments(1), 1.0)), known(x, middle))


def test_file(net: ArbitraryNetwork, tmp_path: Path) -> None:
    path = tmp_path / "any.safetensors"
    save_arbitrary(net, path, training={"steps": 3}, licence="MIT")
    again, metadata = load_arbitrary(path)
    assert again.config == net.config
    assert '"steps": 3' in metadata["training"]
    torch.testing.assert_close(again.maps(moments(1)), net.maps(moments(1)), rtol=0, atol=0.01)


@pytest.mark.parametrize("change", [{"layers": {}}, {"width": 0}, {"hidden": "many"}, {"layers": 3}])
def test_files_that_will_not_do(net: ArbitraryNetwork, tmp_path: Path, change: dict[str, object]) -> None:
    from impasto.models.model_file import write_model_file

    path = tmp_path / "any.safetensors"
    write_model_file(path, "arbitrary", {**net.config.to_dict(), **change}, net.state_dict(), licence="")
    with pytest.raises(WeightsError, match="does not hold an arbitrary-style network"):
        load_arbitrary(path)
