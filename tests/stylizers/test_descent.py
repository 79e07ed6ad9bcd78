"""Tests of the descent at one scale: what is optimised, what the painting is, and how it continues from a state."""

import functools
import io
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from impasto.errors import DivergedError
from impasto.options import OptimizeOptions
from impasto.stylizers.descent import PLATEAU_FINISH, Descent, Parameters, Pyramid
from impasto.stylizers.schedule import WARM_UP, Scale, rate_factor

SIZE = (40, 56)
WAYS = [("adam", "pixels"), ("adam", "laplacian"), ("lbfgs", "pixels")]
"""Optimiser and parameters; L-BFGS has the pixels alone."""
Loss = Callable[[Tensor], dict[str, Tensor]]


def picture(seed: int, *size: int) -> Tensor:
    return torch.rand(1, 3, *(size or SIZE), generator=torch.Generator().manual_seed(seed))


def towards(target: Tensor) -> Loss:
    """Return the mean squared distance to a target, which need not be a valid picture."""

    def loss(x: Tensor) -> dict[str, Tensor]:
        distance = (x - target).square().mean()
        return {"total": distance, "distance": distance}

    return loss


def curved(x: Tensor) -> dict[str, Tensor]:
    """Return a loss whose minimum cannot be reached in one step: edges in some places, saturation in others."""
    steps = (x[..., 1:] - x[..., :-1] - 0.1).square().mean()
    ends = torch.sin(7 * x + torch.arange(x.shape[-1]) / 5).mean()
    return {"total": steps + 0.2 * ends, "steps": steps, "ends": 0.2 * ends}


def descend(loss: Loss, x: Tensor, iterations: int = 20, rate: float | None = None, **options: Any) -> Descent:
    """Return a descent by Adam on pixels, unless the options say otherwise."""
    chosen = OptimizeOptions(rate=rate, **{"optimizer": "adam", "parameters": "pixels", **options})
    return Descent(loss, x, Scale((x.shape[-2], x.shape[-1]), iterations, chosen.settings.rate), chosen)


def adam(descent: Descent) -> torch.optim.Adam:
    assert isinstance(descent.optimiser, torch.optim.Adam)
    return descent.optimiser


# -- what is optimised ------------------------------------------------------------------------------------------------


def test_the_pixels_are_kept_within_the_range() -> None:
    parameters = Parameters(picture(0))
    with torch.no_grad():
        parameters.tensors[0].add_(torch.where(picture(1) > 0.5, 1.0, -1.0))
    parameters.clamp()
    assert parameters.picture().min() == 0
    assert parameters.picture().max() == 1


@pytest.mark.parametrize(
    ("size", "bands"),
    [((256, 300), [256, 128, 64, 32, 16]), ((63, 97), [63, 31]), ((31, 200), [31]), ((40, 56), [40, 20])],
)
def test_a_pyramids_bands_add_up_to_the_picture(size: tuple[int, int], bands: list[int]) -> None:
    x = picture(0, *size)
    pyramid = Pyramid(x)
    assert [t.shape[-2] for t in pyramid.tensors] == bands
    torch.testing.assert_close(pyramid.picture().detach(), x, rtol=0, atol=2e-7)
    # All but the coarsest hold detail alone: they have hardly a mean.
    assert all(t.mean().abs() < 0.01 for t in pyramid.tensors[:-1])


def test_a_pyramid_of_a_plain_picture_has_it_in_its_coarsest_band() -> None:
    *fine, coarsest = Pyramid(torch.full((1, 3, 128, 96), 0.25)).tensors
    assert len(fine) == 2
    assert all(t.abs().max() < 1e-6 for t in fine)
    torch.testing.assert_close(coarsest.detach(), torch.full((1, 3, 32, 24), 0.25))


def test_a_pyramid_is_clamped_by_its_finest_band() -> None:
    pyramid = Pyramid(picture(0, 128, 96))
    with torch.no_grad():
        for i, band in enumerate(pyramid.tensors):
            band += torch.randn(band.shape, generator=torch.Generator().manual_seed(i))
    before, coarse = pyramid.picture().detach(), [t.detach().clone() for t in pyramid.tensors[1:]]
    assert before.min() < -1
    pyramid.clamp()
    torch.testing.assert_close(pyramid.picture().detach(), before.clamp(0, 1), rtol=0, atol=1e-6)
    assert all(torch.equal(a, b) for a, b in zip(pyramid.tensors[1:], coarse, strict=True))


def test_every_band_has_the_gradient_of_what_it_adds() -> None:
    """The gradient of a band is the picture's, brought to the band's size by the transpose of the enlargement."""
    pyramid, weights = Pyramid(picture(0, 64, 48)), picture(1, 64, 48)
    (weights * pyramid.picture()).sum().backward()
    fine, coarse = pyramid.tensors
    torch.testing.assert_close(fine.grad, weights)
    band = torch.zeros_like(coarse).requires_grad_(True)
    (weights * F.interpolate(band, (64, 48), mode="bilinear")).sum().backward()
    torch.testing.assert_close(coarse.grad, band.grad)
    assert coarse.grad is not None
    assert (coarse.grad > 0).all()


def test_large_shapes_move_faster_in_a_pyramid() -> None:
    """A pyramid reaches a plain colour in fewer steps than the pixels do, because every band contributes."""
    target, x = torch.full((1, 3, 64, 64), 0.9), torch.full((1, 3, 64, 64), 0.2)
    left = {
        p: min(d.step()["total"] for _ in range(10))
        for p, d in ((p, descend(towards(target), x, 10, 0.01, parameters=p)) for p in ("pixels", "laplacian"))
    }
    assert left["laplacian"] < 0.9 * left["pixels"]


# -- how it goes ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("optimizer", "parameters"), WAYS)
def test_it_comes_to_the_minimum(optimizer: str, parameters: str) -> None:
    x, target = picture(0), 0.2 + 0.6 * picture(1)
    descent = descend(towards(target), x, 150, optimizer=optimizer, parameters=parameters)
    while descent.left:
        losses = descent.step()
        assert losses["total"] == losses["distance"]
        assert 0 <= descent.painted.min() <= descent.painted.max() <= 1
    assert descent.iteration == 150
    assert (descent.painted - target).abs().max() < 0.02


def test_what_lies_beyond_the_range_is_painted_at_its_end() -> None:
    target = torch.where(picture(1) > 0.5, 2.0, -1.0)
    descent = descend(towards(target), picture(0), 100)
    while descent.left:
        descent.step()
    torch.testing.assert_close(descent.painted, target.clamp(0, 1), rtol=0, atol=0.02)


def test_the_first_steps_of_adam_change_every_pixel_by_the_rate() -> None:
    """Adam's first step is the rate times the sign of the gradient, with the rate at the middle of the iteration."""
    x = 0.3 + 0.4 * picture(0)
    descent = descend(towards(x + torch.where(picture(1) > 0.5, 1.0, -1.0)), x, 20, 0.05)
    descent.step()
    expected = 0.05 * rate_factor(0.5 / 20)
    assert ((descent.parameters.picture() - x).abs() - expected).abs().max() < 1e-5


@pytest.mark.parametrize(("optimizer", "parameters"), WAYS)
def test_the_best_picture_is_the_painting(optimizer: str, parameters: str) -> None:
    """This also holds if the rate makes the loss jump; the picture at the start counts as well."""
    rate = 0.6 if optimizer == "adam" else 1.0
    descent = descend(curved, picture(0), 15, rate, optimizer=optimizer, parameters=parameters)
    least = math.inf
    while descent.left:
        total = descent.step()["total"]
        least = min(least, total)
        assert curved(descent.painted)["total"].item() == pytest.approx(descent.best_losses["total"], abs=1e-6)
        assert descent.best_losses["total"] <= least
        assert descent.measured() == descent.best_losses


def test_where_nothing_is_better_it_stays_as_it_is() -> None:
    x = picture(0)
    descent = descend(towards(x), x, 5)
    worse = [descent.step()["total"] for _ in range(5)]
    assert min(worse) >= 0
    assert torch.equal(descent.painted, x)


@pytest.mark.parametrize("optimizer", ["adam", "lbfgs"])
def test_a_loss_that_is_not_finite(optimizer: str) -> None:
    def spoilt(x: Tensor) -> dict[str, Tensor]:
        return {"total": torch.log(x - 0.5).mean()}

    message = r"no longer finite at iteration 1 of the 56x40 scale; lower --rate \(now 3\)"
    with pytest.raises(DivergedError, match=message):
        descend(spoilt, picture(0), 5, 3.0, optimizer=optimizer).step()


@pytest.mark.parametrize("optimizer", ["adam", "lbfgs"])
def test_a_picture_that_is_not_finite(optimizer: str) -> None:
    """This is found even if the loss does not see it, as behind a ReLU that turns NaN into 0."""
    x = picture(0)
    x[0, 0, 3, 4] = torch.nan
    loss = towards(picture(1))
    with pytest.raises(DivergedError, match="no longer finite at iteration 1"):
        descend(lambda x: loss(x.nan_to_num(0)), x, 5, optimizer=optimizer).step()


# -- the average ------------------------------------------------------------------------------------------------------


def test_the_average_of_known_iterates() -> None:
    """The mean has the weights 1, d, d^2 ... backwards, and is worked out by hand for the iterates of a fake step."""
    d = 0.75
    descent = descend(towards(picture(1)), picture(0), 4, average=d)
    values = [0.1, 0.5, 0.3, 0.9]
    iterates = iter([torch.full((1, 3, *SIZE), v) for v in values])
    descent._adam = lambda: (next(iterates), {"total": 1.0})  # pyright: ignore[reportAttributeAccessIssue]
    for i in range(1, 5):
        descent.step()
        weights = [d ** (i - 1 - k) for k in range(i)]
        expected = sum(w * v for w, v in zip(weights, values, strict=False)) / sum(weights)
        torch.testing.assert_close(descent.painted, torch.full((1, 3, *SIZE), expected))


def test_the_losses_of_the_average_are_its_own() -> None:
    target = picture(1)
    descent = descend(towards(target), picture(0), 10, average=0.9)
    losses = [descent.step() for _ in range(10)]
    expected = (descent.painted - target).square().mean().item()
    assert descent.measured() == {"total": pytest.approx(expected), "distance": pytest.approx(expected)}
    assert descent.measured()["total"] > losses[-1]["total"]  # it lags behind


def test_an_average_is_calmer_than_its_iterates() -> None:
    """With steps that are too large, the iterates jump around the minimum, and their average lies close to it."""
    target, x = 0.3 + 0.4 * picture(1), picture(0)
    jumping, calm = (descend(towards(target), x, 60, 0.5, average=d) for d in (0.0, 0.9))
    found = [(jumping.step()["total"], calm.step()) for _ in range(40)]
    assert calm.measured()["total"] < 0.5 * found[-1][0]


# -- a plateau --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("optimizer", "finish"), [("adam", PLATEAU_FINISH), ("lbfgs", 1)])
def test_a_plateau_ends_it_early(optimizer: str, finish: int) -> None:
    """A loss that falls by a fixed share is on a plateau or not, depending on the option.

    Then Adam's rate still has to fall; with L-BFGS, whose rate is constant, one iteration is left.
    """
    for plateau, ends in ((0.0, 200), (0.09, 200), (0.11, None)):
        descent = descend(towards(picture(1)), picture(0), 200, optimizer=optimizer, plateau=plateau)
        totals = iter([0.99**i for i in range(1, 201)])  # 9.6 % in 10 iterations
        fake = functools.partial(lambda totals: (picture(0), {"total": next(totals)}), totals)
        setattr(descent, f"_{optimizer}", fake)
        left = []
        while descent.left:
            descent.step()
            left.append(descent.left)
        if ends is not None:
            assert len(left) == ends
            assert left == list(range(199, -1, -1))
        else:
            assert len(left) == pytest.approx(WARM_UP * 200 + finish, abs=1)
            assert left[-finish - 1 :] == list(range(finish, -1, -1))
        assert descent.done == pytest.approx(1)


def test_after_a_plateau_the_rate_still_falls_to_its_least() -> None:
    descent = descend(curved, picture(0), 400, plateau=0.05)
    rates = []
    while descent.left:
        descent.step()
        rates.append(adam(descent).param_groups[0]["lr"])
    assert len(rates) < 250
    assert max(rates) > 0.02
    assert rates[-1] < 0.05 * max(rates)
    top = rates.index(max(rates))
    assert rates[top:] == sorted(rates[top:], reverse=True)


# -- from scale to scale ----------------------------------------------------------------------------------------------


def test_adams_moments_are_taken_over_in_the_new_size() -> None:
    """The moments are resized and scaled down, as the gradient of a mean over more pixels is smaller."""
    small, large = torch.full((1, 3, 20, 30), 0.5), torch.full((1, 3, 40, 60), 0.5)
    before = descend(towards(small + 1), small, 5, carry=True)
    for _ in range(3):
        before.step()
    found = before.carry()
    assert found.keys() == {"step", "exp_avg", "exp_avg_sq"}
    options = OptimizeOptions(optimizer="adam", parameters="pixels", carry=True)
    after = Descent(towards(large + 1), large, Scale((40, 60), 5, 0.03), options, found)
    state = adam(after).state[after.parameters.tensors[0]]
    assert state["step"] == 3
    for key, factor in (("exp_avg", 1 / 4), ("exp_avg_sq", 1 / 16)):
        assert state[key].shape == large.shape
        torch.testing.assert_close(state[key].mean(), factor * found[key].mean())
    # The direct way to the same: as many steps of the same loss at the new size.
    direct = descend(towards(large + 1), large, 5)
    for _ in range(3):
        direct.step()
    theirs = adam(direct).state[direct.parameters.tensors[0]]
    for key in ("exp_avg", "exp_avg_sq"):
        torch.testing.assert_close(state[key], theirs[key], rtol=1e-4, atol=0)


@pytest.mark.parametrize(
    "options",
    [{"parameters": "pixels"}, {"parameters": "laplacian"}, {"optimizer": "lbfgs"}],
)
def test_nothing_else_is_carried(options: dict[str, Any]) -> None:
    """Without the option, with a pyramid, or with L-BFGS, a scale starts afresh."""
    one = descend(curved, picture(0), 5, **options)
    one.step()
    scale, chosen = Scale(SIZE, 5, one.scale.rate), one.options
    new = Descent(curved, picture(1), scale, chosen, one.carry())
    fresh = Descent(curved, picture(1), scale, chosen)
    for _ in range(3):
        assert new.step() == fresh.step()
    assert torch.equal(new.painted, fresh.painted)


def test_an_average_begins_anew_at_every_scale() -> None:
    """Otherwise the coarse scales' blurred pictures would remain in the painting, as far as the decay leaves them."""
    one = descend(curved, picture(0), 5, average=0.99, carry=True)
    for _ in range(5):
        one.step()
    new = Descent(curved, picture(1), Scale(SIZE, 5, 0.03), one.options, one.carry())
    new.step()
    torch.testing.assert_close(new.painted, new.parameters.picture().detach(), rtol=0, atol=1e-6)


# -- going on ---------------------------------------------------------------------------------------------------------

GOING_ON = [
    {},
    {"optimizer": "lbfgs"},
    {"parameters": "laplacian"},
    {"average": 0.9},
    {"average": 0.9, "optimizer": "lbfgs"},
    {"plateau": 0.5},
    {"plateau": 0.5, "average": 0.8, "parameters": "laplacian"},
]


@pytest.mark.parametrize("options", GOING_ON, ids=str)
@pytest.mark.parametrize("after", [1, 2, 7, 15, 29])
def test_a_state_goes_on_bit_for_bit(options: dict[str, Any], after: int) -> None:
    """This also holds after saving the state to a file, and if the original descent has continued in the meantime."""
    x, iterations = picture(0), 30
    whole = descend(curved, x, iterations, **options)
    for _ in range(after):
        whole.step()
    state, file = whole.state(), io.BytesIO()
    kept: list[Any] = []
    while whole.left:
        kept.append((whole.step(), whole.painted, whole.left))
    torch.save(state, file)
    file.seek(0)
    again = descend(curved, x, iterations, **options)
    again.load(torch.load(file, weights_only=True))
    assert again.iteration == after
    for losses, painted, left in kept:
        assert again.step() == losses
        assert torch.equal(again.painted, painted)
        assert again.left == left
    assert again.left == 0
