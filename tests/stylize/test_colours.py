"""The colour controls do what they say, measured on paintings of real photographs."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from impasto.device import choose_compute
from impasto.errors import OptionError
from impasto.image.color import srgb_to_oklab
from impasto.image.resize import resize
from impasto.models.weights import load_encoder
from impasto.style.target import StyleTarget
from impasto.stylize.choose import load_stylizer

BRIEF: dict[str, Any] = {"size": 96, "iterations": 20, "precision": "float32"}


@pytest.fixture(scope="module")
def pair(photo: Callable[[str, int], Tensor]) -> tuple[Tensor, Tensor]:
    return photo("astronaut", 96), photo("coffee", 96).roll(1, 1)  # a style in colours of its own


def chroma_error(painting: Tensor, photo: Tensor) -> float:
    """Mean distance of the colours, lightness left out, in OKLab times 100."""
    difference = srgb_to_oklab(painting) - srgb_to_oklab(resize(photo, (painting.shape[2], painting.shape[3])))
    return 100 * difference[:, 1:].square().sum(1).sqrt().mean().item()


def mean_colour_distance(a: Tensor, b: Tensor) -> float:
    return (srgb_to_oklab(a).mean((2, 3)) - srgb_to_oklab(b).mean((2, 3))).norm().item()


@pytest.mark.parametrize("space", ["oklab", "ycbcr"])
def test_the_photos_colours_are_kept(pair: tuple[Tensor, Tensor], space: str) -> None:
    content, style = pair
    free = load_stylizer(style, **BRIEF)(content)
    half = load_stylizer(style, keep_colours=0.5, colour_space=space, **BRIEF)(content)
    kept = load_stylizer(style, keep_colours=1.0, colour_space=space, **BRIEF)(content)
    assert chroma_error(kept, content) <= 3.0
    assert chroma_error(kept, content) < chroma_error(half, content) < chroma_error(free, content)
    # It is still the painting in light and shade, not the photo.
    light = [srgb_to_oklab(p)[:, 0] for p in (kept, free, resize(content, (free.shape[2], free.shape[3])))]
    assert (light[0] - light[1]).abs().mean() < 0.5 * (light[0] - light[2]).abs().mean()


def test_every_step_shows_the_kept_colours(pair: tuple[Tensor, Tensor]) -> None:
    content, style = pair
    steps = list(load_stylizer(style, keep_colours=1.0, **{**BRIEF, "iterations": 2}).steps(content))
    assert all(chroma_error(s.image, content) <= 3.0 for s in steps)
    assert not torch.equal(steps[-1].image, steps[-1].painted)


@pytest.mark.parametrize("method", ["covariance", "histogram"])
def test_the_palette_is_the_photos(pair: tuple[Tensor, Tensor], method: str) -> None:
    content, style = pair
    free = load_stylizer(style, **BRIEF)(content)
    matched = load_stylizer(style, match_palette=method, **BRIEF)(content)
    assert mean_colour_distance(matched, content) <= 0.5 * mean_colour_distance(free, content)
    none = load_stylizer(style, match_palette=method, palette_strength=0.0, **BRIEF)(content)
    assert torch.equal(none, free)


def test_a_measured_style_has_no_palette_to_match(pair: tuple[Tensor, Tensor]) -> None:
    measured = StyleTarget.of(pair[1], load_encoder("compact"), choose_compute(), (96,))
    with pytest.raises(OptionError, match="--match-palette needs the style's picture"):
        load_stylizer(measured, match_palette="covariance", **BRIEF)
