"""Bootstrap confidence intervals of means."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Interval:
    """A mean with its confidence interval. Without at least two values, `low` and `high` are the mean itself."""

    mean: float
    low: float
    high: float


def bootstrap(
    values: NDArray[np.float64], resamples: int = 2000, confidence: float = 0.95, seed: int = 0
) -> list[Interval]:
    """Return the mean of each column with its percentile bootstrap interval.

    Efron, "Bootstrap Methods: Another Look at the Jackknife", Annals of Statistics 7, 1979. Whole rows are resampled,
    the same ones for every column.

    Parameters
    ----------
    values : array
        (rows, columns), at least one row; one row per pair, one column per figure.
    resamples : int
        Number of resamples.
    confidence : float
        Nominal coverage, above 0 and below 1.
    seed : int
        Seed of the resampling.
    """
    rows, generator = len(values), np.random.default_rng(seed)
    means = np.stack([values[generator.integers(rows, size=rows)].mean(0) for _ in range(resamples)])
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2], axis=0)
    return [Interval(*map(float, row)) for row in zip(values.mean(0), low, high, strict=True)]
