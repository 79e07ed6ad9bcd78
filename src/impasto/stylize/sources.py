"""What the user gives, as what paints takes: styles, regions, masks and pictures to start from."""

import os
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from torch import Tensor

from ..errors import OptionError, StyleError
from ..image.convert import to_picture
from ..models.networks import network_path
from ..options import STARTS, OptimizeOptions
from ..style.builtin import SUFFIX, builtin_names, load_builtin
from ..style.target import StyleTarget
from .protocol import Region

StyleSource = Any
"""A built-in style's name, a picture's or style file's path, a StyleTarget, or a picture (PIL image, array, tensor)."""

STYLE_FILE_SUFFIX = ".safetensors"


def learnt_folder(model: Path) -> Path:
    """Return the folder of the style files of what a network of one's own has learnt: it is beside the network."""
    return model.with_suffix(".styles")


def resolve_style(source: StyleSource, max_megapixels: float = 200.0, model: str | None = None) -> Tensor | StyleTarget:
    """What a style's source stands for: a painting (1, 3, H, W) or its measurements.

    Text is a path if there is such a file, else the name of a style that the network `model` has learnt, or of a
    built-in style.

    Raises
    ------
    StyleError
        If there is neither such a file nor such a style.
    PictureError, WeightsError
        If the file cannot be read, or `model` is no network's.
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
        if not os.path.exists(path):  # unlike Path.exists, which fails for a name that is too long
            near = get_close_matches(str(source), builtin_names(), 3)
            hint = f"did you mean {' or '.join(near)}?" if near else "`impasto styles` lists the built-in ones"
            raise StyleError(f"style {str(source)!r} is neither a file nor a built-in style; {hint}")
        if path.suffix.lower() == STYLE_FILE_SUFFIX:
            return StyleTarget.load(path)
    return to_picture(source, max_megapixels=max_megapixels).tensor


def split_region(text: str) -> tuple[str, str]:
    """Mask and style of a region written as MASK=STYLE; OptionError if it is not.

    The first = divides them, but where names hold more of them, the first that leaves the name of a file before it.
    """
    places = [i for i, c in enumerate(text) if c == "=" and 0 < i < len(text) - 1]
    if not places:
        raise OptionError(f"--region {text} is not of the form MASK=STYLE, as in --region sky.png=starry-night")
    i = next((i for i in places if os.path.isfile(text[:i])), places[0])
    return text[:i], text[i + 1 :]


def resolve_region(mask: Any, style: StyleSource, max_megapixels: float = 200.0, model: str | None = None) -> Region:
    """A region of sources.

    Parameters
    ----------
    mask : path, PIL image, array, tensor or Picture
        White (1) where the region is, black (0) where not, grey between.
    style, model : as for `resolve_style`

    Raises
    ------
    ImpastoError
        As `resolve_style`; PictureError if the mask cannot be read.
    """
    return Region(resolve_mask(mask, max_megapixels), resolve_style(style, max_megapixels, model))


def resolve_mask(mask: Any, max_megapixels: float = 200.0) -> Tensor:
    """A mask (1, 1, H, W) in [0, 1] of that, or of any kind of picture, its brightness; PictureError if unreadable."""
    if isinstance(mask, Tensor) and mask.ndim == 4 and mask.shape[1] == 1:
        mask = mask.expand(-1, 3, -1, -1)  # where it is checked as any picture is
    return to_picture(mask, max_megapixels=max_megapixels).tensor.mean(1, keepdim=True)


def resolve_styles(style: StyleSource | Sequence[StyleSource], model: str | None = None) -> list[Tensor | StyleTarget]:
    """Return what a style's source, or each of a list of them, stands for; errors as for `resolve_style`."""
    return [resolve_style(s, model=model) for s in (style if isinstance(style, list | tuple) else [style])]


def resolve_start(options: OptimizeOptions) -> Tensor | None:
    """The picture (1, 3, H, W) that `options.start` names, if it does; PictureError if it cannot be read."""
    return None if options.start in STARTS else to_picture(options.start).tensor
