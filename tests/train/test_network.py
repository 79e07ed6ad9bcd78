"""Training the network that paints, in small: what is drawn, what the loss is, and that it learns."""

import csv
import json
import logging
import math
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

import impasto
from impasto.cli import main
from impasto.device import Compute
from impasto.errors import StyleError, TrainingError, WeightsError
from impasto.models.colours import colour
from impasto.models.moments import covariance, raw_moments
from impasto.models.network import Network, load_network
from impasto.models.networks import training_account
from impasto.models.weights import find_model, load_encoder
from impasto.options import OptimizeOptions, TrainNetworkOptions
from impasto.style.losses import total_variation
from impasto.style.painting import STYLE_LAYER_WEIGHTS, TONE, PaintingLoss, edge_loss, normalised
from impasto.style.plain import lattice_loss, plain_loss, plainness
from impasto.style.target import builtin_names, load_builtin
from impasto.stylizers.loss import Problem, build_loss
from impasto.stylizers.schedule import Scale
from impasto.tools.training import follow_network
from impasto.train.checkpoint import checkpoint_path, load_checkpoint
from impasto.train.loop import Training, train
from impasto.train.network import PICTURE, STROKES, NetworkRecipe, Sample, Sampler, noise_origin, scale_loss
from impasto.train.start import GAP, sample_sheet, start_network_training
from impasto.train.styles import find_styles, measure_styles
from impasto.verbs import parse

Brief = Callable[..., TrainNetworkOptions]
PLAIN = Compute(torch.device("cpu"), None)


def recipe_of(o: TrainNetworkOptions) -> NetworkRecipe:
    recipe = start_network_training(o).recipe
    assert isinstance(recipe, NetworkRecipe)
    return recipe


def drawn(sampler: Sampler, steps: int) -> list[Sample]:
    return [sampler(step, i) for step in range(steps) for i in range(sampler.options.batch)]


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


# -- what is drawn ----------------------------------------------------------------------------------------------------


def test_samples_come_from_their_numbers_alone(brief: Brief) -> None:
    one, other = (recipe_of(brief()).sample for _ in range(2))
    forwards = [one(step, i) for step in range(3) for i in range(4)]
    backwards = [other(step, i) for step in (2, 1, 0) for i in (3, 2, 1, 0)][::-1]
    for a, b in zip(forwards, backwards, strict=True):
        assert torch.equal(a.photo, b.photo)
        assert torch.equal(a.parts, b.parts)
        assert (a.share, a.learnt, a.size, a.seed) == (b.share, b.learnt, b.size, b.seed)
    assert not torch.equal(forwards[0].photo, forwards[1].photo)
    assert not torch.equal(forwards[0].photo, recipe_of(brief(seed=1)).sample(0, 0).photo)


def test_the_shares_of_what_is_drawn(brief: Brief) -> None:
    """Photographs in their own style, blends and learnt styles are drawn about as often as the options say."""
    o = brief(identity=0.2, mixed=0.5, learnt=0.25, batch=8)
    samples = drawn(recipe_of(o).sample, 50)
    own = [s for s in samples if len(s.parts) == 1 and torch.equal(s.photo, s.parts[0])]
    learnt = [s for s in samples if s.learnt >= 0]
    blends = [s for s in samples if len(s.parts) == 2]
    assert 0.15 < len(own) / 400 < 0.25
    assert 0.15 < len(learnt) / 400 < 0.25  # a quarter of the others
    assert 0.4 < len(blends) / (400 - len(own) - len(learnt)) < 0.6
    for s in samples:
        assert s.photo.shape == s.parts.shape[1:] == (3, 64, 64)
        assert 0 <= s.photo.min() <= s.photo.max() <= 1
        assert (s.share == 1) == (len(s.parts) != 2)
        assert len(s.parts) == (0 if s.learnt >= 0 else len(s.parts)) <= 2
    shares = [s.share for s in blends]
    assert min(shares) < 0.1 < 0.9 < max(shares)


@pytest.mark.parametrize(
    ("changes", "kinds"), [({"identity": 1.0}, {1}), ({"identity": 0.0, "mixed": 1.0, "styles": ()}, {2})]
)
def test_shares_of_0_and_1(brief: Brief, changes: dict[str, Any], kinds: set[int]) -> None:
    assert {len(s.parts) for s in drawn(recipe_of(brief(**changes)).sample, 5)} == kinds


def test_without_paintings_every_learnt_style_comes_as_often_as_the_others(brief: Brief) -> None:
    """All of them come before any is repeated, in a varying order, and some have strokes of another size."""
    o = brief(paintings=(), styles=("all",), batch=8, identity=0.0)
    count = len(builtin_names())
    samples = drawn(recipe_of(o).sample, 3 * count // 8)
    order = [s.learnt for s in samples]
    rounds = [order[i : i + count] for i in range(0, len(order), count)]
    assert all(sorted(r) == list(range(count)) for r in rounds)
    assert rounds[0] != rounds[1]
    sizes = [s.size / PICTURE for s in samples]
    assert 0.4 < sum(size == 1 for size in sizes) / len(sizes) < 0.8
    assert STROKES[0] <= min(sizes) < 1 < max(sizes) <= STROKES[1]
    assert all(s.parts.shape == (0, 3, 64, 64) for s in samples)


def test_photographs_of_the_sheets_are_always_the_same(brief: Brief) -> None:
    recipe = recipe_of(brief())
    photos = recipe.sample.photographs(3)
    assert photos.shape == (3, 3, 64, 64)
    assert torch.equal(photos, recipe_of(brief()).sample.photographs(3))


def test_what_cannot_be_read_is_drawn_anew(brief: Brief, photos: Path, tmp_path: Path) -> None:
    folder = tmp_path / "broken"
    folder.mkdir()
    (folder / "broken.jpg").write_bytes(b"no")
    sampler = recipe_of(brief(photos=(photos, folder))).sample
    drawn(sampler, 10)
    assert (len(sampler.photos), sampler.photos.skipped) == (7, 1)
    with pytest.raises(TrainingError, match="100 training pictures in a row cannot be read"):
        recipe_of(brief(photos=(folder,))).sample(0, 0)


# -- styles and targets -----------------------------------------------------------------------------------------------


def test_targets_are_the_moments_of_the_parts(brief: Brief) -> None:
    """One part gives its own moments, two the blend, a learnt style those of its file at that size, in any order."""
    recipe = recipe_of(brief())
    a, b, photo = (noise(3, 64, 64, seed=i) for i in range(3))
    none = a.new_zeros(0, 3, 64, 64)
    samples = [
        Sample(photo, none, 1.0, 1, 300.0, (0,)),
        Sample(photo, torch.stack([a, b]), 0.25, -1, 0.0, (0,)),
        Sample(photo, b[None], 1.0, -1, 0.0, (0,)),
        Sample(photo, none, 1.0, 0, 512.0, (0,)),
        Sample(photo, a[None], 1.0, -1, 0.0, (0,)),
    ]
    found = recipe.targets(samples)
    of = {name: recipe.distance.moments(x[None]) for name, x in (("a", a), ("b", b))}
    assert list(found) == ["relu1_1", "relu2_1", "relu3_1", "relu4_1"]
    for k, rows in found.items():
        mixed = 0.25 * of["a"][k][0] + 0.75 * of["b"][k][0]
        wave, night = load_builtin("great-wave").at(300)[k][0], load_builtin("starry-night").at(512)[k][0]
        for row, wanted in zip(rows, (wave, mixed, of["b"][k][0], night, of["a"][k][0]), strict=True):
            torch.testing.assert_close(row, wanted, rtol=1e-3, atol=1e-4)
    only = recipe.targets([samples[0], samples[3]])  # nothing is measured
    assert all(torch.equal(only[k][1], found[k][3]) for k in found)


def test_styles_of_every_kind(tmp_path: Path, brief: Brief) -> None:
    folder = tmp_path / "styles"
    folder.mkdir()
    Image.effect_noise((90, 70), 60).convert("RGB").save(folder / "noise.png")
    load_builtin("udnie").save(folder / "udnie.style.safetensors")
    assert list(find_styles([str(folder), "great-wave"])) == ["noise", "udnie", "great-wave"]
    assert list(find_styles(["all"])) == builtin_names()
    recipe = recipe_of(brief(styles=(str(folder), "great-wave")))
    assert recipe.net.config.styles == ("noise", "udnie", "great-wave")
    measured, file, builtin = recipe.styles
    assert measured.sizes == (128, 256, 512, 1024)
    assert set(measured.layers) >= {"relu1_1", "relu4_1"}
    torch.testing.assert_close(file.at(512)["relu1_1"], load_builtin("udnie").at(512)["relu1_1"])
    assert builtin.name == "great-wave"


def test_styles_that_will_not_do(tmp_path: Path, brief: Brief) -> None:
    with pytest.raises(TrainingError, match="no pictures or style files"):
        find_styles([str(tmp_path)])
    with pytest.raises(TrainingError, match="two styles are called udnie"):
        find_styles(["all", "udnie"])
    with pytest.raises(TrainingError, match="no style to learn"):
        find_styles([])
    with pytest.raises(StyleError, match="did you mean starry-night"):
        start_network_training(brief(styles=("stary-night",)))
    other = load_encoder("compact")
    other.digest = "ffff"
    with pytest.raises(StyleError, match="the style was made for the encoder compact"):
        measure_styles(["udnie"], other, PLAIN)


# -- the loss ---------------------------------------------------------------------------------------------------------


def colours_of(x: Tensor) -> Tensor:
    """Return the covariance and mean of pictures, (N, 3, 4)."""
    m = raw_moments(x)
    return torch.cat([covariance(m), m[:, :-1, -1:]], 2)


def test_a_style_is_at_no_distance_from_itself(brief: Brief) -> None:
    recipe = recipe_of(brief())
    pictures = F.interpolate(noise(2, 3, 16, 16), scale_factor=4)  # nowhere plain
    pictures[1] = pictures[1].square() * 0.5
    targets, colours = recipe.distance.moments(pictures), colours_of(pictures)
    near = recipe.distance(pictures, pictures, targets, colours)
    other = {k: m.flip(0) for k, m in targets.items()}
    far = recipe.distance(pictures, pictures.flip(0), other, colours.flip(0))
    assert list(near) == ["style", "content", "tone", "plain", "edges", "rim", "lattice", "variation"]
    assert all(v.shape == (2,) for v in near.values())
    for term in ("style", "content", "tone", "plain", "edges", "rim", "lattice"):
        assert near[term].abs().max() < 1e-3 * far[term].min(), term
    torch.testing.assert_close(near["variation"], 2.5 * total_variation(pictures))


def test_paint_in_plain_places_costs_more() -> None:
    """The same change is made once where the photograph has one colour, and once where it is noise."""
    photo = noise(1, 3, 64, 64)
    photo[..., :32] = 0.5
    changes = torch.zeros(2, 3, 64, 64)
    changes[0, :, 24:40, 4:20], changes[1, :, 24:40, 44:60] = 0.1, 0.1
    at_plain, at_noise = (plain_loss(c[None], plainness(photo)).item() for c in changes)
    assert at_plain > 2 * at_noise > 0


def test_in_plain_areas_dots_cost_and_soft_strokes_do_not() -> None:
    """At equal contrast, a lattice 6 pixels wide is compared with strokes of 24 pixels."""
    plain = torch.ones(1, 1, 24, 24)
    at = torch.arange(96) * 2 * torch.pi
    dots, strokes = ((torch.sin(at / p)[:, None] * torch.sin(at / p)).expand(1, 3, -1, -1) for p in (6, 24))
    of_dots, of_strokes = (plain_loss(x, plain).item() for x in (dots, strokes))
    assert of_dots > 10 * of_strokes > 0


def test_a_rim_costs_and_large_shapes_do_not() -> None:
    """At equal contrast, a stripe of 8 pixels at an edge costs more than one in a plain area or a wave of 96 pixels."""
    photo = torch.full((1, 3, 96, 96), 2.0)
    photo[..., :32] = 0.0
    rim, stripe = torch.zeros(2, 1, 3, 96, 96)
    rim[..., 32:40], stripe[..., 72:80] = 1, 1
    wave = torch.sin(torch.arange(96) * 2 * torch.pi / 96).expand(1, 3, 96, -1)
    at_rim, at_stripe, at_wave = (edge_loss(x, photo).item() for x in (rim, stripe, wave))
    assert at_rim > 1.5 * at_stripe > 0
    assert at_rim > 5 * at_wave > 0


def test_a_lattice_costs_and_scattered_dots_do_not() -> None:
    """The contrast is equal and the area plain; where the photograph is noise, a lattice costs less."""
    lattice = torch.zeros(192, 192)
    lattice[::8, ::8] = 1
    scattered = lattice.flatten()[torch.randperm(192 * 192, generator=torch.Generator().manual_seed(1))]
    flat, rough = torch.ones(1, 1, 48, 48), plainness(noise(1, 3, 192, 192))
    lattice, dots = (x.reshape(192, 192).expand(1, 3, -1, -1) for x in (lattice, scattered))
    at_lattice, at_dots, in_noise = (
        lattice_loss(x, plain).item() for x, plain in ((lattice, flat), (dots, flat), (lattice, rough))
    )
    assert at_lattice > 50 * at_dots > 0
    assert in_noise < 0.25 * at_lattice


def test_it_is_the_loss_of_the_optimisation(photo: Callable[[str, int], Tensor]) -> None:
    """The terms are equal one by one where nothing is plain, except for the tone and the layers' weights."""
    encoder = load_encoder("compact")
    style, x = (photo(n, 96)[..., :64, :64] for n in ("chelsea", "astronaut"))
    content = F.interpolate(noise(1, 3, 16, 16), scale_factor=4)  # nowhere plain
    mine = PaintingLoss(encoder, PLAIN, content_weight=0.032, tone_weight=0.1, tv_weight=2.5)
    found = mine(x, content, mine.moments(style), colours_of(style))
    weights: dict[str, Any] = {"content_weight": 0.032, "tv_weight": 2.5, "plain_weight": 1.0}
    options = OptimizeOptions(size=64, layers=STYLE_LAYER_WEIGHTS, **weights)
    problem = Problem(encoder, PLAIN, options, content, (64, 64), [style])
    wanted = build_loss(problem, Scale((64, 64), 1, 1.0), x)(x)
    assert found["style"].item() == pytest.approx(wanted["style"].item(), rel=1e-2)
    assert found["content"].item() == pytest.approx(wanted["content"].item(), rel=1e-2)
    assert found["variation"].item() == pytest.approx(wanted["tv"].item(), rel=1e-3)


def test_the_style_counts_less_in_plain_areas(photo: Callable[[str, int], Tensor]) -> None:
    """It asks for less change there."""
    loss = PaintingLoss(load_encoder("compact"), PLAIN, content_weight=0.032, tone_weight=0.1, tv_weight=2.5)
    content = F.interpolate(noise(1, 3, 32, 32), scale_factor=4)
    content[..., :64] = 0.5
    style, x = photo("chelsea", 128)[..., :128, :128], noise(1, 3, 128, 128).requires_grad_()
    loss(x, content, loss.moments(style), colours_of(style))["style"].sum().backward()
    assert x.grad is not None
    plain, busy = (x.grad[..., part].abs().mean() for part in (slice(0, 48), slice(80, None)))
    assert 0.3 * busy < plain < 0.6 * busy


def test_the_tone_is_that_of_large_shapes(photo: Callable[[str, int], Tensor]) -> None:
    """Differences within a square, and the colours themselves, do not count.

    A shift by a standard deviation gives 1.
    """
    x, style = photo("coffee", 96)[..., :64, :64], 0.35 + 0.3 * photo("chelsea", 96)
    colours = colours_of(style)
    wanted = colour(x, colours)
    loss = PaintingLoss(load_encoder("compact"), PLAIN, content_weight=0.0, tone_weight=1.0, tv_weight=0.0)
    targets = loss.moments(style)

    def tone(*paintings: Tensor) -> list[float]:
        several = {k: m.expand(len(paintings), -1, -1) for k, m in targets.items()}
        photos, wanted_colours = x.expand(len(paintings), -1, -1, -1), colours.expand(len(paintings), -1, -1)
        return loss(torch.cat(paintings), photos, several, wanted_colours)["tone"].tolist()

    rows = torch.arange(64) % 2 * 0.2 - 0.1
    assert TONE % 2 == 0
    deviation = colours[0, :, :3].diagonal().mean().sqrt()
    turned = wanted.flip(3)
    same, within, shifted, other = tone(wanted, wanted + rows[:, None], wanted + deviation, turned)
    assert max(same, within) < 1e-6
    assert shifted == pytest.approx(1, rel=1e-2)
    assert other > 0.1
    assert tone(turned) == pytest.approx([other], rel=1e-4)


def test_a_batchs_loss_is_the_sum_of_its_pictures(brief: Brief) -> None:
    """The losses of parts, as several processes have them, add up; so do those of moved photographs, one of four."""
    recipe = recipe_of(brief(stability=0.5, batch=8))
    samples = [recipe.sample(0, i) for i in range(8)]
    with torch.no_grad():
        whole, terms = recipe.loss(samples)
        parts = [recipe.loss(samples[i::2]) for i in (0, 1)]
    assert list(terms) == [
        "style",
        "content",
        "tone",
        "plain",
        "edges",
        "rim",
        "lattice",
        "variation",
        "scale",
        "spikes",
        "overshoot",
        "stability",
    ]
    torch.testing.assert_close(sum(terms.values(), torch.zeros(())), whole)
    for k, v in terms.items():
        assert sum(t[k].item() for _, t in parts) == pytest.approx(v.item(), rel=1e-3), k


def test_paint_is_what_the_stylizer_paints(brief: Brief) -> None:
    recipe = recipe_of(brief())
    recipe.net.learnt.data.normal_(0, 0.1, generator=torch.Generator().manual_seed(0))
    photos, style = noise(3, 3, 64, 64), load_builtin("great-wave").at(512)
    targets = {k: style[k].expand(3, -1, -1) for k in recipe.distance.style}
    net = recipe.net
    found, raw, _ = recipe.paint(photos, targets, [1, -1, 0])
    for i, more in enumerate((net.learnt[1:2], 0 * net.learnt[:1], net.learnt[:1])):
        affine = net.shifted(net.predict(style), more)
        painted = net(photos[i : i + 1], affine)
        torch.testing.assert_close(raw[i : i + 1], painted, rtol=1e-3, atol=5e-3)
        wanted = colour(painted, net.style_colours(style))
        torch.testing.assert_close(found[i : i + 1], wanted, rtol=0, atol=1e-3)


def test_flicker_of_what_does_not_move(brief: Brief, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same photograph is painted the same, so nothing flickers; noise does."""
    recipe = recipe_of(brief(stability=1.0))
    samples = [recipe.sample(0, i) for i in range(4)]
    photos, targets = torch.stack([s.photo for s in samples]), recipe.targets(samples)
    monkeypatch.setattr("impasto.train.network.moved", lambda pair, rng: (pair[:, :, :], 2))
    with torch.no_grad():
        origins = [noise_origin(s) for s in samples]
        paintings, *_ = recipe.paint(photos, targets, [s.learnt for s in samples], origins)
        values = []
        for most in (0.0, 0.03, 0.3):
            monkeypatch.setattr("impasto.train.network.MOST_NOISE", most)
            values.append(recipe.flicker(samples, photos, paintings, targets).item())
    assert values[0] < 1e-6
    assert values[0] < values[1] < values[2]


def test_the_scale_is_that_of_the_styles_colours() -> None:
    """The loss is 0 if a painting has their variance, as high for half of it as for twice, and ignores the mean."""
    x = noise(1, 3, 32, 32)
    colours = torch.cat([x.var((2, 3)).mean() * torch.eye(3), torch.zeros(3, 1)], 1)[None]
    assert scale_loss(x, colours).item() < 1e-9
    found = scale_loss(torch.cat([2 * x, 0.5 * x, 2 * x + 3]), colours.expand(3, -1, -1))
    torch.testing.assert_close(found, torch.full((3,), math.log(4.0) ** 2), rtol=1e-4, atol=1e-4)
    assert scale_loss(torch.zeros(1, 3, 8, 8), colours).isfinite().all()


def test_weights_that_sum_to_1() -> None:
    assert normalised({"a": 1.0, "b": 3.0}) == {"a": 0.25, "b": 0.75}


# -- the network that is trained --------------------------------------------------------------------------------------


def test_it_is_calibrated(brief: Brief, photo: Callable[[str, int], Tensor], monkeypatch: pytest.MonkeyPatch) -> None:
    """Over styles, summaries have mean 0 and deviation 1, and colours are read as they are."""
    recipe = recipe_of(brief())  # where it is made small
    monkeypatch.setattr("impasto.train.network.CALIBRATION", 40)
    recipe.calibrate()
    net, x = recipe.net, photo("coffee", 96)
    features = recipe.distance.features(x, ("relu1_1",))
    m = raw_moments(x)
    wanted = torch.cat([m[:, :3, :3] - m[:, :3, 3:] @ m[:, 3:, :3], m[:, :3, 3:]], 2)
    torch.testing.assert_close(net.colours(raw_moments(features["relu1_1"])), wanted, rtol=0, atol=0.03)
    rng = np.random.default_rng(0)
    many = torch.stack([recipe.sample.part(rng) for _ in range(60)])
    seen = torch.cat([net.summaries[k](v) for k, v in recipe.distance.moments(many).items()], 1)
    assert seen.mean(0).abs().mean() < 0.3
    assert 0.5 < seen.std(0).mean() < 1.5


def test_what_learns_at_which_rate(brief: Brief) -> None:
    """Muon trains the convolutions; Adam trains the predictor, the learnt styles and the rest, each at its own rate."""
    recipe = recipe_of(brief(rate=0.5, small_rate=0.25, style_rate=0.125, learnt_rate=0.0625))
    names = {id(p): n for n, p in recipe.net.named_parameters()}
    recipe.optimisers.zero_grad()
    recipe.optimisers.step(0.5)
    (muon,) = recipe.optimisers.optimisers["muon"].param_groups
    rest, styles, learnt = recipe.optimisers.optimisers["adam"].param_groups
    assert [g["lr"] for g in (muon, rest, styles, learnt)] == [0.25, 0.125, 0.0625, 0.03125]
    assert [names[id(p)] for p in learnt["params"]] == ["learnt"]
    assert {names[id(p)].partition(".")[0] for p in styles["params"]} == {"predictor", "summaries"}
    assert {names[id(p)].partition(".")[0] for p in rest["params"]} == {"last", "noises"}
    assert len(muon["params"]) == len(recipe.net.convolutions())
    assert len(recipe.optimisers.parameters) == len(names)
    without = recipe_of(brief(styles=()))
    assert len(without.optimisers.optimisers["adam"].param_groups) == 2


def test_every_parameter_has_a_gradient(brief: Brief) -> None:
    recipe = recipe_of(brief(batch=8))
    recipe.optimisers.zero_grad()
    recipe.loss([recipe.sample(0, i) for i in range(8)])[0].backward()
    for name, p in recipe.net.named_parameters():
        assert p.grad is not None
        assert p.grad.isfinite().all(), name
        assert p.grad.abs().max() > 0, name


def losses_of(recipe: NetworkRecipe, samples: Sequence[Sample]) -> dict[str, float]:
    with torch.no_grad():
        return {k: v.item() / len(samples) for k, v in recipe.loss(samples)[1].items()}


def fixed(o: TrainNetworkOptions, steps: int) -> tuple[dict[str, float], dict[str, float], NetworkRecipe]:
    """Return the terms before and after some steps on the same batch."""
    training = start_network_training(o)
    recipe = training.recipe
    assert isinstance(recipe, NetworkRecipe)
    samples = [recipe.sample(0, i) for i in range(o.batch)]
    before = losses_of(recipe, samples)
    for _ in range(steps):
        training.advance(iter([samples]))
    return before, losses_of(recipe, samples), recipe


def test_it_learns_a_batch(brief: Brief) -> None:
    """Training on the same few pictures lowers the loss, and its style term."""
    before, after, _ = fixed(brief(width=8, steps=1000, identity=0.0, warm_up=0), 40)
    assert sum(after.values()) < 0.75 * sum(before.values())
    assert after["style"] < 0.85 * before["style"]


def test_it_learns_styles_alone(brief: Brief) -> None:
    """If nothing else learns, what is learnt for a style helps that style and not the other one."""
    rates = {"rate": 0.0, "small_rate": 0.0, "style_rate": 0.0, "learnt_rate": 0.05}
    before, after, recipe = fixed(
        brief(width=8, steps=1000, paintings=(), identity=0.0, warm_up=0, batch=2, content_weight=0.0, **rates), 40
    )
    assert after["style"] < 0.97 * before["style"]
    learnt = recipe.net.learnt.detach()
    assert (learnt.abs().amax(1) > 0.01).all()
    samples = [recipe.sample(0, i) for i in range(2)]
    assert {s.learnt for s in samples} == {0, 1}
    recipe.net.learnt.data = learnt.flip(0)
    assert losses_of(recipe, samples)["style"] > after["style"]


def test_the_convolutions_keep_their_length(brief: Brief) -> None:
    training = start_network_training(brief(steps=2))
    list(train(training))
    net = training.recipe.net
    assert isinstance(net, Network)
    for w in net.convolutions():
        torch.testing.assert_close(w.flatten(1).norm(dim=1), torch.full((len(w),), 2**0.5))


def test_the_sample_sheet(brief: Brief) -> None:
    recipe = recipe_of(brief())
    photos = recipe.sample.photographs(3)
    sheet = sample_sheet(recipe, photos)
    assert sheet.shape == (1, 3, 9 * (64 + GAP), 3 * (64 + GAP))
    assert torch.equal(sheet[0, :, :64, :64], photos[0])
    assert torch.equal(sheet, sample_sheet(recipe, photos))


# -- from a base ------------------------------------------------------------------------------------------------------


def test_it_goes_on_from_a_known_network_with_other_styles(brief: Brief, tmp_path: Path) -> None:
    known = brief(out=tmp_path / "known.safetensors", steps=2)
    list(train(start_network_training(known)))
    net, _ = load_network(known.out)
    assert net.learnt.abs().max() > 0
    again = recipe_of(brief(base=str(known.out), styles=("great-wave", "udnie")))
    for k, v in again.net.state_dict().items():
        assert k == "learnt" or torch.equal(v, net.state_dict()[k]), k  # nothing is calibrated anew
    wave, udnie = (again.net.learnt_style(n) for n in ("great-wave", "udnie"))
    assert wave is not None
    assert torch.equal(wave, net.learnt[1:2])
    assert udnie is not None
    assert udnie.abs().max() == 0
    alone = recipe_of(brief(base=str(known.out), styles=("udnie",), paintings=()))
    assert alone.net.config.styles == ("udnie",)


def test_the_file_names_what_it_began_with_and_no_folder(brief: Brief, tmp_path: Path) -> None:
    """A network that is passed on does not reveal the machine that it was trained on."""
    shape = {"width": 32, "blocks": 2, "fine": 4, "rank": 8, "hidden": 320}  # that of the bundled one
    own = tmp_path / "own.safetensors"
    for base, name in (
        (None, None),
        ("network", "network"),
        (str(find_model("network").path), "network"),
        (str(own), "own.safetensors"),
    ):
        o = brief(out=own if base != str(own) else tmp_path / "next.safetensors", base=base, **shape)
        recipe = recipe_of(o)
        recipe.write(recipe.net, o.out, 0)
        assert training_account(load_network(o.out)[1])["from"] == name


def test_a_base_that_will_not_do(brief: Brief, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"has another shape: .*; give the same"):
        start_network_training(brief(base="network"))
    with pytest.raises(WeightsError, match="there is no such model file"):
        start_network_training(brief(base=str(tmp_path / "none.safetensors")))
    with pytest.raises(WeightsError, match="holds a network of the kind 'encoder'"):
        start_network_training(brief(base=str(find_model("compact").path)))


def test_what_is_missing(brief: Brief, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(
        TrainingError, match="there is nothing to learn; give a folder of paintings with --paintings, or --styles"
    ):
        start_network_training(brief(paintings=(), styles=()))
    for which in ("photos", "paintings"):
        with pytest.raises(TrainingError, match=r"there are no pictures in .*empty; give folders or packed files"):
            start_network_training(brief(**{which: (empty,)}))
        with pytest.raises(TrainingError, match="nowhere does not exist"):
            start_network_training(brief(**{which: (tmp_path / "nowhere",)}))
    with pytest.raises(TrainingError, match="there are no pictures in no folder"):
        start_network_training(brief(photos=()))


# -- from end to end --------------------------------------------------------------------------------------------------


def arguments(o: TrainNetworkOptions, *more: str) -> list[str]:
    pictures = ["--photos", *map(str, o.photos), "--paintings", *map(str, o.paintings), "--styles", *o.styles]
    shape = ["--width", "4", "--blocks", "1", "--fine", "1"]
    shape += ["--rank", "1", "--hidden", "8", "--device", "cpu"]
    steps = ["--steps", "4", "--batch", "2", "--crop", "64", "--precision", "float32", "--checkpoint-every", "2"]
    return ["train", "network", *pictures, "--out", str(o.out), *shape, *steps, *more]


def test_on_the_command_line(brief: Brief, tmp_path: Path, photo_file: Any, capsys: Any) -> None:
    """Training writes a log, samples and a checkpoint, and the network paints, also in the pictures' styles."""
    o = brief(out=tmp_path / "out" / "own.safetensors")
    assert main(arguments(o, "--sample-every", "3", "--workers", "1")) == 0
    said = capsys.readouterr().err
    assert "6 photographs, 3 paintings, 2 styles, on cpu, float32" in said
    assert "own.safetensors: trained" in said
    net, metadata = load_network(o.out)
    assert net.config.styles == ("starry-night", "great-wave")
    assert net.config.encoder == load_encoder("compact").digest
    numbers = [getattr(net.config, k) for k in ("width", "blocks", "fine", "rank", "hidden")]
    assert numbers == [4, 1, 1, 1, 8]
    account = training_account(metadata)
    assert account["recipe"] == "impasto train network"
    assert (account["steps"], account["batch"], account["crop"]) == (4, 2, 64)
    assert (account["photographs"], account["paintings"]) == (6, 3)
    assert str(tmp_path) not in json.dumps(metadata)
    assert load_checkpoint(checkpoint_path(o.out))["step"] == 4
    with o.out.with_suffix(".csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert row["step"] == "4"
    assert float(row["loss"]) == pytest.approx(
        sum(float(v) for k, v in row.items() if k not in ("step", "seconds", "loss")), rel=1e-3
    )
    with Image.open(o.out.parent / "own-000003.jpg") as sheet:
        assert sheet.size == (4 * (64 + GAP), 9 * (64 + GAP))
    names = {p.name for p in o.out.parent.iterdir()}
    assert names == {"own.safetensors", "own.csv", "own.checkpoint", "own-log", "own-000003.jpg", "own-000004.jpg"}
    assert (o.out.parent / "own-log").is_dir()
    for style in ("great-wave", photo_file("chelsea")):
        found = impasto.stylize(photo_file("coffee"), style, model=str(o.out), size=64)
        assert found.size == (64, 43)


def test_resumed_on_the_command_line_it_is_the_uninterrupted_one(brief: Brief, tmp_path: Path) -> None:
    whole, parts = (brief(out=tmp_path / f"{n}.safetensors") for n in ("whole", "parts"))
    common = ["--sample-every", "0", "--workers", "0"]
    assert main(arguments(whole, *common)) == 0
    assert main(arguments(parts, *common, "--minutes", "0")) == 0
    assert not parts.out.exists()  # no step in that time, and nothing to go on from
    training = start_network_training(parse(arguments(parts, *common)).verb.options)
    steps = train(training)
    for _ in range(3):
        next(steps)
    steps.close()
    assert main(arguments(parts, *common, "--resume")) == 0
    assert parts.out.read_bytes() == whole.out.read_bytes()


def test_ctrl_c_ends_with_a_checkpoint(
    brief: Brief, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The current step is finished first."""
    o = brief(steps=50, checkpoint_every=1000)
    advance = Training.advance

    def interrupted(self: Training, batches: Any) -> Any:
        found = advance(self, batches)
        if self.step == 3:
            signal.raise_signal(signal.SIGINT)
        return found

    monkeypatch.setattr(Training, "advance", interrupted)
    with caplog.at_level(logging.INFO, "impasto"), pytest.raises(KeyboardInterrupt):
        follow_network(o)
    assert load_checkpoint(checkpoint_path(o.out))["step"] == 3
    assert load_network(o.out)[0].config.styles == ("starry-night", "great-wave")


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--steps", "0"], "--steps"),
        (["--crop", "32"], "--crop"),
        (["--rate", "-1"], "--rate"),
        (["--from", "none.safetensors"], "there is no such model file"),
        (["--from", "network"], "has another shape"),
        (["--resume"], "cannot resume from"),
        (["--exclude", "none.txt"], "cannot read --exclude"),
        (["--styles", "stary-night"], "did you mean starry-night"),
    ],
)
def test_errors_are_one_line(brief: Brief, more: list[str], message: str, capsys: Any) -> None:
    o = brief()
    assert main(arguments(o, *more)) in (1, 2)
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert message in said
    assert not o.out.exists()
