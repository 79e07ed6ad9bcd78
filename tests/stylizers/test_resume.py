"""From any step's state, painting continues with the same steps, and a timed painting can be made again."""

import io
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from impasto.device import Compute
from impasto.errors import OptionError
from impasto.models.vgg import VGG
from impasto.options import ITERATIONS, OptimizeOptions
from impasto.style.terms import PerceptualLoss
from impasto.stylizers import optimize as module
from impasto.stylizers.colours import ColourKeeper
from impasto.stylizers.gatys import GatysStylizer
from impasto.stylizers.optimize import OptimizeStylizer
from impasto.stylizers.protocol import Region, Step, Stylizer
from impasto.stylizers.schedule import TIME_SHARE

PLAIN = Compute(torch.device("cpu"), None)
SHORT: dict[str, Any] = {"size": 64, "coarsest": 48, "iterations": 10}


def saved(state: dict[str, Any]) -> dict[str, Any]:
    """Return a state after it was saved to a file that holds only tensors and plain values, and loaded again."""
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def check_going_on(stylizer: Stylizer, again: Stylizer, inputs: dict[str, Any]) -> None:
    """Check that from the state of each step but the last, another stylizer yields exactly the steps after it."""
    content = inputs.pop("content")
    steps, states = [], []
    for step in stylizer.steps(content, **inputs):
        steps.append(step)
        assert step.state is not None
        states.append(saved(step.state()))
    assert len(steps) > 4
    for i in sorted({0, len(steps) // 2 - 1, len(steps) // 2, len(steps) - 2}):
        found = list(again.steps(content, **inputs, state=states[i]))
        assert len(found) == len(steps) - 1 - i
        for a, b in zip(found, steps[i + 1 :], strict=True):
            same_step(a, b)


def same_step(a: Step, b: Step) -> None:
    assert (a.scale, a.scale_index, a.scales) == (b.scale, b.scale_index, b.scales)
    assert (a.iteration, a.total, a.schedule) == (b.iteration, b.total, b.schedule)
    assert a.losses == b.losses
    assert torch.equal(a.image, b.image)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"optimizer": "adam"},
        pytest.param(
            {"optimizer": "adam", "parameters": "laplacian", "plateau": 0.9, "coarsest": 64, "iterations": 40},
            marks=pytest.mark.slow,
        ),
        {"optimizer": "adam", "parameters": "pixels", "average": 0.8, "carry": True},
        {"average": 0.5},
        {"plateau": 0.9, "coarsest": 64, "iterations": 40},
        {"style_loss": "nn", "iterations": 12},
        {"style_loss": "moments:1,gram:0.5", "histogram_weight": 0.1, "similarity_weight": 0.1, "iterations": 6},
        {"strength": 0.5, "detail": 0.5, "start": "noise", "seed": 5},
        {"iterations": (2, 7)},
    ],
    ids=str,
)
def test_from_any_step_it_goes_on_bit_for_bit(
    make: Callable[..., OptimizeStylizer], content: Tensor, options: dict[str, Any]
) -> None:
    options = {**SHORT, **options}
    check_going_on(make(**options), make(**options), {"content": content})


def test_with_regions_a_mask_and_kept_colours_it_goes_on(
    make: Callable[..., OptimizeStylizer], content: Tensor, photo: Callable[[str, int], Tensor]
) -> None:
    left, upper = torch.zeros(2, 1, 1, 30, 45)
    left[..., :22], upper[..., :15, :] = 1, 1
    inputs = {"content": content, "regions": [Region(left, photo("rocket", 96))], "mask": upper}
    one, other = (ColourKeeper(make(**SHORT), "oklab", 0.7) for _ in range(2))
    check_going_on(one, other, inputs)


def test_the_preset_gatys_goes_on(encoder: VGG, content: Tensor, style: Tensor) -> None:
    options = OptimizeOptions(preset="gatys", size=64, iterations=8, rate=0.02)
    one, other = (GatysStylizer([style], options, encoder, PLAIN) for _ in range(2))
    check_going_on(one, other, {"content": content})


def test_after_the_last_step_nothing_comes(
    make: Callable[..., OptimizeStylizer], encoder: VGG, content: Tensor, style: Tensor
) -> None:
    gatys = OptimizeOptions(preset="gatys", size=64, iterations=2)
    for stylizer in (make(**{**SHORT, "iterations": 2}), GatysStylizer([style], gatys, encoder, PLAIN)):
        *_, last = stylizer.steps(content)
        assert last.state is not None
        assert list(stylizer.steps(content, state=last.state())) == []


def test_a_state_of_another_painting_is_refused(
    make: Callable[..., OptimizeStylizer], encoder: VGG, content: Tensor, style: Tensor
) -> None:
    step = next(iter(make(**SHORT).steps(content)))
    assert step.state is not None
    state = step.state()
    for other in ({"size": 80}, {"coarsest": 64}):
        with pytest.raises(OptionError, match="the state belongs to another painting"):
            make(**{**SHORT, **other}).steps(content, state=state)
    gatys = GatysStylizer([style], OptimizeOptions(preset="gatys", size=80), encoder, PLAIN)
    with pytest.raises(OptionError, match="the state belongs to another painting"):
        gatys.steps(content, state=state)


# -- a given time -----------------------------------------------------------------------------------------------------


@pytest.fixture
def slow_clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[], float]:
    """Make only evaluations of the loss take time, (long side / 64)^2 seconds each. Return the clock."""
    now = 100.0
    evaluate = PerceptualLoss.__call__

    def counted(self: PerceptualLoss, x: Tensor) -> dict[str, Tensor]:
        nonlocal now
        now += max(x.shape) ** 2 / 64**2
        return evaluate(self, x)

    monkeypatch.setattr(PerceptualLoss, "__call__", counted)
    monkeypatch.setattr(module.time, "monotonic", lambda: now)
    monkeypatch.setattr(module.time, "perf_counter", lambda: now)
    return lambda: now


def test_a_given_time_is_what_a_painting_takes(
    make: Callable[..., OptimizeStylizer], content: Tensor, slow_clock: Callable[[], float]
) -> None:
    begun = slow_clock()
    steps = list(make(size=96, coarsest=48, time=60.0).steps(content))
    # The rest is left for what takes time besides evaluations, here nothing.
    assert TIME_SHARE * 60 - 3 <= slow_clock() - begun <= 61
    assert steps[-1].iteration == steps[-1].total == sum(steps[-1].schedule)
    coarse, fine = steps[-1].schedule
    *_, planned, last = ITERATIONS["good"]
    assert coarse / fine == pytest.approx(planned / last, rel=0.2)


@pytest.mark.parametrize("style_loss", ["moments", "nn"])
def test_what_a_timed_painting_did_can_be_asked_for_again(
    make: Callable[..., OptimizeStylizer], content: Tensor, slow_clock: Callable[[], float], style_loss: str
) -> None:
    """With the iterations that it chose, the painting is the same bit for bit; also with `nn` and its refinement."""
    options: dict[str, Any] = {"size": 64, "coarsest": 48, "style_loss": style_loss, "start": "noise"}
    *_, last = make(time=25.0, **options).steps(content)
    assert len(last.schedule) == (3 if style_loss == "nn" else 2)
    assert last.state is not None
    assert tuple(last.state()["iterations"]) == last.schedule
    *_, again = make(iterations=last.schedule, **options).steps(content)
    same_step(again, last)


def test_a_timed_painting_goes_on_with_the_time_that_was_left(
    make: Callable[..., OptimizeStylizer], content: Tensor, slow_clock: Callable[[], float]
) -> None:
    """Stopped in its first scale, it finishes that scale as planned, and the second has the rest of the time."""
    options: dict[str, Any] = {"size": 64, "coarsest": 48, "time": 20.0}
    steps, state = [], None
    for step in make(**options).steps(content):
        steps.append(step)
        if step.iteration == 5:
            assert step.state is not None
            state = saved(step.state())
    assert state is not None
    found = list(make(**options).steps(content, state=state))
    coarse, fine = steps[-1].schedule
    assert coarse > 5
    for a, b in zip(found[: coarse - 5], steps[5:coarse], strict=True):
        same_step(a, b)
    # To go on costs one evaluation more, of where it was.
    assert found[-1].schedule[0] == coarse
    assert abs(found[-1].schedule[1] - fine) <= 1
