"""Optimise pictures of one size one after the other, such as the frames of a film.

Ruder, Dosovitskiy, Brox, "Artistic Style Transfer for Videos", GCPR 2016: a frame begins from the last painting, moved
along the optical flow, and a temporal loss holds it there.
"""

import copy
from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor

from ..device import Compute, ordinary, with_gradients
from ..models.vgg import STYLE_LAYERS, VGG
from ..options import OptimizeOptions
from ..style.target import StyleTarget
from .loss import Before, Problem, check_styles, measured_layers, style_scales
from .optimize import OptimizeStylizer, fit_painting
from .protocol import Run, last_image
from .schedule import check_size, schedule

STEPS = 8
"""Iterations that continue a painting, all at its full size."""


class FrameStylizer(OptimizeStylizer):
    """Paint pictures of one size by optimisation. Whatever they have in common is measured only once.

    Parameters
    ----------
    styles, options, encoder, compute
        As for `OptimizeStylizer`.
    size : (int, int)
        Height and width of the pictures and of the paintings, in pixels.

    Raises
    ------
    ImpastoError
        If the size is too small for the encoder or does not fit into memory, or as `OptimizeStylizer` does.
    """

    @with_gradients
    def __init__(
        self,
        styles: Sequence[Tensor | StyleTarget],
        options: OptimizeOptions,
        encoder: VGG,
        compute: Compute,
        size: tuple[int, int],
    ):
        super().__init__(styles, options, encoder, compute)
        check_size(size, size, encoder, (*STYLE_LAYERS, *measured_layers(options, encoder)))
        self.size, self.checkpointing, self.tiling = fit_painting(
            size, replace(options, strict_size=True), encoder, compute, resized=False
        )
        self.scales = schedule(size, options)
        scales = style_scales(options, len(self.styles), max(size))
        self.styles = [self._measured(s, z) for s, z in zip(self.styles, scales, strict=True)]
        check_styles(self.styles, options, encoder)

    def _measured(self, style: Tensor | StyleTarget, style_scale: float) -> StyleTarget:
        """Return the measurements of a style at all scales, given its size relative to the painting."""
        if isinstance(style, StyleTarget):
            return style
        sizes = sorted({round(max(s.size) * style_scale) for s in self.scales})
        return StyleTarget.of(style, self.encoder, self.compute, sizes)

    def at(self, strength: float, shares: dict[int, float] | None = None) -> "FrameStylizer":
        """Return the stylizer with another strength, and with shares of its styles by index, if they are given."""
        found = copy.copy(self)
        found.options = replace(self.options, strength=strength)
        if shares is not None:
            found.options = replace(found.options, style_weights=tuple(shares.values()))
            found.styles = [self.styles[i] for i in shares]
        return found

    @with_gradients
    def frame(
        self, photo: Tensor, before: Before | None = None, run: Run = last_image, start: Tensor | None = None
    ) -> Tensor:
        """Paint a picture (1, 3, H, W), float32, sRGB, [0, 1]; at all scales, or in a few steps from the last one.

        Parameters
        ----------
        photo : Tensor
            (1, 3, H, W), the picture.
        before : Before, optional
            The painting to continue.
        run : callable
            Runs the steps.
        start : Tensor, optional
            (1, 3, H, W), the picture to start from if there is no painting to continue; the photograph by default.
        """
        photo, before, start = ordinary((photo, before, start))
        problem = Problem(
            self.encoder,
            self.compute,
            self.options,
            photo,
            self.size,
            self.styles,
            checkpointing=self.checkpointing,
            tiling=self.tiling,
            before=before,
        )
        scales = self.scales if before is None else [replace(self.scales[-1], iterations=STEPS)]
        painter = copy.copy(self)
        painter.start = start
        return run(painter._paint(problem, list(scales), None))
