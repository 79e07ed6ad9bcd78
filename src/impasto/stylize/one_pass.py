"""What the methods that paint in one pass have in common: size, memory, regions, mask, the one step.

Everything that can be chosen after the training is chosen in the norms: the style, blends of styles, the strength, the
size of the strokes, and styles by place. Nothing is blended as pictures, but for the photograph outside a mask.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn

from ..device import Compute
from ..errors import OptionError
from ..image.resize import blur, resize
from ..models.norm import Conditions, Places
from ..options import StylizeOptions
from ..style.target import StyleTarget
from ..style.terms import divide
from .loss import shares_and_scales
from .memory import fit_need
from .protocol import NamedStyle, Region, Step, last_image
from .schedule import painting_size

PIXEL_BYTES = {2: 330, 4: 640}
"""Bytes of a number inside the network -> what a pixel takes at the peak, for width 16; measured at 512 to 2048."""
FIXED_BYTES = 60_000_000
"""What does not depend on the size."""

Style = TypeVar("Style")
"""What a style is to the network."""


class OnePassStylizer(ABC, Generic[Style]):
    """Paints in one pass, with the styles bound.

    Parameters
    ----------
    net : nn.Module
        The network: (picture, conditions) -> painting.
    width : int
        Channels behind its first convolution.
    styles : sequence of NamedStyle, StyleTarget or Tensor
        The styles.
    options : StylizeOptions
        All else.
    compute : Compute
        Device and precision.

    Raises
    ------
    OptionError
        If weights or strokes are not as many as styles.
    """

    method: str

    def __init__(
        self,
        net: nn.Module,
        width: int,
        styles: Sequence[NamedStyle | StyleTarget | Tensor],
        options: StylizeOptions,
        compute: Compute,
    ):
        self.options, self.compute, self.width = options, compute, width
        self.shares, self.scales = shares_and_scales(options, len(styles))
        self.styles = [self.bind(s) for s in styles]
        compute.network(net)
        self.run: Callable[[Tensor, Conditions | Places], Tensor] = torch.compile(net) if options.compile else net

    @abstractmethod
    def bind(self, style: NamedStyle | StyleTarget | Tensor) -> Style:
        """What a style is to the network; StyleError if it is none that it can paint."""

    @abstractmethod
    def conditions(
        self, styles: Sequence[Style], shares: Sequence[float], scales: Sequence[float], long: int
    ) -> Conditions:
        """What the norms shall do: shares that sum to 1, sizes of strokes, and the painting's long side in pixels."""

    def __call__(self, content: Tensor, regions: Sequence[Region] = (), mask: Tensor | None = None) -> Tensor:
        """Paint (1, 3, H, W), float32, sRGB, [0, 1]; the bound styles are for what is in no region."""
        return last_image(self.steps(content, regions, mask))

    def steps(
        self,
        content: Tensor,
        regions: Sequence[Region] = (),
        mask: Tensor | None = None,
        state: dict[str, Any] | None = None,
    ) -> Iterator[Step]:
        """The one step.

        Parameters
        ----------
        content : Tensor
            (1, 3, H, W), the photograph.
        regions : sequence of Region
            Parts with styles of their own.
        mask : Tensor, optional
            (1, 1, H, W), [0, 1], of any size: 1 where to paint; the rest stays the photograph.
        state : dict, optional
            Of no meaning here: there is nothing between the photograph and the painting.

        Raises
        ------
        OptionError, StyleError
            At once, if the mask leaves nothing to paint, or a region's style is none that the network can paint.
        MemoryNeedError
            At once, if it would not fit into memory and must not be painted smaller.
        """
        if mask is not None and not mask.any():
            raise OptionError("--mask is black everywhere: nothing would be painted; make white what is to be painted")
        size = painting_size((content.shape[-2], content.shape[-1]), self.options)
        size = fit_need(size, self.memory_need, self.compute, self.options.strict_size)
        places = [(resize(r.mask, size), self.bind(r.style)) for r in regions]
        return (self._paint(resize(x, size), places, mask) for x in [content])  # painted when the step is asked for

    def memory_need(self, size: tuple[int, int]) -> int:
        """Bytes that a painting of that height and width takes beyond what the process has now."""
        item = 4 if self.compute.low is None else self.compute.low.itemsize
        return FIXED_BYTES + round(size[0] * size[1] * PIXEL_BYTES[item] * self.width / 16)

    @torch.inference_mode()
    def _paint(self, content: Tensor, places: Sequence[tuple[Tensor, Style]], mask: Tensor | None) -> Step:
        size = (content.shape[-2], content.shape[-1])
        x, own = self.compute.picture(content), self.conditions(self.styles, self.shares, self.scales, max(size))
        with self.compute.autocast():
            if places:
                parts = divide([m for m, _ in places])
                masks = torch.cat([p.mask for p in parts if p.mask is not None]).to(x)
                several = [self.conditions([s], (1.0,), self.scales[:1], max(size)) for _, s in places]
                painted = self.run(x, Places(masks, (*several, own)))
            else:
                painted = self.run(x, own)
        painted = painted.float().contiguous()
        if mask is not None:
            where = blur(resize(mask, size), self.options.mask_feather).to(x)
            painted = x + where * (painted - x)
        return Step(size, 1, 1, 1, 1, {}, painted.clone(), schedule=(1,))
