"""ICC profiles: whatever a picture carries becomes sRGB, and sRGB is what is written."""

import logging
import struct
from functools import cache
from io import BytesIO

from PIL import Image, ImageCms

from .source import one_line

log = logging.getLogger(__name__)

DATE = slice(24, 36)
"""Where an ICC header keeps the moment of its creation."""
COLOUR_SPACE = slice(16, 20)
"""Where it names the colour space that the profile is for."""

INTENT = ImageCms.Intent.RELATIVE_COLORIMETRIC
FLAGS = ImageCms.Flags.BLACKPOINTCOMPENSATION


@cache
def srgb_profile() -> bytes:
    """The sRGB profile that is written into files: always the same bytes, its date being a constant."""
    data = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    data[DATE] = struct.pack(">6H", 2000, 1, 1, 0, 0, 0)
    return bytes(data)


def is_srgb(icc: bytes) -> bool:
    """Whether `icc` is our own sRGB profile (its date aside), so that nothing need be converted."""
    ours = srgb_profile()
    return icc[: DATE.start] + icc[DATE.stop :] == ours[: DATE.start] + ours[DATE.stop :]


def to_srgb(image: Image.Image, icc: bytes | None, name: str) -> Image.Image:
    """Convert to sRGB, 8 bits a sample.

    Parameters
    ----------
    image : PIL.Image.Image
        Mode L, RGB, CMYK or LAB, without alpha.
    icc : bytes or None
        The profile it carries. One that is damaged, or made for another colour space, is left aside with a warning in
        the log, and the picture read as sRGB.
    name : str
        What the warning calls it.

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
    if icc[COLOUR_SPACE] == b"RGB ":
        image = image.convert("RGB")
    srgb = ImageCms.createProfile("sRGB")
    try:
        converted = ImageCms.profileToProfile(
            image, ImageCms.ImageCmsProfile(BytesIO(icc)), srgb, renderingIntent=INTENT, outputMode="RGB", flags=FLAGS
        )
    except ImageCms.PyCMSError as error:
        warn_of_profile(name, one_line(error))
        return image.convert("RGB")
    assert converted is not None
    return converted


def usable(icc: bytes | None, bands: int, name: str) -> bytes | None:
    """The profile, if there is one that needs converting and can be used.

    Parameters
    ----------
    icc : bytes or None
        What the picture carries.
    bands : int
        Its colour samples a pixel: 1 (grey), 3 (RGB) or 4 (CMYK).
    name : str
        What the warning calls it.

    Returns
    -------
    bytes or None
        A profile for that many samples; a grey picture may also carry one for RGB, and then means its grey axis.
        None for our own sRGB, and with a warning for one that is damaged or made for other colours.
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
    """Say that a profile was left aside."""
    log.warning("%s: its colour profile cannot be used (%s); reading it as sRGB", name, reason)
