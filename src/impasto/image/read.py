"""Reading pictures: the camera's turn undone, colours in sRGB, alpha kept, 16 bits where there are."""

import logging
from typing import BinaryIO

import numpy as np
import torch
from PIL import Image

from ..errors import OptionError, PictureError
from . import deep, exif, heif, xmp
from .container import dpi_of, exif_of, identify, is_tiff, xmp_of
from .decode import DEEP_MODES, Samples, from_pillow, turned
from .iptc import iptc_of
from .picture import Metadata, Picture
from .png import without_large_chunks
from .reduction import Reduction, Sized
from .source import Source, check_size, decoding, one_line, opened

log = logging.getLogger(__name__)

DNG_VERSION, BITS_PER_SAMPLE, SAMPLE_FORMAT = 50706, 258, 339


def read_image(source: Source, *, max_megapixels: float = 200.0, sized: Sized | None = None) -> Picture:
    """Read a picture.

    The camera's turn (EXIF orientation) is undone, an embedded colour profile converted to sRGB, transparency kept.
    Of an animation or a document of many pages it is the first picture. PNG and TIFF of more than 8 bits a sample are
    read at 16 where the extra `large` is installed, else at 8 with a notice in the log; HEIC needs the extra `heif`.

    Parameters
    ----------
    source : path, "-" or binary file object
        The picture; "-" is standard input.
    max_megapixels : float
        The most pixels allowed, in millions, checked before any is decoded.
    sized : callable, optional
        Called with the picture's height and width before any pixel is decoded; returns those that are needed, or raises
        what speaks against them. A picture at least twice as large is reduced to that size while it is read, which
        takes a fraction of the memory: JPEG and JPEG 2000 are not even decoded in full. `metadata.full_size` tells.

    Returns
    -------
    Picture
        Its tensor is (1, 3, H, W), float32, sRGB, range [0, 1]; its alpha (1, 1, H, W), float32, range [0, 1], or None.

    Raises
    ------
    PictureError
        If it is missing, may not be read, is a folder, is empty, is no picture, is damaged or cut short, has no pixels
        or too many, or needs an extra that is not installed.
    OptionError
        If `max_megapixels` is not positive, or `source` of another kind.
    """
    if not max_megapixels > 0:
        raise OptionError(f"--max-megapixels is {max_megapixels:g}; it must be greater than 0")
    with opened(source, max_megapixels) as (file, name), decoding(name):
        return read_opened(file, name, max_megapixels, sized)


def read_opened(file: BinaryIO, name: str, max_megapixels: float, sized: Sized | None = None) -> Picture:
    """As `read_image`, of a seekable file that stands at its beginning; called inside `decoding(name)`."""
    head = file.read(64)
    if heif.is_heif(head):
        samples, info, reduction = heif.read_heif(file, name, max_megapixels, sized)
        picture = picture_of(samples, 1, name, "HEIF", info.get("exif") or b"", info.get("xmp") or b"")
        return reduction.finished(picture)
    file = without_large_chunks(file, head, name)
    image = identify(file, head)
    if image is None and not (is_tiff(head) and deep.available()):
        raise PictureError(_unknown(name, head))
    if image is not None:
        check_size(*image.size, name, max_megapixels)
        if DNG_VERSION in getattr(image, "tag_v2", {}):
            raise PictureError(f"{name} is a camera's raw file; develop it to TIFF or JPEG first")
    if is_tiff(head) and (image is None or _is_deep_tiff(image)):
        return _read_deep_tiff(file, image, name, max_megapixels, sized)
    assert image is not None  # what Pillow does not know was dealt with above
    return _read_with_pillow(file, image, head, name, max_megapixels, sized)


def _unknown(name: str, head: bytes) -> str:
    if is_tiff(head):
        return f"{name} is a TIFF of a rare kind; to read it, {deep.INSTALL}"
    if head.lstrip()[:5].lower() in (b"<?xml", b"<svg ") or head.startswith((b"%PDF", b"%!PS")):
        return f"{name} is a drawing or document, not a picture of pixels; export it as PNG"
    return f"{name} is not a picture of a known format; convert it to PNG or JPEG"


def _read_with_pillow(
    file: BinaryIO, image: Image.Image, head: bytes, name: str, max_megapixels: float, sized: Sized | None
) -> Picture:
    reduction = Reduction.of((image.height, image.width), sized)
    reduction.ask(image)
    image.load()
    orientation = orientation_of(image, name)
    deep_png = is_deep_png(image, head)
    if deep_png and deep.available():
        file.seek(0)
        samples = deep.read_png(file.read(), name, max_megapixels, reduction)
    else:
        samples = from_pillow(image, name, reduction)
        is_deep = deep_png or (image.format == "TIFF" and _is_deep_tiff(image))
        if is_deep and image.mode not in DEEP_MODES:
            log.warning("%s: read at 8 bits of its 16; %s reads all", name, deep.INSTALL)
    block, packet, beside = exif_of(image, file), xmp_of(image), (dpi_of(image), iptc_of(image))
    picture = picture_of(samples, orientation, name, image.format or "", block, packet, *beside)
    return reduction.finished(picture, orientation)


def orientation_of(image: Image.Image, name: str) -> int:
    """A loaded image's EXIF orientation; 1, with a warning in the log, where its EXIF block is damaged."""
    try:
        return image.getexif().get(exif.ORIENTATION, 1)
    except Exception as error:  # a damaged EXIF block, which Pillow meets with nearly any exception
        log.warning("%s: its EXIF metadata cannot be read (%s); leaving it out", name, one_line(error))
        return 1


def is_deep_png(image: Image.Image, head: bytes) -> bool:
    """Whether it is a PNG of 16 bits a sample, by its first 64 bytes; Pillow itself gives some of them 8."""
    return image.format == "PNG" and head[24:25] == b"\x10"


def _is_deep_tiff(image: Image.Image) -> bool:
    tags = getattr(image, "tag_v2", {})
    bits, kinds = tags.get(BITS_PER_SAMPLE, (1,)), tags.get(SAMPLE_FORMAT, (1,))
    return max(bits) > 8 or max(kinds) > 1


def _read_deep_tiff(
    file: BinaryIO, image: Image.Image | None, name: str, max_megapixels: float, sized: Sized | None
) -> Picture:
    if not deep.available():
        assert image is not None
        return _read_with_pillow(file, image, b"", name, max_megapixels, sized)
    reduction = Reduction.of(None if image is None else (image.height, image.width), sized)
    file.seek(0)
    samples = deep.read_tiff(file.read(), name, max_megapixels, reduction)
    block = exif.parse(file)
    packet = xmp_of(image) if image is not None else b""
    record = iptc_of(image) if image is not None else b""
    turn = block.orientation if block else 1
    return reduction.finished(picture_of(samples, turn, name, "TIFF", file, packet, None, record), turn)


def picture_of(
    samples: Samples,
    orientation: int,
    name: str,
    file_format: str,
    block: bytes | BinaryIO,
    packet: bytes,
    dpi: tuple[float, float] | None = None,
    record: bytes = b"",
) -> Picture:
    """Put a Picture together.

    Parameters
    ----------
    samples : Samples
        Its pixels as they stand in the file.
    orientation : int
        EXIF's 1 to 8: how to turn them.
    name, file_format : str
        For its metadata.
    block : bytes or binary file
        The EXIF block (see `exif.parse`), or b"".
    packet : bytes
        The XMP packet, or b"".
    dpi : (float, float), optional
        The resolution across and down that the file names beside its EXIF, in pixels an inch.
    record : bytes
        The IPTC record (`iptc.kept`), or b"".
    """
    samples = turned(samples, orientation)
    colour = torch.from_numpy(np.ascontiguousarray(samples.colour.transpose(2, 0, 1)))[None]
    alpha = None if samples.alpha is None else torch.from_numpy(np.ascontiguousarray(samples.alpha))[None, None]
    kept_xmp = xmp.adapted(packet, name, keep_gps=True) if packet else b""
    if dpi is not None and orientation in (5, 6, 7, 8):
        dpi = dpi[1], dpi[0]
    return Picture(colour, alpha, Metadata(name, file_format, samples.bits, exif.kept(block, dpi), kept_xmp, record))
