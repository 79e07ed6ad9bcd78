"""Writing pictures: sRGB with its profile, alpha where the format has it, the photograph's metadata, whole files."""

import json
import logging
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import OptionError, PictureError
from . import exif, xmp
from .encode import DEEP_FORMATS, SUFFIX_OF, Companions, encode
from .picture import Picture
from .place import Target, check_target, keep_elsewhere, place, target_name
from .source import one_line

log = logging.getLogger(__name__)


def write_image(
    picture: Picture,
    target: Target,
    *,
    bits: int | None = None,
    quality: int = 95,
    keep_gps: bool = False,
    record: dict[str, Any] | None = None,
    format: str | None = None,  # noqa: A002
    rescue: bool = False,
) -> None:
    """Write a picture, whole or not at all.

    It is written as sRGB with that profile, upright, with the EXIF, XMP and IPTC of its photograph except thumbnail
    and maker note. JPEG has no transparency: there the picture is laid over white, with a notice in the log.

    Parameters
    ----------
    picture : Picture
        Its tensor is (1, 3, H, W), float32, sRGB, range [0, 1]; what lies outside the range is clamped.
    target : path, "-" or binary file object
        Where it goes; "-" is standard output. A file that is there already is replaced once the new one is complete.
    bits : 8, 16 or None
        Bits a sample; 16 for PNG and TIFF only. None keeps the photograph's, where the format can.
    quality : int
        1 to 100, for JPEG, WebP (where 100 is lossless) and AVIF.
    keep_gps : bool
        Whether the place where the photograph was taken stays in the metadata.
    record : dict, optional
        How the picture was made, as `json.dumps` takes it; `read_record` gives it back.
    format : str, optional
        `png`, `jpeg`, `webp`, `tiff` or `avif`; None goes by the target's suffix.
    rescue : bool
        Whether a picture that the target does not take, its disk being full for one, is kept in the working folder or
        that of temporary files. The error then says where it is.

    Raises
    ------
    OptionError
        If the format is unknown or does not have that many bits, `quality` is out of range, or `record` no JSON.
    PictureError
        If the picture is not finite, is too large for the format, or the target cannot be written.
    """
    file_format = check_target(target, format=format, bits=bits)
    name = target_name(target)
    if isinstance(quality, bool) or not isinstance(quality, int) or not 1 <= quality <= 100:
        raise OptionError(f"--quality is {quality}; it must be a whole number from 1 to 100")
    _check_record(record)
    deep = bits == 16 or (bits is None and picture.metadata.bits > 8 and file_format in DEEP_FORMATS)
    levels = _levels(picture, np.dtype(np.uint16 if deep else np.uint8), file_format != "JPEG", name)
    source = picture.metadata
    companions = Companions(
        exif.adapted(source.exif, picture.size, keep_gps=keep_gps),
        xmp.adapted(source.xmp, source.name, keep_gps=keep_gps, record=record),
        xmp.adapted(b"", source.name, keep_gps=keep_gps, record=record),
        source.iptc,
    )
    data = b""
    try:
        data = _encoded(levels, file_format, quality, companions, name)
        place(data, target)
    except PictureError as error:
        if not rescue:
            raise
        if not data:  # the format does not take it
            data, file_format = _encoded(levels, "PNG", quality, companions, name), "PNG"
        kept = keep_elsewhere(data, target, SUFFIX_OF[file_format])
        if kept is None:
            raise
        raise PictureError(f"{error}; the picture is kept in {kept}") from error


def _encoded(levels: NDArray[Any], file_format: str, quality: int, companions: Companions, name: str) -> bytes:
    try:
        return encode(levels, file_format, quality, companions, name)
    except MemoryError as error:
        raise PictureError(f"{name}: the picture does not fit into memory; make it smaller") from error
    except (OSError, ValueError, OverflowError, RuntimeError) as error:
        raise PictureError(f"{name} cannot be encoded ({one_line(error)}); write another format") from error


def _check_record(record: dict[str, Any] | None) -> None:
    if record is None:
        return
    try:
        json.dumps(record)
    except (TypeError, ValueError, RecursionError) as error:
        raise OptionError(f"the record of a picture's making cannot be written as JSON ({one_line(error)})") from error


def _levels(picture: Picture, dtype: np.dtype[Any], with_alpha: bool, name: str) -> NDArray[Any]:
    """(H, W, 3) or (H, W, 4) whole numbers."""
    colour, alpha = picture.tensor.detach().float().cpu(), picture.alpha
    if not torch.isfinite(colour).all() or (alpha is not None and not torch.isfinite(alpha).all()):
        raise PictureError(f"{name}: the picture holds numbers that are not finite; it was not written")
    if alpha is not None:
        alpha = alpha.detach().float().cpu().clamp(0, 1)
        if with_alpha:
            colour = torch.cat((colour, alpha), dim=1)
        elif alpha.min() < 1:
            log.warning("%s: JPEG has no transparency; laying the picture over white", name)
            colour = colour * alpha + (1 - alpha)
    return quantised(colour[0].permute(1, 2, 0), dtype)


def quantised(values: Tensor, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Numbers in [0, 1], any shape, rounded to the levels of an unsigned integer type; those outside are clamped."""
    top = int(np.iinfo(dtype).max)
    # int32: torch has few operations on uint16.
    return (values.clamp(0, 1) * top).round().to(torch.int32).contiguous().numpy().astype(dtype)
