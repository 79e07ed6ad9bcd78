"""The record of how a picture was made, read back from its file."""

from typing import Any

from ..errors import PictureError
from . import xmp
from .container import identify, is_tiff, xmp_of
from .heif import is_heif
from .png import without_large_chunks
from .source import Source, decoding, opened

HEADER_MEGAPIXELS = 1e4
"""Only the header is read, so the size does not matter; this bounds the length of what comes through a pipe."""


def read_record(source: Source) -> dict[str, Any] | None:
    """How a picture was made, as `write_image` embedded it (in its XMP packet, as JSON).

    Parameters
    ----------
    source : path, "-" or binary file object
        A PNG, JPEG, WebP, TIFF or AVIF; its pixels are not decoded.

    Returns
    -------
    dict or None
        The record; None for a picture that carries none.

    Raises
    ------
    PictureError
        If the file cannot be read, is no picture, or its record is damaged.
    """
    with opened(source, HEADER_MEGAPIXELS) as (file, name), decoding(name):
        head = file.read(64)
        if is_heif(head):
            return None
        image = identify(without_large_chunks(file, head, name), head)
        if image is None and is_tiff(head):  # a kind that we do not write
            return None
        if image is None:
            raise PictureError(f"{name} is not a picture of a known format, so it holds no record")
        try:
            return xmp.record_in(xmp_of(image))
        except ValueError as error:
            raise PictureError(f"{name}: the record of its making is damaged ({error})") from error
