"""Each quality paints with the network alone, with the network and a few steps, or with the steps alone."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

import impasto
from impasto.device import choose_compute
from impasto.errors import OptionError, StyleError
from impasto.image.resize import resize
from impasto.models.weights import load_encoder
from impasto.options import StylizeOptions
from impasto.style.target import StyleTarget
from impasto.stylizers.choose import load_stylizer
from impasto.stylizers.loss import Problem
from impasto.stylizers.optimize import OptimizeStylizer
from impasto.stylizers.protocol import Region
from impasto.stylizers.schedule import painting_size

PLAIN: dict[str, Any] = {"precision": "float32", "device": "cpu"}
SIZE = 160


@pytest.fixture(scope="module")
def picture(photo: Callable[[str, int], Tensor]) -> Tensor:
    return photo("astronaut", SIZE)


@pytest.fixture(scope="module", params=["coffee", "rocket"])
def painting(photo: Callable[[str, int], Tensor], request: pytest.FixtureRequest) -> Tensor:
    return photo(request.param, SIZE)


@pytest.mark.parametrize(
    "options",
    [
        {"tv_weight": 2.0},
        {"iterations": 3},
        {"start": "noise"},
        {"style_loss": "gram"},
        {"optimizer": "adam"},
        {"content_weight": 1.0},
    ],
    ids=str,
)
def test_instant_has_no_option_of_the_optimisation(picture: Tensor, painting: Tensor, options: dict[str, Any]) -> None:
    (name,) = (k.replace("_", "-") for k in options)
    with pytest.raises(OptionError, match=f"--{name} is for the optimisation, and --quality instant has none") as found:
        impasto.stylize(picture, painting, quality="instant", **options)
    assert "\n" not in str(found.value)


def test_instant_is_the_network(picture: Tensor, painting: Tensor) -> None:
    found = impasto.stylize(picture, painting, quality="instant", **PLAIN)
    assert torch.equal(found, impasto.stylize(picture, painting, method="network", **PLAIN))
    (step,) = load_stylizer(painting, quality="instant", **PLAIN).steps(picture)
    assert step.total == 1


@pytest.mark.bundled
def test_draft_goes_on_from_the_networks_painting(picture: Tensor, painting: Tensor, measure: Any) -> None:
    """It comes nearer to the style than the network's painting, and its first picture is not the photograph."""
    stylizer = load_stylizer(painting, quality="draft", **PLAIN)
    assert isinstance(stylizer, OptimizeStylizer)
    steps = list(stylizer.steps(picture))
    network = impasto.stylize(picture, painting, method="network", **PLAIN)
    size = steps[0].scale
    began, photo = resize(network, size), resize(picture, size)
    assert measure.difference(steps[0].image, began) < 0.5 * measure.difference(steps[0].image, photo)
    for kind in ("moments", "gram"):
        near, own, far = (measure.style(p, painting, kind) for p in (steps[-1].image, network, picture))
        assert near < own
        assert near < 0.5 * far
    # About as far as the same few steps come from the photograph, or further.
    plain = impasto.stylize(picture, painting, quality="draft", start="content", **PLAIN)
    assert measure.style(steps[-1].image, painting, "moments") < 1.3 * measure.style(plain, painting, "moments")


@pytest.mark.bundled
def test_each_quality_comes_nearer_than_the_one_before(picture: Tensor, painting: Tensor, measure: Any) -> None:
    qualities: Sequence[Any] = ("instant", "draft", "good", "best")
    found = [impasto.stylize(picture, painting, quality=q, size=96, **PLAIN) for q in qualities]
    distances = [measure.style(p, painting, "moments") for p in found]
    assert distances == sorted(distances, reverse=True)
    assert distances[-1] < 0.8 * distances[0]


@pytest.mark.parametrize(
    ("options", "start"),
    [
        ({}, "network"),
        ({"quality": "best"}, "network"),
        ({"quality": "draft"}, "network"),
        ({"quality": "draft", "start": "grey"}, "grey"),
        ({"start": "content"}, "content"),
        ({"preset": "gatys"}, "content"),
    ],
    ids=str,
)
def test_what_it_begins_with(options: dict[str, Any], start: str) -> None:
    assert StylizeOptions(**options).begins_with == start


def test_styles_that_the_network_cannot_use(picture: Tensor, painting: Tensor) -> None:
    """A style file of another encoder: `auto` starts from the photograph, and `network` is refused."""
    options: dict[str, Any] = {**PLAIN, "pooling": "average", "size": 96, "denoise": 0.0, "mottle": 0.0}
    encoder = load_encoder("compact", pooling="average")
    measured = StyleTarget.of(painting, encoder, choose_compute("cpu", "float32"), (96,))
    photo = resize(picture, painting_size((picture.shape[-2], picture.shape[-1]), StylizeOptions(size=96)))
    size = (photo.shape[-2], photo.shape[-1])

    def start(stylizer: Any, *regions: Region) -> Tensor:
        assert isinstance(stylizer, OptimizeStylizer)
        problem = Problem(encoder, stylizer.compute, stylizer.options, picture, size, stylizer.styles, regions)
        return stylizer.start_of(problem)

    assert torch.equal(start(load_stylizer(measured, **options)), photo)
    with pytest.raises(StyleError, match=r"made for the encoder compact .* average pooling"):
        load_stylizer(measured, start="network", **options)

    stylizer = load_stylizer(painting, **options)
    assert torch.equal(start(stylizer, Region(torch.ones(1, 1, *size), measured)), photo)
    assert not torch.equal(start(stylizer), photo)
