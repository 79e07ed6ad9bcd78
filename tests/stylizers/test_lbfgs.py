"""L-BFGS has the textbook's direction, stays within [0, 1], and takes back a step that was too long."""

import io
from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from impasto.stylizers.descent import FIRST_STEP, LBFGS, QUARTERINGS

N = 40


def numbers(seed: int, *shape: int) -> Tensor:
    return torch.rand(*(shape or (N,)), generator=torch.Generator().manual_seed(seed))


def parabola(condition: float) -> Callable[[Tensor], tuple[float, Tensor]]:
    """Return value and gradient of a bowl with that ratio of curvatures, whose minimum is 1 at 0.5."""
    turn = torch.linalg.qr(torch.randn(N, N, generator=torch.Generator().manual_seed(9)))[0]
    hessian = (turn * torch.logspace(0, torch.log10(torch.tensor(condition)).item(), N)) @ turn.t()

    def evaluate(x: Tensor) -> tuple[float, Tensor]:
        d = x.flatten() - 0.5
        return 1 + float(d @ hessian @ d) / 2, (hessian @ d).view_as(x)

    return evaluate


def two_loops(gradient: Tensor, pairs: list[tuple[Tensor, Tensor]]) -> Tensor:
    """Return the direction of Nocedal's two-loop recursion.

    Pairs of steps and gradient changes are given from old to new.
    """
    q, alphas = gradient.double(), []
    for s, y in reversed(pairs):
        alphas.append((s @ q) / (s @ y))
        q = q - alphas[-1] * y
    s, y = pairs[-1]
    q = q * (s @ y) / (y @ y)
    for (s, y), alpha in zip(pairs, reversed(alphas), strict=True):
        q = q + s * (alpha - (y @ q) / (s @ y))
    return -q


@pytest.mark.parametrize("history", [1, 3, 20])
def test_its_direction_is_the_two_loop_recursions(history: int) -> None:
    """This also holds when the memory is full and the oldest step has been dropped."""
    evaluate = parabola(30.0)
    optimiser = LBFGS(0.45 + 0.1 * numbers(0), history=history)
    places: list[tuple[Tensor, Tensor]] = []
    checked = 0
    for _ in range(12):
        x = optimiser.x
        value, gradient = evaluate(x)
        if not optimiser.step(value, gradient):
            continue
        places.append((x.double(), gradient.double()))
        pairs = [(b[0] - a[0], b[1] - a[1]) for a, b in pairwise(places)][-history:]
        if pairs and (optimiser.x - 0.5).abs().max() < 0.49 and gradient.norm() > 1e-3:
            torch.testing.assert_close((optimiser.x - x).double(), two_loops(gradient, pairs), rtol=2e-2, atol=2e-6)
            checked += 1
    assert checked >= 4


def test_it_needs_far_fewer_evaluations_than_gradient_descent() -> None:
    """The bowl is a hundred times as steep in one direction as in another, and 30 evaluations are allowed."""
    evaluate, x = parabola(100.0), 0.3 + 0.4 * numbers(0)
    optimiser = LBFGS(x)
    for _ in range(30):
        optimiser.step(*evaluate(optimiser.x))
    for _ in range(30):
        x = x - evaluate(x)[1] / 100
    assert evaluate(optimiser.x)[0] - 1 < 0.01 * (evaluate(x)[0] - 1)


def test_the_first_step_is_the_gradients() -> None:
    """The step is as long as would bring a loss with that slope to zero, and somewhat longer."""
    x, gradient = torch.full((2, 3), 0.5), torch.full((2, 3), 0.1)
    gradient[0, 0] = -0.3
    optimiser = LBFGS(x)
    assert optimiser.step(0.02, gradient)
    expected = x - gradient * FIRST_STEP * 0.02 / (5 * 0.1**2 + 0.3**2)
    torch.testing.assert_close(optimiser.x, expected)
    assert torch.equal(x, torch.full((2, 3), 0.5))


def test_a_rate_is_a_factor_on_the_step() -> None:
    steps = []
    for rate in (1.0, 0.25):
        optimiser = LBFGS(torch.full((4,), 0.5), rate)
        optimiser.step(0.01, torch.tensor([0.1, -0.1, 0.2, 0.0]))
        steps.append(optimiser.x - 0.5)
    torch.testing.assert_close(steps[1], steps[0] / 4)


def test_it_stays_within_the_range_and_finds_the_least_there() -> None:
    """The minimum of a sum over pixels is that of each pixel, or the nearest end of the range."""
    target, weights = 3 * numbers(1) - 1, 1 + 9 * numbers(2)
    optimiser = LBFGS(numbers(0))
    for _ in range(60):
        d = optimiser.x - target
        optimiser.step(float((weights * d.square()).sum()), 2 * weights * d)
        assert 0 <= optimiser.x.min() <= optimiser.x.max() <= 1
    assert optimiser.last is not None
    torch.testing.assert_close(optimiser.last[0], target.clamp(0, 1), rtol=0, atol=1e-3)


def test_a_pixel_at_the_end_of_the_range_moves_only_inwards() -> None:
    optimiser = LBFGS(torch.tensor([0.0, 0.0, 1.0, 1.0, 0.5]))
    optimiser.step(0.01, torch.tensor([1.0, -0.1, -1.0, 0.1, 0.1]))
    still, inwards = optimiser.x[[0, 2]], optimiser.x[[1, 3]]
    assert still.tolist() == [0.0, 1.0]
    assert 0 < inwards[0] < 1 - inwards[1] + 1e-6 < 1


def test_a_step_that_made_it_worse_is_taken_back_and_quartered() -> None:
    optimiser = LBFGS(torch.full((3,), 0.5))
    gradient = torch.tensor([0.1, 0.2, -0.2])
    assert optimiser.step(0.05, gradient)
    far = optimiser.x - 0.5
    for i in range(1, 4):
        assert not optimiser.step(0.06, gradient)  # still worse than 0.05
        torch.testing.assert_close(optimiser.x - 0.5, far / 4**i, rtol=1e-4, atol=1e-7)
    assert optimiser.step(0.04, gradient)


def test_after_so_many_quarterings_it_begins_anew_from_where_it_is() -> None:
    """A loss that noise keeps from falling does not stop it for ever, and its memory is cleared."""
    evaluate = parabola(5.0)
    optimiser = LBFGS(0.4 + 0.2 * numbers(0))
    for _ in range(3):
        optimiser.step(*evaluate(optimiser.x))
    assert optimiser.order
    value, gradient = evaluate(optimiser.x)
    kept = [optimiser.step(value + 100, gradient) for _ in range(QUARTERINGS)]
    assert kept == [False] * QUARTERINGS
    x = optimiser.x
    assert optimiser.step(value + 100, gradient)
    assert not optimiser.order
    expected = x - gradient * FIRST_STEP * (value + 100) / gradient.square().sum()
    torch.testing.assert_close(optimiser.x, expected.clamp(0, 1))


def test_where_the_gradient_is_zero_it_stays() -> None:
    optimiser = LBFGS(torch.full((3,), 0.5))
    for _ in range(3):
        optimiser.step(0.0, torch.zeros(3))
    assert torch.equal(optimiser.x, torch.full((3,), 0.5))


@pytest.mark.parametrize("after", [0, 1, 5, 14])
def test_it_goes_on_bit_for_bit(after: int) -> None:
    evaluate = parabola(50.0)
    whole, again = LBFGS(numbers(0)), LBFGS(numbers(3))
    for _ in range(after):
        whole.step(*evaluate(whole.x))
    file = io.BytesIO()
    torch.save(whole.state_dict(), file)
    file.seek(0)
    again.load_state_dict(torch.load(file, weights_only=True))
    for _ in range(12):
        assert torch.equal(whole.x, again.x)
        assert whole.step(*evaluate(whole.x)) == again.step(*evaluate(again.x))
