"""Convert films with a high dynamic range (PQ and HLG) to ordinary ones, and paintings of them back to that range.

A network paints in the range of paper. ITU-R BT.2100 defines both signals. The brightness is compressed by the curve of
Reinhard et al., "Photographic Tone Reproduction for Digital Images", SIGGRAPH 2002, equation 4. That curve can be
inverted, so that a painting gets the range of its film: what was white paper shines.
"""

import numpy as np

from .film import Colour, Pixels

PQ, HLG = 16, 18
"""Transfer characteristics of HDR films."""
HDR = (PQ, HLG)
WIDE = 9
"""The colour primaries of BT.2020."""
WHITE_NITS = 203.0
"""Brightness of diffuse white, ITU-R BT.2408."""
PEAK = 1000.0 / WHITE_NITS
"""The brightest light that is told apart, relative to diffuse white."""
TO_BT709 = np.array([[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]], np.float32)
"""Linear light in the primaries of BT.2020 to those of BT.709, ITU-R BT.2087."""
LUMA = np.array([0.2627, 0.6780, 0.0593], np.float32)
"""The luminance of linear light in the primaries of BT.2020."""
M1, M2, C1, C2, C3 = 2610 / 16384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128
"""The constants of PQ."""
A, B, C = 0.17883277, 0.28466892, 0.55991073
"""The constants of HLG."""
PQ_TOP, HLG_TOP = 10000 / WHITE_NITS, 1000 / WHITE_NITS
"""The brightest light of each signal, relative to diffuse white; HLG's on a display of 1000 nits."""


def pq_light(signal: Pixels) -> Pixels:
    """Return the light of a PQ signal in [0, 1], relative to diffuse white."""
    root = signal ** (1 / M2)
    return (np.maximum(root - C1, 0) / (C2 - C3 * root)) ** (1 / M1) * PQ_TOP


def pq_signal(light: Pixels) -> Pixels:
    """Return the PQ signal in [0, 1] of light relative to diffuse white."""
    power = np.clip(light / PQ_TOP, 0, 1) ** M1
    return ((C1 + C2 * power) / (1 + C3 * power)) ** M2


def hlg_light(signal: Pixels) -> Pixels:
    """Return the light of an HLG signal in [0, 1] on a display of 1000 nits, relative to diffuse white."""
    scene = np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - C) / A) + B) / 12)
    return scene * np.maximum(scene @ LUMA, 1e-6)[..., None] ** 0.2 * HLG_TOP


def hlg_signal(light: Pixels) -> Pixels:
    """Return the HLG signal in [0, 1] that shows light, relative to diffuse white, on a display of 1000 nits."""
    shown = np.maximum(light / HLG_TOP, 0)
    scene = np.clip(shown * np.maximum(shown @ LUMA, 1e-7)[..., None] ** (-0.2 / 1.2), 0, 1)
    return np.where(scene <= 1 / 12, np.sqrt(3 * scene), A * np.log(np.maximum(12 * scene - B, 1e-6)) + C)


def to_sdr(pixels: Pixels, colour: Colour) -> Pixels:
    """Return pixels (H, W, 3 or 4) of an HDR film as sRGB, of the same type."""
    top = float(np.iinfo(pixels.dtype).max)
    signal = pixels[..., :3].astype(np.float32) / top
    light = pq_light(signal) if colour.transfer == PQ else hlg_light(signal)
    if colour.primaries == WIDE:
        light = np.maximum(light @ TO_BT709.T, 0)
    brightest = light.max(2, keepdims=True)
    light = light * (1 + brightest / PEAK**2) / (1 + brightest)
    light = np.clip(light, 0, 1)
    shown = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    levels = (shown * top + 0.5).astype(pixels.dtype)
    return np.concatenate([levels, pixels[..., 3:]], 2)


def from_sdr(pixels: Pixels, colour: Colour) -> Pixels:
    """Return sRGB pixels (H, W, 3 or 4) with the range and the signal of an HDR film: the inverse of `to_sdr`.

    Parameters
    ----------
    pixels : array
        uint16.
    colour : Colour
        The film's.
    """
    top = float(np.iinfo(pixels.dtype).max)
    shown = pixels[..., :3].astype(np.float32) / top
    light = np.where(shown <= 0.04045, shown / 12.92, ((shown + 0.055) / 1.055) ** 2.4)
    brightest = light.max(2, keepdims=True)
    # The positive root of what `to_sdr` makes of the brightest channel.
    whole = PEAK**2 / 2 * (brightest - 1 + np.sqrt((1 - brightest) ** 2 + 4 * brightest / PEAK**2))
    light = light * (whole / np.maximum(brightest, 1e-6))
    if colour.primaries == WIDE:
        light = np.maximum(light @ np.linalg.inv(TO_BT709).T.astype(np.float32), 0)
    signal = pq_signal(light) if colour.transfer == PQ else hlg_signal(light)
    levels = (np.clip(signal, 0, 1) * top + 0.5).astype(pixels.dtype)
    return np.concatenate([levels, pixels[..., 3:]], 2)
