"""Training of the network for any style, in small."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from impasto.errors import TrainingError
from impasto.models.arbitrary import load_arbitrary
from impasto.options import TrainArbitraryOptions
from impasto.train.arbitrary import ArbitraryRecipe
from impasto.train.loop import Training, train
from impasto.train.start import sample_sheet, start_arbitrary_training, start_training

Brief = Callable[..., TrainArbitraryOptions]
Measured = Callable[[Training], dict[str, float]]


@pytest.fixture(scope="session")
def paintings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three pictures of stripes and spots, each in colours of its own."""
    folder = tmp_path_factory.mktemp("paintings")
    y, x = np.mgrid[:140, :150]
    for i, pattern in enumerate((np.sin(x / 3), np.sin(y / 2), np.sin(x / 5) * np.sin(y / 5))):
        colour = np.roll([0.9, 0.5, 0.1], i)
        Image.fromarray((255 * (0.5 + 0.5 * pattern[..., None]) * colour).astype(np.uint8)).save(folder / f"{i}.png")
    return folder


@pytest.fixture
def small(photos: Path, paintings: Path, tmp_path: Path) -> Brief:
    """Options of a training of seconds."""

    def options(**changes: Any) -> TrainArbitraryOptions:
        values: dict[str, Any] = {
            "paintings": (paintings,),
            "photos": (photos,),
            "out": tmp_path / "any.safetensors",
            "steps": 6,
            "batch": 4,
            "crop": 64,
            "width": 4,
            "blocks": 1,
            "hidden": 8,
            "warm_up": 2,
            "identity": 0.3,
            "own": 0.2,
            "mixed": 0.5,
            "checkpoint_every": 2,
            "sample_every": 0,
            "device": "cpu",
            "precision": "float32",
        }
        return TrainArbitraryOptions(**{**values, **changes})

    return options


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("impasto.train.arbitrary.PART", 64)
    monkeypatch.setattr("impasto.train.arbitrary.CALIBRATION", 8)


def recipe_of(o: TrainArbitraryOptions) -> ArbitraryRecipe:
    recipe = start_arbitrary_training(o).recipe
    assert isinstance(recipe, ArbitraryRecipe)
    return recipe


def test_it_learns(small: Brief, measured: Measured) -> None:
    styles = {"content_weight": 0.0, "stability": 0.0, "identity": 0.0, "own": 0.0, "mixed": 0.0}  # and nothing else
    o = small(**styles, rate=0.005, style_rate=0.01, steps=40, batch=8, width=8, average=0.8)
    training = start_arbitrary_training(o)
    before = measured(training)
    list(train(training))
    assert measured(training)["style"] < 0.8 * before["style"]
    net, metadata = load_arbitrary(o.out)
    assert '"recipe": "impasto train arbitrary"' in metadata["training"]
    assert '"paintings": 3' in metadata["training"]
    assert net.config.encoder == training.recipe.encoder.digest  # type: ignore[attr-defined]


def test_stopped_and_resumed_is_uninterrupted(small: Brief, tmp_path: Path) -> None:
    whole = start_arbitrary_training(small())
    for _ in train(whole):
        pass
    half = small(out=tmp_path / "half.safetensors")
    steps = train(start_arbitrary_training(half))
    for _ in range(3):
        next(steps)
    steps.close()
    resumed = start_arbitrary_training(small(out=half.out, resume=True))
    assert resumed.step == 3
    for _ in train(resumed):
        pass
    for k, v in whole.average.items():
        assert torch.equal(v, resumed.average[k]), k


def test_what_is_drawn(small: Brief) -> None:
    recipe = recipe_of(small())
    drawn = [d for step in range(20) for d in recipe.draw(step, range(4)).values()]
    assert 4 <= sum(d.own for d in drawn) <= 32
    assert 8 <= sum(d.plain for d in drawn) <= 40
    assert {len(d.parts) for d in drawn} == {1, 2}
    for d in drawn:
        assert d.back == (d.plain or d.own)
        own = recipe.measure(d.parts)
        for k, m in d.moments.items():
            blended = d.share * own[k][:1] + (1 - d.share) * own[k][-1:]
            torch.testing.assert_close(m, blended, rtol=1e-3, atol=1e-3)
    first = next(d for d in drawn if d.own and not d.plain)
    assert first.photo.shape == (3, 64, 64)
    assert torch.equal(first.photo, first.parts[0])


def test_crops_larger_than_parts(small: Brief) -> None:
    """The parts of paintings are then as large, so that a painting in its own style is of the crops' size."""
    recipe = recipe_of(small(crop=96, own=0.5))
    drawn = [recipe.picture(step, 0) for step in range(8)]
    assert {d.own for d in drawn} == {True, False}
    assert {d.photo.shape for d in drawn} == {(3, 96, 96)}


def test_a_style_is_at_no_distance_from_itself(small: Brief) -> None:
    recipe = recipe_of(small(mixed=0.0))
    drawn = list(recipe.draw(0, range(4)).values())
    for layer in recipe.layers:
        own = torch.cat([d.moments[layer] for d in drawn])
        near = recipe.style_losses(layer, own, drawn)
        far = recipe.style_losses(layer, own.roll(1, 0), drawn)
        assert near.shape == (4,)
        assert near.abs().max() < 0.02
        assert far.max() > 10 * near.abs().max()


def test_it_begins_as_a_network_of_learnt_styles(small: Brief, brief: Callable[..., Any], tmp_path: Path) -> None:
    o = brief(out=tmp_path / "known.safetensors", steps=2)
    for _ in train(start_training(o)):
        pass
    recipe = recipe_of(small(base=str(o.out)))
    known = start_training(brief(out=o.out, base=str(o.out))).recipe.net
    torch.testing.assert_close(recipe.transformer.last.weight, known.last.weight)  # type: ignore[union-attr]
    assert recipe.account(1)["from"] == str(o.out)
    with pytest.raises(TrainingError, match="is a network of --width 4 --blocks 1; give the same"):
        start_arbitrary_training(small(base=str(o.out), width=8))


def test_it_goes_on_with_a_network_for_any_style(small: Brief, tmp_path: Path) -> None:
    first = small(out=tmp_path / "first.safetensors", steps=2)
    for _ in train(start_arbitrary_training(first)):
        pass
    known, _ = load_arbitrary(first.out)
    recipe = recipe_of(small(base=str(first.out), seed=1))
    for key, value in recipe.net.state_dict().items():
        torch.testing.assert_close(value, known.state_dict()[key])
    assert recipe.balance.weights.tolist() == pytest.approx([0.05])
    assert recipe.balance.begin == 0  # it has settled
    with pytest.raises(TrainingError, match="give the same"):
        start_arbitrary_training(small(base=str(first.out), hidden=16))


def test_the_sample_sheet(small: Brief) -> None:
    recipe = recipe_of(small())
    photos = recipe.sample(2)
    assert sample_sheet(recipe, photos).shape == (1, 3, 9 * 66, 2 * 66)


def test_no_paintings(small: Brief, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="nowhere does not exist"):
        start_arbitrary_training(small(paintings=(tmp_path / "nowhere",)))
