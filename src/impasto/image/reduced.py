"""Pictures reduced while they are read, at 8 bits per sample: a fast path for training, which reads very many."""

from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..ranges import MAX_MEGAPIXELS
from . import heif
from .decode import identify, upright
from .picture import Picture
from .profiles import to_srgb
from .read import is_deep_png, orientation_of, read_opened, without_large_chunks
from .resize import fit_size
from .source import Source, check_size, decoding, opened
from .write import quantised

PLAIN_FORMATS = ("JPEG", "MPO", "PNG", "WEBP")
PLAIN_MODES = ("L", "RGB", "CMYK")
"""Formats and modes that `read_image` reads at 8 bits, too. They need no conversion to floats."""
GAP = 2
"""Decode a JPEG at 1/2, 1/4 or 1/8 if at least this many times the short side remain; a better filter does the rest."""


def read_reduced(source: Source, short_side: int, *, max_megapixels: float = MAX_MEGAPIXELS) -> NDArray[np.uint8]:
    """Read a picture and reduce its short side to `short_side` pixels; a smaller picture keeps its size.

    Formats, rotation and colours are as in `read_image`. Transparent pictures are composited over white. A large JPEG
    is decoded at a fraction of its size, which takes a fraction of the time.

    Parameters
    ----------
    source : path, "-" or binary file object
        The picture; "-" is standard input.
    short_side : int
        The largest short side, in pixels.
    max_megapixels : float
        Most pixels allowed in the file, in millions.

    Returns
    -------
    array
        (H, W, 3), uint8, sRGB.

    Raises
    ------
    PictureError
        As in `read_image`.
    """
    with opened(source, max_megapixels) as (file, name), decoding(name):
        plain = _read_plain(file, name, short_side, max_megapixels)
        if plain is not None:
            image, orientation = plain
            return np.ascontiguousarray(upright(np.array(_reduced(image, short_side)), orientation))
        file.seek(0)
        return np.array(_reduced(_over_white(read_opened(file, name, max_megapixels)), short_side))


def _read_plain(file: BinaryIO, name: str, short_side: int, max_megapixels: float) -> tuple[Image.Image, int] | None:
    """Read a picture of a common kind, as RGB, with its EXIF orientation. Returns None for other kinds."""
    head = file.read(64)
    file = without_large_chunks(file, head, name)
    image = None if heif.is_heif(head) else identify(file, head)
    if image is None or image.format not in PLAIN_FORMATS or image.mode not in PLAIN_MODES:
        return None
    if image.has_transparency_data or is_deep_png(image, head):
        return None
    check_size(*image.size, name, max_megapixels)
    image.draft(None, (GAP * short_side, GAP * short_side))
    image.load()
    return to_srgb(image, image.info.get("icc_profile") or None, name), orientation_of(image, name)


def _over_white(picture: Picture) -> Image.Image:
    colour, alpha = picture.tensor, picture.alpha
    if alpha is not None:
        colour = colour * alpha + (1 - alpha)
    return Image.fromarray(quantised(colour[0].permute(1, 2, 0), np.dtype(np.uint8)))


def _reduced(image: Image.Image, short_side: int) -> Image.Image:
    height, width = fit_size((image.height, image.width), short_side=short_side)
    if (width, height) == image.size:
        return image
    return image.resize((width, height), Image.Resampling.LANCZOS)
