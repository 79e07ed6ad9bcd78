"""Training of strength alone: the photograph comes back, and full paintings stay what they are."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from impasto.cli import main
from impasto.errors import WeightsError
from impasto.models.arbitrary import ArbitraryConfig, ArbitraryNetwork, load_arbitrary, save_arbitrary
from impasto.models.networks import training_account
from impasto.models.norm import Conditions
from impasto.models.transformer import Transformer, TransformerConfig, load_transformer, save_transformer
from impasto.models.weights import load_encoder
from impasto.options import TrainStrengthOptions
from impasto.style.builtin import load_builtin
from impasto.train.loop import Training, train
from impasto.train.start import start_strength_training
from impasto.train.strength import LEARNT, LITTLE, MOST

Brief = Callable[..., TrainStrengthOptions]
Measured = Callable[[Training], dict[str, float]]

ONE_DECIBEL = 10**0.1


@pytest.fixture
def network(tmp_path: Path) -> Path:
    """A network with two styles, all of it chance."""
    net = Transformer(TransformerConfig(("one", "two"), width=8, blocks=1, colours=True))
    net.initialise(torch.Generator().manual_seed(0))
    path = tmp_path / "net.safetensors"
    save_transformer(net, path, training={"recipe": "chance", "content_weights": {"one": 0.1}}, licence="MIT")
    return path


@pytest.fixture
def brief(photos: Path, network: Path, tmp_path: Path) -> Brief:
    def options(**changes: Any) -> TrainStrengthOptions:
        values: dict[str, Any] = {
            "base": str(network),
            "photos": (photos,),
            "out": tmp_path / "out.safetensors",
            "steps": 6,
            "batch": 3,
            "crop": 64,
            "checkpoint_every": 2,
            "sample_every": 0,
            "device": "cpu",
            "precision": "float32",
        }
        return TrainStrengthOptions(**{**values, **changes})

    return options


def picture() -> Tensor:
    return torch.rand(1, 3, 48, 64, generator=torch.Generator().manual_seed(0))


def test_the_photograph_comes_back_and_paintings_stay(network: Path, brief: Brief, measured: Measured) -> None:
    o = brief(steps=80, small_rate=0.03, average=0.8)
    training = start_strength_training(o)
    before = measured(training)
    list(train(training))
    assert measured(training)["plain"] < before["plain"] / ONE_DECIBEL
    (old, _), (new, metadata) = load_transformer(network), load_transformer(o.out)
    for key, value in old.state_dict().items():
        assert torch.equal(new.state_dict()[key], value) == (key.rpartition(".")[2] not in LEARNT), key
    for style in (0, 1):
        full = Conditions.of(torch.tensor([style]), 2)
        assert torch.equal(new(picture(), full), old(picture(), full))
    account = training_account(metadata)
    assert account["recipe"] == "chance"  # how it was made stays known
    assert account["strength"] == {"steps": 80, "batch": 3, "crop": 64}


def test_a_network_for_any_style(brief: Brief, measured: Measured, tmp_path: Path) -> None:
    encoder = load_encoder("compact")
    layers = {k: encoder.width(k) for k in ("relu1_1", "relu2_1")}
    known = ArbitraryNetwork(ArbitraryConfig(encoder.digest, layers, 8, 1, 8))
    known.initialise(torch.Generator().manual_seed(0))
    path = tmp_path / "any.safetensors"
    save_arbitrary(known, path, training={}, licence="MIT")
    o = brief(base=str(path), styles=("udnie", "great-wave"), steps=80, small_rate=0.03, average=0.8)
    training = start_strength_training(o)
    before = measured(training)
    list(train(training))
    assert measured(training)["plain"] < before["plain"] / ONE_DECIBEL
    (old, _), (new, _) = load_arbitrary(path), load_arbitrary(o.out)
    moments = load_builtin("udnie").at(512)
    paintings = [net(picture(), net.conditions(moments, 1.0)) for net in (old, new)]
    assert torch.equal(*paintings)
    (own,) = (c.maps for c in training.recipe.shown(1)[-1:])  # type: ignore[attr-defined]
    torch.testing.assert_close(own, new.maps(moments))


def test_what_is_drawn(brief: Brief) -> None:
    recipe: Any = start_strength_training(brief()).recipe
    drawn = [recipe.picture(step, i) for step in range(20) for i in range(3)]
    assert {d.style for d in drawn} == {0, 1}
    nothing, little, much = ([d.strength for d in drawn[i::3]] for i in range(3))
    assert not any(nothing)
    assert 0 < min(little) < max(little) <= LITTLE < max(much) <= MOST
    sheet = recipe.shown(4)
    assert [c.strength for c in sheet] == [(s,) * 4 for s in (0.0, 0.1, 0.25, 0.5, 0.75, 1.0)]
    assert sheet[0].weights.tolist() == [[1, 0], [0, 1], [1, 0], [0, 1]]


def test_a_stopped_training_goes_on_exactly(brief: Brief, tmp_path: Path) -> None:
    whole = start_strength_training(brief())
    list(train(whole))
    o = brief(out=tmp_path / "again.safetensors")
    steps = train(start_strength_training(o))
    for _ in range(3):
        next(steps)
    steps.close()
    again = start_strength_training(replace(o, resume=True))
    assert again.step == 3
    list(train(again))
    for k, v in again.average.items():
        assert torch.equal(v, whole.average[k]), k


def test_on_the_command_line(network: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    command = ["train", "strength", "--from", str(network), "--photos", str(photos), "--out", "n.safetensors"]
    assert main([*command, "--steps", "2", "--batch", "2", "--crop", "64", "--sample-every", "2"]) == 0
    assert Path("n-000002.jpg").exists()
    assert load_transformer(Path("n.safetensors"))[0].config.styles == ("one", "two")


def test_what_is_not_a_network_that_paints(brief: Brief, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="there is no such model file"):
        start_strength_training(brief(base=str(tmp_path / "none.safetensors")))
