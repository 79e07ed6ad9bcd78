"""Texture synthesis: a picture with the statistics of a style and no content.

Gatys, Ecker, Bethge, "Texture Synthesis Using Convolutional Neural Networks", NIPS 2015: noise is optimised until the
statistics of its features match the texture's. Here it is `optimize` without a content loss, from coarse to fine.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from ..device import Compute, with_gradients
from ..errors import OptionError
from ..models.vgg import VGG
from ..options import LARGEST_SIZE, LEAST_SIZE, STROKES, OptimizeOptions, TextureOptions
from ..style.target import StyleTarget
from .loss import style_scales
from .optimize import OptimizeStylizer
from .protocol import Step, last_image
from .schedule import planned, scale_sizes

LENGTH = 1.5
"""Ratio of a texture's iterations to a painting's. Starting from noise takes longer than from a photograph."""
LEAST_SCALE = 0.1
"""The minimum of `style_scale`."""
SURELY_LESS = 0.95
"""A size computed from rounded sides counts as smaller than another only if it is smaller by this factor."""


class TextureSynthesizer:
    """Make a texture, with the styles bound.

    Parameters
    ----------
    styles : sequence of Tensor or StyleTarget
        Paintings (1, 3, H, W) in [0, 1], or their measurements. Several are blended by `style_weights`.
    size : (int, int)
        Height and width in pixels.
    options : TextureOptions
        The options.
    encoder : VGG
        The encoder whose features are matched.
    compute : Compute
        Device and precision.
    start : Tensor, optional
        A picture (1, 3, H, W) to start from, if `options.start` names one.
    seamless : bool
        Make the texture tile the plane: opposite borders continue each other.

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
        """The device and precision."""
        return self.inner.compute

    def __call__(self) -> Tensor:
        """Return the texture, (1, 3, H, W), float32, sRGB, [0, 1]."""
        return last_image(self.steps())

    @with_gradients
    def steps(self, state: dict[str, Any] | None = None) -> Iterator[Step]:
        """Make the texture step by step. A step's image is the best so far of its scale, by the total loss.

        Parameters
        ----------
        state : dict, optional
            The state (`Step.state`) of a step of the same texture. Continues after that step.

        Raises
        ------
        MemoryNeedError
            Before the first step, if the texture would not fit into memory.
        DivergedError
            If a loss is no longer finite.
        """
        # Only the size of this grey picture is used, since there is no content loss. It takes no memory.
        return self.inner.steps(torch.tensor(0.5).expand(1, 3, *self.size), state=state)


def check_texture_size(size: tuple[int, int]) -> None:
    """Raise OptionError if a texture cannot have the height and width `size`, in pixels."""
    if not (isinstance(size, tuple) and len(size) == 2 and all(isinstance(s, int) for s in size)):
        raise OptionError(f"size is {size!r}; give a texture's (height, width) in pixels")
    height, width = size
    if min(size) < LEAST_SIZE or max(size) > LARGEST_SIZE:
        raise OptionError(f"--size is {width}x{height}; each side must be {LEAST_SIZE} to {LARGEST_SIZE} px")


def painting_options(
    styles: Sequence[Tensor | StyleTarget], size: tuple[int, int], options: TextureOptions
) -> OptimizeOptions:
    """Return the options of `optimize` for a texture of height and width `size`, in pixels.

    A style is never enlarged. In a texture larger than its style, coarse scales would show the style filling the whole
    texture, while the finest would take strokes from the style at its own, smaller size. So the style's size relative
    to the texture is limited to its own at every scale.
    """
    scales = style_scales(options, len(styles), max(size))
    largest = [max(own_size(s) / max(size), LEAST_SCALE) for s in styles]
    limited = tuple(map(min, scales, largest))
    values = options.to_dict() | {
        "size": max(size),
        "strict_size": True,
        "content_weight": 0.0,
        "plain_weight": 1.0,
        "plain_blur": 0.0,
        "rim_weight": 0.0,
        "denoise": 0.0,
        "mottle": 0.0,
    }
    if options.stroke_px == ():
        values["style_scale"] = limited
    else:
        values["stroke_px"] = tuple(max(1.0, scale * max(size) / STROKES) for scale in limited)
    if options.time is None:
        whole = sum(planned(options, len(scale_sizes(size, options.coarsest))))
        values["iterations"] = options.iterations or round(LENGTH * whole)
    return OptimizeOptions.from_dict(values)


def own_size(style: Tensor | StyleTarget) -> float:
    """Return the long side of a style's own picture in pixels; for a style file, at most the largest measured size."""
    if isinstance(style, Tensor):
        return max(style.shape[-2:])
    # Sizes beyond the painting's own were measured at its own size, so their number of pixels no longer grows.
    least, most = style.sizes[0], style.sizes[-1]
    (layer, few), many = next(iter(style.pixels[least].items())), style.pixels[most]
    found = least * (many[layer] / few) ** 0.5
    return found if found < SURELY_LESS * most else float(most)
