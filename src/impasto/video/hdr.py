"""Films with a high dynamic range, PQ and HLG, as ordinary ones: a painting has the range of paper.

ITU-R BT.2100 defines both signals. The brightness is compressed by the curve of Reinhard et al., "Photographic Tone
Reproduction for Digital Images", SIGGRAPH 2002, equation 4.
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


def pq_light(signal: Pixels) -> Pixels:
    """Return the light of a PQ signal in [0, 1], relative to diffuse white."""
    m1, m2, c1, c2, c3 = 2610 / 16384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128
    root = signal ** (1 / m2)
    return (np.maximum(root - c1, 0) / (c2 - c3 * root)) ** (1 / m1) * (10000 / WHITE_NITS)


def hlg_light(signal: Pixels) -> Pixels:
    """Return the light of an HLG signal in [0, 1] on a display of 1000 nits, relative to diffuse white."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    scene = np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - c) / a) + b) / 12)
    luma = scene @ np.array([0.2627, 0.6780, 0.0593], scene.dtype)
    return scene * np.maximum(luma, 1e-6)[..., None] ** 0.2 * (1000 / WHITE_NITS)


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
