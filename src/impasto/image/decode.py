"""Decoding: the format, size and metadata of a file, and its pixels as arrays, from any mode of Pillow.

A picture that is needed at a much smaller size takes little memory. JPEG and JPEG 2000 are decoded at a reduced size;
other formats are reduced before their pixels become floats.
"""

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, BinaryIO, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, Jpeg2KImagePlugin

from .picture import Picture, visible
from .profiles import is_srgb, to_srgb
from .resize import resize

FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "AVIF", "BMP", "GIF", "JPEG2000", "PPM", "QOI", "PSD")
"""Pillow's names of the formats it may read. Not those that run another program (EPS) or have no signature (TGA)."""


def is_tiff(head: bytes) -> bool:
    """Return whether a file's first bytes are those of a TIFF or BigTIFF."""
    return head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def identify(file: BinaryIO, head: bytes) -> Image.Image | None:
    """Open a picture as `Image.open` does, but only in `FORMATS` and without its fixed limit on pixels.

    Returns
    -------
    PIL.Image.Image or None
        The image with its header read; None if Pillow does not know the format.
    """
    if not set(FORMATS) <= Image.OPEN.keys():
        Image.init()
    for name in FORMATS:
        factory, accept = Image.OPEN.get(name, (None, None))
        # `accept` may also return a string that says why the format is not supported here.
        if factory is None or accept is None or accept(head[:16]) is not True:
            continue
        file.seek(0)
        try:
            return factory(file, "")
        except SyntaxError:
            if name not in ("TIFF", "BMP"):
                raise
    return None


def exif_of(image: Image.Image, file: BinaryIO | None) -> bytes | BinaryIO:
    """Return an image's EXIF block, or b"". For a TIFF, return the file itself: its first directory is the block."""
    if image.format == "TIFF":
        return file or b""
    block = image.info.get("exif")
    profile = image.info.get("Raw profile type exif")  # in PNGs by ImageMagick: a header of three lines, then hex
    if not block and isinstance(profile, str):
        try:
            block = bytes.fromhex("".join(profile.split("\n")[3:]))
        except ValueError:
            return b""
    return block if isinstance(block, bytes) else b""


def dpi_of(image: Image.Image) -> tuple[float, float] | None:
    """Return the resolution in an image's header (not in its EXIF), horizontal and vertical in pixels per inch."""
    dpi = image.info.get("dpi")
    if image.format in ("JPEG", "MPO"):  # Pillow's dpi may come from EXIF, or be a guess
        inches = {1: 1.0, 2: 2.54}.get(image.info.get("jfif_unit", 0))
        density = image.info.get("jfif_density")
        dpi = None if inches is None or density is None else tuple(inches * d for d in density)
    if image.format == "TIFF" or not isinstance(dpi, tuple) or len(dpi) != 2:
        return None
    across, down = float(dpi[0]), float(dpi[1])
    return (across, down) if 1 <= across < 65535 and 1 <= down < 65535 else None


def xmp_of(image: Image.Image) -> bytes:
    """Return an image's XMP packet, or b""."""
    packet = image.info.get("xmp") or image.info.get("XML:com.adobe.xmp") or b""
    if isinstance(packet, str):
        packet = packet.encode("utf-8", "surrogatepass")
    return packet if isinstance(packet, bytes) else b""


Sized = Callable[[tuple[int, int]], tuple[int, int]]
"""Maps a picture's height and width to those that are needed, in pixels."""
GAP = 2
"""Decode at least this many times the needed sides; a better filter does the rest."""
CODESTREAM, CODING_STYLE, LEVELS_AT = b"\xff\x4f\xff\x51", b"\xff\x52", 9
"""JPEG 2000: start of a codestream, marker of its coding style, and offset of the number of halvings after it."""


@dataclass(frozen=True)
class Reduction:
    """The size at which a file's picture is needed.

    Parameters
    ----------
    full, needed : (int, int) or None
        Height and width in the file, and those that are needed; None to keep the picture's size.
    """

    full: tuple[int, int] | None = None
    needed: tuple[int, int] | None = None

    @classmethod
    def of(cls, full: tuple[int, int] | None, sized: Sized | None) -> "Reduction":
        """Return the reduction to `sized(full)`, if its sides are at most half of the full ones; else none."""
        if full is None or sized is None:
            return cls()
        needed = sized(full)
        return cls(full, needed) if all(GAP * n <= m for n, m in zip(needed, full, strict=True)) else cls()

    def ask(self, image: Image.Image) -> None:
        """Let Pillow decode an image that is not loaded yet at a reduced size, if the format allows it."""
        if self.needed is None:
            return
        height, width = self.needed
        if isinstance(image, Jpeg2KImagePlugin.Jpeg2KImageFile):
            times = min(image.height // (GAP * height), image.width // (GAP * width))
            halvings = min(max(1, times).bit_length() - 1, _levels(image))
            image.reduce = halvings  # pyright: ignore[reportAttributeAccessIssue]
        else:
            image.draft(None, (GAP * width, GAP * height))

    def applied(self, image: Image.Image, resample: Image.Resampling = Image.Resampling.BICUBIC) -> Image.Image:
        """Resize a loaded image to the needed size, before it is rotated. Colours are weighted by their alpha."""
        if self.needed is None or self.full is None:
            return image
        (height, width), long = self.needed, max(self.full)
        part = 2 ** round(math.log2(long / max(image.size)))  # the decoder's factor; it rounds the sides up
        box = (0, 0, self.full[1] / part, self.full[0] / part)
        return image.resize((width, height), resample, box, reducing_gap=GAP + 1)

    def finished(self, picture: Picture, orientation: int = 1) -> Picture:
        """Resize an upright picture, rotated from EXIF's `orientation`, to the needed size if necessary."""
        if self.needed is None or self.full is None:
            return picture
        size, full = self.needed, self.full
        if orientation in (5, 6, 7, 8):
            size, full = (size[1], size[0]), (full[1], full[0])
        metadata = replace(picture.metadata, full_size=full)
        if picture.alpha is None:
            return Picture(resize(picture.tensor, size), None, metadata)
        whole = resize(torch.cat((picture.tensor, picture.alpha), 1), size)
        return Picture(whole[:, :3].contiguous(), visible(whole), metadata)


def _levels(image: Jpeg2KImagePlugin.Jpeg2KImageFile) -> int:
    """Return how many times the decoder can halve the picture of a JPEG 2000 file."""
    assert image.fp is not None
    at = image.fp.tell()
    image.fp.seek(0)
    head = image.fp.read(2**20)
    image.fp.seek(at)
    start = head.find(CODESTREAM)
    style = head.find(CODING_STYLE, start) if start >= 0 else -1
    return head[style + LEVELS_AT] if 0 <= style < len(head) - LEVELS_AT else 0


log = logging.getLogger(__name__)

Floats = NDArray[np.float32]
T = TypeVar("T", bound=np.generic)

DEEP_MODES = ("I", "I;16", "I;16L", "I;16B", "I;16N", "F")


@dataclass(frozen=True)
class Samples:
    """Decoded pixels as arrays.

    Parameters
    ----------
    colour : array
        (H, W, 3), float32, sRGB, range [0, 1].
    alpha : array or None
        (H, W), float32, range [0, 1].
    bits : int
        8 or 16: the depth at which they were read.
    """

    colour: Floats
    alpha: Floats | None
    bits: int


def turned(samples: Samples, orientation: int) -> Samples:
    """Rotate samples upright from EXIF's `orientation`, 1 to 8; any other value leaves them unchanged."""
    alpha = None if samples.alpha is None else upright(samples.alpha, orientation)
    return Samples(upright(samples.colour, orientation), alpha, samples.bits)


def upright(x: NDArray[T], orientation: int) -> NDArray[T]:
    """Return an upright view of an array (H, W, ...); see `turned`."""
    if orientation in (5, 6, 7, 8):
        x = x.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        x = x[::-1]
    if orientation in (2, 3, 6, 7):
        x = x[:, ::-1]
    return x


def from_pillow(image: Image.Image, name: str, reduction: Reduction | None = None) -> Samples:
    """Return the samples of a loaded image in any mode of Pillow, converted to sRGB by its profile.

    Parameters
    ----------
    image : PIL.Image.Image
        Loaded; its EXIF orientation is ignored.
    name : str
        Name of the picture in warnings.
    reduction : Reduction, optional
        The size needed.
    """
    icc = image.info.get("icc_profile") or None
    reduction = reduction or Reduction()
    if image.mode in DEEP_MODES:
        # Floats are scaled by their largest value, so they need the whole picture. Integers are averaged in boxes:
        # other filters overshoot.
        whole = image.mode == "F" or isinstance(image.info.get("transparency"), int)
        if reduction.needed is not None and not whole:
            image = reduction.applied(image.convert("I"), Image.Resampling.BOX)
        return _from_deep_grey(image, icc, name)
    alpha: Floats | None = None
    if image.has_transparency_data:
        image = reduction.applied(image.convert("LA" if image.mode in ("L", "LA", "La") else "RGBA"))
        alpha = unit(np.asarray(image.getchannel("A")), 255)
        image = image.getchannel("L") if image.mode == "LA" else image.convert("RGB")
    elif image.mode == "1":
        image = image.convert("L")
    elif image.mode not in ("L", "CMYK", "LAB"):
        image = image.convert("RGB")
    if alpha is None:
        image = reduction.applied(image)
    return Samples(unit(np.asarray(to_srgb(image, icc, name)), 255), alpha, 8)


def unit(levels: NDArray[Any], white: int) -> Floats:
    """Convert whole numbers of any shape from 0..`white` to floats in [0, 1]."""
    values = levels.astype(np.float32)
    values /= white
    return values


def _from_deep_grey(image: Image.Image, icc: bytes | None, name: str) -> Samples:
    raw = np.array(image)
    transparent = image.info.get("transparency")
    alpha = (raw != transparent).astype(np.float32) if isinstance(transparent, int) else None
    grey = unit_floats(raw, name) if raw.dtype.kind == "f" else _unit_integers(raw)
    if icc and not is_srgb(icc):
        log.warning('%s: read at 8 bits because of its colour profile; pip install "impasto[large]" to keep 16', name)
        eight = Image.fromarray(np.rint(grey * 255).astype(np.uint8))
        return Samples(unit(np.asarray(to_srgb(eight, icc, name)), 255), alpha, 8)
    return Samples(np.repeat(grey[:, :, None], 3, axis=2), alpha, 16)


def _unit_integers(raw: NDArray[np.generic]) -> Floats:
    # Pillow's mode "I" holds 16-bit samples for some formats and 32-bit ones for others.
    top = 65535 if raw.dtype.itemsize == 2 or raw.max() <= 65535 else 2**31 - 1
    return (raw.astype(np.float64) / top).clip(0, 1).astype(np.float32)


def unit_floats(raw: NDArray[np.generic], name: str) -> Floats:
    """Bring floating-point samples to [0, 1]. Scales them down if they exceed 1; NaN and infinity become 0."""
    values = raw.astype(np.float32)
    if not np.isfinite(values).all():
        log.warning("%s: some samples are not finite; reading them as black", name)
        values = np.nan_to_num(values, nan=0, posinf=0, neginf=0)
    top = float(values.max())
    if top > 1:
        log.warning("%s: its samples go up to %g; scaling them so that %g is white", name, top, top)
        values = values / top
    return values.clip(0, 1)
