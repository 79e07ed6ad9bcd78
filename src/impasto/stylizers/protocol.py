"""What every method is, seen from outside: a stylizer with its style bound, and the steps that it takes."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

from torch import Tensor

from ..device import Compute
from ..errors import OptionError
from ..style.target import StyleTarget

PROPORTIONS = 0.02
"""By how much a mask's proportions may differ from the photograph's, or by a pixel a side where that is more."""


@dataclass(frozen=True)
class Step:
    """One step of a stylizer; progress bars, previews, loss curves, snapshots and cancelling are its consumers.

    Parameters
    ----------
    scale : (int, int)
        Height and width, in pixels, that is being painted at.
    scale_index, scales : int
        Which scale that is, counted from 1, and how many there are.
    iteration, total : int
        The iteration, counted from 1 over all scales, and how many there will be.
    losses : dict of str to float
        `total` and its weighted terms, of the picture that the iteration made; for the preset `gatys`, as in its
        recipe, of the one that it began with; none of a network's one step.
    painted : Tensor
        The painting so far as the method made it, the best of its scale where it looks for that: (1, 3, H, W), float32,
        sRGB, [0, 1], on the CPU or the stylizer's device, never changed afterwards.
    finish : callable, optional
        What remains to be done to it, colours for one; only done when somebody looks at `image`.
    state : callable, optional
        Everything that the steps after this one depend on, as tensors and plain values (`torch.save` writes them and
        `torch.load` with `weights_only` reads them). To be called before the next step is asked for.
    measured : callable, optional
        The losses of `painted` itself, which need not be the picture that the iteration made. To be called before the
        next step is asked for.
    schedule : tuple of int
        The iterations of each scale, coarse to fine, as they are planned by now.
    """

    scale: tuple[int, int]
    scale_index: int
    scales: int
    iteration: int
    total: int
    losses: Mapping[str, float]
    painted: Tensor
    finish: Callable[[Tensor], Tensor] | None = None
    state: Callable[[], dict[str, Any]] | None = None
    measured: Callable[[], Mapping[str, float]] | None = None
    schedule: tuple[int, ...] = ()

    @cached_property
    def image(self) -> Tensor:
        """The painting so far, finished: (1, 3, H, W), float32, sRGB, [0, 1]."""
        return self.painted if self.finish is None else self.finish(self.painted)


@dataclass(frozen=True, eq=False)
class Region:
    """A part of the photograph that is painted in a style of its own.

    Parameters
    ----------
    mask : Tensor
        (1, 1, H, W), [0, 1], 1 where the region is; of any size in the photograph's proportions.
    style : Tensor or StyleTarget
        A painting (1, 3, H, W) in [0, 1], or its measurements.
    """

    mask: Tensor
    style: Tensor | StyleTarget


def check_masks(photo: tuple[int, int], regions: Sequence[Region], mask: Tensor | None) -> None:
    """OptionError if a mask has other proportions than a photograph of that height and width: it would be stretched."""
    named = [(f"the mask of region {i}", r.mask) for i, r in enumerate(regions, 1)]
    for name, found in [*named, *([] if mask is None else [("the mask", mask)])]:
        height, width = found.shape[-2:]
        ratio, wanted = width / height, photo[1] / photo[0]
        if abs(ratio / wanted - 1) > max(PROPORTIONS, 1 / height + 1 / width):
            raise OptionError(
                f"{name} is {ratio:.3g} times as wide as high, the photograph {wanted:.3g} times; give a mask of the "
                "photograph's proportions"
            )


class Stylizer(Protocol):
    """A style, bound to a way of painting: a picture goes in and a picture comes out."""

    @property
    def method(self) -> str:
        """The name of that way: `optimize` or `network`."""
        ...

    @property
    def compute(self) -> Compute:
        """The device and precision that it paints with."""
        ...

    def __call__(self, content: Tensor, regions: Sequence[Region] = (), mask: Tensor | None = None) -> Tensor:
        """Paint (1, 3, H, W), float32, sRGB, [0, 1]; the answer is of the size that the options ask for.

        A photograph with an alpha, (1, 4, H, W), is painted as (1, 3, H, W); only what is visible has a say.

        Parameters
        ----------
        regions : sequence of Region
            Parts with styles of their own.
        mask : Tensor, optional
            (1, 1, H, W), [0, 1], of any size in the photograph's proportions: 1 where to paint, the rest stays the
            photograph.
        """
        ...

    def steps(
        self,
        content: Tensor,
        regions: Sequence[Region] = (),
        mask: Tensor | None = None,
        state: dict[str, Any] | None = None,
    ) -> Iterator[Step]:
        """The same, step by step; the last step's image is the painting.

        Parameters
        ----------
        state : dict, optional
            Of a step of the same painting (`Step.state`); what comes are the steps after that one.
        """
        ...


def last_image(steps: Iterator[Step]) -> Tensor:
    """The image of the last step, (1, 3, H, W)."""
    last = None
    for step in steps:
        last = step
    assert last is not None, "a stylizer yields at least one step"
    return last.image
