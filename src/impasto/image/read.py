"""Reading pictures: upright, in sRGB, with alpha, at up to 16 bits.

`to_picture` accepts any kind of picture: paths, PIL images, NumPy arrays, tensors. `like` converts a result to the same
kind. `read_record` reads from a painting's file how it was made.
"""

import logging
import os
import struct
import zlib
from functools import cache
from io import BytesIO
from typing import Any, BinaryIO

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import MAX_TEXT_CHUNK, MAX_TEXT_MEMORY
from torch import Tensor

from ..errors import OptionError, PictureError
from ..ranges import MAX_MEGAPIXELS
from . import deep, exif, heif, xmp
from .decode import (
    DEEP_MODES,
    Reduction,
    Samples,
    Sized,
    dpi_of,
    exif_of,
    from_pillow,
    identify,
    is_tiff,
    turned,
    xmp_of,
)
from .decoder import Decoder
from .heif import is_heif
from .iptc import iptc_of
from .picture import Metadata, Picture
from .source import Source, check_size, decoding, one_line, opened, printable
from .write import png_chunk, quantised

log = logging.getLogger(__name__)

DNG_VERSION, BITS_PER_SAMPLE, SAMPLE_FORMAT = 50706, 258, 339


def read_image(source: Source, *, max_megapixels: float = MAX_MEGAPIXELS, sized: Sized | None = None) -> Picture:
    """Read a picture.

    Rotates it upright by its EXIF orientation, converts an embedded colour profile to sRGB, and keeps transparency.
    Reads the first picture of an animation or a document with several pages. Reads PNG and TIFF with more than 8 bits
    per sample at 16 bits if the extra `large` is installed, else at 8 with a warning in the log. HEIC needs the extra
    `heif`.

    Parameters
    ----------
    source : path, "-" or binary file object
        The picture; "-" is standard input.
    max_megapixels : float
        Most pixels allowed, in millions, checked before decoding.
    sized : callable, optional
        Called with the picture's height and width before decoding. Returns the height and width needed, or raises an
        error. A picture at least twice as large is reduced to that size while it is read, which takes a fraction of the
        memory: JPEG and JPEG 2000 are not even decoded in full. `metadata.full_size` then holds the original size.

    Returns
    -------
    Picture
        Its tensor is (1, 3, H, W), float32, sRGB, range [0, 1]; its alpha (1, 1, H, W), float32, range [0, 1], or None.

    Raises
    ------
    PictureError
        If the file is missing, not readable, a folder, empty, not a picture, damaged or cut short, if it has no pixels
        or too many, or if it needs an extra that is not installed.
    OptionError
        If `max_megapixels` is not positive, or `source` is of another kind.
    """
    if not max_megapixels > 0:
        raise OptionError(f"--max-megapixels is {max_megapixels:g}; it must be greater than 0")
    with opened(source, max_megapixels) as (file, name), decoding(name):
        return read_opened(file, name, max_megapixels, sized)


def read_opened(file: BinaryIO, name: str, max_megapixels: float, sized: Sized | None = None) -> Picture:
    """Read a picture as `read_image` does, from a seekable file at its beginning. Call it inside `decoding(name)`."""
    sized = None if sized is None else cache(sized)  # called once, although several ways of reading may be tried
    head = file.read(64)
    if heif.is_heif(head):
        samples, info, reduction = heif.read_heif(file, name, max_megapixels, sized)
        picture = picture_of(samples, 1, name, "HEIF", info.get("exif") or b"", info.get("xmp") or b"")
        return reduction.finished(picture)
    file = without_large_chunks(file, head, name)
    image = identify(file, head)
    if image is None and not (is_tiff(head) and deep.available()):
        raise PictureError(_unknown_format(name, head))
    if image is not None:
        check_size(*image.size, name, max_megapixels)
        if is_raw(image):
            raise PictureError(f"{name} is a camera's raw file; develop it to TIFF or JPEG first")
    if image is not None and sized is not None and deep.available():
        reduced = _read_reduced(file, image, head, name, sized)
        if reduced is not None:
            return reduced
    if is_tiff(head) and (image is None or is_deep_tiff(image)):
        return _read_deep_tiff(file, image, name, max_megapixels, sized)
    assert image is not None  # formats that Pillow does not know are handled above
    return _read_with_pillow(file, image, head, name, max_megapixels, sized)


def _unknown_format(name: str, head: bytes) -> str:
    if is_tiff(head):
        return f"{name} is a TIFF of a rare kind; to read it, run {deep.INSTALL}"
    if head.lstrip()[:5].lower() in (b"<?xml", b"<svg ") or head.startswith((b"%PDF", b"%!PS")):
        return f"{name} is a vector drawing or a document; export it as PNG"
    return f"{name} is not a picture of a known format; convert it to PNG or JPEG"


def _read_reduced(file: BinaryIO, image: Image.Image, head: bytes, name: str, sized: Sized) -> Picture | None:
    """Read a picture that is needed much smaller, without decoding it as a whole.

    Returns None if it is not needed much smaller, or its kind cannot be decoded in parts. Pillow itself decodes JPEG
    reduced.
    """
    small = Reduction.of((image.height, image.width), sized).needed is not None
    if not small or image.format not in ("PNG", "WEBP", "TIFF"):
        return None
    found = decoder_of(file, image, head, name)
    if found is None:
        return None
    decoder, orientation, metadata = found
    reduction = Reduction.of(decoder.layout.size, sized)  # Pillow gives the size of a TIFF as if it were turned
    if reduction.needed is None:
        return None
    samples = turned(decoder.layout.samples(decoder.reduced(reduction.needed), name), orientation)
    return reduction.finished(Picture(*tensors(samples), metadata), orientation)


def decoder_of(file: BinaryIO, image: Image.Image, head: bytes, name: str) -> tuple[Decoder, int, Metadata] | None:
    """Return a decoder of a file in parts, the file's EXIF orientation and its metadata. Needs the extra `large`.

    Parameters
    ----------
    file : binary file
        The file, as returned by `without_large_chunks`.
    image : PIL.Image.Image
        The file, identified; its pixels are not decoded.
    head : bytes
        Its first 64 bytes.
    name : str
        Name of the file in messages.

    Returns
    -------
    tuple or None
        None if the file's kind cannot be decoded in parts.
    """
    is_deep = is_deep_png(image, head) or (image.format == "TIFF" and is_deep_tiff(image))
    try:
        decoder = Decoder(file, image, is_deep, name)
    except Exception as error:  # whatever libvips cannot decode; reading it as a whole gives the message
        log.debug("%s: not decoded in parts (%s)", name, one_line(error))
        return None
    if image.format == "PNG":  # some of its metadata may follow the pixels
        image = Image.open(_one_pixel(file))
        image.load()
    orientation = orientation_of(image, name)
    block = exif_of(image, file)
    packet, dpi, record = xmp_of(image), dpi_of(image), iptc_of(image)
    bits = decoder.layout.bits
    return decoder, orientation, metadata_of(name, image.format or "", bits, orientation, block, packet, dpi, record)


def _one_pixel(file: BinaryIO) -> BinaryIO:
    """Return a PNG with a single pixel, and with all the metadata of a PNG."""
    small, at, has_pixel = BytesIO(), len(SIGNATURE), False
    small.write(SIGNATURE)
    while True:
        file.seek(at)
        start = file.read(8)
        length, kind = int.from_bytes(start[:4], "big"), start[4:]
        if len(start) < 8:
            break
        if kind == b"IHDR":
            small.write(png_chunk(kind, struct.pack(">II", 1, 1) + file.read(length)[8:12] + b"\0"))
        elif kind == b"IDAT":
            if not has_pixel:
                small.write(png_chunk(kind, zlib.compress(bytes(9))))
            has_pixel = True
        elif kind not in (b"acTL", b"fcTL", b"fdAT"):
            small.write(start + file.read(length + 4))
        at += 12 + length
        if kind == b"IEND":
            break
    small.seek(0)
    return small


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
        is_deep = deep_png or (image.format == "TIFF" and is_deep_tiff(image))
        if is_deep and image.mode not in DEEP_MODES:
            log.warning("%s: read at 8 bits instead of 16; %s to keep all", name, deep.INSTALL)
    block, packet, extras = exif_of(image, file), xmp_of(image), (dpi_of(image), iptc_of(image))
    picture = picture_of(samples, orientation, name, image.format or "", block, packet, *extras)
    return reduction.finished(picture, orientation)


def orientation_of(image: Image.Image, name: str) -> int:
    """Return a loaded image's EXIF orientation; 1, with a warning in the log, if its EXIF block is damaged."""
    try:
        return image.getexif().get(exif.ORIENTATION, 1)
    except Exception as error:  # Pillow raises nearly any exception for a damaged EXIF block
        log.warning("%s: its EXIF metadata cannot be read (%s); leaving it out", name, one_line(error))
        return 1


def is_deep_png(image: Image.Image, head: bytes) -> bool:
    """Return whether it is a PNG with 16 bits per sample, by its first 64 bytes. Pillow reads some of them at 8."""
    return image.format == "PNG" and head[24:25] == b"\x10"


def is_raw(image: Image.Image) -> bool:
    """Return whether it is a camera's raw file in the form of a TIFF (DNG)."""
    return DNG_VERSION in getattr(image, "tag_v2", {})


def is_deep_tiff(image: Image.Image) -> bool:
    """Return whether it is a TIFF with more than 8 bits per sample, or floats."""
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
    orientation = block.orientation if block else 1
    return reduction.finished(picture_of(samples, orientation, name, "TIFF", file, packet, None, record), orientation)


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
    """Make a Picture from decoded samples and metadata.

    Parameters
    ----------
    samples : Samples
        The pixels as in the file, not yet rotated.
    orientation : int
        The EXIF orientation, 1 to 8.
    name, file_format : str
        For its metadata.
    block : bytes or binary file
        The EXIF block (see `exif.parse`), or b"".
    packet : bytes
        The XMP packet, or b"".
    dpi : (float, float), optional
        The resolution in the file's header, horizontal and vertical in pixels per inch.
    record : bytes
        The IPTC record (`iptc.kept`), or b"".
    """
    metadata = metadata_of(name, file_format, samples.bits, orientation, block, packet, dpi, record)
    return Picture(*tensors(turned(samples, orientation)), metadata)


def tensors(samples: Samples) -> tuple[Tensor, Tensor | None]:
    """Return samples as tensors: the colours (1, 3, H, W), and the alpha (1, 1, H, W) or None."""
    # `ascontiguousarray` keeps the negative stride of a flipped side of one pixel, which PyTorch refuses.
    colour = torch.from_numpy(np.array(samples.colour.transpose(2, 0, 1), order="C"))[None]
    alpha = None if samples.alpha is None else torch.from_numpy(np.array(samples.alpha, order="C"))[None, None]
    return colour, alpha


def metadata_of(
    name: str,
    file_format: str,
    bits: int,
    orientation: int,
    block: bytes | BinaryIO,
    packet: bytes,
    dpi: tuple[float, float] | None,
    record: bytes,
) -> Metadata:
    """Return the metadata of a picture; for the parameters see `picture_of`."""
    kept_xmp = xmp.adapted(packet, name, keep_gps=True) if packet else b""
    if dpi is not None and orientation in (5, 6, 7, 8):
        dpi = dpi[1], dpi[0]
    return Metadata(name, file_format, bits, exif.kept(block, dpi), kept_xmp, record)


HEADER_MEGAPIXELS = 1e4
"""Only the header is read, so the picture's size does not matter. This limits how much is read from a pipe."""


def read_record(source: Source) -> dict[str, Any] | None:
    """Return the record of how a picture was made, which `write_image` embeds as JSON in the XMP packet.

    Parameters
    ----------
    source : path, "-" or binary file object
        A PNG, JPEG, WebP, TIFF or AVIF; its pixels are not decoded.

    Returns
    -------
    dict or None
        The record; None if the picture has none.

    Raises
    ------
    PictureError
        If the file cannot be read, is not a picture, or its record is damaged.
    """
    with opened(source, HEADER_MEGAPIXELS) as (file, name), decoding(name):
        head = file.read(64)
        if is_heif(head):
            return None
        image = identify(without_large_chunks(file, head, name), head)
        if image is None and is_tiff(head):  # a kind of TIFF that `write_image` does not write
            return None
        if image is None:
            raise PictureError(f"{name} is not a picture of a known format, so it holds no record")
        try:
            return xmp.record_in(xmp_of(image))
        except ValueError as error:
            raise PictureError(f"{name}: the record of how it was made is damaged ({error})") from error


INTEGER_TYPES = (np.dtype(np.uint8), np.dtype(np.uint16))
LUMINANCE = (0.2126, 0.7152, 0.0722)
"""Rec. 709's weights of red, green and blue."""
OVERSHOOT = 1e-3
"""How far floats may exceed [0, 1], as after a resize. They are clamped."""


def to_picture(obj: Any, *, max_megapixels: float = MAX_MEGAPIXELS, sized: Sized | None = None) -> Picture:
    """Convert any kind of picture to a Picture.

    Parameters
    ----------
    obj : path, "-", binary file, PIL image, array, tensor or Picture
        Arrays are (H, W) or (H, W, C) with C = 1 (grey), 2 (grey and alpha), 3 (RGB) or 4 (RGB and alpha), uint8,
        uint16 or floating point in [0, 1]. Tensors are (3, H, W) or (1, 3, H, W), uint8 or floating point in [0, 1].
        Both are taken as sRGB. PIL images are rotated upright and converted to sRGB, as files are.
    max_megapixels : float
        For files: the most pixels allowed, in millions.
    sized : callable, optional
        For files: the size needed, as for `read_image`.

    Returns
    -------
    Picture
        Its tensor is (1, 3, H, W), float32, sRGB, range [0, 1]. From a tensor, it stays on the tensor's device.

    Raises
    ------
    OptionError
        If `obj` is of another kind, shape or type, is empty, is out of range, or contains NaN.
    PictureError
        If a file cannot be read.
    """
    if isinstance(obj, Picture):
        return obj
    if isinstance(obj, Image.Image):
        return _from_pil(obj)
    if isinstance(obj, np.ndarray):
        return _from_array(obj)
    if isinstance(obj, Tensor):
        return _from_tensor(obj)
    if isinstance(obj, str | os.PathLike) or hasattr(obj, "read"):
        return read_image(obj, max_megapixels=max_megapixels, sized=sized)
    raise OptionError(
        f"a picture must be a path, PIL image, NumPy array, torch tensor or Picture, not {type(obj).__name__}"
    )


def like(picture: Picture, obj: Any) -> Any:
    """Convert a result to the kind of picture that the input was.

    Parameters
    ----------
    picture : Picture
        The result; its tensor is (1, 3, H, W), float32, sRGB, range [0, 1].
    obj : path, "-", binary file, PIL image, array, tensor or Picture
        The input of `to_picture`. Its size does not matter.

    Returns
    -------
    PIL image, array, tensor or Picture
        For a path, file or PIL image: a PIL image, RGBA if the picture has alpha, else RGB. For an array: one with the
        same dtype and number of channels (grey by Rec. 709's weights). For a tensor: one with the same dtype, number of
        dimensions and device.

    Raises
    ------
    OptionError
        If `obj` is of a kind that `to_picture` does not accept.
    """
    if isinstance(obj, Picture):
        return picture
    if isinstance(obj, np.ndarray):
        return _like_array(picture, obj)
    if isinstance(obj, Tensor):
        tensor = picture.tensor.detach().clamp(0, 1).to(obj.device)
        tensor = (tensor * 255).round().to(torch.uint8) if obj.dtype == torch.uint8 else tensor.to(obj.dtype)
        return tensor if obj.ndim == 4 else tensor[0]
    if isinstance(obj, Image.Image | str | os.PathLike) or hasattr(obj, "read"):
        levels = quantised(_rows(picture, 3 if picture.alpha is None else 4), np.dtype(np.uint8))
        return Image.fromarray(levels)
    raise OptionError(f"a picture cannot be returned as {type(obj).__name__}")


def _from_pil(image: Image.Image) -> Picture:
    name = printable(str(getattr(image, "filename", "") or "the picture"))
    if 0 in image.size:
        raise OptionError(f"{name} has no pixels ({image.size[0]}x{image.size[1]})")
    with decoding(name):
        image.load()
        tags = image.getexif()
        block = exif_of(image, None) or (tags.tobytes() if len(tags) else b"")
        samples, orientation = from_pillow(image, name), tags.get(exif.ORIENTATION, 1)
        extras = dpi_of(image), iptc_of(image)
        return picture_of(samples, orientation, name, image.format or "", block, xmp_of(image), *extras)


def _from_array(array: NDArray[Any]) -> Picture:
    shape = array.shape
    if array.ndim not in (2, 3) or 0 in shape or (array.ndim == 3 and shape[2] not in (1, 2, 3, 4)):
        hint = "; move the channels last" if array.ndim == 3 and shape[0] in (1, 3, 4) else ""
        raise OptionError(f"an array of shape {shape} is not a picture; it must be (H, W) or (H, W, 1 to 4){hint}")
    if array.dtype in INTEGER_TYPES:
        values = array.astype(np.float32) / np.float32(np.iinfo(array.dtype).max)
    elif array.dtype.kind == "f":
        values = array.astype(np.float32)
    else:
        raise OptionError(f"an array of {array.dtype} is not a picture; make it uint8, uint16 or floats in [0, 1]")
    rows = torch.from_numpy(np.ascontiguousarray(values))
    rows = rows[:, :, None] if rows.ndim == 2 else rows
    channels = rows.permute(2, 0, 1)[None]  # (1, C, H, W)
    if array.dtype.kind == "f":
        channels = _in_range(channels, "an array")
    coloured = 3 if shape[-1] in (3, 4) and array.ndim == 3 else 1
    alpha = channels[:, coloured:].contiguous() if channels.shape[1] > coloured else None
    metadata = Metadata(bits=8 if array.dtype == np.uint8 else 16)
    return Picture(channels[:, :coloured].expand(-1, 3, -1, -1).contiguous(), alpha, metadata)


def _from_tensor(tensor: Tensor) -> Picture:
    shape = tuple(tensor.shape)
    if tensor.ndim not in (3, 4) or 0 in shape or shape[-3] != 3 or (tensor.ndim == 4 and shape[0] != 1):
        hint = "; move the channels first" if tensor.ndim == 3 and shape[-1] == 3 else ""
        raise OptionError(f"a tensor of shape {shape} is not a picture; it must be (3, H, W) or (1, 3, H, W){hint}")
    if tensor.dtype != torch.uint8 and not tensor.dtype.is_floating_point:
        raise OptionError(f"a tensor of {tensor.dtype} is not a picture; make it uint8 or floats in [0, 1]")
    values = tensor.detach().to(torch.float32)
    values = values / 255 if tensor.dtype == torch.uint8 else _in_range(values, "a tensor")
    values = values if values.ndim == 4 else values[None]
    return Picture(values.contiguous(), None, Metadata(bits=8 if tensor.dtype == torch.uint8 else 16))


def _in_range(values: Tensor, what: str) -> Tensor:
    if not torch.isfinite(values).all():
        raise OptionError(f"{what} holds NaN or infinity, so it is not a picture")
    low, high = float(values.min()), float(values.max())
    if low < -OVERSHOOT or high > 1 + OVERSHOOT:
        hint = "; divide it by 255" if low >= 0 and 2 < high <= 255 else ""
        raise OptionError(f"{what} goes from {low:g} to {high:g}; floats must lie in [0, 1]{hint}")
    return values.clamp(0, 1)


def _rows(picture: Picture, channels: int) -> Tensor:
    """Return the pixels as (H, W, channels) on the CPU: grey, grey and alpha, RGB, or RGB and alpha."""
    colour = picture.tensor.detach().float().cpu()
    if channels < 3:
        colour = (colour * torch.tensor(LUMINANCE).view(1, 3, 1, 1)).sum(1, keepdim=True)
    if channels in (2, 4):
        alpha = torch.ones_like(colour[:, :1]) if picture.alpha is None else picture.alpha.detach().float().cpu()
        colour = torch.cat((colour, alpha), dim=1)
    return colour[0].permute(1, 2, 0)


def _like_array(picture: Picture, array: NDArray[Any]) -> NDArray[Any]:
    rows = _rows(picture, 1 if array.ndim == 2 else array.shape[2])
    rows = rows[:, :, 0] if array.ndim == 2 else rows
    if array.dtype in INTEGER_TYPES:
        return quantised(rows, array.dtype)
    return np.ascontiguousarray(rows.clamp(0, 1).numpy().astype(array.dtype))


SIGNATURE = b"\x89PNG\r\n\x1a\n"
TEXTS = (b"tEXt", b"zTXt", b"iTXt")
PROFILE = b"iCCP"


def without_large_chunks(file: BinaryIO, head: bytes, name: str) -> BinaryIO:
    """Return a file that Pillow can read. Drops text and profiles that exceed Pillow's limits from a PNG.

    Parameters
    ----------
    file : binary file
        Seekable.
    head : bytes
        Its first bytes.
    name : str
        Name of the file in warnings.

    Returns
    -------
    binary file
        The file itself, or a copy in memory without those chunks. Each dropped chunk is logged as a warning.
    """
    if not head.startswith(SIGNATURE):
        return file
    kept, skipped, texts = [(0, len(SIGNATURE))], 0, 0
    at = len(SIGNATURE)
    while True:
        file.seek(at)
        start = file.read(8)
        if len(start) < 8:
            break
        length, kind = int.from_bytes(start[:4], "big"), start[4:]
        size = 0
        if kind in (*TEXTS, PROFILE):
            size = _unpacked_size(kind, file.read(length)) if length <= MAX_TEXT_MEMORY else length
        texts += size if kind in TEXTS else 0
        compressed = kind == PROFILE or size != length
        if (compressed and size > MAX_TEXT_CHUNK) or texts > MAX_TEXT_MEMORY:
            what = "colour profile" if kind == PROFILE else "text"
            then = "; reading it as sRGB" if kind == PROFILE else ""
            most = MAX_TEXT_CHUNK if compressed else MAX_TEXT_MEMORY
            log.warning("%s: skipping its %s, which is longer than %d MB%s", name, what, most >> 20, then)
            skipped += 1
            texts -= size if kind in TEXTS else 0
        else:
            kept.append((at, 12 + length))
        at += 12 + length
        if kind == b"IEND":
            break
    if not skipped:
        return file
    copy = BytesIO()
    for offset, count in kept:
        file.seek(offset)
        copy.write(file.read(count))
    copy.seek(0)
    return copy


def _unpacked_size(kind: bytes, data: bytes) -> int:
    """Return the decompressed size in bytes of a chunk's text or profile, or one more than Pillow's limit."""
    if kind == b"tEXt":
        return len(data)
    _, _, rest = data.partition(b"\0")
    if kind == b"iTXt":
        if rest[:1] in (b"", b"\0"):
            return len(data)
        rest = rest[2:].split(b"\0", 2)[-1]
    else:
        rest = rest[1:]
    unpacking = zlib.decompressobj()
    try:
        size = len(unpacking.decompress(rest, MAX_TEXT_CHUNK))
    except zlib.error:  # Pillow skips such a chunk
        return 0
    return size + bool(unpacking.unconsumed_tail)
