"""Estimate the memory of the network's pass, as a whole and in strips, and choose the strips that fit."""

from collections.abc import Callable
from functools import partial

from ..device import Compute
from ..errors import MemoryNeedError
from ..files import TemporaryFiles
from ..image import deep
from ..models.network import Network
from ..models.passes import LEAST_SIDE, STRIDE
from .memory import gigabytes, item_bytes, memory_budget

PIXEL_BYTES = {2: 155, 4: 275}
"""Bytes per number inside the network -> bytes per pixel at the peak, for width 32; measured at 12 megapixels."""
FIXED_BYTES = 60_000_000
"""Bytes that do not depend on the size."""
PICTURE_BYTES = 12
"""Bytes per pixel of the painting."""
STRIP_PIXELS = 2_000_000
"""Pixels of a strip if memory allows: larger strips are not faster."""
STRIP_BYTES = {2: 280, 4: 510}
"""The same for a strip, with the rows that the layers keep of it; measured at 6 megapixels in bfloat16."""
MARGIN_BYTES = {2: 22_000, 4: 40_000}
"""Bytes per number inside the network -> bytes per pixel of the width, for width 32, that the layers keep between
strips."""
STORED_BYTES = {2: 80, 4: 140}
"""Bytes per number inside the network -> bytes per pixel, for width 32, that exact statistics keep at the peak."""


def padded_size(size: tuple[int, int]) -> tuple[int, int]:
    """Return the height and width that the network pads a picture to."""
    height, width = (max(LEAST_SIDE, -(-side // STRIDE) * STRIDE) for side in size)
    return height, width


def pass_memory(size: tuple[int, int], net: Network, compute: Compute) -> int:
    """Return the bytes that a network's pass at height and width `size` takes beyond the process's current memory."""
    return FIXED_BYTES + round(size[0] * size[1] * PIXEL_BYTES[item_bytes(compute)] * net.config.width / 32)


def too_large(size: tuple[int, int], net: Network, compute: Compute, max_memory: int | None) -> str | None:
    """Return why a painting of height and width `size` cannot be painted as a whole, or None if it can."""
    need, (limit, reason) = pass_memory(size, net, compute), strip_budget(compute, max_memory)
    if limit is None or need <= limit:
        return None
    return f"a {size[1]}x{size[0]} painting needs about {gigabytes(need)} of memory, and {reason}"


def check_memory(size: tuple[int, int], net: Network, compute: Compute, max_memory: int | None) -> None:
    """Raise MemoryNeedError if not even strips of a painting of height and width `size` fit into memory."""
    if too_large(size, net, compute, max_memory) is None:
        return
    limit = strip_budget(compute, max_memory)
    try:
        strip_rows(size, partial(strip_memory, size, net, compute, 1, False), *limit)
    except MemoryNeedError as error:
        if deep.available():
            raise
        strip_rows(size, partial(strip_memory, size, net, compute, 1, True), *limit)
        raise MemoryNeedError(f"{error}; or run {deep.INSTALL}, so that it is not held in memory") from error


def strip_memory(size: tuple[int, int], net: Network, compute: Compute, parts: int, streaming: bool, strip: int) -> int:
    """Return the bytes that a painting in strips takes beyond the process's current memory.

    Parameters
    ----------
    size : (int, int)
        Height and width of the painting.
    parts : int
        The number of parts with their own styles.
    streaming : bool
        Whether the painting itself is not kept in memory.
    strip : int
        Rows of a strip.
    """
    item, (height, width) = item_bytes(compute), size
    share = net.config.width / 32
    whole = 0 if streaming else PICTURE_BYTES * height * width
    masks = 6 * parts if parts > 1 else 0
    pixel = STRIP_BYTES[item] * share * (1.5 if parts > 1 else 1) + masks
    return FIXED_BYTES + whole + round(width * (strip * pixel + MARGIN_BYTES[item] * share + 144 * masks))


def strip_rows(size: tuple[int, int], need: Callable[[int], int], limit: float | None, reason: str) -> int:
    """Return the rows of a strip, a multiple of the network's stride.

    Parameters
    ----------
    size : (int, int)
        Height and width of the painting.
    need : callable
        Takes the rows of a strip and returns the bytes that the painting takes with it.
    limit : float or None
        The bytes that it may take.
    reason : str
        Where the limit comes from.

    Raises
    ------
    MemoryNeedError
        If not even the smallest strips fit.
    """
    best = max(1, min(padded_size(size)[0], STRIP_PIXELS // size[1]) // STRIDE)
    while limit is not None and need(best * STRIDE) > limit:
        if best == 1:
            raise MemoryNeedError(
                f"a {size[1]}x{size[0]} painting needs about {gigabytes(need(STRIDE))} of memory even in strips of "
                f"{STRIDE} rows, and {reason}; free or allow more memory, or paint smaller with --size"
            )
        best = max(1, best * 3 // 4)
    return best * STRIDE


def stored_bytes(net: Network, compute: Compute, parts: int) -> int:
    """Return the bytes per pixel that exact statistics keep, in memory or in a file, for a number of parts."""
    return round(STORED_BYTES[item_bytes(compute)] * net.config.width / 32) + (6 * parts if parts > 1 else 0)


def statistics_files(need: int, exact: bool) -> TemporaryFiles:
    """Return the temporary files, of `need` bytes, of exact or sampled statistics."""
    if exact:
        return TemporaryFiles("exact statistics", need, "give --statistics sampled")
    return TemporaryFiles("sampled statistics", need)


def strip_budget(compute: Compute, max_memory: int | None) -> tuple[float | None, str]:
    """Return the bytes that a painting may take, None if nothing limits them, and the reason."""
    return memory_budget(compute, max_memory) or (None, "")
