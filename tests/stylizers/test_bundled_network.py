"""Tests of the bundled network.

Their bounds are loose, so any trained network passes; benchmarks measure its quality.
"""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import impasto
from impasto.models.colours import overshoot
from impasto.models.moments import raw_moments
from impasto.models.networks import find_network
from impasto.models.passes import ORIGIN, padded
from impasto.models.vgg import VGG
from impasto.models.weights import find_model
from impasto.style.losses import gram_loss, head_metric
from impasto.style.target import builtin_names, load_builtin
from impasto.train.spikes import WatchedPass, highest

pytestmark = pytest.mark.bundled

SIZE = 192


@pytest.fixture(scope="module")
def content(photo: Callable[[str, int], Tensor]) -> Tensor:
    return photo("astronaut", SIZE)


@pytest.fixture(scope="module")
def distance(encoder: VGG) -> Callable[[Tensor, str], float]:
    """Return the relative distance of Gram matrices to a built-in style, averaged over four layers."""
    layers = ("relu1_1", "relu2_1", "relu3_1", "relu4_1")
    metrics = {k: head_metric(encoder, k) for k in layers}

    @torch.no_grad()
    def measure(picture: Tensor, name: str) -> float:
        style, features = load_builtin(name).at(SIZE), encoder(picture, layers)
        own = [gram_loss(raw_moments(features[k]), style[k], metrics[k]).sqrt() for k in layers]
        return torch.cat(own).mean().item()

    return measure


def paint(content: Tensor, *names: str, **options: Any) -> Tensor:
    options = {"quality": "instant", "size": SIZE, "precision": "float32", **options}
    return impasto.stylize(content, list(names), **options)


def test_it_is_small_and_for_the_bundled_encoder(encoder: VGG) -> None:
    assert find_model("network").path.stat().st_size < 16_000_000  # a file of the repository
    net = find_network(None)
    assert net.config.encoder == encoder.digest
    assert net.config.layers == {k: encoder.width(k) for k in net.config.layers}
    assert set(net.config.styles) <= set(builtin_names())


def test_most_styles_come_nearer(content: Tensor, distance: Callable[[Tensor, str], float]) -> None:
    """The distance to a style falls by a fifth on average, compared with the photograph's own."""
    names = builtin_names()[::3]
    ratios = {n: distance(paint(content, n), n) / distance(content, n) for n in names}
    assert math.exp(sum(math.log(r) for r in ratios.values()) / len(ratios)) < 0.8, ratios
    assert sorted(ratios.values())[len(ratios) // 2] < 0.9, ratios


def test_each_painting_is_of_its_own_style(content: Tensor, distance: Callable[[Tensor, str], float]) -> None:
    names = ("starry-night", "great-wave", "the-scream")
    for name in names:
        painted = paint(content, name)
        far = {n: distance(painted, n) for n in names}
        assert min(far, key=far.__getitem__) == name


def test_a_painting_shows_the_photograph(content: Tensor) -> None:
    """Light and dark are where they are in the photograph."""
    for name in ("starry-night", "water-lilies"):
        painted, photo = (x.mean(1).flatten() for x in (paint(content, name), content))
        assert torch.corrcoef(torch.stack([painted, photo]))[0, 1] > 0.4


def test_the_strength(content: Tensor) -> None:
    """Strength 0 gives the photograph, and the way from there is even."""
    found = [paint(content, "starry-night", strength=s) for s in (0.0, 0.05, 0.25, 0.5, 1.0)]
    errors = [(f - content).square().mean().item() for f in found]
    assert -10 * math.log10(max(errors[0], 1e-12)) > 50
    assert errors == sorted(errors)
    assert errors[1] < 0.25 * errors[-1]


def test_borders_are_painted_as_the_inside_is(content: Tensor) -> None:
    """There is no frame: the outermost pixels differ from their neighbours little more than the next dozen rows do."""
    for name in ("great-wave", "starry-night", "udnie"):
        painted = paint(content, name)
        for x in (painted, painted.transpose(2, 3)):
            rows = (x[..., 1:, :] - x[..., :-1, :]).abs().mean((0, 1, 3))
            assert rows[0] < 2 * rows[1:13].mean()
            assert rows[-1] < 2 * rows[-13:-1].mean()


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_it_is_finite_in_every_precision(content: Tensor, precision: str) -> None:
    for strength in (0.0, 1.0, 1.5):
        painted = paint(content, "udnie", size=96, precision=precision, strength=strength)
        assert painted.isfinite().all()
        assert painted.std() > 0.02 or strength == 0


@pytest.mark.parametrize("name", [pytest.param("astronaut", marks=pytest.mark.slow), "rocket"])
def test_nothing_glows(photo: Callable[[str, int], Tensor], name: str) -> None:
    """Glowing dots would show as features above 40 standard deviations, or as paint far above white."""
    net, content = find_network(None), photo(name, 512)
    heights, beyond = dict[str, float](), dict[str, float]()
    for style in builtin_names():
        offset, target = net.learnt_style(style), load_builtin(style).at(512.0)
        affine = net.predict(target)
        watched = WatchedPass(net, affine if offset is None else net.shifted(affine, offset), ORIGIN, highest)
        with torch.inference_mode():
            painted = net.run(watched, padded(content))
            beyond[style] = overshoot(painted, net.style_colours(target)).item()
        heights[style] = max(float(s) for s in watched.spikes)
    assert max(heights.values()) < 40, heights
    assert max(beyond.values()) < 0.1, beyond
