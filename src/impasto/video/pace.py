"""The size of a live painting: as large as a rate of frames allows."""

import math

STEP = 32
"""Long sides are multiples of this, in pixels, so that the size changes in steps that are worth a new start."""
LEAST = 128
"""Smallest long side, in pixels. Strokes need that much."""
FIRST = 384
"""Long side before anything is measured, in pixels."""
WEIGHT = 0.2
"""Weight of a new measurement in the moving mean."""
SPARE = 0.9
"""Share of the time between two frames that painting may take."""
PATIENCE_UP, PATIENCE_DOWN = 12, 3
"""Frames in a row that must ask for a larger size, or a smaller one, before it changes."""


class Pacer:
    """Chooses the long side at which frames are painted.

    The time of a painting is taken to grow with its pixels. A size changes only after several frames have asked for it
    in a row, sooner down than up, so that it does not swing.

    Parameters
    ----------
    rate : float
        Frames a second to hold.
    largest : int
        Largest long side, in pixels.
    size : int, optional
        A fixed long side.
    """

    def __init__(self, rate: float, largest: int, size: int | None = None):
        self.rate, self.largest, self.fixed = rate, largest, size
        self.long_side = min(FIRST, largest) if size is None else size
        self.mean: float | None = None
        self.asked = 0

    def add(self, seconds: float) -> None:
        """Add the time that a frame took at the present size."""
        self.mean = seconds if self.mean is None else self.mean + WEIGHT * (seconds - self.mean)
        if self.fixed is not None:
            return
        wanted = self.wanted(self.mean)
        direction = (wanted > self.long_side) - (wanted < self.long_side)
        same = direction * self.asked > 0
        self.asked = self.asked + direction if same else direction
        if self.asked in (PATIENCE_UP, -PATIENCE_DOWN):
            self.mean *= (wanted / self.long_side) ** 2
            self.long_side, self.asked = wanted, 0

    def wanted(self, seconds: float) -> int:
        """Return the long side that would hold the rate, if a frame takes so long at the present one."""
        fits = self.long_side * math.sqrt(SPARE / (self.rate * max(seconds, 1e-6)))
        steps = math.floor(fits / STEP) * STEP
        if seconds <= 1 / self.rate and steps < self.long_side:
            return self.long_side  # the rate is held, if only just
        return max(min(LEAST, self.largest), min(steps, self.largest))
