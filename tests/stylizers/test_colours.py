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
from impasto.options import ColourSpace
from impasto.style.target import StyleTarget
from impasto.stylizers.choose import load_stylizer

BRIEF: dict[str, Any] = {"size": 96, "iterations": 20, "precision": "float32", "optimizer": "lbfgs"}


@pytest.fixture(scope="module")
def pair(photo: Callable[[str, int], Tensor]) -> tuple[Tensor, Tensor]:
    return photo("astronaut", 96), photo("coffee", 96).roll(1, 1)  # a style in colours of its own


@pytest.fixture(scope="module")
def free(pair: tuple[Tensor, Tensor]) -> Tensor:
    """Return a painting made without any of the controls."""
    content, style = pair
    return load_stylizer(style, **BRIEF)(content)


@pytest.mark.parametrize("space", ["oklab", "ycbcr"])
def test_the_photos_colours_are_kept(
    pair: tuple[Tensor, Tensor], free: Tensor, space: ColourSpace, measure: Any
) -> None:
    content, style = pair
    half = load_stylizer(style, keep_colours=0.5, colour_space=space, **BRIEF)(content)
    kept = load_stylizer(style, keep_colours=1.0, colour_space=space, **BRIEF)(content)
    assert measure.chroma(kept, content) <= 3.0
    assert measure.chroma(kept, content) < measure.chroma(half, content) < measure.chroma(free, content)
    # It is still the painting in light and shade, not the photo.
    light = [srgb_to_oklab(p)[:, 0] for p in (kept, free, resize(content, (free.shape[2], free.shape[3])))]
    assert (light[0] - light[1]).abs().mean() < 0.5 * (light[0] - light[2]).abs().mean()


def test_the_colour_space_is_where_lightness_is_held(pair: tuple[Tensor, Tensor], free: Tensor) -> None:
    """OKLab preserves the painting's lightness better, YCbCr its luma."""
    content, style = pair
    oklab, ycbcr = (
        load_stylizer(style, keep_colours=1.0, colour_space=s, **BRIEF)(content) for s in ("oklab", "ycbcr")
    )
    luma = torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)

    def off(picture: Tensor) -> tuple[float, float]:
        lightness = (srgb_to_oklab(picture) - srgb_to_oklab(free))[:, 0].abs().mean().item()
        return lightness, ((picture - free) * luma).sum(1).abs().mean().item()

    assert off(oklab)[0] < 0.5 * off(ycbcr)[0]
    assert off(ycbcr)[1] < 0.5 * off(oklab)[1]


def test_every_step_shows_the_kept_colours(pair: tuple[Tensor, Tensor], measure: Any) -> None:
    content, style = pair
    brief = {**BRIEF, "iterations": 2}
    steps = list(load_stylizer(style, keep_colours=1.0, **brief).steps(content))
    assert all(measure.chroma(s.image, content) <= 3.0 for s in steps)
    assert not torch.equal(steps[-1].image, steps[-1].painted)


@pytest.mark.parametrize("method", ["covariance", "histogram"])
def test_the_palette_is_the_photos(pair: tuple[Tensor, Tensor], free: Tensor, method: Any, measure: Any) -> None:
    """The painting's colours are the photo's, in whatever places; more so at a higher strength."""
    content, style = pair
    none, half, whole = (
        load_stylizer(style, match_palette=method, palette_strength=s, **BRIEF)(content) for s in (0.0, 0.5, 1.0)
    )
    assert torch.equal(none, free)
    assert measure.palette(half, content) < 0.8 * measure.palette(free, content)
    assert measure.palette(whole, content) < 0.5 * measure.palette(free, content)
    # Unlike kept colours, they are not each in the photo's place.
    assert measure.chroma(whole, content) > 1.5


def test_a_measured_style_has_no_palette_to_match(pair: tuple[Tensor, Tensor]) -> None:
    measured = StyleTarget.of(pair[1], load_encoder("compact"), choose_compute(), (96,))
    with pytest.raises(OptionError, match="--match-palette needs the style's picture"):
        load_stylizer(measured, match_palette="covariance", **BRIEF)
