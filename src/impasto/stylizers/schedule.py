"""The schedule of `optimize`: the scales' sizes, their iterations and the learning rate."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise

from ..errors import OptionError
from ..image.resize import fit_size
from ..models.vgg import CONTENT_LAYER, STYLE_LAYERS, VGG
from ..options import (
    ITERATIONS,
    LARGEST_SIZE,
    LEAST_SIZE,
    LONG_SIDE,
    OTHER_STARTS,
    OptimizeOptions,
    TextureOptions,
)

SCALE_FACTOR = 2.0
REFINEMENT = 0.25
"""Share of the last scale's iterations in which the `nn` loss matches each layer separately before every step."""
ADAM_LENGTH = 4
"""Ratio of Adam's iterations to those of L-BFGS. With fewer, Adam is far behind."""
WARM_UP, LAST_RATE = 0.3, 0.02
"""Share of a scale's iterations in which the rate rises, and the ratio of its last value to its highest. Adam's first
steps change every pixel by the full rate, whatever its gradient; without a warm-up that leaves colour noise."""
GATYS_SHORT_SIDE = 400
"""Short side of a painting by the preset `gatys` in pixels, or the photograph's long side if that is less."""
LEAST_TIMED, MOST_TIMED = 4, 1000
"""Minimum and maximum iterations of a scale when a time is given."""
TIME_SHARE = 0.86
"""Share of the given time that is planned for evaluations. The rest goes to the optimiser and the targets."""
LOOKS = 3
"""Evaluations of a timed scale in addition to its iterations: two are timed, one is of the first picture."""


@dataclass(frozen=True)
class Scale:
    """One scale of the schedule.

    Parameters
    ----------
    size : (int, int)
        Height and width in pixels.
    iterations : int
        Number of iterations.
    rate : float
        The highest learning rate.
    refine : bool
        Whether this is the last pass of the `nn` loss, at the size of the previous scale.
    """

    size: tuple[int, int]
    iterations: int
    rate: float
    refine: bool = False


def painting_size(content: tuple[int, int], options: OptimizeOptions) -> tuple[int, int]:
    """Return the height and width of the painting of a photo of height and width `content`, in pixels."""
    if options.scale is not None:
        return fit_size(content, scale=options.scale, enlarge=True)
    if options.size is not None:
        return fit_size(content, long_side=options.size, enlarge=True)
    if options.preset == "gatys":
        return fit_size(content, short_side=min(GATYS_SHORT_SIDE, max(content)), enlarge=True)
    return fit_size(content, long_side=LONG_SIDE[options.quality])


def check_size(
    size: tuple[int, int],
    content: tuple[int, int],
    encoder: VGG,
    layers: Sequence[str] = (*STYLE_LAYERS, CONTENT_LAYER),
) -> None:
    """Raise OptionError if a painting of `size` is too small for the encoder. Sizes are (H, W) in pixels."""
    least = max(encoder.least_side(k) for k in layers)
    if min(size) >= least:
        return
    needed = max(LEAST_SIZE, math.ceil(least * max(content) / min(content)))
    advice = f"give --size {needed} or more" if needed <= LARGEST_SIZE else "it is too elongated: crop it"
    raise OptionError(
        f"a {size[1]}x{size[0]} painting of a {content[1]}x{content[0]} photo is too small for the encoder "
        f"{encoder.name}, which needs {least} pixels a side; {advice}"
    )


def schedule(size: tuple[int, int], options: OptimizeOptions, refine: bool = False) -> list[Scale]:
    """Return the scales from coarse to fine. The last is at the painting's own size.

    Parameters
    ----------
    size : (int, int)
        Height and width of the painting in pixels.
    refine : bool
        Add a refinement pass at the end.

    Raises
    ------
    OptionError
        If iterations are given for a different number of scales.
    """
    sizes = scale_sizes(size, options.coarsest)
    settings = options.settings
    if isinstance(settings.iterations, tuple):
        found = [Scale(s, 0, settings.rate) for s in sizes]
        found += [Scale(size, 0, settings.rate, refine=True)] * refine
        if len(settings.iterations) != len(found):
            names = ", ".join(str(max(s.size)) for s in found)
            raise OptionError(
                f"--iterations has {len(settings.iterations)} numbers, but there are {len(found)} scales ({names} "
                "pixels); give one number in total, or one for each scale"
            )
        return [replace(s, iterations=n) for s, n in zip(found, settings.iterations, strict=True)]
    plan = planned(options, len(sizes))
    if settings.iterations is not None:  # in the quality's proportions, at least one per scale
        sizes = sizes[-settings.iterations :]
        plan, rest = plan[-len(sizes) :], settings.iterations - len(sizes)
        ends = [round(rest * n / sum(plan)) for n in accumulate(plan)]
        plan = [1 + b - a for a, b in pairwise([0, *ends])]
    found = [Scale(s, n, settings.rate) for s, n in zip(sizes, plan, strict=True)]
    last = found[-1]
    more = round(REFINEMENT * last.iterations) if refine else 0
    if more:
        found[-1:] = [replace(last, iterations=last.iterations - more), replace(last, iterations=more, refine=True)]
    return found


def scale_sizes(size: tuple[int, int], coarsest: int) -> list[tuple[int, int]]:
    """Return the scales' sizes (H, W), coarse to fine: each is half the next, down to a long side of `coarsest`."""
    long, short = max(size), min(size)
    count = max(0, math.ceil(math.log(long / coarsest, SCALE_FACTOR) - 1e-9)) if long > coarsest else 0
    sizes = [
        fit_size(size, long_side=max(round(long / SCALE_FACTOR**i), math.ceil(32 * long / short)))
        for i in range(count, 0, -1)
    ]
    return [*dict.fromkeys(s for s in sizes if s < size), size]


def planned(options: OptimizeOptions | TextureOptions, scales: int) -> list[int]:
    """Return the quality's iterations for a number of scales, coarse to fine."""
    length = ADAM_LENGTH if options.optimizer == "adam" else 1
    network = isinstance(options, OptimizeOptions) and options.begins_with == "network"
    plan = [length * n for n in (ITERATIONS if network else OTHER_STARTS)[options.quality]]
    return [plan[max(0, len(plan) - i)] for i in range(scales, 0, -1)]


def rate_factor(u: float) -> float:
    """Return the rate's factor at the share `u` of a scale's iterations: a linear warm-up times a cosine decay."""
    fall = LAST_RATE + (1 - LAST_RATE) * 0.5 * (1 + math.cos(math.pi * u))
    return min(1.0, u / WARM_UP) * fall


def timed(scales: Sequence[Scale], index: int, left: float, evaluate: Callable[[], float]) -> Scale:
    """Return a scale with as many iterations as the time allows.

    Later scales keep their share of the time, in proportion to the plan.

    Parameters
    ----------
    scales : sequence of Scale
        All scales.
    index : int
        Index of the scale.
    left : float
        Seconds left.
    evaluate : callable
        Evaluates the loss and its gradient once and returns the seconds it took.
    """
    evaluate()  # warm up: the first evaluation is slower
    seconds, scale = evaluate(), scales[index]
    own = scale.size[0] * scale.size[1]
    whole = seconds * sum(s.size[0] * s.size[1] / own * s.iterations for s in scales[index:])  # seconds of the plan
    count = round(scale.iterations * TIME_SHARE * left / whole) - LOOKS
    return replace(scale, iterations=min(MOST_TIMED, max(LEAST_TIMED, count)))
