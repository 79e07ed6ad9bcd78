"""Estimate the memory that a painting needs, and fit the painting into the memory that is available."""

import logging
import math
from collections.abc import Callable

from ..device import Compute, available_memory
from ..errors import MemoryNeedError
from ..image.resize import fit_size
from ..models.vgg import CONTENT_LAYER, STYLE_LAYERS, VGG, block_of
from ..options import LEAST_SIZE

log = logging.getLogger(__name__)

COPIES = 2.4
"""Copies of each of the encoder's features at the peak of a step. Fitted on steps at 512 to 2048 pixels with the
compact encoder and VGG-19's shape in both precisions; the estimate was 1.0 to 1.6 times the actual memory."""
PICTURE_BYTES = 230
"""Bytes per pixel of the painting, its gradient, the content, the best picture and L-BFGS's history."""
FIXED_BYTES = 250_000_000
"""Bytes that do not depend on the size: buffers of the libraries, statistics, small parts of the content's features."""
SHARE = 0.9
"""Share of the available memory that a painting may take."""


def memory_need(size: tuple[int, int], encoder: VGG, compute: Compute, checkpointing: bool = False) -> int:
    """Return the bytes that optimising a painting takes beyond the process's current memory.

    Parameters
    ----------
    size : (int, int)
        Height and width in pixels.
    checkpointing : bool
        Whether the encoder recomputes its features instead of keeping them (`VGG.look`).
    """
    deepest = max((*STYLE_LAYERS, CONTENT_LAYER), key=lambda k: encoder.layers[k])
    blocks: dict[int, float] = {}
    for name, conv in encoder.convolutions():
        if encoder.layers[name] <= encoder.layers[deepest]:
            block = block_of(name)
            blocks[block] = blocks.get(block, 0.0) + conv.out_channels / encoder.stride(name) ** 2
    # With checkpointing only the largest block is held, and the blocks' outputs, a quarter of a layer each.
    between = sum(encoder.width(f"conv{b}_1") / encoder.stride(f"pool{b}") ** 2 for b in blocks) / COPIES
    per_pixel = max(blocks.values()) + between if checkpointing else sum(blocks.values())
    item = 4 if compute.autocast_dtype is None else compute.autocast_dtype.itemsize
    return FIXED_BYTES + round(size[0] * size[1] * (COPIES * per_pixel * item + PICTURE_BYTES))


def fit_memory(
    size: tuple[int, int],
    encoder: VGG,
    compute: Compute,
    strict: bool,
    checkpointing: bool = True,
    said: Callable[[str], None] = log.warning,
    max_memory: float | None = None,
) -> tuple[tuple[int, int], bool]:
    """Fit a painting into memory: at full size, with checkpointing, or smaller. The latter two are logged.

    Parameters
    ----------
    size : (int, int)
        Height and width in pixels.
    strict : bool
        Refuse instead of painting smaller.
    checkpointing : bool
        Whether checkpointing may be used.
    said : callable
        Takes the message; the log by default.
    max_memory : float, optional
        The memory to use, in GB.

    Returns
    -------
    ((int, int), bool)
        The size, or the largest that fits with the same proportions; whether to use checkpointing.

    Raises
    ------
    MemoryNeedError
        If the painting does not fit and must not shrink, or if nothing fits.
    """
    limit, reason = memory_limit(compute, max_memory)
    need = memory_need(size, encoder, compute)
    if limit is None or need <= limit:
        return size, False
    problem = f"a {size[1]}x{size[0]} painting needs about {gigabytes(need)} of memory, {reason}"
    least = memory_need(size, encoder, compute, checkpointing)
    if least <= limit:
        said(f"{problem}: taking {gigabytes(least)} and a third more time, by computing features twice")
        return size, True
    return _smaller(size, least - FIXED_BYTES, limit - FIXED_BYTES, problem, strict, said), checkpointing


def memory_limit(compute: Compute, max_memory: float | None) -> tuple[float | None, str]:
    """Return the bytes that a painting may take, and the reason as text.

    Parameters
    ----------
    max_memory : float or None
        The memory to use, in GB. A painting never takes more than a share of what is free.

    Returns
    -------
    (float or None, str)
        None if there is no limit, because the system does not say what is free.
    """
    available = available_memory(compute.device)
    if max_memory is not None and (available is None or 1e9 * max_memory < SHARE * available):
        return 1e9 * max_memory, f"--max-memory allows {gigabytes(1e9 * max_memory)}"
    return (None, "") if available is None else (SHARE * available, f"{gigabytes(available)} is free")


def _smaller(
    size: tuple[int, int], need: float, budget: float, problem: str, strict: bool, said: Callable[[str], None]
) -> tuple[int, int]:
    """Return the largest size in the proportions of `size` whose pixels take at most `budget` bytes.

    Parameters
    ----------
    need : float
        Bytes that the pixels of `size` take.
    problem : str
        The beginning of every message.

    Raises
    ------
    MemoryNeedError
        If that size is too small, or `strict` is set.
    """
    long = math.floor(max(size) * math.sqrt(max(0.0, budget) / need))
    if strict or long < LEAST_SIZE:
        advice = f"--size {long} fits" if long >= LEAST_SIZE else "close other programs"
        raise MemoryNeedError(f"{problem}; {advice}")
    fitting = fit_size(size, long_side=long)
    said(f"{problem}: painting {fitting[1]}x{fitting[0]} instead (--strict-size refuses)")
    return fitting


def gigabytes(count: float) -> str:
    """Return a number of bytes as text in gigabytes."""
    return f"{count / 1e9:.1f} GB"
