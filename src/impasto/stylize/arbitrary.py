"""`arbitrary`: a network paints any photograph in any style in one pass.

Its norms' scales and shifts are predicted from the style's moments (`models.arbitrary`). A style is measured at the
size that its strokes shall have, up to its own size, and several styles blend as moments do.
"""

import logging
from collections.abc import Sequence

from torch import Tensor

from ..device import Compute
from ..errors import StyleError
from ..models.arbitrary import ArbitraryNetwork
from ..models.norm import Conditions
from ..models.vgg import VGG
from ..options import StylizeOptions
from ..style.target import StyleTarget, blend
from .one_pass import OnePassStylizer
from .protocol import NamedStyle

log = logging.getLogger(__name__)


class ArbitraryStylizer(OnePassStylizer["MeasuredStyle"]):
    """Paints in one pass in any style, with the styles bound.

    Parameters
    ----------
    net : ArbitraryNetwork
        The network.
    styles : sequence of Tensor or StyleTarget
        Paintings (1, 3, H, W) in [0, 1], or their measurements.
    options : StylizeOptions
        All else.
    encoder : VGG
        What measures styles: the encoder that the network was trained with.
    compute : Compute
        Device and precision.

    Raises
    ------
    StyleError
        If a style is a name, was measured with another encoder, or is far too elongated.
    OptionError
        If weights or strokes are not as many as styles.
    """

    method = "arbitrary"

    def __init__(
        self,
        net: ArbitraryNetwork,
        styles: Sequence[NamedStyle | StyleTarget | Tensor],
        options: StylizeOptions,
        encoder: VGG,
        compute: Compute,
    ):
        self.net, self.encoder = net, encoder
        if net.config.encoder != encoder.digest:
            raise StyleError(f"the network was trained with another encoder than {encoder.name} as it is here")
        compute.network(encoder)
        super().__init__(net, net.config.width, styles, options, compute)

    def bind(self, style: NamedStyle | StyleTarget | Tensor) -> "MeasuredStyle":
        """The style, to be measured where that is still to be done."""
        if isinstance(style, NamedStyle):
            raise StyleError(f"style {style.name!r} is known to another network alone; give its picture")
        if isinstance(style, StyleTarget):
            style.check(self.encoder)
        return MeasuredStyle(style, self.encoder, self.compute, tuple(self.net.config.layers))

    def conditions(
        self, styles: Sequence["MeasuredStyle"], shares: Sequence[float], scales: Sequence[float], long: int
    ) -> Conditions:
        """What the network makes of the blend of the styles' moments."""
        moments = [style.at(round(scale * long)) for style, scale in zip(styles, scales, strict=True)]
        return self.net.conditions(blend(moments, shares), self.options.strength)


class MeasuredStyle:
    """A style that is measured at each size once."""

    def __init__(self, style: Tensor | StyleTarget, encoder: VGG, compute: Compute, layers: tuple[str, ...]):
        self.style, self.encoder, self.compute, self.layers = style, encoder, compute, layers
        self.known: dict[int, dict[str, Tensor]] = {}

    def at(self, size: int) -> dict[str, Tensor]:
        """Layer -> raw moments (1, C + 1, C + 1) on the device, at that long side of the painting in pixels."""
        if size not in self.known:
            style = self.style
            largest = max(style.shape[-2:]) if isinstance(style, Tensor) else style.sizes[-1]
            if size > 1.01 * largest:
                log.info(
                    "strokes are %.2g times as large as asked for at this size: the style has %d pixels at most",
                    largest / size,
                    largest,
                )
            if isinstance(style, Tensor):
                style = StyleTarget.of(style, self.encoder, self.compute, (size,), self.layers)
            found = style.at(size)
            self.known[size] = {k: found[k].to(self.compute.device) for k in self.layers}
        return self.known[size]
