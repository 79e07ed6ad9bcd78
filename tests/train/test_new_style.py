"""A new style in a trained network: it is learnt, and nothing else changes."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from impasto.cli import main
from impasto.errors import TrainingError
from impasto.models.norm import Conditions
from impasto.models.transformer import Transformer, load_transformer, save_transformer
from impasto.options import TrainFeedforwardOptions, TrainStyleOptions
from impasto.train.loop import Training, train
from impasto.train.new_style import PER_STYLE, NewStyleRecipe
from impasto.train.start import start_style_training, start_training

Brief = Callable[..., TrainFeedforwardOptions]


@pytest.fixture
def network(brief: Brief) -> Path:
    """A network that has learnt two styles, a little."""
    o = brief(steps=25, width=8, average=0.8, content_weight=0.0)
    list(train(start_training(o)))
    return o.out


@pytest.fixture
def more(photos: Path, network: Path, tmp_path: Path) -> Callable[..., TrainStyleOptions]:
    def options(*paintings: str, **changes: Any) -> TrainStyleOptions:
        values: dict[str, Any] = {
            "paintings": paintings,
            "base": str(network),
            "photos": (photos,),
            "out": tmp_path / "more.safetensors",
            "steps": 6,
            "batch": 4,
            "crop": 64,
            "checkpoint_every": 2,
            "sample_every": 0,
            "device": "cpu",
            "precision": "float32",
        }
        return TrainStyleOptions(**{**values, **changes})

    return options


def painted(net: Transformer, style: int, x: torch.Tensor) -> torch.Tensor:
    return net(x, Conditions.of(torch.tensor([style]), len(net.config.styles)))


def test_the_new_style_is_learnt_and_the_others_stay(
    network: Path, more: Callable[..., TrainStyleOptions], measured: Callable[[Training], dict[str, float]]
) -> None:
    o = more("udnie", "the-scream", steps=40, content_weight=0.0, stability=0.0, strokes=0.0, warm_up=0)
    training = start_style_training(o)
    before = measured(training)
    list(train(training))
    assert measured(training)["style"] < 0.9 * before["style"]
    (old, _), (new, metadata) = load_transformer(network), load_transformer(o.out)
    assert new.config.styles == ("starry-night", "great-wave", "udnie", "the-scream")
    assert "impasto train style" in metadata["training"]
    x = torch.rand(1, 3, 48, 64, generator=torch.Generator().manual_seed(0))
    for i in range(2):
        assert torch.equal(painted(new, i, x), painted(old, i, x))
    for i in (2, 3):
        assert min((painted(new, i, x) - painted(new, j, x)).abs().mean() for j in range(4) if j != i) > 0.01
    plain = Conditions.of(torch.tensor([2]), 4, 0.0)
    torch.testing.assert_close(new(x, plain), old(x, Conditions.of(torch.tensor([0]), 2, 0.0)))


def test_it_begins_as_the_nearest(network: Path, more: Callable[..., TrainStyleOptions], tmp_path: Path) -> None:
    """Of a network that paints black or white, black for a dark painting and white for a light one."""
    known, _ = load_transformer(network)
    net = Transformer(replace(known.config, colours=False))
    with torch.no_grad():
        for norm in net.norms():
            norm.scale.zero_()
            norm.shift.copy_(torch.tensor([[1.0], [2.0]]).expand_as(norm.shift))
        net.last.weight.fill_(-0.01)
        last = net.last.bias
        assert last is not None
        last.fill_(0.01 * 81 * net.config.width * 1.5)  # the mean of both: black from 2, white from 1
        net.last.weight *= 5
        last *= 5
    save_transformer(net, network, training={}, licence="MIT")
    for name, value in (("dark", 5), ("light", 250)):
        noise = np.clip(np.random.default_rng(0).normal(value, 3, (80, 90, 3)), 0, 255).astype(np.uint8)
        Image.fromarray(noise).save(tmp_path / f"{name}.png")
    recipe = start_style_training(more(str(tmp_path / "dark.png"), str(tmp_path / "light.png"))).recipe
    assert isinstance(recipe, NewStyleRecipe)
    assert recipe.nearest() == [1, 0]
    for mine, theirs in zip(recipe.net.norms(), recipe.known.norms(), strict=True):
        for name in PER_STYLE:
            assert torch.equal(getattr(mine, name), getattr(theirs, name)[[1, 0]])


def test_a_stopped_training_goes_on_exactly(more: Callable[..., TrainStyleOptions], tmp_path: Path) -> None:
    whole = start_style_training(more("udnie"))
    list(train(whole))
    o = more("udnie", out=tmp_path / "again.safetensors")
    steps = train(start_style_training(o))
    for _ in range(3):
        next(steps)
    steps.close()
    again = start_style_training(replace(o, resume=True))
    assert again.step == 3
    list(train(again))
    for k, v in again.average.items():
        assert torch.equal(v, whole.average[k])


def test_a_name_that_is_taken(more: Callable[..., TrainStyleOptions]) -> None:
    with pytest.raises(TrainingError, match="has a style great-wave already; rename the file"):
        start_style_training(more("great-wave"))


def test_on_the_command_line(
    network: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """Learnt, and painted with."""
    monkeypatch.chdir(tmp_path)
    Image.effect_noise((90, 70), 60).convert("RGB").save("noise.png")
    command = ["train", "style", "noise.png", "--from", str(network), "--photos", str(photos), "--out", "n.safetensors"]
    assert main([*command, "--steps", "2", "--batch", "2", "--crop", "64", "--sample-every", "2"]) == 0
    assert "noise begins as " in capsys.readouterr().err
    assert Path("n-000002.jpg").exists()
    assert main(["stylize", "noise.png", "noise", "--model", "n.safetensors", "-o", "o.png"]) == 0
    with Image.open("o.png") as painting:
        assert painting.size == (90, 70)
