"""A decoded picture as arrays, from whatever mode Pillow gives."""

import logging
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .profiles import is_srgb, to_srgb
from .reduction import Reduction

log = logging.getLogger(__name__)

Floats = NDArray[np.float32]
T = TypeVar("T", bound=np.generic)

DEEP_MODES = ("I", "I;16", "I;16L", "I;16B", "I;16N", "F")


@dataclass(frozen=True)
class Samples:
    """Pixels on their way from a decoder to the tensor.

    Parameters
    ----------
    colour : array
        (H, W, 3), float32, sRGB, range [0, 1].
    alpha : array or None
        (H, W), float32, range [0, 1].
    bits : int
        8 or 16: what they were read at.
    """

    colour: Floats
    alpha: Floats | None
    bits: int


def turned(samples: Samples, orientation: int) -> Samples:
    """Undo a camera's turn: `orientation` is EXIF's 1 to 8; any other value leaves the picture as it is."""
    alpha = None if samples.alpha is None else upright(samples.alpha, orientation)
    return Samples(upright(samples.colour, orientation), alpha, samples.bits)


def upright(x: NDArray[T], orientation: int) -> NDArray[T]:
    """A view of an array (H, W, ...) with a camera's turn undone; see `turned`."""
    if orientation in (5, 6, 7, 8):
        x = x.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        x = x[::-1]
    if orientation in (2, 3, 6, 7):
        x = x[:, ::-1]
    return x


def from_pillow(image: Image.Image, name: str, reduction: Reduction | None = None) -> Samples:
    """The samples of a loaded image, in any mode that Pillow has; its profile is converted to sRGB.

    Parameters
    ----------
    image : PIL.Image.Image
        Loaded; EXIF orientation is not looked at.
    name : str
        What warnings call it.
    reduction : Reduction, optional
        What is needed of it.
    """
    icc = image.info.get("icc_profile") or None
    reduction = reduction or Reduction()
    if image.mode in DEEP_MODES:
        # Floats are scaled by the largest of all. Others are averaged, for what other filters overshoot by would count.
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
    """Whole numbers of any shape as floats, 0 to `white` becoming [0, 1]."""
    values = levels.astype(np.float32)
    values /= white
    return values


def _from_deep_grey(image: Image.Image, icc: bytes | None, name: str) -> Samples:
    raw = np.array(image)
    transparent = image.info.get("transparency")
    alpha = (raw != transparent).astype(np.float32) if isinstance(transparent, int) else None
    grey = unit_floats(raw, name) if raw.dtype.kind == "f" else _unit_integers(raw)
    if icc and not is_srgb(icc):
        log.warning('%s: read at 8 bits for its colour profile; pip install "impasto[large]" keeps 16', name)
        eight = Image.fromarray(np.rint(grey * 255).astype(np.uint8))
        return Samples(unit(np.asarray(to_srgb(eight, icc, name)), 255), alpha, 8)
    return Samples(np.repeat(grey[:, :, None], 3, axis=2), alpha, 16)


def _unit_integers(raw: NDArray[np.generic]) -> Floats:
    # Pillow's mode "I" holds 16-bit samples of some formats and 32-bit ones of others.
    top = 65535 if raw.dtype.itemsize == 2 or raw.max() <= 65535 else 2**31 - 1
    return (raw.astype(np.float64) / top).clip(0, 1).astype(np.float32)


def unit_floats(raw: NDArray[np.generic], name: str) -> Floats:
    """Floating samples as [0, 1]: taken as they are, but scaled down where they go beyond 1; NaN becomes 0."""
    values = raw.astype(np.float32)
    if not np.isfinite(values).all():
        log.warning("%s: some samples are not finite; reading them as black", name)
        values = np.nan_to_num(values, nan=0, posinf=0, neginf=0)
    top = float(values.max())
    if top > 1:
        log.warning("%s: its samples go up to %g; scaling them so that this is white", name, top)
        values = values / top
    return values.clip(0, 1)
