"""Reading more than 8 bits a sample, with libvips from the extra `large`: Pillow would cut them down to 8."""

import logging
from functools import cache
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .decode import Floats, Samples, unit, unit_floats
from .profiles import COLOUR_SPACE, usable, warn_of_profile
from .source import check_size, one_line

log = logging.getLogger(__name__)

INSTALL = 'pip install "impasto[large]"'


@cache
def available() -> bool:
    """Whether the extra `large` is installed and works here."""
    try:
        import pyvips  # noqa: F401
    except (ImportError, OSError):  # OSError: without the libvips that it needs
        return False
    return True


def read_png(data: bytes, name: str, max_megapixels: float) -> Samples:
    """A PNG's samples at 16 bits; its turn is not undone.

    Raises
    ------
    PictureError
        If it has more pixels than allowed.
    """
    import pyvips

    return _samples(pyvips.Image.pngload_buffer(data, fail_on="error"), name, max_megapixels)


def read_tiff(data: bytes, name: str, max_megapixels: float, *, premultiplied: bool = False) -> Samples:
    """A TIFF's first page at 16 bits, floats included; its turn is not undone.

    Parameters
    ----------
    data : bytes
        The file.
    name : str
        What messages call it.
    max_megapixels : float
        The most pixels allowed, in millions.
    premultiplied : bool
        Whether its colours are multiplied by its alpha.

    Raises
    ------
    PictureError
        If it has more pixels than allowed.
    """
    import pyvips

    try:
        image = pyvips.Image.tiffload_buffer(data, fail_on="error")
    except pyvips.Error:  # also for the sample types that it does not know
        return _read_rare_tiff(data, name, max_megapixels)
    samples = _samples(image, name, max_megapixels)
    if premultiplied and samples.alpha is not None:
        alpha = samples.alpha[:, :, None]
        colour = np.divide(samples.colour, alpha, out=np.zeros_like(samples.colour), where=alpha > 0).clip(0, 1)
        return Samples(colour, samples.alpha, samples.bits)
    return samples


def _read_rare_tiff(data: bytes, name: str, max_megapixels: float) -> Samples:
    """Half and double floats and the like, as scientific programs write them: grey or RGB, taken as sRGB."""
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
    """Convert 16-bit RGB to sRGB through a profile.

    Parameters
    ----------
    array : array
        (H, W, 3), uint16.
    icc : bytes or None
        The profile that belongs to it.
    name : str
        What a warning calls the picture.

    Returns
    -------
    array
        (H, W, 3), float32, sRGB, range [0, 1].
    """
    icc = usable(icc, 3, name)
    return unit(array, 65535) if icc is None else _to_srgb(array, icc, name)


def _samples(image: Any, name: str, max_megapixels: float) -> Samples:
    check_size(image.width, image.height, name, max_megapixels)
    icc = image.get("icc-profile-data") if image.get_typeof("icc-profile-data") else None
    bands = _colour_bands(image)
    alpha = None
    if image.bands > bands:
        alpha = _numbers(image.extract_band(bands).numpy(), name)
    colour = image.extract_band(0, n=bands)
    if image.interpretation in ("lab", "labs", "labq", "xyz"):
        return Samples(_array(colour.colourspace("rgb16")), alpha, 16)
    raw = colour.numpy()
    numbers = _numbers(raw.reshape(*raw.shape[:2], bands), name)
    icc = usable(icc, bands, name)
    if bands == 1 and (icc is None or icc[COLOUR_SPACE] == b"RGB "):
        numbers, bands = np.repeat(numbers, 3, axis=2), 3
    if icc is None:
        if bands == 4:  # without a profile, as Pillow does it for 8 bits
            numbers = (1 - numbers[:, :, :3]) * (1 - numbers[:, :, 3:])
        return Samples(numbers, alpha, 8 if image.format == "uchar" else 16)
    return Samples(_to_srgb(np.rint(numbers * 65535).astype(np.uint16), icc, name), alpha, 16)


def _colour_bands(image: Any) -> int:
    if image.interpretation == "cmyk" and image.bands >= 4:
        return 4
    return 3 if image.bands >= 3 else 1


def _numbers(raw: NDArray[Any], name: str) -> Floats:
    if raw.dtype.kind == "f":
        return unit_floats(raw, name)
    if raw.dtype.kind not in "iu":
        raise ValueError(f"samples of type {raw.dtype}")
    return unit(raw, np.iinfo(raw.dtype).max).clip(0, 1)


def _to_srgb(levels: NDArray[np.uint16], icc: bytes, name: str) -> Floats:
    """(H, W, C) samples of C = 1, 3 or 4 colours through a usable profile."""
    import pyvips

    kind = {1: "grey16", 3: "rgb16", 4: "cmyk"}[levels.shape[2]]
    image = pyvips.Image.new_from_array(levels).copy(interpretation=kind)
    image.set_type(pyvips.GValue.blob_type, "icc-profile-data", icc)  # pyright: ignore[reportArgumentType]: takes bytes
    options = {"embedded": True, "depth": 16, "intent": "relative", "black_point_compensation": True}
    try:
        return _array(image.icc_transform("srgb", **options))
    except pyvips.Error as error:
        warn_of_profile(name, one_line(error))
        return _array(image.colourspace("rgb16"))


def _array(image: Any) -> Floats:
    return unit(image.numpy(), 65535)
