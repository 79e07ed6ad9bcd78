"""What Pillow can tell of a file before its pixels are decoded: format, size, EXIF, XMP."""

from typing import BinaryIO

from PIL import Image

FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "AVIF", "BMP", "GIF", "JPEG2000", "PPM", "QOI", "PSD")
"""What Pillow may read for us, by its names; not those that run another program (EPS) or have no signature (TGA)."""


def is_tiff(head: bytes) -> bool:
    """Whether a file's first bytes are those of a TIFF, of the 64-bit kind too."""
    return head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def identify(file: BinaryIO, head: bytes) -> Image.Image | None:
    """Open a picture as `Image.open` does, but for our formats only and without its fixed limit on pixels.

    Returns
    -------
    PIL.Image.Image or None
        The image with its header read; None where Pillow knows no such format.
    """
    if not set(FORMATS) <= Image.OPEN.keys():
        Image.init()
    for name in FORMATS:
        factory, accept = Image.OPEN.get(name, (None, None))
        # `accept` may also give a text that says why the format is not supported here.
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
    """An image's EXIF block; of a TIFF the file itself, whose first directory is that block."""
    if image.format == "TIFF":
        return file or b""
    block = image.info.get("exif")
    profile = image.info.get("Raw profile type exif")  # as ImageMagick writes it into a PNG: a line count, then hex
    if not block and isinstance(profile, str):
        try:
            block = bytes.fromhex("".join(profile.split("\n")[3:]))
        except ValueError:
            return b""
    return block if isinstance(block, bytes) else b""


def dpi_of(image: Image.Image) -> tuple[float, float] | None:
    """Return an image's resolution, across and down in pixels an inch, where its header names one beside EXIF."""
    dpi = image.info.get("dpi")
    if image.format in ("JPEG", "MPO"):  # what Pillow calls dpi may be EXIF's, or a guess
        inches = {1: 1.0, 2: 2.54}.get(image.info.get("jfif_unit", 0))
        density = image.info.get("jfif_density")
        dpi = None if inches is None or density is None else tuple(inches * d for d in density)
    if image.format == "TIFF" or not isinstance(dpi, tuple) or len(dpi) != 2:
        return None
    across, down = float(dpi[0]), float(dpi[1])
    return (across, down) if 1 <= across < 65535 and 1 <= down < 65535 else None


def xmp_of(image: Image.Image) -> bytes:
    """An image's XMP packet, or b""."""
    packet = image.info.get("xmp") or image.info.get("XML:com.adobe.xmp") or b""
    if isinstance(packet, str):
        packet = packet.encode("utf-8", "surrogatepass")
    return packet if isinstance(packet, bytes) else b""
