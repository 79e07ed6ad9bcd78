"""Reading more than 8 bits per sample with libvips, from the extra `large`. Pillow would reduce them to 8."""

import logging
from functools import cache
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import PictureError
from .decode import Floats, Reduction, Samples, unit, unit_floats
from .profiles import COLOUR_SPACE, usable, warn_of_profile
from .source import check_size, one_line

log = logging.getLogger(__name__)

INSTALL = 'pip install "impasto[large]"'


@cache
def available() -> bool:
    """Return whether the extra `large` is installed and works."""
    try:
        import pyvips  # noqa: F401
    except (ImportError, OSError):  # OSError: pyvips does not find libvips
        return False
    return True


def require(name: str) -> None:
    """Raise PictureError, for the file `name`, if the extra `large` is not installed."""
    if not available():
        raise PictureError(f"{name}: large pictures are read and written in parts only with an extra; run {INSTALL}")


@cache
def compresses(compression: str) -> bool:
    """Return whether libvips was built with a compression of TIFF."""
    import pyvips

    try:
        pyvips.Image.black(16, 16, bands=3).tiffsave_buffer(compression=compression)
    except pyvips.Error:
        return False
    return True


def read_png(data: bytes, name: str, max_megapixels: float, reduction: Reduction) -> Samples:
    """Return a PNG's samples at 16 bits, in the size needed, not rotated.

    Raises
    ------
    PictureError
        If it has more pixels than allowed.
    """
    import pyvips

    return _samples(pyvips.Image.pngload_buffer(data, fail_on="error"), name, max_megapixels, reduction)


def read_tiff(data: bytes, name: str, max_megapixels: float, reduction: Reduction) -> Samples:
    """Return the first page of a TIFF at 16 bits, floats included, not rotated.

    Parameters
    ----------
    data : bytes
        The file.
    name : str
        Name of the file in messages.
    max_megapixels : float
        Most pixels allowed, in millions.
    reduction : Reduction
        The size needed.

    Raises
    ------
    PictureError
        If it has more pixels than allowed.
    """
    import pyvips

    try:
        image = pyvips.Image.tiffload_buffer(data, fail_on="error")
    except pyvips.Error:  # raised for sample types that libvips does not know, too
        return _read_rare_tiff(data, name, max_megapixels)
    return _samples(image, name, max_megapixels, reduction)


def _read_rare_tiff(data: bytes, name: str, max_megapixels: float) -> Samples:
    """Return samples of rare types, such as half and double floats in scientific files: grey or RGB, taken as sRGB."""
    import tifffile

    with tifffile.TiffFile(BytesIO(data)) as file:
        page = file.pages.first
        check_size(page.imagewidth, page.imagelength, name, max_megapixels)
        raw = page.asarray()
        if page.axes == "SYX":
            raw = np.moveaxis(raw, 0, -1)
    if raw.ndim not in (2, 3):
        raise ValueError(f"samples in an array of shape {raw.shape}")
    numbers = _numbers(raw.reshape(*raw.shape[:2], -1), name)
    alpha = numbers[:, :, -1] if numbers.shape[2] in (2, 4) else None
    return Samples(numbers[:, :, :3] if numbers.shape[2] >= 3 else np.repeat(numbers[:, :, :1], 3, axis=2), alpha, 16)


def convert(array: NDArray[np.uint16], icc: bytes | None, name: str) -> Floats:
    """Convert 16-bit samples to sRGB through a profile.

    Parameters
    ----------
    array : array
        (H, W, C), uint16: C = 1 (grey), 3 (RGB) or 4 (CMYK).
    icc : bytes or None
        Its profile.
    name : str
        Name of the picture in warnings.

    Returns
    -------
    array
        (H, W, 3), float32, sRGB, range [0, 1].
    """
    return _to_srgb(unit(array, 65535), icc, name)


def _samples(image: Any, name: str, max_megapixels: float, reduction: Reduction) -> Samples:
    check_size(image.width, image.height, name, max_megapixels)
    icc = image.get("icc-profile-data") if image.get_typeof("icc-profile-data") else None
    bands = colour_bands(image)
    if reduction.needed is not None and image.format not in ("float", "double"):  # those are scaled by their maximum
        image = shrunk(image, bands, reduction.needed)
    alpha = None
    if image.bands > bands:
        alpha = _numbers(pixels(image.extract_band(bands)), name)[:, :, 0]
    colour = image.extract_band(0, n=bands)
    if image.interpretation in ("lab", "labs", "labq", "xyz"):
        return Samples(unit(pixels(colour.colourspace("rgb16")), 65535), alpha, 16)
    numbers = _numbers(pixels(colour), name)
    return Samples(_to_srgb(numbers, icc, name), alpha, 8 if image.format == "uchar" else 16)


def shrunk(image: Any, bands: int, needed: tuple[int, int]) -> Any:
    """Resize to a height and width. An alpha after the `bands` colour samples weights them."""
    scale, vscale = needed[1] / image.width, needed[0] / image.height
    if image.bands <= bands or bands == 4:
        return image.resize(scale, vscale=vscale, kernel="cubic")
    white, kind = {"uchar": 255, "ushort": 65535}.get(image.format, 1), (image.format, image.interpretation)
    weighed = (
        image.extract_band(0, n=bands + 1).premultiply(max_alpha=white).resize(scale, vscale=vscale, kernel="cubic")
    )
    levels = weighed.unpremultiply(max_alpha=white)
    levels = levels if white == 1 else levels.rint()
    return levels.cast(kind[0]).copy(interpretation=kind[1])


def colour_bands(image: Any) -> int:
    """Return the number of colour samples per pixel: 1 (grey), 3 (RGB) or 4 (CMYK)."""
    if image.interpretation == "cmyk" and image.bands >= 4:
        return 4
    return 3 if image.bands >= 3 else 1


def _numbers(raw: NDArray[Any], name: str) -> Floats:
    if raw.dtype.kind == "f":
        return unit_floats(raw, name)
    if raw.dtype.kind not in "iu":
        raise ValueError(f"samples of type {raw.dtype}")
    return unit(raw, np.iinfo(raw.dtype).max).clip(0, 1)


def _to_srgb(numbers: Floats, icc: bytes | None, name: str) -> Floats:
    """Convert (H, W, C) numbers of C = 1, 3 or 4 colours to (H, W, 3) sRGB, by the profile if it is usable."""
    import pyvips

    icc = usable(icc, numbers.shape[2], name)
    if icc is None:
        return _without_profile(numbers)
    try:
        return _transformed(numbers, icc)
    except pyvips.Error as error:
        warn_of_profile(name, one_line(error))
        return _without_profile(numbers)


def convertible(icc: bytes | None, colours: int, name: str) -> bytes | None:
    """Return a profile as `usable` does, but only if `convert` can convert samples of that many colours by it."""
    import pyvips

    icc = usable(icc, colours, name)
    try:
        if icc is not None:
            _transformed(np.zeros((1, 1, colours), np.float32), icc)
    except pyvips.Error as error:
        warn_of_profile(name, one_line(error))
        return None
    return icc


def _transformed(numbers: Floats, icc: bytes) -> Floats:
    import pyvips

    if icc[COLOUR_SPACE] == b"RGB ":
        numbers = _without_profile(numbers)
    kind = {1: "grey16", 3: "rgb16", 4: "cmyk"}[numbers.shape[2]]
    image = pyvips.Image.new_from_array(np.rint(numbers * 65535).astype(np.uint16)).copy(interpretation=kind)
    image.set_type(pyvips.GValue.blob_type, "icc-profile-data", icc)  # pyright: ignore[reportArgumentType]: takes bytes
    options = {"embedded": True, "depth": 16, "intent": "relative", "black_point_compensation": True}
    return unit(pixels(image.icc_transform("srgb", **options)), 65535)


def _without_profile(numbers: Floats) -> Floats:
    if numbers.shape[2] == 4:  # as Pillow does for 8 bits
        return (1 - numbers[:, :, :3]) * (1 - numbers[:, :, 3:])
    return numbers if numbers.shape[2] == 3 else np.repeat(numbers, 3, axis=2)


def pixels(image: Any) -> NDArray[Any]:
    """Return an image's samples as (H, W, C); pyvips itself drops dimensions of size 1."""
    return image.numpy().reshape(image.height, image.width, image.bands)
