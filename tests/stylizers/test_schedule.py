"""Tests of the schedule: the painting's size, scales, iterations, the rate, and a given time."""

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from impasto.errors import OptionError
from impasto.models.vgg import VGG
from impasto.options import ITERATIONS, OTHER_STARTS, OptimizeOptions
from impasto.stylizers.schedule import (
    LAST_RATE,
    LEAST_TIMED,
    MOST_TIMED,
    REFINEMENT,
    TIME_SHARE,
    WARM_UP,
    Scale,
    check_size,
    painting_size,
    rate_factor,
    schedule,
    timed,
)


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
@pytest.mark.parametrize("start", ["auto", "content"])
def test_schedule(quality: Any, size: tuple[int, int], iterations: int | None, start: str) -> None:
    options = OptimizeOptions(quality=quality, iterations=iterations, start=start)
    scales = schedule(size, options)
    assert scales[-1].size == size
    found = [s.iterations for s in scales]
    if iterations is None:  # the finest three as the quality has them, those before as the first of these
        coarse, *_ = plan = (ITERATIONS if start == "auto" else OTHER_STARTS)[quality]
        assert found == [coarse, *[coarse] * len(found), *plan][-len(found) :]
    else:
        assert sum(found) == iterations
    assert all(n >= 1 for n in found)
    for coarse, fine in pairwise(scales):
        assert coarse.size < fine.size
        assert min(coarse.size) >= 32
        assert max(coarse.size) / min(coarse.size) == pytest.approx(max(size) / min(size), rel=0.05)


@given(
    quality=st.sampled_from(list(ITERATIONS)),
    size=st.tuples(*[st.integers(min_value=32, max_value=9000)] * 2),
    coarsest=st.integers(min_value=32, max_value=2000),
    iterations=st.integers(min_value=1, max_value=3000),
    refine=st.booleans(),
)
@example(quality="draft", size=(1024, 1024), coarsest=128, iterations=4, refine=False)
@example(quality="best", size=(2048, 2048), coarsest=128, iterations=5, refine=True)
def test_a_total_is_kept_and_every_scale_has_an_iteration(
    quality: Any, size: tuple[int, int], coarsest: int, iterations: int, refine: bool
) -> None:
    scales = schedule(size, OptimizeOptions(quality=quality, coarsest=coarsest, iterations=iterations), refine)
    assert sum(s.iterations for s in scales) == iterations
    assert all(s.iterations >= 1 for s in scales)
    assert scales[-1].size == size
    # Shared as the quality's own, but for rounding and the one that each has at least.
    own = schedule(size, OptimizeOptions(quality=quality, coarsest=coarsest))
    if len(own) == len(scales) and not refine:
        share = iterations / sum(s.iterations for s in own)
        for mine, theirs in zip(scales, own, strict=True):
            assert abs(mine.iterations - share * theirs.iterations) <= 1 + len(scales)


def test_the_coarsest_scale_is_not_larger_than_asked_for() -> None:
    scales = schedule((768, 1024), OptimizeOptions(coarsest=200, iterations=60))
    assert [s.size for s in scales] == [(96, 128), (192, 256), (384, 512), (768, 1024)]
    assert len(schedule((768, 1024), OptimizeOptions(coarsest=1024))) == 1
    assert {s.rate for s in schedule((500, 500), OptimizeOptions(rate=0.5))} == {0.5}


def test_iterations_for_each_scale() -> None:
    scales = schedule((300, 400), OptimizeOptions(coarsest=100, iterations=(7, 5, 3)))
    assert [(max(s.size), s.iterations) for s in scales] == [(100, 7), (200, 5), (400, 3)]
    message = r"--iterations has 2 numbers, but there are 3 scales \(100, 200, 400 pixels\); give one number in total"
    with pytest.raises(OptionError, match=message):
        schedule((300, 400), OptimizeOptions(coarsest=100, iterations=(7, 5)))


def test_the_refinement_takes_its_share_of_the_last_scale() -> None:
    options = OptimizeOptions(coarsest=100, iterations=80)
    plain, refined = schedule((100, 200), options), schedule((100, 200), options, refine=True)
    coarse, fine = (s.iterations for s in plain)
    assert coarse + fine == 80
    more = round(REFINEMENT * fine)
    assert [(max(s.size), s.iterations, s.refine) for s in refined] == [
        (100, coarse, False),
        (200, fine - more, False),
        (200, more, True),
    ]
    each = schedule((100, 200), replace(options, iterations=(4, 3, 2)), refine=True)
    assert [(s.iterations, s.refine) for s in each] == [(4, False), (3, False), (2, True)]
    with pytest.raises(OptionError, match=r"there are 3 scales \(100, 200, 200 pixels\)"):
        schedule((100, 200), replace(options, iterations=(4, 3)), refine=True)
    # Where it would have no iteration of its own there is none.
    assert [s.refine for s in schedule((32, 32), replace(options, iterations=1), refine=True)] == [False]


def test_the_rate_rises_by_a_line_and_falls_by_a_cosine() -> None:
    assert rate_factor(0) == 0
    assert rate_factor(0.5 * WARM_UP) == pytest.approx(0.5, rel=0.06)
    assert rate_factor(0.5) == pytest.approx((1 + LAST_RATE) / 2)
    assert rate_factor(1) == pytest.approx(LAST_RATE)
    places = [i / 100 for i in range(101)]
    factors = [rate_factor(u) for u in places]
    top = max(range(101), key=factors.__getitem__)
    assert 0.1 < places[top] <= WARM_UP
    assert factors[: top + 1] == sorted(factors[: top + 1])
    assert factors[top:] == sorted(factors[top:], reverse=True)


@pytest.mark.parametrize(
    ("size", "content", "advice"),
    [
        ((10, 10), (10, 10), "a 10x10 painting of a 10x10 photo is too small .* give --size 32 or more"),
        ((10, 1024), (20, 2000), "a 1024x10 painting of a 2000x20 photo .* give --size 3200 or more"),
        ((1024, 1), (9000, 2), "too elongated: crop it"),
    ],
)
def test_a_painting_that_is_too_small(
    encoder: VGG, size: tuple[int, int], content: tuple[int, int], advice: str
) -> None:
    with pytest.raises(OptionError, match=advice):
        check_size(size, content, encoder)


def test_shallow_layers_allow_a_smaller_painting(encoder: VGG) -> None:
    assert check_size((32, 32), (32, 32), encoder) is None
    with pytest.raises(OptionError, match="which needs 32 pixels a side"):
        check_size((16, 16), (16, 16), encoder)
    assert check_size((16, 16), (16, 16), encoder, ["relu1_1", "relu4_1"]) is None


# -- a given time -----------------------------------------------------------------------------------------------------

NANOSECOND = 1e-9
"""What an evaluation takes for each pixel of the scale, by the clock of these tests."""


def spend(scales: list[Scale], seconds: float, cost: Callable[[Scale], float]) -> tuple[list[Scale], float]:
    """Return the scales as a painting with that time would plan them, and the time that they took."""
    scales, spent = list(scales), 0.0
    for i, scale in enumerate(scales):
        measured = iter((5 * cost(scale), cost(scale)))  # the first evaluation is slower, and does not count
        scales[i] = timed(scales, i, seconds - spent, lambda measured=measured: next(measured))
        spent += (5 + 1 + 1 + scales[i].iterations) * cost(scale)  # the third look is at what the scale begins with
    return scales, spent


def by_pixels(scale: Scale) -> float:
    return NANOSECOND * scale.size[0] * scale.size[1]


@given(
    side=st.integers(min_value=64, max_value=4000),
    shape=st.floats(min_value=0.5, max_value=1),
    count=st.integers(min_value=80, max_value=500),
    refine=st.booleans(),
)
def test_the_time_is_kept_and_shared_alike(side: int, shape: float, count: int, refine: bool) -> None:
    planned = schedule((round(shape * side), side), OptimizeOptions(), refine)
    shares = [s.iterations / planned[0].iterations for s in planned]  # the same for all, but for the refinement
    seconds = count * sum(share * by_pixels(s) for share, s in zip(shares, planned, strict=True))
    scales, spent = spend(planned, seconds, by_pixels)
    rounding = by_pixels(scales[-1])
    assert TIME_SHARE * seconds - rounding <= spent <= seconds + 4 * rounding  # the last first look is slower
    for before, after, share in zip(planned, scales, shares, strict=True):
        assert after == replace(before, iterations=after.iterations)
        # The last ones get what the others left, too.
        assert TIME_SHARE * count * share - 8 <= after.iterations <= 1.4 * count * share + 2


def test_a_slow_beginning_is_made_up_for() -> None:
    """A coarse scale whose pixels cost more gets fewer iterations, and the finer ones get the remaining time."""
    planned = schedule((512, 512), OptimizeOptions())

    def cost(scale: Scale) -> float:
        return by_pixels(scale) * (8 if max(scale.size) == 128 else 1)

    seconds = 100 * sum(by_pixels(s) for s in planned)
    scales, spent = spend(planned, seconds, cost)
    assert 0.9 * seconds < spent <= seconds
    even, _ = spend(planned, seconds, by_pixels)
    assert scales[0].iterations < 0.5 * even[0].iterations
    assert scales[-1].iterations > 0.7 * even[-1].iterations


@pytest.mark.parametrize(("seconds", "count"), [(1e-6, LEAST_TIMED), (-1.0, LEAST_TIMED), (1e6, MOST_TIMED)])
def test_a_scale_has_neither_too_few_iterations_nor_too_many(seconds: float, count: int) -> None:
    planned = schedule((256, 256), OptimizeOptions())
    assert timed(planned, 0, seconds, lambda: 0.01).iterations == count
