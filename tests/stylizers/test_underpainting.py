"""The underpainting: strokes of a smaller painting where the photograph is plain."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import impasto
from impasto.device import Compute
from impasto.errors import OptionError
from impasto.image.strips import MemorySource
from impasto.models.networks import find_network
from impasto.models.weights import load_encoder
from impasto.options import StylizeOptions
from impasto.style.plain import calmness, underpainting_gain
from impasto.style.target import load_builtin
from impasto.stylizers.network import NetworkStylizer
from impasto.stylizers.protocol import Region
from impasto.stylizers.underpainting import LEAST_SIDE, enlarged_rows, strengths, underpainting

SIZE = (96, 160)


def seen(photo: Tensor) -> Callable[[int], Tensor]:
    """Return what reduces a photograph."""
    return MemorySource(photo).reduced


def busy_painting() -> Tensor:
    """Return a painting (1, 3, 64, 64) of a bright and a dark half, without any plain area."""
    x = 0.4 * torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    x[:, :, 32:] += 0.6
    return x


@pytest.fixture(scope="module")
def photo() -> Tensor:
    """Return a photograph (1, 3, 96, 160): a plain left half, noise in the right."""
    x = torch.full((1, 3, *SIZE), 0.6)
    x[..., 80:] = torch.rand(1, 3, SIZE[0], 80, generator=torch.Generator().manual_seed(0))
    return x


@pytest.fixture(scope="module")
def stylizer() -> Callable[..., NetworkStylizer]:
    net, encoder = find_network(None), load_encoder("compact")

    def make(*styles: str, **options: Any) -> NetworkStylizer:
        styles = styles or ("starry-night",)
        chosen = StylizeOptions(method="network", **{"scale": 1.0, "underpainting": 1.0, **options})
        return NetworkStylizer(
            net, [load_builtin(s) for s in styles], chosen, encoder, Compute(torch.device("cpu"), None)
        )

    return make


def test_strokes_are_where_the_photograph_is_plain(stylizer: Callable[..., NetworkStylizer], photo: Tensor) -> None:
    """They are half the size of the painting, and about as strong as its colours differ."""
    found = underpainting(stylizer(), seen(photo), SIZE, [])
    assert found is not None
    assert found.shape == (1, 3, 48, 80)
    plain, busy = found[..., :28].std().item(), found[..., 44:].std().item()
    assert plain > 0.005
    assert busy < 0.2 * plain
    assert abs(found[..., :28].mean().item()) < 0.3 * plain


def test_they_are_in_the_painting(stylizer: Callable[..., NetworkStylizer], photo: Tensor) -> None:
    before, after = stylizer(underpainting=0.0)(photo), stylizer()(photo)
    change = (after - before).abs().mean((0, 1, 2))
    assert change[:56].mean() > 0.01


@pytest.mark.parametrize("options", [{"underpainting": 0.0}, {"strength": 0.0}])
def test_none_is_asked_for(stylizer: Callable[..., NetworkStylizer], photo: Tensor, options: dict[str, float]) -> None:
    assert underpainting(stylizer(**options), seen(photo), SIZE, []) is None


def test_a_tiny_painting_has_none(stylizer: Callable[..., NetworkStylizer], photo: Tensor) -> None:
    assert underpainting(stylizer(), seen(photo), (40, 2 * LEAST_SIDE - 1), []) is None
    assert underpainting(stylizer(), seen(photo), (40, 2 * LEAST_SIDE), []) is not None


def test_they_are_as_strong_as_asked_for(stylizer: Callable[..., NetworkStylizer], photo: Tensor) -> None:
    one, three, half = (
        underpainting(stylizer(**o), seen(photo), SIZE, [])
        for o in ({}, {"underpainting": 3.0}, {"strength": 0.5, "underpainting": 2.0})
    )
    assert one is not None
    assert three is not None
    torch.testing.assert_close(three, 3 * one)
    torch.testing.assert_close(half, one)


def test_the_style_decides(stylizer: Callable[..., NetworkStylizer], photo: Tensor) -> None:
    """The calmer a style, the weaker are its strokes; a calm one has none."""
    makes = partial(stylizer, underpainting=None)
    assert underpainting(makes("giverny-mist"), seen(photo), SIZE, []) is None
    gains = {
        name: underpainting_gain(load_builtin(name).calm) for name in ("starry-night", "water-lilies", "great-wave")
    }
    assert 0 < gains["great-wave"] < 0.6 < gains["starry-night"] < gains["water-lilies"]
    for name, gain in gains.items():
        found, one = (underpainting(make(name), seen(photo), SIZE, []) for make in (makes, stylizer))
        assert found is not None
        assert one is not None
        torch.testing.assert_close(found, gain * one)


def test_a_blend_has_the_mean_of_its_styles(stylizer: Callable[..., NetworkStylizer]) -> None:
    painter = stylizer("starry-night", "giverny-mist", underpainting=None, style_weights=(1.0, 3.0))
    assert strengths(painter, []) == [0.25 * underpainting_gain(load_builtin("starry-night").calm)]


def test_a_picture_decides_like_its_style_file(stylizer: Callable[..., NetworkStylizer]) -> None:
    painter, painting = stylizer(underpainting=None), busy_painting()
    first, second, _ = strengths(painter, [painter.bind(painting), painter.bind(load_builtin("giverny-mist"))])
    assert (first, second) == (underpainting_gain(calmness(painting)), 0.0)
    assert first > 1


def test_each_photograph_has_its_own(stylizer: Callable[..., NetworkStylizer], photo: Tensor) -> None:
    both = torch.cat([photo, photo.flip(3)])
    found = stylizer()(both)
    for i in range(2):
        torch.testing.assert_close(found[i : i + 1], stylizer()(both[i : i + 1]), rtol=0, atol=1e-3)


def test_regions_have_strokes_of_their_styles(stylizer: Callable[..., NetworkStylizer], photo: Tensor) -> None:
    left = torch.zeros(1, 1, *SIZE)
    left[..., :80] = 1
    painter, region = stylizer(), Region(left, load_builtin("great-wave"))
    places = [(region.mask, painter.bind(region.style))]
    own, other = underpainting(painter, seen(photo), SIZE, []), underpainting(painter, seen(photo), SIZE, places)
    assert own is not None
    assert other is not None
    assert (own - other)[..., :28].std() > 0.5 * own[..., :28].std()


def test_only_regions_of_busy_styles_have_strokes(stylizer: Callable[..., NetworkStylizer], photo: Tensor) -> None:
    left = torch.zeros(1, 1, *SIZE)
    left[..., :40] = 1
    painter = stylizer("giverny-mist", underpainting=None)
    found = underpainting(painter, seen(photo), SIZE, [(left, painter.bind(load_builtin("starry-night")))])
    assert found is not None
    assert found[..., :18].std() > 0.005
    assert not found[..., 24:].any()


def test_outside_of_a_mask_is_the_photograph(stylizer: Callable[..., NetworkStylizer], photo: Tensor) -> None:
    mask = torch.zeros(1, 1, *SIZE)
    mask[..., 100:] = 1
    found = stylizer(mask_feather=0.0)(photo, mask=mask)
    assert torch.equal(found[..., :100], photo[..., :100])


def test_rows_are_those_of_the_whole() -> None:
    strokes = torch.randn(2, 3, 13, 20, generator=torch.Generator().manual_seed(0))
    size = (31, 47)
    whole = F.interpolate(strokes, size, mode="bilinear", align_corners=False)
    rows = torch.cat([enlarged_rows(strokes, size, top, min(8, size[0] - top)) for top in range(0, size[0], 8)], 2)
    torch.testing.assert_close(rows, whole, rtol=0, atol=1e-5)


def test_only_the_network_has_it(photo: Tensor) -> None:
    with pytest.raises(OptionError, match="--underpainting is for the network that paints in one pass; add --quality"):
        impasto.stylize(photo, "starry-night", underpainting=1.0)
