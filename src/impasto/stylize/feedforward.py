"""`feedforward`: a network that has learnt its styles paints any photograph in one pass.

Johnson, Alahi, Fei-Fei 2016, with Dumoulin, Shlens, Kudlur 2017 for many styles in one network (`models.transformer`).
"""

import logging
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ..device import Compute
from ..errors import StyleError
from ..models.norm import Conditions
from ..models.transformer import Transformer
from ..options import StylizeOptions
from ..style.target import StyleTarget
from .one_pass import OnePassStylizer
from .protocol import NamedStyle

log = logging.getLogger(__name__)

STROKES = (0.5, 2.0)
"""The sizes of strokes that networks are trained on: the least and the largest."""


class FeedforwardStylizer(OnePassStylizer[int]):
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
        self.learnt, self.picture = net.config.styles, picture
        super().__init__(net, net.config.width, styles, options, compute)

    def bind(self, style: NamedStyle | StyleTarget | Tensor) -> int:
        """Where a style stands in the network."""
        name = style_name(style)
        if name in self.learnt:
            return self.learnt.index(name)
        shown = ", ".join(self.learnt[:30])
        what = f"style {name!r}" if name else "a style that is no built-in one"
        raise StyleError(f"{what} is none that the network has learnt ({shown}); --method arbitrary paints any style")

    def conditions(
        self, styles: Sequence[int], shares: Sequence[float], scales: Sequence[float], long: int
    ) -> Conditions:
        """The styles' own maps, blended, for the strokes that the painting's size asks for."""
        weights, strokes = torch.zeros(1, len(self.learnt)), torch.zeros(1, len(self.learnt))
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
