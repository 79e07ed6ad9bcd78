"""`optimize`: the schedule, and that what comes out is close to the style, always the same, and the best there was."""

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from impasto.device import Compute
from impasto.errors import DivergedError, OptionError, StyleError
from impasto.models.vgg import STYLE_LAYERS, VGG
from impasto.models.weights import load_encoder
from impasto.options import ITERATIONS, OptimizeOptions
from impasto.style.losses import PerceptualLoss, gram_loss
from impasto.style.statistics import head_metric
from impasto.style.target import StyleTarget
from impasto.stylize import optimize as module
from impasto.stylize.optimize import OptimizeStylizer, painting_size, schedule
from impasto.stylize.protocol import Step

Photo = Callable[[str, int], Tensor]
PLAIN = Compute(torch.device("cpu"), None)


@pytest.fixture(scope="module")
def encoder() -> VGG:
    return load_encoder("compact")


@pytest.fixture(scope="module")
def content(photo: Photo) -> Tensor:
    return photo("coffee", 128)


@pytest.fixture(scope="module")
def style(photo: Photo) -> Tensor:
    return photo("chelsea", 160)


@pytest.fixture(scope="module")
def make(encoder: VGG, style: Tensor) -> Callable[..., OptimizeStylizer]:
    """`make(size=64, ...)`: a stylizer in float32, its style a cat's fur unless `styles` says otherwise."""

    def build(styles: Any = (style,), start_picture: Tensor | None = None, **options: Any) -> OptimizeStylizer:
        return OptimizeStylizer(styles, OptimizeOptions(**options), encoder, PLAIN, start_picture)

    return build


def style_distance(encoder: VGG, picture: Tensor, style: Tensor, size: int) -> float:
    """Mean over the style layers of ||G - G_s|| / ||G_s||, the style at that long side."""
    found = StyleTarget.of(picture, encoder, PLAIN, (size,)).at(size)
    wanted = StyleTarget.of(style, encoder, PLAIN, (size,)).at(size)
    return sum(
        gram_loss(found[k], wanted[k], head_metric(encoder, k)).sqrt().item() / len(STYLE_LAYERS) for k in STYLE_LAYERS
    )


# -- sizes and schedule -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "content", "size"),
    [
        ({}, (600, 400), (600, 400)),  # the quality's limit never enlarges
        ({}, (3000, 2000), (1024, 683)),
        ({"quality": "draft"}, (3000, 2000), (512, 341)),
        ({"quality": "best"}, (3000, 2000), (2048, 1365)),
        ({"size": 800}, (600, 400), (800, 533)),  # --size does
        ({"size": 3000}, (400, 600), (2000, 3000)),
        ({"size": 60}, (400, 600), (40, 60)),
        ({"scale": 0.5}, (400, 601), (200, 300)),
        ({"scale": 2.0}, (2000, 1000), (4000, 2000)),
    ],
)
def test_painting_size(options: dict[str, Any], content: tuple[int, int], size: tuple[int, int]) -> None:
    assert painting_size(content, OptimizeOptions(**options)) == size


@pytest.mark.parametrize("quality", list(ITERATIONS))
@pytest.mark.parametrize("size", [(32, 32), (64, 96), (1024, 700), (129, 128), (2048, 2048), (33, 4000), (2000, 40)])
@pytest.mark.parametrize("iterations", [None, 1, 2, 3, 7, 100, 1001])
def test_schedule(quality: Any, size: tuple[int, int], iterations: int | None) -> None:
    options = OptimizeOptions(quality=quality, iterations=iterations)
    scales = schedule(size, options)
    assert scales[-1].size == size
    assert sum(s.iterations for s in scales) == (iterations or ITERATIONS[quality])
    assert all(s.iterations >= 1 for s in scales)
    for coarse, fine in pairwise(scales):
        assert coarse.size < fine.size
        assert min(coarse.size) >= 32
        assert max(coarse.size) / min(coarse.size) == pytest.approx(max(size) / min(size), rel=0.05)


def test_schedule_starts_near_the_coarsest_size() -> None:
    scales = schedule((768, 1024), OptimizeOptions(coarsest=200, iterations=60))
    assert [s.size for s in scales] == [(96, 128), (192, 256), (384, 512), (768, 1024)]
    assert [s.iterations for s in scales] == [15, 15, 15, 15]
    assert len(schedule((768, 1024), OptimizeOptions(coarsest=1024))) == 1
    assert {s.rate for s in schedule((500, 500), OptimizeOptions(rate=0.5))} == {0.5}


@pytest.mark.parametrize(
    ("shape", "options", "advice"),
    [
        ((10, 10), {}, "a 10x10 painting of a 10x10 photo is too small .* give --size 32 or more"),
        ((1, 1), {}, "give --size 32 or more"),
        ((20, 2000), {}, "a 1024x10 painting of a 2000x20 photo .* give --size 3200 or more"),
        ((2000, 20), {"size": 1000}, "give --size 3200 or more"),
        ((300, 400), {"scale": 0.05}, "give --size 43 or more"),
        ((2, 9000), {}, "too elongated: crop it"),
    ],
)
def test_a_photo_that_is_too_small(
    make: Callable[..., OptimizeStylizer], shape: tuple[int, int], options: dict[str, Any], advice: str
) -> None:
    with pytest.raises(OptionError, match=advice):
        make(**options).steps(torch.zeros(1, 3, *shape))


def test_the_size_that_the_error_names_is_enough(make: Callable[..., OptimizeStylizer]) -> None:
    painting = make(size=96, iterations=1)(torch.rand(1, 3, 4, 12, generator=torch.Generator().manual_seed(0)))
    assert painting.shape == (1, 3, 32, 96)


@pytest.mark.parametrize("shape", [(12, 9), (6, 30)])
def test_a_style_that_is_too_small_is_enlarged(
    make: Callable[..., OptimizeStylizer], content: Tensor, shape: tuple[int, int]
) -> None:
    tiny = torch.rand(1, 3, *shape, generator=torch.Generator().manual_seed(0))
    painting = make((tiny,), size=48, iterations=2)(content)
    assert painting.isfinite().all()


# -- painting ---------------------------------------------------------------------------------------------------------


def totals(steps: list[Step], scale: int) -> list[float]:
    return [s.losses["total"] for s in steps if s.scale_index == scale]


def test_coarse_to_fine_on_a_photograph(
    make: Callable[..., OptimizeStylizer], encoder: VGG, content: Tensor, style: Tensor
) -> None:
    before = content.clone()
    steps = list(make(size=128, coarsest=64, iterations=40).steps(content))
    assert [(s.scale, s.scale_index, s.scales) for s in steps[::20]] == [((42, 64), 1, 2), ((85, 128), 2, 2)]
    assert [(s.iteration, s.total) for s in steps] == [(i, 40) for i in range(1, 41)]
    assert totals(steps, 1)[-1] < 0.4 * totals(steps, 1)[0]
    assert totals(steps, 2)[-1] < 0.6 * totals(steps, 2)[0]
    for step in steps:
        assert step.image.shape[-2:] == step.scale
        assert step.image.dtype == torch.float32
        assert 0 <= step.image.min() <= step.image.max() <= 1
        assert step.losses["total"] == pytest.approx(sum(v for k, v in step.losses.items() if k != "total"), rel=1e-4)
    painting = steps[-1].image
    assert style_distance(encoder, painting, style, 128) < 0.4 * style_distance(encoder, content, style, 128)
    assert (painting - content).abs().mean() < 0.3  # it is still the photograph
    assert torch.equal(content, before)


def test_a_coarse_start_helps(
    make: Callable[..., OptimizeStylizer], encoder: VGG, content: Tensor, style: Tensor
) -> None:
    """It is as good as one scale for less: the coarse half of the iterations costs a quarter."""
    distances = [
        style_distance(encoder, make(size=128, coarsest=coarsest, iterations=24)(content), style, 128)
        for coarsest in (64, 128)
    ]
    assert distances[0] < 1.2 * distances[1]


def test_the_same_seed_gives_the_same_picture(make: Callable[..., OptimizeStylizer], content: Tensor) -> None:
    options: dict[str, Any] = {"size": 64, "iterations": 4, "start": "noise"}
    first, second = (make(seed=3, **options)(content) for _ in range(2))
    assert torch.equal(first, second)
    assert not torch.equal(first, make(seed=4, **options)(content))


def test_randomness_elsewhere_does_not_matter(make: Callable[..., OptimizeStylizer], content: Tensor) -> None:
    paintings = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        paintings.append(make(size=48, iterations=2, start="noise")(content))
    assert torch.equal(*paintings)


def test_what_it_starts_from(make: Callable[..., OptimizeStylizer], content: Tensor, photo: Photo) -> None:
    size = (43, 64)
    assert torch.equal(make(start="grey").first(content, size), torch.full((1, 3, *size), 0.5))
    assert make(start="content").first(content, (content.shape[-2], content.shape[-1])) is content
    noise = make(start="noise").first(content, size)
    assert noise.std() == pytest.approx(0.15, rel=0.1)
    assert noise.mean() == pytest.approx(0.5, abs=0.02)
    rocket = photo("rocket", 100)
    height, width = rocket.shape[-2:]
    assert make(start="rocket.jpg", start_picture=rocket).first(content, (height, width)) is rocket
    assert make(start="rocket.jpg", start_picture=rocket).first(content, size).shape[-2:] == size
    with pytest.raises(OptionError, match=r"--start rocket\.jpg is none of content, noise, grey, and no picture"):
        make(start="rocket.jpg").first(content, size)


@pytest.mark.parametrize("start", ["noise", "grey", "picture"])
def test_from_every_start_the_loss_falls(
    make: Callable[..., OptimizeStylizer], content: Tensor, photo: Photo, start: str
) -> None:
    steps = list(make(start_picture=photo("rocket", 80), size=64, iterations=12, start=start).steps(content))
    assert totals(steps, 1)[-1] < 0.7 * totals(steps, 1)[0]


def test_lbfgs(make: Callable[..., OptimizeStylizer], encoder: VGG, content: Tensor, style: Tensor) -> None:
    steps = list(make(size=64, iterations=10, optimizer="lbfgs").steps(content))
    found = totals(steps, 1)
    assert len(found) == 10
    assert found[-1] < 0.3 * found[0]
    assert found == sorted(found, reverse=True)  # its line search never goes up
    assert all(0 <= s.image.min() <= s.image.max() <= 1 for s in steps)
    painting = steps[-1].image
    assert style_distance(encoder, painting, style, 64) < 0.6 * style_distance(encoder, content, style, 64)


def test_weights_of_several_styles(make: Callable[..., OptimizeStylizer], content: Tensor, style: Tensor) -> None:
    other = content.flip(2, 3).roll(1, 1)
    options: dict[str, Any] = {"size": 48, "iterations": 3}
    alone = make((style,), **options)(content)
    assert torch.equal(make((style, other), style_weights=(2.0, 0.0), **options)(content), alone)
    both = make((style, other), **options)(content)
    assert torch.equal(make((style, other), style_weights=(3.0, 3.0), **options)(content), both)
    assert not torch.equal(both, alone)


def test_a_measured_style_paints_as_its_picture_does(
    make: Callable[..., OptimizeStylizer], encoder: VGG, content: Tensor, style: Tensor
) -> None:
    options: dict[str, Any] = {"size": 64, "iterations": 3}
    measured = StyleTarget.of(style, encoder, PLAIN, (64, 128))
    assert torch.equal(make((measured,), **options)(content), make((style,), **options)(content))


def test_the_size_of_the_strokes(make: Callable[..., OptimizeStylizer], style: Tensor) -> None:
    (large,), (plain,) = make(style_scale=2.0).style_at(40, [style]), make().style_at(80, [style])
    assert all(torch.equal(large[k], m) for k, m in plain.items())


def test_weights_change_the_balance(make: Callable[..., OptimizeStylizer], content: Tensor) -> None:
    def last(**weights: float) -> dict[str, float]:
        steps = list(make(size=64, iterations=20, **weights).steps(content))
        return dict(steps[-1].losses)

    faithful, free = last(content_weight=5.0), last(content_weight=0.005)
    assert faithful["content"] / 5.0 < 0.5 * free["content"] / 0.005
    assert faithful["style"] > free["style"]
    assert "content" not in last(content_weight=0.0)
    assert "style" not in last(style_weight=0.0)
    assert "tv" not in last(tv_weight=0.0)


@pytest.mark.parametrize(
    ("styles", "weights", "message"),
    [(1, (1.0, 2.0), "2 --style-weights for 1 styles"), (2, (0.0, 0.0), "one must be positive"), (0, (), "no style")],
)
def test_bad_styles_are_found_before_the_work(
    make: Callable[..., OptimizeStylizer], style: Tensor, styles: int, weights: tuple[float, ...], message: str
) -> None:
    with pytest.raises(OptionError, match=message):
        make((style,) * styles, style_weights=weights)


def test_a_style_of_another_encoder(make: Callable[..., OptimizeStylizer], encoder: VGG, style: Tensor) -> None:
    measured = StyleTarget.of(style, encoder, PLAIN, (64,))
    other = StyleTarget("compact", "0" * 16, "max", measured.moments, measured.pixels)
    with pytest.raises(StyleError, match="give the painting itself"):
        make((other,))


# -- the best iterate, and the end of finite numbers ------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", ["adam", "lbfgs"])
def test_the_best_picture_of_a_scale_is_kept(
    make: Callable[..., OptimizeStylizer], content: Tensor, monkeypatch: pytest.MonkeyPatch, optimizer: str
) -> None:
    """Each scale shows and hands on the picture of its lowest total loss; the losses are the iteration's own."""
    began: list[float] = []

    def minimise(loss: PerceptualLoss, x: Tensor, scale: Any) -> Iterator[tuple[Tensor, dict[str, float]]]:
        began.append(round(x.mean().item(), 4))
        for i, total in enumerate([3.0, 1.0, 2.0, 1.0]):
            yield torch.full_like(x, (i + 1) / 10), {"total": total}

    monkeypatch.setattr(module, f"minimise_{optimizer}", minimise)
    steps = list(make(size=128, coarsest=64, iterations=8, optimizer=optimizer).steps(content))
    assert [s.losses["total"] for s in steps] == [3, 1, 2, 1] * 2
    assert [round(s.image.mean().item(), 4) for s in steps] == [0.1, 0.2, 0.2, 0.2] * 2
    assert began[1] == 0.2


@pytest.mark.parametrize("optimizer", ["adam", "lbfgs"])
def test_a_steps_losses_are_those_of_its_picture(
    make: Callable[..., OptimizeStylizer],
    content: Tensor,
    monkeypatch: pytest.MonkeyPatch,
    optimizer: str,
) -> None:
    """Also with a rate that makes the loss jump up and down."""
    built: list[PerceptualLoss] = []
    original = PerceptualLoss.__init__

    def remember(self: PerceptualLoss, *arguments: Any, **options: Any) -> None:
        original(self, *arguments, **options)
        built.append(self)

    monkeypatch.setattr(PerceptualLoss, "__init__", remember)
    rate = 0.5 if optimizer == "adam" else 1.0
    steps = list(make(size=48, iterations=10, rate=rate, optimizer=optimizer).steps(content))
    found = totals(steps, 1)
    best = min(range(10), key=found.__getitem__)
    if optimizer == "adam":
        assert sorted(found, reverse=True) != found
        assert built[0](steps[-1].image)["total"].item() == pytest.approx(found[best], rel=1e-4)
    assert torch.equal(steps[-1].image, steps[best].image)
    for i, step in enumerate(steps):
        assert step.image is steps[min(range(i + 1), key=found.__getitem__)].image


def test_no_iteration_evaluates_twice(
    make: Callable[..., OptimizeStylizer], content: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[int, ...]] = []
    evaluate = PerceptualLoss.__call__
    monkeypatch.setattr(PerceptualLoss, "__call__", lambda self, x: calls.append(tuple(x.shape)) or evaluate(self, x))
    list(make(size=128, coarsest=64, iterations=6).steps(content))
    assert len(calls) == 6 + 2  # one more a scale, of what it starts from


@pytest.mark.parametrize("optimizer", ["adam", "lbfgs"])
def test_a_loss_that_is_not_finite(
    make: Callable[..., OptimizeStylizer], content: Tensor, monkeypatch: pytest.MonkeyPatch, optimizer: str
) -> None:
    calls = 0
    evaluate = PerceptualLoss.__call__

    def spoilt(self: PerceptualLoss, x: Tensor) -> dict[str, Tensor]:
        nonlocal calls
        calls += 1
        terms = evaluate(self, x)
        return {k: v * float("nan") for k, v in terms.items()} if calls > 12 else terms

    monkeypatch.setattr(PerceptualLoss, "__call__", spoilt)
    steps = make(size=48, iterations=100, rate=0.5, optimizer=optimizer).steps(content)
    seen: list[Step] = []
    with pytest.raises(DivergedError, match=r"no longer finite at iteration \d+ of the 48x\d+ scale; lower --rate"):
        seen.extend(steps)
    assert 0 < len(seen) < 13


def test_a_picture_that_is_not_finite_from_the_start(make: Callable[..., OptimizeStylizer], content: Tensor) -> None:
    with pytest.raises(DivergedError, match="iteration 1 of"):
        list(make(size=48, iterations=3).steps(content * float("nan")))
