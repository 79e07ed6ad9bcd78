"""Reading HEIC, the format of iPhones, with pillow-heif from the extra `heif`."""

from typing import Any, BinaryIO

import numpy as np

from ..errors import PictureError
from . import deep
from .decode import Reduction, Samples, Sized, from_pillow, unit
from .profiles import is_srgb
from .source import check_size

BRANDS = frozenset((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"))


def is_heif(head: bytes) -> bool:
    """Return whether a file's first bytes are those of HEIC. False for AVIF, which shares the container."""
    if head[4:8] != b"ftyp" or head[8:12] not in BRANDS:
        return False
    length = int.from_bytes(head[:4], "big")
    return b"avif" not in head[8:length]


def heif_size(file: BinaryIO) -> tuple[int, int] | None:
    """Return the height and width of a HEIC file in pixels; None for other files or without the extra `heif`."""
    if not is_heif(file.read(64)):
        return None
    try:
        import pillow_heif
    except ImportError:
        return None
    file.seek(0)
    width, height = pillow_heif.open_heif(file).size
    return height, width


def read_heif(
    file: BinaryIO, name: str, max_megapixels: float, sized: Sized | None = None
) -> tuple[Samples, dict[str, Any], Reduction]:
    """Read the primary picture of a HEIC file, upright, its metadata (`exif`, `xmp`), and the reduction needed.

    Raises
    ------
    PictureError
        If the extra is not installed, or the picture has more pixels than allowed.
    """
    try:
        import pillow_heif
    except ImportError:
        raise PictureError(f'{name} is a HEIC picture; to read it, run pip install "impasto[heif]"') from None
    file.seek(0)
    image = pillow_heif.open_heif(file, convert_hdr_to_8bit=False)
    width, height = image.size
    check_size(width, height, name, max_megapixels)
    reduction = Reduction.of((height, width), sized)
    icc = image.info.get("icc_profile") or None
    if image.mode not in ("RGB;16", "RGBA;16"):
        eight = image.to_pillow()
        return from_pillow(eight, name, reduction), image.info, reduction
    levels = np.asarray(image)
    alpha = unit(levels[:, :, 3], 65535) if levels.shape[2] == 4 else None
    if icc is None or is_srgb(icc):
        return Samples(unit(levels[:, :, :3], 65535), alpha, 16), image.info, reduction
    if deep.available():
        samples = Samples(deep.convert(np.ascontiguousarray(levels[:, :, :3]), icc, name), alpha, 16)
        return samples, image.info, reduction
    file.seek(0)
    eight = pillow_heif.open_heif(file, convert_hdr_to_8bit=True).to_pillow()
    return from_pillow(eight, name, reduction), image.info, reduction
