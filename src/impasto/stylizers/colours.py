"""Keep the photo's colours: a wrapper that gives any stylizer's painting the photo's chroma."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ..image.color import keep_colours
from ..image.picture import opaque
from ..image.resize import resize
from ..options import ColourSpace
from .protocol import Region, Step, Stylizer


class ColourKeeper(Stylizer):
    """Wrap a stylizer and keep the photo's colours.

    Gatys, Bethge, Hertzmann, Shechtman, "Preserving Color in Neural Artistic Style Transfer", 2016, luminance-only.

    Parameters
    ----------
    inner : Stylizer
        The stylizer that paints.
    space : "oklab" or "ycbcr"
        The colour space that separates lightness from chroma.
    strength : float
        0 the painting's colours, 1 the photo's.
    """

    def __init__(self, inner: Stylizer, space: ColourSpace, strength: float):
        self.method, self.compute = inner.method, inner.compute
        self.inner, self.strength = inner, strength
        self.space: ColourSpace = space

    def steps(
        self,
        content: Tensor,
        regions: Sequence[Region] = (),
        mask: Tensor | None = None,
        state: dict[str, Any] | None = None,
    ) -> Iterator[Step]:
        """Yield the inner stylizer's steps. A step's colours are changed when its image is read."""

        def finish(painted: Tensor) -> Tensor:
            return self.kept(painted.cpu(), opaque(resize(content, (painted.shape[-2], painted.shape[-1]))))

        steps = self.inner.steps(content, regions, mask, state)
        return (replace(step, finish=finish) for step in steps)

    def kept(self, painted: Tensor, photo: Tensor) -> Tensor:
        """Return paintings, or rows of one, in the colours of their photos, both (N, 3, H, W) on the CPU."""
        # One at a time: where the numbers lie in memory changes the last bits of a power.
        pairs = zip(painted.split(1), photo.split(1), strict=True)
        return torch.cat([keep_colours(p, c, self.space, self.strength) for p, c in pairs])
