"""Texture synthesis: a picture with the statistics of a style, and of nothing else.

Gatys, Ecker, Bethge, "Texture Synthesis Using Convolutional Neural Networks", NIPS 2015: noise is optimised until the
statistics of its features are the texture's. Here it is `optimize` without its content loss, from coarse to fine.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from ..device import Compute, with_gradients
from ..errors import OptionError
from ..models.vgg import VGG
from ..options import LARGEST_SIZE, LEAST_SIZE, OptimizeOptions, TextureOptions
from ..style.target import StyleTarget
from .loss import shares_and_scales
from .optimize import OptimizeStylizer
from .protocol import Step, last_image
from .schedule import planned, scale_sizes

LENGTH = 1.5
"""Iterations of a texture over those of a painting: from noise it is further than from a photograph."""
LEAST_SCALE = 0.1
"""The least that `style_scale` may be."""
SURELY_LESS = 0.95
"""A size that is known from pixels of rounded sides is less than another if it is by that factor."""


class TextureSynthesizer:
    """Makes a texture, with the styles bound.

    Parameters
    ----------
    styles : sequence of Tensor or StyleTarget
        Paintings (1, 3, H, W) in [0, 1], or what was measured of them before; several blend by `style_weights`.
    size : (int, int)
        Height and width in pixels.
    options : TextureOptions
        All else.
    encoder : VGG
        Whose features are matched.
    compute : Compute
        Device and precision.
    start : Tensor, optional
        A picture (1, 3, H, W) to start from, where `options.start` names one.
    seamless : bool
        Whether the texture shall tile the plane: opposite borders then continue each other.

    Raises
    ------
    OptionError
        If the size is out of range, or the styles and the options do not fit together.
    """

    def __init__(
        self,
        styles: Sequence[Tensor | StyleTarget],
        size: tuple[int, int],
        options: TextureOptions,
        encoder: VGG,
        compute: Compute,
        start: Tensor | None = None,
        *,
        seamless: bool = False,
    ):
        check_texture_size(size)
        self.size = size
        painting = painting_options(styles, size, options)
        self.inner = OptimizeStylizer(styles, painting, encoder, compute, start, seamless)

    @property
    def compute(self) -> Compute:
        """The device and precision that it works with."""
        return self.inner.compute

    def __call__(self) -> Tensor:
        """The texture, (1, 3, H, W), float32, sRGB, [0, 1]."""
        return last_image(self.steps())

    @with_gradients
    def steps(self, state: dict[str, Any] | None = None) -> Iterator[Step]:
        """The same, step by step; a step's image is the best so far of its scale, by the total loss.

        Parameters
        ----------
        state : dict, optional
            Of a step (`Step.state`) of the same texture: what comes are the steps after that one.

        Raises
        ------
        MemoryNeedError
            At once, if it would not fit into memory.
        DivergedError
            If a loss is no longer finite.
        """
        # Nothing is read from the grey, only its size: no loss has a content. It takes no memory.
        return self.inner.steps(torch.tensor(0.5).expand(1, 3, *self.size), state=state)


def check_texture_size(size: tuple[int, int]) -> None:
    """OptionError if a texture cannot have that height and width, in pixels."""
    if not (isinstance(size, tuple) and len(size) == 2 and all(isinstance(s, int) for s in size)):
        raise OptionError(f"a texture's size is given as (height, width) in pixels, not as {size!r}")
    height, width = size
    if min(size) < LEAST_SIZE or max(size) > LARGEST_SIZE:
        raise OptionError(f"--size is {width}x{height}; each side must be {LEAST_SIZE} to {LARGEST_SIZE} px")


def painting_options(
    styles: Sequence[Tensor | StyleTarget], size: tuple[int, int], options: TextureOptions
) -> OptimizeOptions:
    """What `optimize` is told for a texture of that height and width, in pixels.

    A style is never enlarged. A texture larger than its style would otherwise take its large shapes from a scale at
    which the style fills it, and its strokes from the style as it is, which is smaller; so the style counts as no
    larger than it is at every scale.
    """
    _, scales = shares_and_scales(options, len(styles))
    largest = [max(own_size(s) / max(size), LEAST_SCALE) for s in styles]
    values = options.to_dict() | {"size": max(size), "style_scale": tuple(map(min, scales, largest))}
    values |= {"strict_size": True, "content_weight": 0.0}
    if options.time is None:
        whole = sum(planned(options, len(scale_sizes(size, options.coarsest))))
        values["iterations"] = options.iterations or round(LENGTH * whole)
    return OptimizeOptions.from_dict(values)


def own_size(style: Tensor | StyleTarget) -> float:
    """The long side of a style as it was given or measured, in pixels; of a style file at most its largest size."""
    if isinstance(style, Tensor):
        return max(style.shape[-2:])
    # A size beyond the painting's own was measured at that; the number of pixels then stays what it was.
    least, most = style.sizes[0], style.sizes[-1]
    (layer, few), many = next(iter(style.pixels[least].items())), style.pixels[most]
    found = least * (many[layer] / few) ** 0.5
    return found if found < SURELY_LESS * most else float(most)
