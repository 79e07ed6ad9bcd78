"""ICC profiles: conversion to sRGB when reading, and the sRGB profile for writing."""

import logging
import struct
from functools import cache
from io import BytesIO

from PIL import Image, ImageCms

from .source import one_line

log = logging.getLogger(__name__)

DATE = slice(24, 36)
"""Bytes of an ICC header with the date of creation."""
COLOUR_SPACE = slice(16, 20)
"""Bytes of an ICC header with the colour space of the profile."""

INTENT = ImageCms.Intent.RELATIVE_COLORIMETRIC
FLAGS = ImageCms.Flags.BLACKPOINTCOMPENSATION


@cache
def srgb_profile() -> bytes:
    """Return the sRGB profile for output files. Its date is fixed, so the bytes are always the same."""
    data = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    data[DATE] = struct.pack(">6H", 2000, 1, 1, 0, 0, 0)
    return bytes(data)


def is_srgb(icc: bytes) -> bool:
    """Return whether `icc` is our own sRGB profile, apart from its date, and needs no conversion."""
    ours = srgb_profile()
    return icc[: DATE.start] + icc[DATE.stop :] == ours[: DATE.start] + ours[DATE.stop :]


def to_srgb(image: Image.Image, icc: bytes | None, name: str) -> Image.Image:
    """Convert to sRGB, 8 bits per sample.

    Parameters
    ----------
    image : PIL.Image.Image
        Mode L, RGB, CMYK or LAB, without alpha.
    icc : bytes or None
        Its profile. If the profile is damaged or made for another colour space, logs a warning and reads the picture
        as sRGB.
    name : str
        Name of the picture in the warning.

    Returns
    -------
    PIL.Image.Image
        Mode RGB.
    """
    if image.mode == "LAB":
        lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        converted = ImageCms.profileToProfile(image, lab, srgb, renderingIntent=INTENT, outputMode="RGB")
        assert converted is not None  # only in-place conversions return None
        return converted
    icc = usable(icc, len(image.getbands()), name)
    if icc is None:
        return image.convert("RGB")
    try:
        return _transformed(image, icc)
    except ImageCms.PyCMSError as error:
        warn_of_profile(name, one_line(error))
        return image.convert("RGB")


def _transformed(image: Image.Image, icc: bytes) -> Image.Image:
    if icc[COLOUR_SPACE] == b"RGB ":
        image = image.convert("RGB")
    profile, srgb = ImageCms.ImageCmsProfile(BytesIO(icc)), ImageCms.createProfile("sRGB")
    converted = ImageCms.profileToProfile(image, profile, srgb, renderingIntent=INTENT, outputMode="RGB", flags=FLAGS)
    assert converted is not None  # only in-place conversions return None
    return converted


def convertible(icc: bytes | None, mode: str, name: str) -> bytes | None:
    """Return a profile as `usable` does, but only if `to_srgb` can convert an image of that mode by it."""
    pixel = Image.new(mode, (1, 1))
    icc = usable(icc, len(pixel.getbands()), name)
    try:
        return icc if icc is None or _transformed(pixel, icc) else None
    except ImageCms.PyCMSError as error:
        warn_of_profile(name, one_line(error))
        return None


def usable(icc: bytes | None, bands: int, name: str) -> bytes | None:
    """Return the profile if it is usable and needs a conversion.

    Parameters
    ----------
    icc : bytes or None
        The picture's profile.
    bands : int
        Colour samples per pixel: 1 (grey), 3 (RGB) or 4 (CMYK).
    name : str
        Name of the picture in the warning.

    Returns
    -------
    bytes or None
        A profile for that many samples. A grey picture may also have one for RGB, which then applies to its grey axis.
        None for our own sRGB profile, and, with a warning, for one that is damaged or made for another colour space.
    """
    if not icc or is_srgb(icc):
        return None
    fitting = {1: (b"GRAY", b"RGB "), 3: (b"RGB ",), 4: (b"CMYK",)}[bands]
    try:
        ImageCms.ImageCmsProfile(BytesIO(icc))
    except (ImageCms.PyCMSError, OSError) as error:
        warn_of_profile(name, one_line(error))
        return None
    if icc[COLOUR_SPACE] not in fitting:
        space = icc[COLOUR_SPACE].decode("latin-1").strip()
        warn_of_profile(name, f"it is for {space if space.isprintable() else 'other'} colours")
        return None
    return icc


def warn_of_profile(name: str, reason: str) -> None:
    """Log a warning that a profile is ignored."""
    log.warning("%s: its colour profile cannot be used (%s); reading it as sRGB", name, reason)
