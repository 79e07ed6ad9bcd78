"""Tests of bootstrap intervals."""

import numpy as np
import pytest

from impasto.evaluate.intervals import Interval, bootstrap


def sample(rows: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(5, 2, (rows, 1))


def test_interval_of_a_normal_sample() -> None:
    """The interval is about mean +- 1.96 standard deviations over the root of n."""
    values = sample(400, 1)
    (found,) = bootstrap(values)
    half = 1.96 * values.std() / 20
    assert found.mean == values.mean()
    assert (found.low, found.high) == pytest.approx((found.mean - half, found.mean + half), abs=0.1 * half)


def test_intervals_cover_the_mean_as_often_as_they_say() -> None:
    covered = [found.low <= 5 <= found.high for i in range(200) for found in bootstrap(sample(40, i), 300, 0.9)]
    assert 0.83 <= sum(covered) / len(covered) <= 0.95


def test_seed() -> None:
    values = sample(10, 3)
    assert bootstrap(values) == bootstrap(values)
    assert bootstrap(values) != bootstrap(values, seed=1)


def test_higher_confidence_is_wider() -> None:
    values = sample(30, 4)
    (narrow,), (wide,) = bootstrap(values, confidence=0.5), bootstrap(values, confidence=0.99)
    assert wide.low < narrow.low < narrow.high < wide.high


def test_rows_stay_together() -> None:
    """Equal columns have the same interval, and the interval of a constant column has no width."""
    values = sample(20, 5)
    first, second, constant = bootstrap(np.hstack([values, values, np.full_like(values, 3)]))
    assert first == second
    assert constant == Interval(3, 3, 3)


def test_one_row() -> None:
    assert bootstrap(np.array([[2.0, 4.0]])) == [Interval(2, 2, 2), Interval(4, 4, 4)]
