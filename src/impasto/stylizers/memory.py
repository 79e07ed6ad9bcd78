"""What a painting needs of memory, said and heeded before it runs out."""

import logging
import math
from collections.abc import Callable

from ..device import Compute, available_memory
from ..errors import MemoryNeedError
from ..image.resize import fit_size
from ..models.vgg import CONTENT_LAYER, STYLE_LAYERS, VGG
from ..options import LEAST_SIZE

log = logging.getLogger(__name__)

COPIES = 2.4
"""How often each of the encoder's features is held at the peak of a step: fitted on steps at 512 to 2048 pixels with
the compact encoder and VGG-19's shape in both precisions; the estimate was 1.0 to 1.6 times what they took."""
PICTURE_BYTES = 230
"""A pixel's share of the painting, its gradient, the content, the best picture, and what L-BFGS remembers."""
FIXED_BYTES = 250_000_000
"""What does not depend on the size: buffers of the libraries, statistics, the content's features' small parts."""
SHARE = 0.9
"""Of the memory that is available now, the share that a painting may take."""


def memory_need(size: tuple[int, int], encoder: VGG, compute: Compute, checkpointing: bool = False) -> int:
    """Bytes that optimising a painting of that height and width takes beyond what the process has now.

    Parameters
    ----------
    size : (int, int)
        Height and width in pixels.
    checkpointing : bool
        Whether the encoder computes its features a second time instead of keeping them (`VGG.look`).
    """
    deepest = max((*STYLE_LAYERS, CONTENT_LAYER), key=lambda k: encoder.layers[k])
    blocks: dict[str, float] = {}
    for name, conv in encoder.convolutions():
        if encoder.layers[name] <= encoder.layers[deepest]:
            blocks[name[4]] = blocks.get(name[4], 0.0) + conv.out_channels / encoder.stride(name) ** 2
    # With checkpointing the largest block alone is held, and what goes from block to block, a quarter of a layer each.
    between = sum(encoder.width(f"conv{b}_1") / encoder.stride(f"pool{b}") ** 2 for b in blocks) / COPIES
    per_pixel = max(blocks.values()) + between if checkpointing else sum(blocks.values())
    item = 4 if compute.low is None else compute.low.itemsize
    return FIXED_BYTES + round(size[0] * size[1] * (COPIES * per_pixel * item + PICTURE_BYTES))


def fit_memory(
    size: tuple[int, int],
    encoder: VGG,
    compute: Compute,
    strict: bool,
    checkpointing: bool = True,
    said: Callable[[str], None] = log.warning,
) -> tuple[tuple[int, int], bool]:
    """How a painting fits into memory: as it is, with checkpointing, or smaller; the latter two are said in the log.

    Parameters
    ----------
    size : (int, int)
        Height and width in pixels.
    strict : bool
        Refuse instead of painting smaller.
    checkpointing : bool
        Whether checkpointing may be used.
    said : callable
        Takes what there is to say; the log does if not given.

    Returns
    -------
    ((int, int), bool)
        The size, or the largest of its shape that fits; whether to use checkpointing.

    Raises
    ------
    MemoryNeedError
        If it does not fit and must not shrink, or if nothing fits.
    """
    available = available_memory(compute.device)
    need = memory_need(size, encoder, compute)
    if available is None or need <= SHARE * available:
        return size, False
    told = f"a {size[1]}x{size[0]} painting needs about {gigabytes(need)} of memory, {gigabytes(available)} are free"
    least = memory_need(size, encoder, compute, checkpointing)
    if least <= SHARE * available:
        said(f"{told}: taking {gigabytes(least)} and a third more time, by computing features twice")
        return size, True
    return _smaller(size, least - FIXED_BYTES, SHARE * available - FIXED_BYTES, told, strict, said), checkpointing


def fit_need(
    size: tuple[int, int],
    need: Callable[[tuple[int, int]], int],
    compute: Compute,
    strict: bool,
    said: Callable[[str], None] = log.warning,
) -> tuple[int, int]:
    """How a painting fits into memory: as it is, or smaller, which is said in the log.

    Parameters
    ----------
    size : (int, int)
        Height and width in pixels.
    need : callable
        Of a height and width, the bytes that a painting of that size takes: some for each pixel, and some besides.
    strict : bool
        Refuse instead of painting smaller.
    said : callable
        Takes what there is to say; the log does if not given.

    Raises
    ------
    MemoryNeedError
        If it does not fit and must not shrink, or if nothing fits.
    """
    available, whole, fixed = available_memory(compute.device), need(size), need((0, 0))
    if available is None or whole <= SHARE * available:
        return size
    told = f"a {size[1]}x{size[0]} painting needs about {gigabytes(whole)} of memory, {gigabytes(available)} are free"
    return _smaller(size, whole - fixed, SHARE * available - fixed, told, strict, said)


def _smaller(
    size: tuple[int, int], need: float, budget: float, told: str, strict: bool, said: Callable[[str], None]
) -> tuple[int, int]:
    """The largest size of that shape whose pixels take no more than the budget, where all those of `size` take `need`.

    MemoryNeedError, which begins with what is `told`, if it is too small, or there must be no other.
    """
    long = math.floor(max(size) * math.sqrt(max(0.0, budget) / need))
    if strict or long < LEAST_SIZE:
        advice = f"--size {long} fits" if long >= LEAST_SIZE else "close other programs"
        raise MemoryNeedError(f"{told}; {advice}")
    fitting = fit_size(size, long_side=long)
    said(f"{told}: painting {fitting[1]}x{fitting[0]} instead (--strict-size refuses)")
    return fitting


def gigabytes(count: float) -> str:
    """Bytes for people."""
    return f"{count / 1e9:.1f} GB"
