"""Estimate how long a painting takes: from earlier paintings before it starts, from its own steps afterwards."""

import threading

from ...options import StylizeOptions, VideoOptions, named_weights
from ...stylizers.choose import choose_method
from ...stylizers.frames import STEPS
from ...stylizers.protocol import Step
from ...stylizers.schedule import painting_size, schedule

FIRST_GUESS = 0.5
"""Seconds per iteration and megapixel before anything is measured."""
PASS_SHARE = 0.5
"""Time of one pass of a network relative to an iteration of the optimisation at the same size."""
FRAME_SHARE = 1.0
"""Time of a film's frame by a network, with its motion, relative to an iteration at the same size."""
LEAST = 0.01
"""Fixed seconds per iteration, independent of the size."""
WEIGHT = 0.3
"""Weight of a new measurement in the moving average."""


class Pace:
    """Seconds per iteration and megapixel, measured on the jobs so far."""

    def __init__(self) -> None:
        self.rate = FIRST_GUESS
        self._known = False
        self._films: dict[str, float] = {}
        self._lock = threading.Lock()

    def learn(self, seconds: float, scale: tuple[int, int]) -> None:
        """Add a measurement: the seconds of an iteration at a scale of that height and width in pixels."""
        rate = max(seconds - LEAST, 0.001) / (scale[0] * scale[1] / 1e6)
        with self._lock:
            self.rate = self.rate + WEIGHT * (rate - self.rate) if self._known else rate
            self._known = True

    def seconds(self, photo: tuple[int, int], options: StylizeOptions) -> float:
        """Return the expected seconds of a painting of a photograph of that height and width in pixels.

        Raises
        ------
        OptionError
            If the options do not fit the size.
        """
        size = painting_size(photo, options)
        if options.time is not None:
            return options.time
        network = LEAST + PASS_SHARE * self.rate * size[0] * size[1] / 1e6
        if one_pass(options):
            return network
        if options.preset == "gatys":
            iterations = options.settings.iterations
            assert isinstance(iterations, int)
            return iterations * (LEAST + self.rate * size[0] * size[1] / 1e6)
        scales = schedule(size, options, "nn" in named_weights(options.style_loss, "--style-loss"))
        own = sum(s.iterations * (LEAST + self.rate * s.size[0] * s.size[1] / 1e6) for s in scales)
        return own + network if options.begins_with == "network" else own

    def learn_film(self, seconds: float, size: tuple[int, int], frames: int, options: VideoOptions) -> None:
        """Add a measurement: the seconds of some frames of a film of that height and width in pixels, from its first.

        Each quality has its own rate. Until one is known, that of the paintings stands for it. Films that are not
        painted throughout count for nothing.
        """
        if not all(strength for _, strength in options.strengths):
            return
        iterations, megapixels = film_work(size, frames, options)
        rate = max(seconds - LEAST * iterations, 0.001) / megapixels
        with self._lock:
            known = self._films.get(options.quality, rate)
            self._films[options.quality] = known + WEIGHT * (rate - known)

    def film_seconds(self, size: tuple[int, int], frames: int, options: VideoOptions) -> float:
        """Return the expected seconds of some frames of a film of that height and width in pixels, from its first."""
        iterations, megapixels = film_work(size, frames, options)
        return LEAST * iterations + self._films.get(options.quality, self.rate) * megapixels


def one_pass(options: StylizeOptions) -> bool:
    """Return whether a network paints in one pass."""
    return choose_method(options) == "network"


def film_work(size: tuple[int, int], frames: int, options: VideoOptions) -> tuple[float, float]:
    """Return the iterations that some frames of a film take, from its first, and the megapixels of all of them.

    The first frame of a scene, and each at stability 0, is optimised at all scales. Scenes are not known beforehand, so
    one is assumed.
    """
    own = size[0] * size[1] / 1e6
    if options.quality == "instant":
        return frames * FRAME_SHARE, frames * FRAME_SHARE * own
    scales = schedule(size, options.optimising)
    begun = 1 if options.stability else frames
    later = (frames - begun) * STEPS + frames * FRAME_SHARE
    megapixels = sum(s.iterations * s.size[0] * s.size[1] / 1e6 for s in scales)
    return begun * sum(s.iterations for s in scales) + later, begun * megapixels + later * own


class Countdown:
    """Estimate a painting's remaining seconds from its steps so far."""

    def __init__(self) -> None:
        self._scale, self._at, self._first = 0, 0.0, 0

    def left(self, step: Step, now: float) -> float | None:
        """Return the seconds left at clock time `now`, or None if they cannot be estimated yet."""
        if step.scale_index != self._scale:
            self._scale, self._at, self._first = step.scale_index, now, step.iteration
            return None
        done = step.iteration - self._first
        pace = (now - self._at) / done
        plan = step.schedule or (step.total,)
        before = sum(plan[: step.scale_index])
        left = pace * max(0, before - step.iteration)
        # Each scale has four times the pixels of the previous one.
        return left + sum(n * pace * 4.0**i for i, n in enumerate(plan[step.scale_index :], 1))

    def pace(self, step: Step, now: float) -> float | None:
        """Return the seconds per iteration at the current scale, or None before its second step."""
        done = step.iteration - self._first
        return (now - self._at) / done if step.scale_index == self._scale and done >= 2 else None
