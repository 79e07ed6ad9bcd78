"""`optimize` comes close to the style, always gives the same result, and returns the best picture that it saw."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from impasto.device import Compute
from impasto.errors import DivergedError, OptionError, StyleError
from impasto.models.vgg import VGG
from impasto.style.target import StyleTarget
from impasto.style.terms import PerceptualLoss
from impasto.stylizers import optimize as module
from impasto.stylizers.descent import Descent
from impasto.stylizers.optimize import OptimizeStylizer
from impasto.stylizers.protocol import Step

Make = Callable[..., OptimizeStylizer]
Photo = Callable[[str, int], Tensor]
PLAIN = Compute(torch.device("cpu"), None)


# -- sizes ------------------------------------------------------------------------------------------------------------


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
def test_a_photo_that_is_too_small(make: Make, shape: tuple[int, int], options: dict[str, Any], advice: str) -> None:
    with pytest.raises(OptionError, match=advice):
        make(**options).steps(torch.zeros(1, 3, *shape))


def test_the_size_that_the_error_names_is_enough(make: Make) -> None:
    painting = make(size=96, iterations=1)(torch.rand(1, 3, 4, 12, generator=torch.Generator().manual_seed(0)))
    assert painting.shape == (1, 3, 32, 96)


@pytest.mark.parametrize("shape", [(12, 9), (6, 30)])
def test_a_style_that_is_too_small_is_enlarged(make: Make, content: Tensor, shape: tuple[int, int]) -> None:
    tiny = torch.rand(1, 3, *shape, generator=torch.Generator().manual_seed(0))
    painting = make((tiny,), size=48, iterations=2)(content)
    assert painting.isfinite().all()


# -- painting ---------------------------------------------------------------------------------------------------------


def totals(steps: list[Step], scale: int) -> list[float]:
    return [s.losses["total"] for s in steps if s.scale_index == scale]


def test_coarse_to_fine_on_a_photograph(make: Make, content: Tensor, style: Tensor, measure: Any) -> None:
    before = content.clone()
    steps = list(make(size=96, coarsest=64, iterations=(20, 20)).steps(content))
    assert [(s.scale, s.scale_index, s.scales) for s in steps[::20]] == [((32, 48), 1, 2), ((64, 96), 2, 2)]
    assert [(s.iteration, s.total) for s in steps] == [(i, 40) for i in range(1, 41)]
    assert {s.schedule for s in steps} == {(20, 20)}
    assert totals(steps, 1)[-1] < 0.4 * totals(steps, 1)[0]
    assert totals(steps, 2)[-1] < 0.6 * totals(steps, 2)[0]
    for step in steps:
        assert step.image.shape[-2:] == step.scale
        assert step.image.dtype == torch.float32
        assert 0 <= step.image.min() <= step.image.max() <= 1
        assert step.losses["total"] == pytest.approx(sum(v for k, v in step.losses.items() if k != "total"), rel=1e-4)
    painting = steps[-1].image
    assert measure.style(painting, style) < 0.4 * measure.style(content, style)
    assert (painting - content).abs().mean() < 0.3  # it is still the photograph
    assert torch.equal(content, before)


def test_a_coarse_start_helps(paint: Callable[..., Tensor], style: Tensor, measure: Any) -> None:
    """It is as good as one scale for less work, since the coarse half of the iterations costs a quarter."""
    distances = [measure.style(paint(coarsest=coarsest), style) for coarsest in (64, 96)]
    assert distances[0] < 1.2 * distances[1]


def test_the_same_seed_gives_the_same_picture(make: Make, content: Tensor) -> None:
    options: dict[str, Any] = {"size": 64, "iterations": 4, "start": "noise"}
    first, second = (make(seed=3, **options)(content) for _ in range(2))
    assert torch.equal(first, second)
    assert not torch.equal(first, make(seed=4, **options)(content))


def test_randomness_elsewhere_does_not_matter(make: Make, content: Tensor) -> None:
    paintings = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        paintings.append(make(size=48, iterations=2, start="noise")(content))
    assert torch.equal(*paintings)


@pytest.mark.parametrize("start", ["noise", "grey", "blurred", "picture"])
def test_from_every_start_the_loss_falls(make: Make, content: Tensor, photo: Photo, start: str) -> None:
    steps = list(make(start_picture=photo("rocket", 80), size=64, iterations=12, start=start).steps(content))
    assert totals(steps, 1)[-1] < 0.7 * totals(steps, 1)[0]


def test_lbfgs(make: Make, content: Tensor, style: Tensor, measure: Any) -> None:
    """With as many evaluations, it gets further than Adam, and nearly every step goes down."""
    steps = list(make(size=64, iterations=25, optimizer="lbfgs").steps(content))
    found, adam = totals(steps, 1), totals(list(make(size=64, iterations=25, optimizer="adam").steps(content)), 1)
    assert len(found) == 25
    assert min(found) < min(adam)
    assert sum(b < a for a, b in pairwise(found)) > 0.7 * 24
    assert all(0 <= s.image.min() <= s.image.max() <= 1 for s in steps)
    assert measure.style(steps[-1].image, style) < 0.4 * measure.style(content, style, size=64)


def test_weights_of_several_styles(make: Make, content: Tensor, style: Tensor) -> None:
    other = content.flip(2, 3).roll(1, 1)
    options: dict[str, Any] = {"size": 48, "iterations": 3}
    alone = make((style,), **options)(content)
    assert torch.equal(make((style, other), style_weights=(2.0, 0.0), **options)(content), alone)
    both = make((style, other), **options)(content)
    assert torch.equal(make((style, other), style_weights=(3.0, 3.0), **options)(content), both)
    assert not torch.equal(both, alone)


def test_a_measured_style_paints_as_its_picture_does(make: Make, encoder: VGG, content: Tensor, style: Tensor) -> None:
    options: dict[str, Any] = {"size": 96, "coarsest": 64, "iterations": 4}
    measured = StyleTarget.of(style, encoder, PLAIN, (48, 96))
    assert torch.equal(make((measured,), **options)(content), make((style,), **options)(content))


def test_the_size_of_the_strokes_is_the_size_that_the_style_is_looked_at(
    make: Make, encoder: VGG, content: Tensor, style: Tensor
) -> None:
    measured = StyleTarget.of(style, encoder, PLAIN, (128,))
    options: dict[str, Any] = {"size": 64, "coarsest": 64, "iterations": 3}
    large = make((style,), style_scale=2.0, **options)(content)
    assert torch.equal(large, make((measured,), **options)(content))
    assert not torch.equal(large, make((style,), **options)(content))


@pytest.mark.parametrize(
    ("styles", "options", "message"),
    [
        (1, {"style_weights": (1.0, 2.0)}, "2 --style-weights for 1 styles"),
        (2, {"style_weights": (0.0, 0.0)}, "one must be positive"),
        (0, {}, "no style"),
        (3, {"style_scale": (1.0, 2.0)}, "2 --style-scale for 3 styles; give one, or one for each"),
    ],
)
def test_bad_styles_are_found_before_the_work(
    make: Make, style: Tensor, styles: int, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(OptionError, match=message):
        make((style,) * styles, **options)


def test_a_style_of_another_encoder(make: Make, encoder: VGG, style: Tensor) -> None:
    measured = StyleTarget.of(style, encoder, PLAIN, (64,))
    other = StyleTarget("compact", "0" * 16, "max", measured.moments, measured.pixels)
    with pytest.raises(StyleError, match="give the painting itself"):
        make((other,))


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"style_loss": "nn"}, "--style-loss nn"),
        ({"style_loss": "moments:1,nn:0.1"}, "--style-loss nn"),
        ({"histogram_weight": 0.1}, "--histogram-weight"),
        ({"match_palette": "covariance"}, "--match-palette"),
        ({"layers": "relu1_1,relu2_2"}, "--layers"),
    ],
)
def test_what_needs_the_styles_picture_says_so(
    make: Make, encoder: VGG, content: Tensor, style: Tensor, options: dict[str, Any], name: str
) -> None:
    measured = StyleTarget.of(style, encoder, PLAIN, (64,))
    message = f"^{name} needs the style's picture, and only its measurements were given; give the picture file$"
    with pytest.raises(OptionError, match=message):
        make((measured,), **options)
    with pytest.raises(OptionError, match=message):
        make(**options).steps(content, [module.Region(torch.ones(1, 1, 4, 4), measured)])


@pytest.mark.parametrize("options", [{"layers": "relu1_1,relu9_9"}, {"content_layers": "relu4_9:2"}])
def test_an_unknown_layer(make: Make, content: Tensor, options: dict[str, Any]) -> None:
    with pytest.raises(OptionError, match=r"compact has no layer 'relu\d_9'; did you mean relu\d_\d"):
        make(**options).steps(content)


# -- the best iterate, and the end of finite numbers ------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", ["adam", "lbfgs"])
def test_the_best_picture_of_a_scale_is_kept(
    make: Make, content: Tensor, monkeypatch: pytest.MonkeyPatch, optimizer: str
) -> None:
    """Each scale shows, and hands on, the picture with its lowest total loss; the losses are those of the iteration."""
    began: list[float] = []
    found = [3.0, 1.0, 2.0, 1.0]

    class Faked(Descent):
        def __init__(self, loss: Any, x: Tensor, *more: Any, **named: Any):
            super().__init__(loss, x, *more, **named)
            began.append(round(x.mean().item(), 4))

        def _adam(self) -> tuple[Tensor, dict[str, float]]:
            i = self.iteration
            return torch.full_like(self.best, (i + 1) / 10), {"total": found[i]}

        _lbfgs = _adam

        def carry(self) -> dict[str, Tensor]:
            return {}

    monkeypatch.setattr(module, "Descent", Faked)
    options: dict[str, Any] = {"size": 96, "coarsest": 64, "iterations": (4, 4), "detail": 0.0}
    steps = list(make(**options, optimizer=optimizer).steps(content))
    assert [s.losses["total"] for s in steps] == found * 2
    assert [round(s.image.mean().item(), 4) for s in steps] == [0.1, 0.2, 0.2, 0.2] * 2
    assert steps[-1].measured is not None
    assert steps[-1].measured() == {"total": 1.0}
    assert began[1] == 0.2


@pytest.mark.parametrize("optimizer", ["adam", "lbfgs"])
@pytest.mark.parametrize("average", [0.0, 0.9])
def test_a_steps_losses_are_those_of_its_picture(
    make: Make, content: Tensor, monkeypatch: pytest.MonkeyPatch, optimizer: str, average: float
) -> None:
    """This also holds with a rate that makes the loss jump; those of the average are measured on request."""
    built: list[PerceptualLoss] = []
    original = PerceptualLoss.__init__

    def remember(self: PerceptualLoss, *arguments: Any, **options: Any) -> None:
        original(self, *arguments, **options)
        built.append(self)

    monkeypatch.setattr(PerceptualLoss, "__init__", remember)
    rate = 0.5 if optimizer == "adam" else 4.0
    steps = []
    for step in make(size=48, iterations=10, rate=rate, optimizer=optimizer, average=average).steps(content):
        steps.append(step)
        assert step.measured is not None
        own = {k: pytest.approx(v.item(), rel=1e-4) for k, v in built[0](step.painted).items()}
        assert dict(step.measured()) == own
    found = totals(steps, 1)
    assert sorted(found, reverse=True) != found
    if not average:
        for i, step in enumerate(steps):
            best = min(range(i + 1), key=found.__getitem__)
            assert step.image is steps[best].image


@pytest.mark.parametrize("optimizer", ["adam", "lbfgs"])
def test_where_every_iteration_makes_it_worse_the_start_is_the_painting(
    make: Make, content: Tensor, monkeypatch: pytest.MonkeyPatch, optimizer: str
) -> None:
    evaluate = PerceptualLoss.__call__
    calls = 0

    def worse(self: PerceptualLoss, x: Tensor) -> dict[str, Tensor]:
        nonlocal calls
        calls += 1
        return {k: v + 10 * calls for k, v in evaluate(self, x).items()}

    monkeypatch.setattr(PerceptualLoss, "__call__", worse)
    steps = list(make(size=96, coarsest=96, iterations=4, optimizer=optimizer, denoise=0, mottle=0).steps(content))
    assert totals(steps, 1) == sorted(totals(steps, 1))
    assert torch.equal(steps[-1].image, content)


@pytest.mark.parametrize(("optimizer", "more"), [("adam", 1), ("lbfgs", 0)])
def test_no_iteration_evaluates_twice(
    make: Make, content: Tensor, monkeypatch: pytest.MonkeyPatch, optimizer: str, more: int
) -> None:
    calls: list[tuple[int, ...]] = []
    evaluate = PerceptualLoss.__call__
    monkeypatch.setattr(PerceptualLoss, "__call__", lambda self, x: calls.append(tuple(x.shape)) or evaluate(self, x))
    list(make(size=96, coarsest=64, iterations=6, optimizer=optimizer).steps(content))
    assert len(calls) == 6 + 2 * more  # Adam takes one more a scale, of what it starts from


@pytest.mark.parametrize("optimizer", ["adam", "lbfgs"])
def test_a_loss_that_is_not_finite(
    make: Make, content: Tensor, monkeypatch: pytest.MonkeyPatch, optimizer: str
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


def test_a_picture_that_is_not_finite_from_the_start(make: Make, content: Tensor) -> None:
    with pytest.raises(DivergedError, match="iteration 1 of"):
        list(make(size=48, iterations=3).steps(content * float("nan")))
