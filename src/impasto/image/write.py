"""Writing pictures: sRGB with its profile, alpha if the format supports it, and the photograph's metadata.

A file is written completely or not at all.
"""

import json
import logging
import os
import secrets
import stat
import struct
import sys
import tempfile
import zlib
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from ..errors import OptionError, PictureError
from ..files import atomic_write
from . import exif as exif_blocks
from . import iptc, xmp
from .exif import LONG, SHORT, Exif
from .picture import Metadata, Picture
from .profiles import srgb_profile
from .source import one_line, source_name

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
"""File suffix -> name of the format."""
SUFFIX_OF = {"PNG": ".png", "JPEG": ".jpg", "WEBP": ".webp", "TIFF": ".tif", "AVIF": ".avif"}
"""Format -> its usual suffix."""
DEEP_FORMATS = frozenset(("PNG", "TIFF"))
"""The formats that can be written at 16 bits."""
LONGEST_SIDE = {"JPEG": 65_500, "WEBP": 16_383, "AVIF": 65_536, "PNG": 2**31 - 1, "TIFF": 2**31 - 1}
"""Format -> longest side in pixels."""
JPEG_SEGMENT = 65_504
"""Bytes of EXIF or XMP that fit into a JPEG."""
STRIP = 2**20
"""Approximate bytes of pixels in one strip of a TIFF."""


@dataclass(frozen=True)
class Companions:
    """The metadata to write with the pixels: EXIF, XMP with and without the photograph's part, IPTC."""

    exif: Exif | None = None
    xmp: bytes = b""
    own_xmp: bytes = b""
    iptc: bytes = b""


def companions_of(
    source: Metadata, size: tuple[int, int], *, keep_gps: bool, record: dict[str, Any] | None
) -> Companions:
    """Return the metadata to write with a picture of a height and width, made from its photograph's."""
    return Companions(
        exif_blocks.adapted(source.exif, size, keep_gps=keep_gps),
        xmp.adapted(source.xmp, source.name, keep_gps=keep_gps, record=record),
        xmp.adapted(b"", source.name, keep_gps=keep_gps, record=record),
        source.iptc,
    )


def encode(levels: NDArray[Any], file_format: str, quality: int, companions: Companions, name: str) -> bytes:
    """Encode a picture.

    Parameters
    ----------
    levels : array
        (H, W, 3) or, with alpha last, (H, W, 4); uint8, or uint16 for PNG and TIFF; sRGB.
    file_format : str
        One of the values of `SUFFIXES`.
    quality : int
        1 to 100, for JPEG, WebP (where 100 is lossless) and AVIF.
    companions : Companions
        EXIF, XMP and IPTC.
    name : str
        Name of the file in messages.

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
        # Pillow re-encodes a block that has an orientation and damages its text. Without one, the picture is upright.
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
    """Raise PictureError if the format cannot hold a picture of this height and width, in pixels."""
    if max(size) > LONGEST_SIDE[file_format]:
        raise PictureError(
            f"{name}: {file_format} holds no side longer than {LONGEST_SIDE[file_format]} pixels, and this picture is "
            f"{size[1]}x{size[0]}; write .png or .tiff"
        )


def _fitting_jpeg(block: bytes, companions: Companions, name: str) -> tuple[bytes, bytes, bytes]:
    """Return the EXIF block, the XMP packet and the IPTC segment, each empty if it does not fit into a JPEG."""
    xmp, segment = companions.xmp, b""
    if len(block) > JPEG_SEGMENT:
        log.warning("%s: the photograph's EXIF is too long for a JPEG; leaving it out", name)
        block = b""
    if len(xmp) > JPEG_SEGMENT:
        log.warning("%s: the photograph's XMP is too long for a JPEG; leaving it out", name)
        xmp = companions.own_xmp
    if len(xmp) > JPEG_SEGMENT:
        log.warning("%s: the record of how it was made is too long for a JPEG; leaving it out", name)
        xmp = b""
    if companions.iptc and len(companions.iptc) <= JPEG_SEGMENT - 32:
        segment = iptc.as_jpeg_segment(companions.iptc)
    elif companions.iptc:
        log.warning("%s: the photograph's IPTC is too long for a JPEG; leaving it out", name)
    return block, xmp, segment


def png_chunk(kind: bytes, data: bytes) -> bytes:
    """Return a chunk of a PNG."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _png16(levels: NDArray[np.uint16], companions: Companions) -> bytes:
    """Encode a PNG (RFC 2083) at 16 bits, which Pillow cannot write. Rows are differences to the row above."""
    height, width, channels = levels.shape
    rows = np.ascontiguousarray(levels, ">u2").view(np.uint8).reshape(height, -1)
    filtered = np.empty((height, rows.shape[1] + 1), np.uint8)
    filtered[:, 0] = 2  # filter type "up"
    filtered[0, 1:] = rows[0]
    np.subtract(rows[1:], rows[:-1], out=filtered[1:, 1:])
    parts = [
        b"\x89PNG\r\n\x1a\n",
        png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, 6 if channels == 4 else 2, 0, 0, 0)),
        png_chunk(b"iCCP", b"ICC Profile\0\0" + zlib.compress(srgb_profile())),
    ]
    if companions.exif is not None:
        parts.append(png_chunk(b"eXIf", exif_blocks.pack(companions.exif)))
        if companions.exif.dpi is not None:
            across, down = (round(d / 0.0254) for d in companions.exif.dpi)
            parts.append(png_chunk(b"pHYs", struct.pack(">IIB", across, down, 1)))  # pixels per metre
    if companions.iptc:
        text = zlib.compress(iptc.as_png_text(companions.iptc).encode())
        parts.append(png_chunk(b"zTXt", iptc.PNG_KEY.encode() + b"\0\0" + text))
    if companions.xmp:
        parts.append(png_chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + companions.xmp))
    packed = zlib.compress(filtered.tobytes(), 6)
    parts += [png_chunk(b"IDAT", packed[i : i + 2**30]) for i in range(0, len(packed), 2**30)]
    return b"".join([*parts, png_chunk(b"IEND", b"")])


def described(companions: Companions, order: str) -> Exif:
    """Return the metadata and the profile as entries of a TIFF's directories, in a byte order."""
    exif, profile = exif_blocks.reordered(companions.exif or Exif(order), order), srgb_profile()
    main = {**exif.main, 34675: (7, len(profile), profile)}
    if companions.xmp:
        main[700] = (1, len(companions.xmp), companions.xmp)
    if companions.iptc:
        main[iptc.TIFF_TAG] = (7, len(companions.iptc), companions.iptc)
    return Exif(order, main, exif.photo, exif.gps)


def _tiff(levels: NDArray[Any], companions: Companions, name: str) -> bytes:
    """Encode a TIFF 6.0: deflate, horizontal differences, the EXIF entries in the file's own directory."""
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

    main = {
        **described(companions, order).main,
        256: numbers(LONG, width),
        257: numbers(LONG, height),
        258: numbers(SHORT, *[bits] * channels),
        259: numbers(SHORT, 8),  # deflate
        262: numbers(SHORT, 2),  # RGB
        273: numbers(LONG, *offsets),
        277: numbers(SHORT, channels),
        278: numbers(LONG, rows),
        279: numbers(LONG, *lengths),
        284: numbers(SHORT, 1),  # interleaved samples
        317: numbers(SHORT, 2),  # horizontal differences
    }
    if channels == 4:
        main[338] = numbers(SHORT, 2)  # alpha, the colours not multiplied by it
    padding = bytes(sum(lengths) % 2)
    tail = exif_blocks.directories(Exif(order, main, exif.photo, exif.gps), directory)
    return b"".join([exif_blocks.header(order, directory), *strips, padding, tail])


Target = str | os.PathLike[str] | BinaryIO
"""A path, "-" for standard output, or a file object opened for writing in binary mode."""


def check_target(
    target: Target,
    *,
    format: str | None = None,  # noqa: A002
    bits: int | None = None,
    size: tuple[int, int] | None = None,
) -> str:
    """Check, before a long job, that its result can be written.

    Parameters
    ----------
    target : path, "-" or binary file object
        Where to write it.
    format : str, optional
        `png`, `jpeg`, `webp`, `tiff` or `avif`; required if the target has no suffix.
    bits : int, optional
        8 or 16 bits per sample.
    size : (int, int), optional
        Height and width of the picture, in pixels.

    Returns
    -------
    str
        The format's name: PNG, JPEG, WEBP, TIFF or AVIF.

    Raises
    ------
    OptionError
        If the suffix or format is unknown, or does not support `bits`.
    PictureError
        If the folder does not exist or is not writable, the target is a folder or write-protected, or the format cannot
        hold a picture of that size.
    """
    name = target_name(target)
    file_format = _format(target, name, format)
    if bits not in (None, 8, 16):
        raise OptionError(f"bits is {bits}; it must be 8 or 16")
    if bits == 16 and file_format not in DEEP_FORMATS:
        raise OptionError(f"{name}: {file_format} has 8 bits a sample; for 16 write .png or .tiff")
    if size is not None:
        check_sides(size, file_format, name)
    if isinstance(target, str | os.PathLike) and os.fspath(target) != "-":
        check_writable(Path(target), name)
    return file_format


def target_name(target: Target) -> str:
    """Return the name of `target` for messages."""
    name = source_name(target)
    return "standard output" if name == "standard input" else name


def _format(target: Target, name: str, asked: str | None) -> str:
    known = ", ".join(sorted(SUFFIXES))
    if asked is not None:
        file_format = SUFFIXES.get("." + asked.lower().lstrip("."))
        if file_format is None:
            raise OptionError(f"pictures cannot be written as {asked!r}; use one of {known}")
        return file_format
    if not isinstance(target, str | os.PathLike) or os.fspath(target) == "-":
        raise OptionError(f"the format for {name} is not given, and it has no suffix; give the format")
    suffix = Path(target).suffix
    if suffix.lower() not in SUFFIXES:
        what = f"pictures cannot be written as {suffix}" if suffix else "its name has no suffix"
        raise OptionError(f"{name}: {what}; use one of {known}")
    return SUFFIXES[suffix.lower()]


def check_writable(path: Path, name: str) -> None:
    """Raise PictureError if a file at that path cannot be written."""
    try:
        path = Path(os.path.realpath(path))
        mode = os.stat(path).st_mode if path.exists() else None
        if mode is not None and stat.S_ISDIR(mode):
            raise PictureError(f"{name} is a folder; give the name of a file in it")
        if mode is not None and not stat.S_ISREG(mode):
            return
        folder = path.parent
        if not folder.is_dir():
            raise PictureError(f"{name}: there is no folder {folder}; create it first")
        if not os.access(folder, os.W_OK | os.X_OK):
            raise PictureError(f"{name}: the folder {folder} is not writable; choose another one")
        if mode is not None and not os.access(path, os.W_OK):
            raise PictureError(f"{name} is write-protected; choose another name")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or one_line(error)
        raise PictureError(f"{name} cannot be written ({reason}); choose another name") from error


def place(data: bytes, target: Target) -> None:
    """Write a finished file.

    For a path, writes a temporary file in the same folder and moves it into place, so that an interrupted run leaves
    no partial file and does not damage an existing one. Follows links and keeps the permissions of a file that it
    replaces. Writes directly to anything that is not a regular file (a pipe, a device).

    Raises
    ------
    PictureError
        If writing fails, for example because the disk is full or the pipe is closed.
    """
    name = target_name(target)
    try:
        if not isinstance(target, str | os.PathLike):
            target.write(data)
        elif os.fspath(target) == "-":
            stream = getattr(sys.stdout, "buffer", None)
            if stream is None:
                raise PictureError("standard output is not available here; give a path instead of -")
            stream.write(data)
            stream.flush()
        else:
            _place_at(data, Path(os.path.realpath(target)))
    except (OSError, ValueError, TypeError) as error:
        reason = getattr(error, "strerror", None) or one_line(error)
        raise PictureError(f"{name} cannot be written ({reason}); choose another place") from error


def keep_elsewhere(data: bytes, target: Target, suffix: str) -> Path | None:
    """Save a finished file that could not be placed in the working folder or the folder for temporary files.

    Returns
    -------
    Path or None
        Its path, with a new name that ends in `suffix`; None if neither folder is writable.
    """
    stem = Path(target).stem if isinstance(target, str | os.PathLike) and os.fspath(target) != "-" else "painting"
    for folder in (os.getcwd, tempfile.gettempdir):
        try:
            path = Path(folder()) / f"{stem[:80]}-{secrets.token_hex(3)}{suffix}"
            _place_at(data, path)
        except (OSError, ValueError):
            continue
        return path
    return None


def rescued(data: bytes, target: Target, suffix: str, error: PictureError) -> PictureError:
    """Save a finished file as `keep_elsewhere` does. Returns the error to raise, which says where the picture is."""
    kept = keep_elsewhere(data, target, suffix)
    return PictureError(str(error) if kept is None else f"{error}; the picture is kept in {kept}")


def _place_at(data: bytes, path: Path) -> None:
    if path.exists() and not path.is_file():  # a pipe or a device
        path.write_bytes(data)
        return
    with atomic_write(path) as file:
        file.write(data)


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
    """Write a picture, completely or not at all.

    Writes it upright, as sRGB with a profile, and with the EXIF, XMP and IPTC of its photograph except thumbnail and
    maker note. JPEG has no transparency: the picture is composited over white, with a warning in the log.

    Parameters
    ----------
    picture : Picture
        Its tensor is (1, 3, H, W), float32, sRGB, range [0, 1]; values outside the range are clamped.
    target : path, "-" or binary file object
        Where to write it; "-" is standard output. An existing file is replaced once the new one is complete.
    bits : 8, 16 or None
        Bits per sample; 16 only for PNG and TIFF. None keeps the photograph's, if the format supports them.
    quality : int
        1 to 100, for JPEG, WebP (where 100 is lossless) and AVIF.
    keep_gps : bool
        Whether to keep the photograph's GPS position in the metadata.
    record : dict, optional
        How the picture was made, serialisable by `json.dumps`; `read_record` returns it.
    format : str, optional
        `png`, `jpeg`, `webp`, `tiff` or `avif`; None uses the target's suffix.
    rescue : bool
        If the target cannot be written, for example because its disk is full, whether to keep the picture in the
        working folder or the folder for temporary files. The error then says where it is.

    Raises
    ------
    OptionError
        If the format is unknown or does not support `bits`, `quality` is out of range, or `record` is not JSON.
    PictureError
        If the picture has values that are not finite, is too large for the format, or cannot be written.
    """
    file_format = check_target(target, format=format, bits=bits)
    name = target_name(target)
    check_quality(quality)
    check_record(record)
    deep = bits == 16 or (bits is None and picture.metadata.bits > 8 and file_format in DEEP_FORMATS)
    levels = levels_of(picture, np.dtype(np.uint16 if deep else np.uint8), file_format != "JPEG", name)
    companions = companions_of(picture.metadata, picture.size, keep_gps=keep_gps, record=record)
    data = b""
    try:
        data = encoded(levels, file_format, quality, companions, name)
        place(data, target)
    except PictureError as error:
        if not rescue:
            raise
        if not data:  # the picture does not fit the format
            data, file_format = encoded(levels, "PNG", quality, companions, name), "PNG"
        raise rescued(data, target, SUFFIX_OF[file_format], error) from error


def encoded(levels: NDArray[Any], file_format: str, quality: int, companions: Companions, name: str) -> bytes:
    """Encode a picture as `encode` does. Raises PictureError if that fails for any reason."""
    try:
        return encode(levels, file_format, quality, companions, name)
    except MemoryError as error:
        raise PictureError(f"{name}: the picture does not fit into memory; make it smaller") from error
    except (OSError, ValueError, OverflowError, RuntimeError) as error:
        raise PictureError(f"{name} cannot be encoded ({one_line(error)}); write another format") from error


def check_quality(quality: int) -> None:
    """Raise OptionError if it is not a whole number from 1 to 100."""
    if isinstance(quality, bool) or not isinstance(quality, int) or not 1 <= quality <= 100:
        raise OptionError(f"--quality is {quality}; it must be a whole number from 1 to 100")


def check_record(record: dict[str, Any] | None) -> None:
    """Raise OptionError if a record of how a picture was made is not JSON."""
    if record is None:
        return
    try:
        json.dumps(record)
    except (TypeError, ValueError, RecursionError) as error:
        raise OptionError(f"the record of how a picture was made is not valid JSON ({one_line(error)})") from error


def levels_of(picture: Picture, dtype: np.dtype[Any], with_alpha: bool, name: str) -> NDArray[Any]:
    """Return a picture's pixels as whole numbers, (H, W, 3) or (H, W, 4)."""
    colour, alpha = picture.tensor.detach().float().cpu(), picture.alpha
    if not torch.isfinite(colour).all() or (alpha is not None and not torch.isfinite(alpha).all()):
        raise PictureError(f"{name}: the picture has values that are not finite; it was not written")
    if alpha is not None:
        alpha = alpha.detach().float().cpu().clamp(0, 1)
        if with_alpha:
            colour = torch.cat((colour, alpha), dim=1)
        elif alpha.min() < 1:
            log.warning("%s: JPEG has no transparency; filling transparent areas with white", name)
            colour = colour * alpha + (1 - alpha)
    return quantised(colour[0].permute(1, 2, 0), dtype)


def quantised(values: Tensor, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Round values in [0, 1], of any shape, to the levels of an unsigned integer type; clamps values outside."""
    top = int(np.iinfo(dtype).max)
    # int32: torch has few operations on uint16.
    return (values.clamp(0, 1) * top).round().to(torch.int32).contiguous().numpy().astype(dtype)
