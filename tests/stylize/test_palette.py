"""The bundled network: that it paints every built-in style, and which one it is told to."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import impasto
from impasto.models.networks import learnt_styles
from impasto.models.weights import find_model, load_encoder
from impasto.style.builtin import builtin_names, load_builtin
from impasto.style.losses import gram_loss
from impasto.style.statistics import head_metric, raw_moments

SIZE = 256


@pytest.fixture(scope="module")
def content(photo: Callable[[str, int], Tensor]) -> Tensor:
    return photo("astronaut", SIZE)


@pytest.fixture(scope="module")
def distance() -> Callable[[Tensor, str], float]:
    """How far a picture is from a style: Gram matrices of the bundled encoder, relative, mean over its layers."""
    encoder = load_encoder("compact")
    layers = load_builtin("starry-night").layers
    metrics = {k: head_metric(encoder, k) for k in layers}

    @torch.no_grad()
    def measure(picture: Tensor, name: str) -> float:
        style, features = load_builtin(name).at(SIZE), encoder(picture, layers)
        own = [gram_loss(raw_moments(features[k]), style[k], metrics[k]).sqrt() for k in layers]
        return torch.cat(own).mean().item()

    return measure


def paint(content: Tensor, name: str, **options: Any) -> Tensor:
    return impasto.stylize(content, name, quality="instant", size=SIZE, precision="float32", **options)


def test_it_has_learnt_the_builtin_styles_and_is_small() -> None:
    assert list(learnt_styles(None)) == builtin_names()
    assert find_model("palette").path.stat().st_size <= 2_000_000


def test_every_style_comes_nearer(content: Tensor, distance: Callable[[Tensor, str], float]) -> None:
    """The distance to each style falls, on the average below two thirds of the photograph's own."""
    ratios = {n: distance(paint(content, n), n) / distance(content, n) for n in builtin_names()}
    worst = max(ratios, key=ratios.__getitem__)
    assert ratios[worst] < 0.95, worst
    assert math.exp(sum(math.log(r) for r in ratios.values()) / len(ratios)) < 0.67


def test_each_painting_is_of_its_own_style(content: Tensor, distance: Callable[[Tensor, str], float]) -> None:
    names = ("starry-night", "great-wave", "the-scream", "water-lilies")
    for name in names:
        painted = paint(content, name)
        far = {n: distance(painted, n) for n in names}
        assert min(far, key=far.__getitem__) == name


def test_strength_0_is_the_photograph(content: Tensor) -> None:
    """Through the network: no special case, so not exactly; and from there the way leads on evenly."""
    found = [paint(content, "starry-night", strength=s) for s in (0.0, 0.02, 0.5, 1.0)]
    errors = [(f - content).square().mean().item() for f in found]
    assert -10 * math.log10(errors[1]) > 20
    assert errors[0] > 0
    assert errors[1] < errors[2] < errors[3]


def test_borders_are_painted_as_the_inside_is(content: Tensor) -> None:
    """No frame: what the outermost pixels are off the ones behind them is no more than within the picture."""
    painted = paint(content, "great-wave")
    for x in (painted, painted.transpose(2, 3)):
        rows = (x[..., 1:, :] - x[..., :-1, :]).abs().mean((0, 1, 3))
        assert max(rows[0], rows[-1]) < 2 * rows[8:-8].mean()


def test_instant_takes_it_for_builtin_styles_alone(photo: Callable[[str, int], Tensor]) -> None:
    def method(style: Any, **options: Any) -> str:
        return impasto.load_stylizer(style, size=64, **options).method

    assert method("starry-night", quality="instant") == "feedforward"
    assert method(["starry-night", "udnie"], quality="instant") == "feedforward"
    assert method("starry-night") == method("starry-night", quality="draft") == "optimize"
    assert method(photo("coffee", 64), quality="instant") == "arbitrary"
    assert method([photo("coffee", 64), "udnie"], quality="instant") == "arbitrary"
    assert impasto.load_stylizer("palette", style="udnie", size=64).method == "feedforward"
