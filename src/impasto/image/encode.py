"""A picture's samples as the bytes of a file."""

import logging
import struct
import zlib
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from ..errors import PictureError
from . import exif as exif_blocks
from . import iptc
from .exif import LONG, SHORT, Exif
from .profiles import srgb_profile

log = logging.getLogger(__name__)

SUFFIXES = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".webp": "WEBP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".avif": "AVIF",
}
"""A file's suffix to the name of its format."""
SUFFIX_OF = {"PNG": ".png", "JPEG": ".jpg", "WEBP": ".webp", "TIFF": ".tif", "AVIF": ".avif"}
"""The usual suffix of each."""
DEEP_FORMATS = frozenset(("PNG", "TIFF"))
"""Those that are written at 16 bits where asked."""
LONGEST_SIDE = {"JPEG": 65_500, "WEBP": 16_383, "AVIF": 65_536, "PNG": 2**31 - 1, "TIFF": 2**31 - 1}
"""Pixels."""
JPEG_SEGMENT = 65_504
"""Bytes of EXIF or XMP that fit into a JPEG."""
STRIP = 2**20
"""About how many bytes of pixels a strip of a TIFF holds."""


@dataclass(frozen=True)
class Companions:
    """What goes into a file with the pixels: EXIF, XMP packets with and without the photograph's part, IPTC."""

    exif: Exif | None = None
    xmp: bytes = b""
    own_xmp: bytes = b""
    iptc: bytes = b""


def encode(levels: NDArray[Any], file_format: str, quality: int, companions: Companions, name: str) -> bytes:
    """Encode a picture.

    Parameters
    ----------
    levels : array
        (H, W, 3) or, with alpha last, (H, W, 4); uint8, or uint16 for PNG and TIFF; sRGB.
    file_format : str
        One of the values of `SUFFIXES`.
    quality : int
        1 to 100, for JPEG, WebP (100 is lossless there) and AVIF.
    companions : Companions
        EXIF, XMP and IPTC.
    name : str
        What messages call the file.

    Raises
    ------
    PictureError
        If the format cannot hold a picture of that size.
    """
    height, width, channels = levels.shape
    check_sides((height, width), file_format, name)
    if file_format == "TIFF":
        return _tiff(levels, companions, name)
    if file_format == "PNG" and levels.dtype == np.uint16:
        return _png16(levels, companions)
    options: dict[str, Any] = {"icc_profile": srgb_profile()}
    block = b"" if companions.exif is None else exif_blocks.pack(companions.exif)
    xmp = companions.xmp
    if companions.exif is not None and companions.exif.dpi is not None and file_format in ("PNG", "JPEG"):
        options["dpi"] = companions.exif.dpi
    if companions.iptc and file_format in ("WEBP", "AVIF"):
        log.warning("%s: %s has no IPTC metadata; leaving the photograph's out", name, file_format)
    if file_format == "PNG":
        options["pnginfo"] = PngInfo()
        if companions.iptc:
            options["pnginfo"].add_text(iptc.PNG_KEY, iptc.as_png_text(companions.iptc), zip=True)
        if xmp:
            options["pnginfo"].add_itxt("XML:com.adobe.xmp", xmp.decode())
    elif file_format == "JPEG":
        options.update(quality=quality, subsampling=0 if quality >= 90 else 2)
        block, xmp, options["extra"] = _fitting_jpeg(block, companions, name)
    elif file_format == "WEBP":
        options.update(quality=quality, lossless=quality == 100, exact=True)
    elif file_format == "AVIF":
        options.update(quality=quality, subsampling="4:4:4" if quality >= 90 else "4:2:0")
        # Pillow re-encodes a block that names an orientation, and harms its text; none means upright as well.
        if companions.exif is not None:
            main = {k: v for k, v in companions.exif.main.items() if k != exif_blocks.ORIENTATION}
            block = exif_blocks.pack(Exif(companions.exif.order, main, companions.exif.photo, companions.exif.gps))
    if block:
        options["exif"] = b"Exif\0\0" + block
    if xmp and file_format != "PNG":
        options["xmp"] = xmp
    out = BytesIO()
    Image.fromarray(levels, "RGBA" if channels == 4 else "RGB").save(out, file_format, **options)
    return out.getvalue()


def check_sides(size: tuple[int, int], file_format: str, name: str) -> None:
    """PictureError if the format cannot hold a picture of that height and width, in pixels."""
    if max(size) > LONGEST_SIDE[file_format]:
        raise PictureError(
            f"{name}: {file_format} holds no side longer than {LONGEST_SIDE[file_format]} pixels, and this picture is "
            f"{size[1]}x{size[0]}; write .png or .tiff"
        )


def _fitting_jpeg(block: bytes, companions: Companions, name: str) -> tuple[bytes, bytes, bytes]:
    """Return the EXIF block, the XMP packet and the IPTC segment, each empty where a JPEG cannot hold it."""
    xmp, segment = companions.xmp, b""
    if len(block) > JPEG_SEGMENT:
        log.warning("%s: the photograph's EXIF is too long for a JPEG; leaving it out", name)
        block = b""
    if len(xmp) > JPEG_SEGMENT:
        log.warning("%s: the photograph's XMP is too long for a JPEG; leaving it out", name)
        xmp = companions.own_xmp
    if len(xmp) > JPEG_SEGMENT:
        log.warning("%s: the record of its making is too long for a JPEG; leaving it out", name)
        xmp = b""
    if companions.iptc and len(companions.iptc) <= JPEG_SEGMENT - 32:
        segment = iptc.as_jpeg_segment(companions.iptc)
    elif companions.iptc:
        log.warning("%s: the photograph's IPTC is too long for a JPEG; leaving it out", name)
    return block, xmp, segment


def _png16(levels: NDArray[np.uint16], companions: Companions) -> bytes:
    """PNG (RFC 2083) at 16 bits, which Pillow does not write: each row as differences to the row above."""
    height, width, channels = levels.shape
    rows = np.ascontiguousarray(levels, ">u2").view(np.uint8).reshape(height, -1)
    filtered = np.empty((height, rows.shape[1] + 1), np.uint8)
    filtered[:, 0] = 2  # filter type "up"
    filtered[0, 1:] = rows[0]
    np.subtract(rows[1:], rows[:-1], out=filtered[1:, 1:])

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    parts = [
        b"\x89PNG\r\n\x1a\n",
        chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, 6 if channels == 4 else 2, 0, 0, 0)),
        chunk(b"iCCP", b"ICC Profile\0\0" + zlib.compress(srgb_profile())),
    ]
    if companions.exif is not None:
        parts.append(chunk(b"eXIf", exif_blocks.pack(companions.exif)))
        if companions.exif.dpi is not None:
            across, down = (round(d / 0.0254) for d in companions.exif.dpi)
            parts.append(chunk(b"pHYs", struct.pack(">IIB", across, down, 1)))  # pixels a metre
    if companions.iptc:
        text = zlib.compress(iptc.as_png_text(companions.iptc).encode())
        parts.append(chunk(b"zTXt", iptc.PNG_KEY.encode() + b"\0\0" + text))
    if companions.xmp:
        parts.append(chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + companions.xmp))
    packed = zlib.compress(filtered.tobytes(), 6)
    parts += [chunk(b"IDAT", packed[i : i + 2**30]) for i in range(0, len(packed), 2**30)]
    return b"".join([*parts, chunk(b"IEND", b"")])


def _tiff(levels: NDArray[Any], companions: Companions, name: str) -> bytes:
    """TIFF 6.0, deflated, with horizontal differences; the EXIF entries stand in the file's own directory."""
    height, width, channels = levels.shape
    exif = companions.exif or Exif()
    order, bits = exif.order, 8 * levels.itemsize
    differences = levels.copy()
    differences[:, 1:] -= levels[:, :-1]
    differences = differences.astype(levels.dtype.newbyteorder("<" if order == "<" else ">"), copy=False)
    rows = max(1, STRIP // (width * channels * levels.itemsize))
    strips = [zlib.compress(differences[i : i + rows].tobytes(), 6) for i in range(0, height, rows)]
    lengths = [len(strip) for strip in strips]
    offsets = [8 + sum(lengths[:i]) for i in range(len(strips))]
    directory = 8 + sum(lengths) + sum(lengths) % 2
    if directory + len(companions.xmp) > 2**32 - 2**20:
        raise PictureError(f"{name} would be larger than the 4 GB that a TIFF holds; write .png")

    def numbers(kind: int, *values: int) -> exif_blocks.Entry:
        return kind, len(values), struct.pack(f"{order}{len(values)}{'H' if kind == SHORT else 'I'}", *values)

    profile = srgb_profile()
    main = {
        **exif.main,
        256: numbers(LONG, width),
        257: numbers(LONG, height),
        258: numbers(SHORT, *[bits] * channels),
        259: numbers(SHORT, 8),  # deflate
        262: numbers(SHORT, 2),  # RGB
        273: numbers(LONG, *offsets),
        277: numbers(SHORT, channels),
        278: numbers(LONG, rows),
        279: numbers(LONG, *lengths),
        284: numbers(SHORT, 1),  # samples of a pixel side by side
        317: numbers(SHORT, 2),  # horizontal differences
        34675: (7, len(profile), profile),
    }
    if channels == 4:
        main[338] = numbers(SHORT, 2)  # alpha, the colours not multiplied by it
    if companions.xmp:
        main[700] = (1, len(companions.xmp), companions.xmp)
    if companions.iptc:
        main[iptc.TIFF_TAG] = (7, len(companions.iptc), companions.iptc)
    padding = bytes(sum(lengths) % 2)
    tail = exif_blocks.directories(Exif(order, main, exif.photo, exif.gps), directory)
    return b"".join([exif_blocks.header(order, directory), *strips, padding, tail])
