"""The network on the rows of a picture, from top to bottom, for pictures of any size.

Every layer keeps the last rows that it has seen, as many as its kernel overlaps, and continues from them when more rows
come. So no row is computed twice, there are no tiles whose borders could show, and memory grows with the picture's
width only.

A picture's rows are a stream: an iterator of tensors (1, C, n, W). A stream yields None after work that has not led to
rows yet, so that a consumer can show progress, or stop.

A norm whose statistics are not given needs all rows of the picture before it can return the first one. It puts them
into a store, in memory or in a file, and sums up their statistics. So the exact statistics of a picture of any size
take hardly more computation than one pass, but they need space for the stores.
"""

import weakref
from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import PictureError
from ..files import TemporaryFiles, write_all
from .layers import combined_statistics, statistics_of
from .network import Network
from .passes import Operations, StyleOperations, blurred_inside, resized_convolution, shuffled, softened_inside
from .prepare import BORDER

Stream = Iterator[Tensor | None]


class Store(Protocol):
    """Rows that were appended from top to bottom and are read in the same order."""

    def append(self, rows: Tensor) -> None:
        """Add the next rows, (N, C, n, W)."""
        ...

    def read(self, top: int, count: int) -> Tensor:
        """Return `count` rows that begin at `top`, (N, C, count, W)."""
        ...

    def forget(self, top: int) -> None:
        """Release the rows above `top`: they will not be read again."""
        ...


class MemoryStore:
    """Rows in memory."""

    def __init__(self) -> None:
        self.parts: deque[tuple[int, Tensor]] = deque()
        self.end = 0

    def append(self, rows: Tensor) -> None:
        """Add the next rows."""
        self.parts.append((self.end, rows))
        self.end += rows.shape[2]

    def read(self, top: int, count: int) -> Tensor:
        """Return rows."""
        found = []
        for begin, rows in self.parts:
            low, high = max(top - begin, 0), min(top + count - begin, rows.shape[2])
            if low < high:
                found.append(rows[:, :, low:high])
        return found[0] if len(found) == 1 else torch.cat(found, 2)

    def forget(self, top: int) -> None:
        """Release the rows above `top`, except those of a part that reaches beyond it."""
        while self.parts and self.parts[0][0] + self.parts[0][1].shape[2] <= top:
            self.parts.popleft()


class FileStore:
    """Rows in a temporary file.

    Parameters
    ----------
    files : TemporaryFiles
        The task's temporary files, for opening one and for messages.

    Raises
    ------
    MemoryNeedError
        If the file cannot be written, because the disk is full or the folder cannot be used.
    """

    def __init__(self, files: TemporaryFiles):
        self.files, self.file = files, files.open()
        weakref.finalize(self, self.file.close)  # as soon as its rows are not needed any more
        self.like = torch.empty(0)
        self.row: tuple[int, ...] = ()

    def append(self, rows: Tensor) -> None:
        """Add the next rows."""
        self.like, self.row = rows[:0, :0, :0], tuple(rows.shape[i] for i in (0, 3, 1))
        with self.files.named():
            self.file.seek(0, 2)
            write_all(self.file, _bytes(rows.permute(2, 0, 3, 1).cpu().contiguous()))

    def read(self, top: int, count: int) -> Tensor:
        """Return rows, channels_last if N is 1."""
        found = torch.empty((count, *self.row), dtype=self.like.dtype)
        self.file.seek(top * found[0].numel() * found.element_size())
        left = _bytes(found)
        while count := self.file.readinto(left):  # pyright: ignore[reportAttributeAccessIssue]
            left = left[count:]
        assert not left.nbytes, "the file ends before the rows"
        return found.permute(1, 3, 0, 2).to(self.like.device)

    def forget(self, top: int) -> None:
        """Keep the rows: a file is released as a whole."""


def _bytes(x: Tensor) -> memoryview:
    """Return the memory of a contiguous tensor on the CPU."""
    return x.flatten().view(torch.uint8).numpy().data


@dataclass(frozen=True)
class Rows:
    """The stream of a picture's features.

    Parameters
    ----------
    stream : iterator of (Tensor or None)
        (1, C, n, W) each.
    stride : int
        Pixels of the picture per feature.
    """

    stream: Stream
    stride: int


@dataclass(frozen=True)
class KeptRows:
    """Features that were kept, and their stride."""

    store: Store
    stride: int


class Masks:
    """The masks of a picture's regions at every resolution of the network.

    Parameters
    ----------
    store : callable
        Returns a new store.
    """

    def __init__(self, store: Callable[[], Store]):
        self.stores = {stride: store() for stride in (1, 2, 4)}

    def append(self, masks: Tensor) -> None:
        """Add the next rows (R, 1, n, W), with n a multiple of the network's stride."""
        for stride, store in self.stores.items():
            store.append(F.avg_pool2d(masks, stride) if stride > 1 else masks)

    def read(self, stride: int, top: int, count: int) -> Tensor:
        """Return the masks of rows of features, (R, 1, count, W / stride)."""
        return self.stores[stride].read(top, count)

    def forget(self, top: int) -> None:
        """Release the picture's rows above `top`."""
        for stride, store in self.stores.items():
            store.forget(top // stride)


class Summary:
    """Sums up means and variances of features over the parts of a picture."""

    def __init__(self) -> None:
        self.weights, self.found = list[Tensor](), list[Tensor]()

    def add(self, x: Tensor, masks: Tensor | None) -> None:
        """Add a part's features (1, C, h, w), with the masks of regions (R, 1, h, w) if there are any."""
        pixels = torch.full((1,), float(x.shape[2] * x.shape[3])) if masks is None else masks.sum((1, 2, 3))
        self.weights.append(pixels.cpu())
        self.found.append(statistics_of(x, masks).cpu())

    def statistics(self) -> Tensor:
        """Return means and variances (1 or R, 2, C), float32."""
        return combined_statistics(torch.stack(self.weights), torch.stack(self.found)).float()


class PlacedMasks(Masks):
    """Masks of a picture's rows from `begin` on."""

    def __init__(self, store: Callable[[], Store], begin: int):
        super().__init__(store)
        self.begin = begin


class KeptStore(FileStore):
    """Painted rows in a file that outlives the process.

    Parameters
    ----------
    path : Path
        The file.
    width : int
        The picture's width.
    device : torch.device
        Where to read the rows to.
    need : int
        Its bytes once it is complete, for messages.
    again : bool
        Whether the rows are there already.

    Raises
    ------
    PictureError
        If the file cannot be written or read.
    """

    def __init__(self, path: Path, width: int, device: torch.device, need: int, again: bool = False):
        self.path, self.need = path, need
        with self._named():
            self.file = cast(BinaryIO, path.open("r+b" if again else "w+b", buffering=0))
        weakref.finalize(self, self.file.close)
        self.like, self.row = torch.empty(0, device=device), (1, width, 3)

    def append(self, rows: Tensor) -> None:
        """Add the next rows, (1, 3, n, W)."""
        with self._named():
            write_all(self.file, _bytes(rows.permute(2, 0, 3, 1).float().cpu().contiguous()))

    def read(self, top: int, count: int) -> Tensor:
        """Return rows."""
        with self._named():
            return super().read(top, count)

    @contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except (OSError, AssertionError) as error:
            reason = getattr(error, "strerror", None) or "it is cut short"
            raise PictureError(
                f"{self.path} cannot be used ({reason}): it takes {self.need / 1e9:.1f} GB; free some space there, or "
                "start over with another --run"
            ) from error


class RowPass(StyleOperations, Operations[Rows, KeptRows]):
    """The network's operations on the rows of one picture.

    Parameters
    ----------
    net : Network
        The network.
    affine : Tensor
        (1, P), or (R, P) for the regions of `masks`.
    statistics : Tensor or None
        (1 or R, 2, C), the means and variances of the norms; None to take them from the picture (`found`).
    masks : Masks or None
        The masks of the regions. Append their rows before the picture's are read.
    store : callable
        Returns a new store for features. It holds only the rows of a margin if statistics are given, otherwise all.
    strip : int
        Rows of the picture that are read at a time from a store.
    origin : (int, int)
        Row and column, multiples of the stride, of the picture's first pixel in a larger one. They align the noise.
    """

    def __init__(
        self,
        net: Network,
        affine: Tensor,
        statistics: Tensor | None,
        masks: Masks | None,
        store: Callable[[], Store],
        strip: int,
        origin: tuple[int, int] = (0, 0),
    ):
        super().__init__(net, affine)
        self.statistics, self.masks, self.store, self.strip = statistics, masks, store, strip
        self.origin = origin
        self.found: list[Tensor] = []
        """The statistics of each norm so far; complete once the stream has ended."""

    def paint(self, image: Stream) -> Stream:
        """Return the painted rows (1, 3, n, W), float32, of a picture's rows (1, 3, n, W).

        The sides of the picture, and n, must be multiples of the network's stride.
        """
        return self.net.run(self, Rows(image, 1)).stream

    def keep(self, x: Rows) -> tuple[Rows, KeptRows]:
        """Return the features, and a store that collects them as they pass."""
        store = self.store()

        def passed(rows: Tensor, top: int) -> Tensor:
            store.append(rows)
            return rows

        return self._each(x, passed), KeptRows(store, x.stride)

    def add(self, x: Rows, kept: KeptRows, part: str = "") -> Rows:
        """Add kept features, multiplied by a part of the affine."""

        def added(rows: Tensor, top: int) -> Tensor:
            more = kept.store.read(top, rows.shape[2])
            kept.store.forget(top + rows.shape[2])
            return rows + (self.times(more, part, self._masks(x, more, top)) if part else more)

        return self._each(x, added)

    def denoised(self, image: Rows) -> Rows:
        """Remove the noise of the picture."""
        top = 0

        def inside(rows: Tensor) -> Tensor:
            nonlocal top
            x = rows[:, :, BORDER:-BORDER, BORDER:-BORDER]
            begin, top = top, top + x.shape[2]
            with torch.autocast(rows.device.type, enabled=False):
                return self.without_noise(x.float(), rows.float(), self._masks(image, x, begin))

        return Rows(_windows(image.stream, 2 * BORDER + 1, 1, inside), image.stride)

    def mottled(self, image: Rows) -> Rows:
        """Add slow changes of light to the picture."""

        def added(rows: Tensor, top: int) -> Tensor:
            row, column = self.origin
            with torch.autocast(rows.device.type, enabled=False):
                return self.with_mottle(rows, [(row + top, column)], self._masks(image, rows, top))

        return self._each(image, added)

    def unshuffled(self, image: Rows) -> Rows:
        """Turn 2x2 pixels into channels."""

        def halved(rows: Tensor, top: int) -> Tensor:
            return F.pixel_unshuffle(rows[:, :3], 2).contiguous(memory_format=torch.channels_last)

        return self._each(image, halved, 2)

    def convolved(self, x: Rows, convolution: nn.Module) -> Rows:
        """Apply a 3x3 convolution, padded by reflection."""
        assert isinstance(convolution, nn.Conv2d)
        stride = convolution.stride[0]
        return Rows(_windows(x.stream, 3, stride, convolution), x.stride * stride)

    def enlarged(self, x: Rows, convolution: nn.Module) -> Rows:
        """Blur, resize to twice the size and convolve."""
        stream = _windows(x.stream, 5, 1, lambda rows: resized_convolution(blurred_inside(rows), convolution))
        return Rows(stream, x.stride // 2)

    def pictured(self, x: Rows, convolution: nn.Module) -> Rows:
        """Convolve, turn channels into 2x2 pixels, and blur."""
        large = _windows(x.stream, 5, 1, lambda rows: shuffled(convolution(rows)))
        return Rows(_windows(large, 3, 1, blurred_inside), x.stride // 2)

    def norm(self, x: Rows) -> Rows:
        """Apply the next instance norm, and its ReLU if it has one."""
        own, relu = self.next_norm()
        if self.statistics is None:
            return Rows(self._measured(x, own, relu), x.stride)
        return self._normed(x, own, relu, self.statistics[:, :, own])

    def mix(self, x: Rows) -> Rows:
        """Add the result of the next low-rank filter."""
        own = self.next_filter()
        return self._each(x, lambda rows, top: self.filtered(rows, own, self._masks(x, rows, top)))

    def noisy(self, x: Rows, level: int) -> Rows:
        """Add the noise of a resolution."""

        def added(rows: Tensor, top: int) -> Tensor:
            row, column = self.origin
            return self.with_noise(rows, level, [(row + top * x.stride, column)], self._masks(x, rows, top))

        return self._each(x, added)

    def softened(self, x: Rows) -> Rows:
        """Append a picture without its finest detail."""
        return Rows(_windows(x.stream, 5, 1, softened_inside), x.stride)

    def finished(self, x: Rows, photo: KeptRows) -> Rows:
        """Make the painting."""

        def made(rows: Tensor, top: int) -> Tensor:
            kept = photo.store.read(top, rows.shape[2])
            photo.store.forget(top + rows.shape[2])
            return self.made(rows, kept, self._masks(x, rows, top))

        return self._each(x, made)

    def _normed(self, x: Rows, own: slice, relu: bool, given: Tensor) -> Rows:
        return self._each(x, lambda rows, top: self.normed(rows, own, relu, given, self._masks(x, rows, top)))

    def _measured(self, x: Rows, own: slice, relu: bool) -> Stream:
        """Take a norm's statistics from all of its rows, then yield the normalised rows."""
        summary = Summary()
        kept = yield from drained(x.stream, self.store(), lambda r, top: summary.add(r, self._masks(x, r, top)))
        given = summary.statistics().to(self.parts["scale"].device)
        self.found.append(given)
        again = Rows(stored(*kept, max(1, self.strip // x.stride)), x.stride)
        yield from self._normed(again, own, relu, given).stream

    def _masks(self, x: Rows, rows: Tensor, top: int) -> Tensor | None:
        """Return the masks (R, 1, n, W) of rows of features."""
        return None if self.masks is None else self.masks.read(x.stride, top, rows.shape[2]).to(rows.device)

    @staticmethod
    def _each(x: Rows, of: Callable[[Tensor, int], Tensor], shrink: int = 1) -> Rows:
        """Apply a function to each part of a stream: it takes the rows and the first one's number."""
        return Rows(each(x.stream, of), x.stride * shrink)


def each(stream: Stream, of: Callable[[Tensor, int], Tensor]) -> Stream:
    """Apply a function to each part of a stream: it takes the rows and the first one's number."""
    top = 0
    for rows in stream:
        if rows is None:
            yield None
            continue
        held, top, begin = [rows], top + rows.shape[2], top
        del rows  # a generator that waits for its next turn must not hold features
        held.append(of(held.pop(), begin))
        yield held.pop()


def drained(
    stream: Stream, store: Store, look: Callable[[Tensor, int], None]
) -> Generator[None, None, tuple[Store, int]]:
    """Put all rows of a stream into a store, and call a function with each part and its first row's number.

    Yields None after each part. Returns the store and the number of rows.
    """
    top = 0
    for rows in stream:
        if rows is not None:
            look(rows, top)
            store.append(rows)
            top += rows.shape[2]
        del rows
        yield None
    return store, top


def stored(store: Store, height: int, strip: int) -> Stream:
    """Yield the rows of a store, at most `strip` at a time."""
    for top in range(0, height, strip):
        count = min(strip, height - top)
        rows = [store.read(top, count)]
        store.forget(top + count)
        yield rows.pop()


def _windows(stream: Stream, kernel: int, stride: int, of: Callable[[Tensor], Tensor]) -> Stream:
    """Apply an operation that looks at neighbouring rows and columns.

    Parameters
    ----------
    stream : stream
        The rows (1, C, n, W).
    kernel, stride : int
        The operation turns `kernel` rows into one, and moves by `stride`. The picture is padded by reflection so that
        an operation of stride 1 keeps its size.
    of : callable
        The operation. It takes padded rows and does not pad them.
    """
    pad = kernel // 2
    window: Tensor | None = None
    early: list[Tensor] = []
    for rows in stream:
        if rows is None:
            yield None
            continue
        early.append(rows)
        del rows
        if window is None and sum(r.shape[2] for r in early) <= pad:
            continue  # too few rows to be reflected
        window = _extended(window, early[0] if len(early) == 1 else torch.cat(early, 2), pad)
        early = []
        if (count := (window.shape[2] - kernel) // stride + 1) > 0:
            held, window = [window], window[:, :, count * stride :].clone(memory_format=torch.preserve_format)
            held.append(of(held.pop()))
            yield held.pop()
    assert window is not None, "a picture has more rows than its padding"
    if stride == 1:
        below = window[:, :, -pad - 1 : -1].flip(2)
        yield of(torch.cat([window, below], 2))


def _extended(window: Tensor | None, rows: Tensor, pad: int) -> Tensor:
    """Append rows (1, C, n, W) to a window (1, C, k, W + 2 pad). The first window begins with reflected rows."""
    (n, c, h, w), above = rows.shape, pad if window is None else window.shape[2]
    x = torch.empty(
        (n, c, above + h, w + 2 * pad), dtype=rows.dtype, device=rows.device, memory_format=torch.channels_last
    )
    x[:, :, above:, pad : pad + w] = rows
    for i in range(pad):
        x[:, :, above:, pad - 1 - i] = x[:, :, above:, pad + 1 + i]
        x[:, :, above:, pad + w + i] = x[:, :, above:, pad + w - 2 - i]
    if window is not None:
        x[:, :, :above] = window
    else:
        for i in range(pad):
            x[:, :, pad - 1 - i] = x[:, :, pad + 1 + i]
    return x
