from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from impasto.errors import StyleError, TrainingError
from impasto.models.norm import PER_STYLE, Conditions
from impasto.models.transformer import load_transformer
from impasto.options import TrainFeedforwardOptions
from impasto.style.builtin import builtin_names, load_builtin
from impasto.tools.metrics import distances, load_judge
from impasto.train.feedforward import STROKES, FeedforwardRecipe, LearntDrawn
from impasto.train.loop import Training, train
from impasto.train.start import sample_sheet, start_training
from impasto.train.styles import find_styles

Brief = Callable[..., TrainFeedforwardOptions]
Measured = Callable[[Training], dict[str, float]]


def recipe_of(options: TrainFeedforwardOptions) -> FeedforwardRecipe:
    recipe = start_training(options).recipe
    assert isinstance(recipe, FeedforwardRecipe)
    return recipe


@pytest.mark.parametrize(("colours", "share"), [(False, 0.7), (True, 0.85)])
def test_it_learns(brief: Brief, measured: Measured, colours: bool, share: float) -> None:
    """Style and identity losses fall, where colours are given from the start too; the file paints as the network."""
    o = brief(steps=60, crop=64, width=8, batch=4, content_weight=0.0, stability=0.1, average=0.8, colours=colours)
    training = start_training(o)
    before = measured(training)
    list(train(training))
    after = measured(training)
    assert after["style"] < share * before["style"]
    assert after["identity"] < 0.7 * before["identity"]
    net, metadata = load_transformer(o.out)
    assert (net.config.styles, net.config.colours) == (("starry-night", "great-wave"), colours)
    assert '"steps": 60' in metadata["training"]
    x = torch.rand(1, 3, 64, 64)
    with training.averaged() as own, torch.no_grad():
        conditions = Conditions.of(torch.tensor([1]), 2)
        torch.testing.assert_close(net(x, conditions), own(x, conditions), rtol=0, atol=0.02)


def test_paintings_have_their_styles_colours(brief: Brief, tmp_path: Path) -> None:
    """Those of the paintings themselves, read from the encoder's features; of a blend, what lies between them."""
    means, paths = ((0.7, 0.5, 0.3), (0.3, 0.4, 0.6)), [tmp_path / "one.png", tmp_path / "two.png"]
    for mean, path in zip(means, paths, strict=True):
        noise = np.random.default_rng(0).normal(mean, 0.08, (96, 120, 3))
        Image.fromarray((255 * noise).clip(0, 255).astype(np.uint8)).save(path)
    net = recipe_of(brief(width=8, styles=tuple(str(p) for p in paths), picture=120)).net.eval()
    x = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    weights = ([1.0, 0.0], [0.0, 1.0], [0.5, 0.5])
    with torch.no_grad():
        found = [net(x, Conditions(torch.tensor([w]), (1.0,))).mean((2, 3))[0] for w in weights]
    expected = [*means, [(a + b) / 2 for a, b in zip(*means, strict=True)]]
    for mine, wanted in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, torch.tensor(wanted), rtol=0, atol=0.03)


def test_every_style_comes_as_often_as_the_others(brief: Brief) -> None:
    recipe = recipe_of(brief(styles=("all",), batch=8))
    drawn = [recipe.picture(step, i) for step in range(9) for i in range(8)]
    assert sorted(d.style for d in drawn) == sorted([*range(24)] * 3)
    assert 8 <= sum(d.plain for d in drawn) <= 36  # of 72 pictures 0.3
    assert {d.stroke for d in drawn} == set(range(len(STROKES)))
    again, before = recipe.picture(3, 5), drawn[3 * 8 + 5]
    assert torch.equal(again.photo, before.photo)
    assert (again.style, again.stroke, again.plain) == (before.style, before.stroke, before.plain)
    assert again.photo.shape == (3, 64, 64)


@pytest.mark.parametrize("loss", ["gram", "moments"])
def test_a_style_is_at_no_distance_from_itself(brief: Brief, loss: str) -> None:
    recipe = recipe_of(brief(style_loss=loss))
    middle = STROKES.index(1.0)
    for layer in recipe.layers:
        own = torch.cat([load_builtin(n).at(512)[layer] for n in ("starry-night", "great-wave")])
        near, far = (recipe.distances[layer](own, len(STROKES) * torch.tensor(i) + middle) for i in ((0, 1), (1, 0)))
        assert near.abs().max() < 0.02
        assert far.min() > 10 * near.abs().max()


def test_the_content_is_what_the_judge_calls_so(brief: Brief, monkeypatch: pytest.MonkeyPatch) -> None:
    """Behind the encoder's head: the narrow features have other proportions, and leave out what night scenes paint."""
    monkeypatch.setattr("impasto.train.painters.MARGIN", 0)  # the judge has none
    recipe = recipe_of(brief())
    x, y = torch.rand(2, 1, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    drawn = [LearntDrawn(x[0], 0, False, STROKES.index(1.0))]
    found = recipe._styled(x, y, drawn)[1]["contents"]
    photo, painting = (load_judge("compact").measure(p) for p in (x, y))
    assert found[0].item() == pytest.approx(distances(painting, photo, photo).content, rel=1e-3)


def test_what_learns_at_which_rate(brief: Brief) -> None:
    """Convolutions by Muon; what styles differ by, and the rest, each at a rate of its own by Adam."""
    recipe = recipe_of(brief(rate=0.5, small_rate=0.25, style_rate=0.125))
    names = {id(p): n for n, p in recipe.net.named_parameters()}
    recipe.optimisers.zero_grad()
    recipe.optimisers.step(0.5)
    (muon,) = recipe.optimisers.optimisers["muon"].param_groups
    rest, styles = recipe.optimisers.optimisers["adam"].param_groups
    assert (muon["lr"], rest["lr"], styles["lr"]) == (0.25, 0.125, 0.0625)
    assert {names[id(p)].rpartition(".")[2] for p in styles["params"]} == set(PER_STYLE)
    assert {names[id(p)].rpartition(".")[2] for p in rest["params"]} == {"weight", "bias", "plain_scale", "plain_shift"}
    assert len(recipe.optimisers.parameters) == len(names)


def test_it_goes_on_from_a_known_network(brief: Brief, tmp_path: Path) -> None:
    known = brief(out=tmp_path / "known.safetensors", steps=2)
    for _ in train(start_training(known)):
        pass
    net, _ = load_transformer(known.out)
    again = recipe_of(brief(base=str(known.out), styles=("great-wave", "udnie")))
    expected = net.state_dict()
    for key, value in again.net.state_dict().items():
        if key == "colours":  # of the file in float16, of the training as they were measured
            torch.testing.assert_close(value[0], expected[key][1], rtol=0, atol=1e-3)
        elif key.rpartition(".")[2] in PER_STYLE:
            assert torch.equal(value[0], expected[key][1]), key
        else:
            assert torch.equal(value, expected[key]), key
    assert again.account(1)["from"] == str(known.out)
    with pytest.raises(TrainingError, match="is a network of --width 4 --blocks 1; give the same"):
        start_training(brief(base=str(known.out), width=8))


def test_more_processes_than_pictures(brief: Brief) -> None:
    class Two:
        world_size, global_rank = 2, 1

    with pytest.raises(TrainingError, match="--batch is 1 for 2 processes"):
        Training(recipe_of(brief(batch=2)), brief(batch=1), Two())  # type: ignore[arg-type]


def test_the_sample_sheet(brief: Brief) -> None:
    recipe = recipe_of(brief())
    photos = recipe.sample(3)
    sheet = sample_sheet(recipe, photos)
    assert sheet.shape == (1, 3, 3 * 66, 3 * 66)
    assert torch.equal(sheet[0, :, :64, :64], photos[0])
    assert torch.equal(photos, recipe.sample(3))


# -- what it learns from ----------------------------------------------------------------------------------------------


def test_styles_of_every_kind(tmp_path: Path, brief: Brief) -> None:
    folder = tmp_path / "styles"
    folder.mkdir()
    Image.effect_noise((90, 70), 60).convert("RGB").save(folder / "noise.png")
    load_builtin("udnie").save(folder / "udnie.style.safetensors")
    found = find_styles([str(folder), "great-wave"])
    assert list(found) == ["noise", "udnie", "great-wave"]
    recipe = recipe_of(brief(styles=(str(folder), "great-wave")))
    assert recipe.net.config.styles == ("noise", "udnie", "great-wave")
    assert list(find_styles(["all"])) == builtin_names()


def test_styles_that_will_not_do(tmp_path: Path, brief: Brief) -> None:
    with pytest.raises(TrainingError, match="no pictures and no style files"):
        find_styles([str(tmp_path)])
    with pytest.raises(TrainingError, match="two styles are called udnie"):
        find_styles(["all", "udnie"])
    with pytest.raises(TrainingError, match="no style to learn"):
        find_styles([])
    with pytest.raises(StyleError, match="did you mean starry-night"):
        start_training(brief(styles=("stary-night",)))


def test_broken_photographs(brief: Brief, photos: Path, tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "broken.jpg").write_bytes(b"no")
    recipe = recipe_of(brief(photos=(photos, folder)))
    for i in range(40):
        recipe.photograph(i, 0)
    assert (len(recipe.photos), recipe.photos.skipped) == (7, 1)
    with pytest.raises(TrainingError, match="100 training pictures in a row cannot be read"):
        recipe_of(brief(photos=(folder,))).photograph(0, 0)


def test_no_photographs(brief: Brief, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="nowhere does not exist"):
        start_training(brief(photos=(tmp_path / "nowhere",)))
