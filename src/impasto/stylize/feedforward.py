"""`feedforward`: a network that has learnt its styles paints any photograph in one pass.

Johnson, Alahi, Fei-Fei 2016, with Dumoulin, Shlens, Kudlur 2017 for many styles in one network (`models.transformer`).
Everything that can be chosen after the training is chosen in the norms: the style, blends of styles, the strength, the
size of the strokes, and styles by place. Nothing is blended as pictures, but for the photograph outside a mask.
"""

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from ..device import Compute
from ..errors import OptionError, StyleError
from ..image.resize import blur, resize
from ..models.norm import Conditions, Places
from ..models.transformer import Transformer
from ..options import StylizeOptions
from ..style.target import StyleTarget
from ..style.terms import divide
from .memory import fit_need
from .objective import shares_and_scales
from .protocol import NamedStyle, Region, Step, last_image
from .schedule import painting_size

log = logging.getLogger(__name__)

STROKES = (0.5, 2.0)
"""The sizes of strokes that networks are trained on: the least and the largest."""
PIXEL_BYTES = {2: 330, 4: 640}
"""Bytes of a number inside the network -> what a pixel takes at the peak, for width 16; measured at 512 to 2048."""
FIXED_BYTES = 60_000_000
"""What does not depend on the size."""


class FeedforwardStylizer:
    """Paints in one pass, with the styles bound.

    Parameters
    ----------
    net : Transformer
        The network.
    styles : sequence of NamedStyle or StyleTarget
        Styles that it has learnt, by name.
    options : StylizeOptions
        All else.
    compute : Compute
        Device and precision.
    picture : int
        Long side, in pixels, of the pictures that the network was trained to paint best.

    Raises
    ------
    StyleError
        If it has not learnt one of them.
    OptionError
        If weights or strokes are not as many as styles.
    """

    method = "feedforward"

    def __init__(
        self,
        net: Transformer,
        styles: Sequence[NamedStyle | StyleTarget | Tensor],
        options: StylizeOptions,
        compute: Compute,
        picture: int = 512,
    ):
        self.net, self.options, self.compute, self.picture = net, options, compute, picture
        self.shares, self.scales = shares_and_scales(options, len(styles))
        self.styles = [self.index(s) for s in styles]
        compute.network(net)
        self.run: Callable[[Tensor, Conditions | Places], Tensor] = torch.compile(net) if options.compile else net

    def index(self, style: NamedStyle | StyleTarget | Tensor) -> int:
        """Where a style stands in the network."""
        learnt, name = self.net.config.styles, style_name(style)
        if name in learnt:
            return learnt.index(name)
        shown = ", ".join(learnt[:30])
        what = f"style {name!r}" if name else "a style that is no built-in one"
        raise StyleError(f"{what} is none that the network has learnt ({shown}); --method optimize paints any style")

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
            Parts with styles of their own, which the network has learnt, too.
        mask : Tensor, optional
            (1, 1, H, W), [0, 1], of any size: 1 where to paint; the rest stays the photograph.
        state : dict, optional
            Of no meaning here: there is nothing between the photograph and the painting.

        Raises
        ------
        OptionError, StyleError
            At once, if the mask leaves nothing to paint, or a region's style was not learnt.
        MemoryNeedError
            At once, if it would not fit into memory and must not be painted smaller.
        """
        if mask is not None and not mask.any():
            raise OptionError("--mask is black everywhere: nothing would be painted; make white what is to be painted")
        size = painting_size((content.shape[-2], content.shape[-1]), self.options)
        size = fit_need(size, self.memory_need, self.compute, self.options.strict_size)
        places = [(resize(r.mask, size), self.index(r.style)) for r in regions]
        return iter([self._paint(resize(content, size), places, mask)])

    def memory_need(self, size: tuple[int, int]) -> int:
        """Bytes that a painting of that height and width takes beyond what the process has now."""
        item = 4 if self.compute.low is None else self.compute.low.itemsize
        return FIXED_BYTES + round(size[0] * size[1] * PIXEL_BYTES[item] * self.net.config.width / 16)

    @torch.inference_mode()
    def _paint(self, content: Tensor, places: Sequence[tuple[Tensor, int]], mask: Tensor | None) -> Step:
        size = (content.shape[-2], content.shape[-1])
        x, own = self.compute.picture(content), self._conditions(self.styles, self.shares, self.scales, max(size))
        with self.compute.autocast():
            if places:
                parts = divide([m for m, _ in places])
                masks = torch.cat([p.mask for p in parts if p.mask is not None]).to(x)
                several = [self._conditions([i], (1.0,), self.scales[:1], max(size)) for _, i in places]
                painted = self.run(x, Places(masks, (*several, own)))
            else:
                painted = self.run(x, own)
        painted = painted.float().contiguous()
        if mask is not None:
            where = blur(resize(mask, size), self.options.mask_feather).to(x)
            painted = x + where * (painted - x)
        return Step(size, 1, 1, 1, 1, {}, painted.clone(), schedule=(1,))

    def _conditions(
        self, styles: Sequence[int], shares: Sequence[float], scales: Sequence[float], long: int
    ) -> Conditions:
        """What the norms shall do, for a painting of that long side in pixels."""
        weights, strokes = torch.zeros(1, len(self.net.config.styles)), torch.zeros(1, len(self.net.config.styles))
        for i, share, scale in zip(styles, shares, scales, strict=True):
            weights[0, i] += share
            strokes[0, i] = math.log2(self._stroke(scale * long / self.picture))
        return Conditions(weights, (self.options.strength,), strokes).to(self.compute.device)

    def _stroke(self, wanted: float) -> float:
        """The size of strokes nearest to that which the network has learnt."""
        found = min(max(wanted, STROKES[0]), STROKES[1])
        if not 0.99 < found / wanted < 1.01:
            log.info(
                "strokes are %.2g times as large as asked for at this size: the network has learnt no others; "
                "--method optimize paints any",
                found / wanted,
            )
        return found


def style_name(style: NamedStyle | StyleTarget | Tensor) -> str:
    """The name that a network may know a style by; empty if it has none."""
    return "" if isinstance(style, Tensor) else style.name
