"""The interface of every method: a stylizer with its style bound, and its steps."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from torch import Tensor

from ..device import Compute
from ..errors import OptionError
from ..style.target import StyleTarget

PROPORTIONS = 0.02
"""Tolerated relative difference of a mask's proportions from the photograph's, or a pixel per side if that is more."""


@dataclass(frozen=True)
class Step:
    """One step of a stylizer. Progress bars, previews, loss curves, snapshots and cancelling use it.

    Parameters
    ----------
    scale : (int, int)
        Height and width of the current scale in pixels.
    scale_index, scales : int
        Index of the current scale, from 1, and the number of scales.
    iteration, total : int
        The iteration, counted from 1 over all scales, and the total number of iterations.
    losses : dict of str to float
        `total` and its weighted terms for the picture that the iteration made. With the preset `gatys`, as in its
        recipe, for the picture that the iteration began with. Empty for a network's one step.
    painted : Tensor
        The painting so far, the best of its scale if the method keeps track of that: (1, 3, H, W), float32, sRGB,
        [0, 1], on the CPU or the stylizer's device. Never modified later.
    finish : callable, optional
        Post-processing, such as keeping colours. Applied only when `image` is read.
    state : callable, optional
        Return everything that later steps depend on, as tensors and plain values (`torch.save` writes them and
        `torch.load` with `weights_only` reads them). Call it before taking the next step.
    measured : callable, optional
        Return the losses of `painted` itself, which may differ from the picture that the iteration made. Call it before
        taking the next step.
    schedule : tuple of int
        The iterations planned for each scale, coarse to fine.
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
        """The painting so far, post-processed: (1, 3, H, W), float32, sRGB, [0, 1]."""
        return self.painted if self.finish is None else self.finish(self.painted)


@dataclass(frozen=True, eq=False)
class Region:
    """A part of the photograph that is painted in its own style.

    Parameters
    ----------
    mask : Tensor
        (1, 1, H, W), [0, 1], 1 inside the region; any size with the photograph's proportions.
    style : Tensor or StyleTarget
        A painting (1, 3, H, W) in [0, 1], or its measurements.
    """

    mask: Tensor
    style: Tensor | StyleTarget


def check_masks(photo: tuple[int, int], regions: Sequence[Region], mask: Tensor | None) -> None:
    """Raise OptionError if a mask's proportions differ from those of `photo` (H, W): it would be stretched."""
    named = [(f"the mask of region {i}", r.mask) for i, r in enumerate(regions, 1)]
    for name, found in [*named, *([] if mask is None else [("the mask", mask)])]:
        height, width = found.shape[-2:]
        ratio, wanted = width / height, photo[1] / photo[0]
        if abs(ratio / wanted - 1) > max(PROPORTIONS, 1 / height + 1 / width):
            raise OptionError(
                f"{name} is {ratio:.3g} times as wide as high, the photograph {wanted:.3g} times; give a mask of the "
                "photograph's proportions"
            )


class Stylizer(ABC):
    """A method with its style bound: takes a photograph and returns a painting. A subclass implements `steps`."""

    method: str
    """The name of the method: `optimize` or `network`."""
    compute: Compute
    """The device and precision that it paints with."""

    def __call__(self, content: Tensor, regions: Sequence[Region] = (), mask: Tensor | None = None) -> Tensor:
        """Paint (1, 3, H, W), float32, sRGB, [0, 1]: the last image of `steps`, with the same parameters."""
        return last_image(self.steps(content, regions, mask))

    @abstractmethod
    def steps(
        self,
        content: Tensor,
        regions: Sequence[Region] = (),
        mask: Tensor | None = None,
        state: dict[str, Any] | None = None,
    ) -> Iterator[Step]:
        """Paint step by step. The last step's image is the painting, at the size set by the options.

        Parameters
        ----------
        content : Tensor
            (1, 3, H, W), the photograph; or (1, 4, H, W) with alpha last: only visible pixels count.
        regions : sequence of Region
            Parts with their own styles. The bound styles apply to the rest.
        mask : Tensor, optional
            (1, 1, H, W), [0, 1], any size with the photograph's proportions: 1 where to paint. The rest stays the
            photograph.
        state : dict, optional
            The state (`Step.state`) of a step of the same painting. Continues after that step.

        Raises
        ------
        OptionError
            Before the first step, if the painting would be too small for the encoder, the mask leaves nothing to paint,
            or the state belongs to another painting.
        StyleError
            Before the first step, if a region's style does not fit the encoder.
        MemoryNeedError
            Before the first step, if the painting would not fit into memory and must not be painted smaller.
        DivergedError
            If a loss is no longer finite.
        """


Run = Callable[[Iterator[Step]], Tensor]
"""Runs a stylizer's steps and returns the image of the last, (1, 3, H, W). An exception ends the painting early."""


def last_image(steps: Iterator[Step]) -> Tensor:
    """Return the image of the last step, (1, 3, H, W)."""
    last = None
    for step in steps:
        last = step
    assert last is not None, "a stylizer yields at least one step"
    return last.image
