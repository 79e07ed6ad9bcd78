"""Resolve the user's sources: styles, regions, masks and pictures to start from."""

import logging
import math
import os
from collections.abc import Sequence
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from ..errors import OptionError, StyleError
from ..image.decode import Sized
from ..image.picture import Metadata, Picture, opaque
from ..image.read import to_picture
from ..image.resize import fit_size
from ..models.networks import network_path
from ..options import STARTS, BlendOptions, OptimizeOptions, TextureOptions
from ..ranges import MAX_MEGAPIXELS
from ..style.target import STYLE_SIZES, SUFFIX, StyleTarget, builtin_names, load_builtin
from .protocol import Region

log = logging.getLogger(__name__)

Options = TypeVar("Options", bound=OptimizeOptions)

StyleSource = Any
"""The name of a built-in style, a picture's or style file's path, a StyleTarget, or a PIL image, array or tensor."""

STYLE_FILE_SUFFIX = ".safetensors"
LEAST_STYLE_SIDE = 256
"""Short side in pixels below which a style's file is never reduced while reading: long ones would be enlarged later."""
LEAST_WHITE = 0.1
"""Minimum brightness of a mask's brightest pixel. A darker picture is a label map or a mistake."""


def learnt_folder(model: Path) -> Path:
    """Return the folder of the style files that a user's own network has learnt, next to the network's file."""
    return model.with_suffix(".styles")


def photo_options(photo: Picture, options: Options) -> Options:
    """Return the options for a photograph after reading. One that was reduced already has the painting's size."""
    return options if photo.metadata.full_size is None or options.scale is None else replace(options, scale=1.0)


def resolve_style(
    source: StyleSource,
    max_megapixels: float = MAX_MEGAPIXELS,
    model: str | None = None,
    long_side: float | None = None,
) -> Tensor | StyleTarget:
    """Return a painting (1, 3 or 4, H, W) or its measurements from a style's source.

    Text is a path if the file exists, else the name of a style that the network `model` has learnt, or of a built-in
    style. A painting's file that is much larger than `long_side`, in pixels, is reduced while it is read.

    Raises
    ------
    StyleError
        If neither the file nor the style exists.
    PictureError, WeightsError
        If the file cannot be read, or `model` is not a network.
    """
    if isinstance(source, StyleTarget):
        return source
    if isinstance(source, str | Path) and str(source) != "-":
        path = Path(source)
        if not os.path.isfile(path):
            own = None if model is None else learnt_folder(network_path(model)) / (str(source) + SUFFIX)
            if own is not None and os.path.isfile(own):
                return StyleTarget.load(own)
            if str(source) in builtin_names():
                return load_builtin(str(source))
        if not os.path.exists(path):  # Path.exists fails for a name that is too long
            near = get_close_matches(str(source), builtin_names(), 3)
            hint = f"did you mean {' or '.join(near)}?" if near else "`impasto styles` lists the built-in ones"
            raise StyleError(f"style {str(source)!r} is neither a file nor a built-in style; {hint}")
        if path.suffix.lower() == STYLE_FILE_SUFFIX:
            return StyleTarget.load(path)
    return to_picture(source, max_megapixels=max_megapixels, sized=style_sized(long_side)).pixels


def style_sized(long_side: float | None) -> Sized | None:
    """Return a function that gives the size to read a style at.

    Parameters
    ----------
    long_side : float or None
        Long side, in pixels, at which the style is measured. None reads the whole picture.
    """
    if long_side is None:
        return None
    long = math.ceil(max(long_side, STYLE_SIZES[-1]))

    def sized(size: tuple[int, int]) -> tuple[int, int]:
        return max(fit_size(size, long_side=long), fit_size(size, short_side=LEAST_STYLE_SIDE))

    return sized


def style_side(size: tuple[int, int], options: BlendOptions) -> float:
    """Return the largest long side at which styles are measured for a painting of `size` (H, W), in pixels."""
    return max(size) * max(options.style_scales(max(size)))


def split_region(text: str) -> tuple[str, str]:
    """Split MASK=STYLE into mask and style. Raises OptionError if the text has another form.

    If there are several =, split at the first one that has the name of a file before it, else at the first one.
    """
    places = [i for i, c in enumerate(text) if c == "=" and 0 < i < len(text) - 1]
    if not places:
        raise OptionError(f"--region {text} is not of the form MASK=STYLE, such as --region sky.png=starry-night")
    i = next((i for i in places if os.path.isfile(text[:i])), places[0])
    return text[:i], text[i + 1 :]


def resolve_region(
    mask: Any,
    style: StyleSource,
    max_megapixels: float = MAX_MEGAPIXELS,
    model: str | None = None,
    size: tuple[int, int] | None = None,
    long_side: float | None = None,
) -> Region:
    """Return a region from the sources of its mask and its style.

    Parameters
    ----------
    mask, size : as for `resolve_mask`
    style, model, long_side : as for `resolve_style`

    Raises
    ------
    ImpastoError
        As `resolve_style` and `resolve_mask`.
    """
    style = resolve_style(style, max_megapixels, model, long_side)
    return Region(resolve_mask(mask, max_megapixels, size), style)


def resolve_mask(mask: Any, max_megapixels: float = MAX_MEGAPIXELS, size: tuple[int, int] | None = None) -> Tensor:
    """Return a mask (1, 1, H, W) in [0, 1].

    Parameters
    ----------
    mask : path, PIL image, array, tensor or Picture
        White (1) inside, black (0) outside, grey between. If any pixel is transparent, the alpha is the mask, as GIMP
        and rembg write it, and the colours are ignored. Arrays and tensors may be boolean, or integers 0 and 1. Tensors
        may also be (H, W), (1, H, W) or (1, 1, H, W).
    size : (int, int), optional
        Height and width of the painting in pixels. A much larger file is reduced while it is read.

    Raises
    ------
    PictureError
        If the mask cannot be read.
    OptionError
        If the picture is not a mask, or so dark that nothing would be painted.
    """
    if isinstance(mask, np.ndarray) and mask.dtype == np.bool_:
        mask = mask.astype(np.uint8) * np.uint8(255)
    if isinstance(mask, Tensor):
        mask = mask.to(torch.uint8) * 255 if mask.dtype == torch.bool else mask
        if mask.ndim == 2 or (mask.ndim in (3, 4) and mask.shape[-3] == 1):
            mask = mask.expand(*mask.shape[:-3], 3, *mask.shape[-2:])  # a picture, so that it is checked as one
    sized = None if size is None else (lambda s: fit_size(s, long_side=max(size)))
    picture = to_picture(mask, max_megapixels=max_megapixels, sized=sized)
    name = "the mask" if picture.metadata.name == Metadata().name else picture.metadata.name
    if picture.alpha is not None and picture.alpha.min() < 1:
        log.info("%s: using its transparency as the mask and ignoring its colours", name)
        return picture.alpha
    found = picture.tensor.mean(1, keepdim=True)
    white, most = 2**picture.metadata.bits - 1, float(found.max())
    if 0 < most <= 1.01 / white:
        log.warning("%s has only the values 0 and 1 of %d; taking 1 as white", name, white)
        return (found * white).clamp(0, 1)
    if 0 < most < LEAST_WHITE:
        raise OptionError(
            f"{name} is nowhere brighter than {100 * most:.2g} % of white, so almost nothing would be painted; make "
            "the part to paint white"
        )
    return found


def resolve_styles(
    style: StyleSource | Sequence[StyleSource], model: str | None = None, long_side: float | None = None
) -> list[Tensor | StyleTarget]:
    """Resolve a style's source, or each of a list. Raises the errors of `resolve_style`."""
    several = style if isinstance(style, list | tuple) else [style]
    return [resolve_style(s, model=model, long_side=long_side) for s in several]


def resolve_start(
    options: OptimizeOptions | TextureOptions,
    max_megapixels: float = MAX_MEGAPIXELS,
    size: tuple[int, int] | None = None,
) -> Tensor | None:
    """Return the picture (1, 3, H, W) that `options.start` names, or None if it names no picture.

    Parameters
    ----------
    size : (int, int), optional
        Height and width of the painting in pixels. A much larger file is reduced while it is read.

    Raises
    ------
    PictureError
        If the picture cannot be read.
    """
    if options.start in STARTS:
        return None
    sized = None if size is None else (lambda s: fit_size(s, long_side=max(size)))
    return opaque(to_picture(options.start, max_megapixels=max_megapixels, sized=sized).pixels)
