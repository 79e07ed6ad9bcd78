"""Estimate the memory that a painting needs, and fit the painting into the memory that is available."""

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

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
NEIGHBOUR_BYTES = 700
"""Bytes per pixel that a search for neighbours adds: columns of the photograph and the style, and their gradients.
Measured at 1024 and 2048 pixels, where it was 700 and 430."""
FIXED_BYTES = 250_000_000
"""Bytes that do not depend on the size: buffers of the libraries, statistics, small parts of the content's features."""
SHARE = 0.9
"""Share of the available memory that a painting may take."""
PICTURE = 12
"""Bytes per pixel of one picture in float32."""
PICTURES = {"lbfgs": 4, "adam": 8, "pyramid": 12}
"""Pictures that a step in tiles keeps in memory. L-BFGS: the current and the previous one, and their gradients. Adam:
its moments and copies, too. A pyramid: all of these again as bands."""
MASK_PICTURES = 4 * (1 + 1 / 3 + 1) / PICTURE
"""Memory of a part's mask, including its copies reduced to the layers and the sums of all masks, in pictures."""
RIM_PICTURES, RIM_PART_PICTURES = 0.8, 1.0
"""Memory of the loss on halos in pictures: for its gradient, and for what it keeps of each part."""
PAIR = 12
"""Bytes per pixel of one of L-BFGS's pairs in bfloat16: a step, and the change of the gradient."""
SIDES = (768, 512, 384, 256)
"""Sides of a tile in pixels, best first: larger tiles have fewer pixels in margins, but take more memory."""
LARGEST_ON_DISK = 512
"""Largest side of a tile if temporary files are used."""
TILE_SHARE = 1.25
"""Memory of a tile, relative to a picture of its size: tiles of different sizes leave gaps in the memory."""


@dataclass(frozen=True)
class Tiling:
    """How a painting that does not fit into memory is optimised in tiles.

    Parameters
    ----------
    side : int
        Side of a tile in pixels, without the margin.
    pairs : int
        How many of L-BFGS's pairs are kept in memory. The others are in files.
    content_on_disk : bool
        Whether the content's features are in files.
    need : int
        Bytes of memory that the painting takes.
    disk : int
        Bytes of the files.
    whole : int
        Pixels up to which a scale is painted in one piece.
    """

    side: int
    pairs: int
    content_on_disk: bool
    need: int
    disk: int
    whole: int


def memory_need(
    size: tuple[int, int], encoder: VGG, compute: Compute, checkpointing: bool = False, neighbours: bool = False
) -> int:
    """Return the bytes that optimising a painting takes beyond the process's current memory.

    Parameters
    ----------
    size : (int, int)
        Height and width in pixels.
    checkpointing : bool
        Whether the encoder recomputes its features instead of keeping them (`VGG.look`).
    neighbours : bool
        Whether a loss searches for neighbours.
    """
    each = _features(encoder, compute, checkpointing) + PICTURE_BYTES + NEIGHBOUR_BYTES * neighbours
    return FIXED_BYTES + round(size[0] * size[1] * each)


def _features(encoder: VGG, compute: Compute, checkpointing: bool = False) -> float:
    """Return the bytes per pixel that the encoder's features take at the peak of a step."""
    deepest = max((*STYLE_LAYERS, CONTENT_LAYER), key=lambda k: encoder.layers[k])
    blocks: dict[int, float] = {}
    for name, conv in encoder.convolutions():
        if encoder.layers[name] <= encoder.layers[deepest]:
            block = block_of(name)
            blocks[block] = blocks.get(block, 0.0) + conv.out_channels / encoder.stride(name) ** 2
    # With checkpointing only the largest block is held, and the blocks' outputs, a quarter of a layer each.
    between = sum(encoder.width(f"conv{b}_1") / encoder.stride(f"pool{b}") ** 2 for b in blocks) / COPIES
    per_pixel = max(blocks.values()) + between if checkpointing else sum(blocks.values())
    return COPIES * per_pixel * item_bytes(compute)


def item_bytes(compute: Compute) -> int:
    """Return the bytes of one feature."""
    return 4 if compute.autocast_dtype is None else compute.autocast_dtype.itemsize


def memory_budget(compute: Compute, limit: int | None) -> tuple[float, str] | None:
    """Return the bytes that a painting may take beyond the process's current memory, and where they come from.

    Parameters
    ----------
    limit : int or None
        The bytes that `--max-memory` allows, if it is given.

    Returns
    -------
    (float, str) or None
        The bytes, and a sentence for messages; None if nothing limits them.
    """
    available, found = available_memory(compute.device), []
    if available is not None:
        found.append((SHARE * available, f"{gigabytes(available)} is free"))
    if limit is not None:
        found.append((limit, f"--max-memory allows {gigabytes(limit)}"))
    return min(found, default=None)


def fit_tiles(
    size: tuple[int, int],
    encoder: VGG,
    compute: Compute,
    content_layers: Sequence[str],
    margin: int,
    pictures: float,
    pairs: int,
    limit: int | None = None,
    said: Callable[[str], None] = log.warning,
) -> Tiling | None:
    """Fit an optimisation into memory in tiles, if it does not fit in one piece. The tiles are logged.

    Parameters
    ----------
    size : (int, int)
        Height and width in pixels.
    content_layers : sequence of str
        The layers of the content's features.
    margin : int
        Pixels around each tile.
    pictures : float
        Number of pictures of the painting's size that are kept in memory, in addition to L-BFGS's pairs.
    pairs : int
        Number of L-BFGS's pairs.
    limit : int, optional
        The bytes that `--max-memory` allows.
    said : callable
        Takes the message; the log by default.

    Returns
    -------
    Tiling or None
        None if the painting fits in one piece, or not even in tiles.
    """
    budget = memory_budget(compute, limit)
    if budget is None or memory_need(size, encoder, compute, checkpointing=True) <= budget[0]:
        return None
    pixels, each = size[0] * size[1], _features(encoder, compute)
    stored = pixels * sum(encoder.width(k) / encoder.stride(k) ** 2 for k in content_layers) * item_bytes(compute)
    # What is read least often goes to the disk first: the content's features, then pairs.
    places = [(True, pairs), *((False, n) for n in range(pairs, -1, -1))]
    ways = [(side, *places[0]) for side in SIDES]
    ways += [(side, *place) for side in SIDES if side <= LARGEST_ON_DISK for place in places[1:]]
    for side, in_memory, kept in ways:
        tile = min(pixels, (side + 2 * margin) ** 2)
        need = FIXED_BYTES + TILE_SHARE * tile * each + pixels * (PICTURE * pictures + PAIR * kept) + stored * in_memory
        if need > budget[0]:
            continue
        disk = pixels * PAIR * (pairs - kept) + stored * (not in_memory)
        whole = (budget[0] - FIXED_BYTES - 2 * PICTURE * pixels) / (each + PICTURE_BYTES)
        files = f" and {gigabytes(disk)} of temporary files" if disk else ""
        one_piece = gigabytes(memory_need(size, encoder, compute))
        said(
            f"painting {size[1]}x{size[0]} in tiles of {side} pixels, which takes {gigabytes(need)} of memory{files}: "
            f"in one piece it needs about {one_piece}, and {budget[1]}"
        )
        return Tiling(side, kept, not in_memory, round(need), round(disk), max(0, round(whole)))
    return None


def fit_memory(
    size: tuple[int, int],
    encoder: VGG,
    compute: Compute,
    strict: bool,
    checkpointing: bool = True,
    said: Callable[[str], None] = log.warning,
    limit: int | None = None,
    why: str = "",
    neighbours: bool = False,
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
    limit : int, optional
        The bytes that `--max-memory` allows.
    why : str
        Why it cannot be painted in tiles, for messages; may be empty.
    neighbours : bool
        Whether a loss searches for neighbours.

    Returns
    -------
    ((int, int), bool)
        The size, or the largest that fits with the same proportions; whether to use checkpointing.

    Raises
    ------
    MemoryNeedError
        If the painting does not fit and must not shrink, or if nothing fits.
    """
    budget = memory_budget(compute, limit)
    need = memory_need(size, encoder, compute, neighbours=neighbours)
    if budget is None or need <= budget[0]:
        return size, False
    problem = f"a {size[1]}x{size[0]} painting needs about {gigabytes(need)} of memory, and {budget[1]}"
    least = memory_need(size, encoder, compute, checkpointing, neighbours)
    if least <= budget[0]:
        said(f"{problem}: computing features twice, which takes {gigabytes(least)} and a third more time")
        return size, True
    problem += f" ({why})" if why else ""
    return _smaller(size, least - FIXED_BYTES, budget[0] - FIXED_BYTES, problem, strict, said), checkpointing


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
