"""Paint a picture of any size in one pass, strip by strip, with the result of painting it as a whole.

The strips have the picture's full width. The network continues from strip to strip (`models.rows`), so they have no
borders, and nothing is computed twice. The statistics of the norms and the moments of the painting's colours depend on
the whole picture. They are taken from all of it, or from samples:

- **exact**: the network's layers go over the whole picture one after the other. The features in between are kept in
  memory, or in a temporary file.
- **sampled**: parts at full size, spread over the picture, are painted together. The rows are then painted and written
  as they are read, and memory grows with the picture's width only.
"""

import logging
import math
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..device import return_freed_memory, with_gradients
from ..errors import OptionError
from ..image.resize import blur_rows
from ..image.strips import PictureSink, PictureSource
from ..models.colours import colour
from ..models.moments import moment_sums
from ..models.passes import LEAST_SIDE, STRIDE
from ..models.rows import FileStore, KeptStore, Masks, MemoryStore, PlacedMasks, RowPass, Store, Stream, drained, each
from .network_memory import (
    padded_size,
    statistics_files,
    stored_bytes,
    strip_budget,
    strip_memory,
    strip_rows,
)
from .photograph import PHOTO_SIZE, Photograph, mask_rows
from .protocol import Region, Stylizer, check_masks
from .schedule import painting_size
from .underpainting import underpainting

if TYPE_CHECKING:
    from .network import NetworkStylizer

log = logging.getLogger(__name__)

SAMPLES, SAMPLE_SIDE = 4_000_000, 256
"""Pixels that are sampled for the statistics, and side of the squares. An eighth at each side does not count."""
PAINTED_BYTES = 12
"""Bytes per pixel of the painted rows before their colours are set."""
GOLDEN = (5**0.5 - 1) / 2
"""The fractional parts of its multiples are spread evenly between 0 and 1."""


@dataclass(frozen=True)
class PassStatistics:
    """Global statistics of a painting, for painting tiles of a picture or frames of a film consistently.

    Parameters
    ----------
    affine, colours : Tensor
        (R, P) and (R, 3, 4), the styles of the regions, and last that of the rest, at the options' strength.
    norms : Tensor
        (R, 2, C), means and variances of the norms.
    moments : Tensor
        (R, 4, 4), raw moments of the painted colours before they are matched to the style's.
    """

    affine: Tensor
    colours: Tensor
    norms: Tensor
    moments: Tensor


@dataclass(frozen=True)
class Strip:
    """Progress of a painting in strips.

    Parameters
    ----------
    done, total : int
        The number of parts of the work done so far, and of all.
    rows : Tensor or None
        (1, 3, n, W), float32, sRGB, [0, 1]: the next painted rows; None if there are none yet.
    """

    done: int
    total: int
    rows: Tensor | None


def paint_tiled(
    stylizer: Stylizer,
    source: PictureSource,
    sink: PictureSink,
    regions: Sequence[Region] = (),
    mask: Tensor | None = None,
    statistics: PassStatistics | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Paint a picture of any size from a source to a sink, without holding the whole of it in memory.

    Parameters
    ----------
    stylizer : NetworkStylizer, or ColourKeeper around one
        Its options say how large the painting is, how much memory to use, and how to take the statistics.
    source : PictureSource
        The photograph.
    sink : PictureSink
        Receives the painting's rows, with the photograph's alpha as the last channel if it has one.
    regions, mask
        As for `NetworkStylizer.steps`.
    statistics : PassStatistics, optional
        Statistics to paint with, taken with the same regions.
    progress : callable
        Takes the number of parts of the work done so far, and of all. It may raise an exception to stop.

    Raises
    ------
    OptionError, StyleError
        Immediately, if the mask leaves nothing to paint, a region's style is for another encoder, or the stylizer does
        not paint in one pass.
    MemoryNeedError
        Immediately, if not even a few rows fit into memory.
    """
    for strip in StreamedPainting(stylizer, source, regions, mask).strips(statistics):
        if strip.rows is not None:
            sink.write(strip.rows)
        progress(strip.done, strip.total)


class TiledPainting:
    """One painting in strips.

    Parameters
    ----------
    stylizer : NetworkStylizer
        The stylizer, with its styles and options.
    source : PictureSource
        The photograph.
    regions, mask
        As for `NetworkStylizer.steps`.
    streaming : bool
        Whether the painting's rows are written as they come, and not kept in memory.
    origin : (int, int)
        As for `NetworkStylizer.steps`.
    strip : int, optional
        Rows of a strip, to continue with those of an earlier painting. By default, as many as fit into memory.
    kept : Path, optional
        A file that keeps what is needed to continue after the statistics are taken, if they are exact.
    in_file : bool, optional
        Whether the features of the statistics are in temporary files. By default, if they do not fit into memory.

    Attributes
    ----------
    found : PassStatistics or None
        The statistics, once they are taken.
    """

    def __init__(
        self,
        stylizer: "NetworkStylizer",
        source: PictureSource,
        regions: Sequence[Region],
        mask: Tensor | None,
        *,
        streaming: bool = False,
        origin: tuple[int, int] = (0, 0),
        strip: int | None = None,
        kept: Path | None = None,
        in_file: bool | None = None,
    ):
        check_masks(source.size, regions, mask)
        if mask is not None and not mask.any():
            raise OptionError("--mask is black everywhere, so nothing would be painted; make the part to paint white")
        self.stylizer, self.mask, self.options = stylizer, mask, stylizer.options
        self.net, self.compute, self.origin = stylizer.net, stylizer.compute, origin
        self.source, self.size = source, painting_size(source.size, stylizer.options)
        self.places = [(r.mask, stylizer.bind(r.style)) for r in regions]
        parts = len(regions) + 1 + (source.channels == 4)
        limit, reason = strip_budget(self.compute, self.options.max_memory)
        plan = partial(strip_memory, self.size, self.net, self.compute, parts, streaming)
        self.strip = strip or strip_rows(self.size, plan, limit, reason)
        self.exact = self.options.statistics == "exact"
        pixels = self.size[0] * self.size[1]
        stored = (pixels if self.exact else min(pixels, SAMPLES)) * stored_bytes(self.net, self.compute, parts)
        self.in_file = limit is not None and plan(self.strip) + stored > limit if in_file is None else in_file
        self.file_bytes = stored if self.in_file else 0
        """Bytes of the temporary files."""
        self.kept, self.found = kept if self.exact else None, None
        files = statistics_files(stored, self.exact)
        self.new_store: Callable[[], Store] = partial(FileStore, files) if self.in_file else MemoryStore
        """Returns a new store for features of the statistics."""
        if self.in_file and strip is None:
            files.check()

    @cached_property
    def photo(self) -> Photograph:
        """The photograph at the painting's size; a cut-out is read once to fill its hidden areas."""
        return Photograph(self.source, self.size, self.places)

    def underpaint(self) -> None:
        """Paint the strokes that the photograph is painted with, if there are any."""
        self.photo.underpainting = underpainting(self.stylizer, self.source.reduced, self.size, self.places)

    @with_gradients
    @torch.no_grad()
    def strips(self, statistics: PassStatistics | None = None, finished: int | None = None) -> Iterator[Strip]:
        """Yield the progress and the painted rows, from top to bottom.

        Parameters
        ----------
        statistics : PassStatistics, optional
            Statistics to paint with.
        finished : int, optional
            The number of rows that are painted already, if it continues with `statistics` that were `found`.
        """
        strips, top = -(-padded_size(self.size)[0] // self.strip), finished or 0
        sweeps = 0 if statistics is not None and finished is None else len(self.net.layout.norms) + 1
        before = sweeps * (strips if self.exact else -(-min(SAMPLES // self.size[1], self.size[0]) // self.strip))
        done, total = 0 if finished is None else before, before + strips
        stream = self._painted(statistics, finished)
        while True:
            with self.compute.autocast():  # in each turn: the caller's code runs between them
                rows = next(stream, self)
            if rows is self:
                return
            assert not isinstance(rows, TiledPainting)
            if rows is not None:
                top += rows.shape[2]
                return_freed_memory()  # else the gaps between the layers' features add up over the strips
            done = max(done, total if top == self.size[0] else min(before, done + 1) + top // self.strip)
            yield Strip(done, total, rows)

    def _painted(self, given: PassStatistics | None, finished: int | None) -> Stream:
        """Yield painted rows below those that are finished, or None after other work."""
        if given is None or finished is not None:
            self.underpaint()
        if given is None and not self.exact:
            given = yield from self._sampled()
            return_freed_memory()  # the gaps that the samples leave do not fit the strips
        top = finished or 0
        if given is None:
            stream, masks = yield from self._measured()
        elif finished is not None and self.kept is not None:
            self.found, masks = given, None
            stream = self._kept_rows(self._kept_store(self.kept, again=True), top)
        else:
            self.found = given
            begin = max(0, (top - 2 * self._lag(given)) // self.strip - 2) * self.strip if top else 0
            masks = self._new_masks(MemoryStore, begin)
            origin = (self.origin[0] + begin, self.origin[1])
            net = RowPass(self.net, given.affine, given.norms, masks, MemoryStore, self.strip, origin)
            stream = self._below(self._cropped(net.paint(self._image(masks, begin)), begin), begin, top)
        found = self.found
        assert found is not None

        def coloured(rows: Tensor, row: int) -> Tensor:
            with torch.autocast(rows.device.type, enabled=False):  # only the network is in low precision
                return self._finished(rows, top + row, found, masks)

        yield from each(stream, coloured)

    def _measured(self) -> Generator[None, None, tuple[Stream, "PlacedMasks | None"]]:
        """Paint the picture with its exact statistics. Returns the rows, whose colours are not set, and the masks."""
        affine, colours = self._styles((yield from self._photo_moments()))
        masks = self._new_masks(self.new_store)
        net = RowPass(self.net, affine, None, masks, self.new_store, self.strip, self.origin)
        rows = self.new_store() if self.kept is None else self._kept_store(self.kept)
        stream, sums = self._cropped(net.paint(self._image(masks))), Sums()
        yield from drained(stream, rows, lambda x, top: sums.add(x, self._masks(masks, x, top)))
        self.found = PassStatistics(affine, colours, torch.cat(net.found, 2), sums.moments())
        return self._kept_rows(rows, 0), masks

    def _kept_store(self, path: Path, again: bool = False) -> KeptStore:
        need = PAINTED_BYTES * self.size[0] * self.size[1]
        return KeptStore(path, self.size[1], self.compute.device, need, again)

    def _kept_rows(self, store: Store, top: int) -> Stream:
        """Yield the rows of a store from `top` on."""
        while top < self.size[0]:
            count = min(self.strip, self.size[0] - top)
            rows, top = [store.read(top, count)], top + count
            store.forget(top)
            yield rows.pop()

    def _new_masks(self, store: Callable[[], Store], begin: int = 0) -> "PlacedMasks | None":
        return PlacedMasks(store, begin) if self.places or self.photo.cutout else None

    def _lag(self, given: PassStatistics) -> int:
        """Return how many rows of a picture the network reads below those that it returns."""
        read = 0

        def blank() -> Stream:
            nonlocal read
            while True:
                read += STRIDE
                yield self.compute.picture(torch.zeros(1, 3, STRIDE, LEAST_SIDE))

        net = RowPass(self.net, given.affine[:1], given.norms[:1], None, MemoryStore, STRIDE)
        rows = next(rows for rows in net.paint(blank()) if rows is not None)
        return read - rows.shape[2] + STRIDE

    @staticmethod
    def _below(stream: Stream, begin: int, top: int) -> Stream:
        """Remove the rows above `top` from a stream that begins at `begin`."""
        for rows in stream:
            if rows is None:
                yield None
                continue
            above = max(0, min(rows.shape[2], top - begin))
            begin += rows.shape[2]
            yield rows[:, :, above:] if above < rows.shape[2] else None

    def _sampled(self) -> Generator[None, None, PassStatistics]:
        """Take statistics from parts of the picture. Yields None after each part of the work."""
        own = None
        if self.options.strength != 1:
            sums = Sums()
            for x, masks in self.samples():
                sums.add(x, masks)
            own = sums.moments()[:-1]
        affine, colours = self._styles(own)
        parts = len(affine)
        kept = Masks(self.new_store)
        strip = max(STRIDE, self.strip // 2 // STRIDE * STRIDE)  # with masks, a row takes more memory
        # The borders of the squares are painted in the style of the rest.
        net = RowPass(self.net, torch.cat([affine, affine[-1:]]), None, kept, self.new_store, strip)

        def image() -> Stream:
            for band, parts_of_it in self.samples(underpainted=True):
                for x, masks in zip(band.split(strip, 2), parts_of_it.split(strip, 2), strict=True):
                    kept.append(masks.to(self.compute.device))
                    yield self.compute.picture(x)

        sums = Sums()
        top = 0
        for rows in net.paint(image()):
            if rows is not None:
                sums.add(rows, self._masks(kept, rows, top))
                top += rows.shape[2]
            yield None
        return PassStatistics(affine, colours, torch.cat(net.found, 2)[:parts], sums.moments()[:parts])

    @property
    def squares(self) -> tuple[int, int, int]:
        """The samples: rows and columns of squares, and their side in pixels."""
        (height, width), side = self.size, min(SAMPLE_SIDE, *(s // STRIDE * STRIDE for s in self.size))
        rows = min(height // side, max(1, round(math.sqrt(SAMPLES * height / width) / side)))
        return rows, min(width // side, max(1, round(SAMPLES / side**2 / rows))), side

    @property
    def samples_size(self) -> int:
        """The number of pixels of the samples."""
        return math.prod(self.squares) * self.squares[2]

    def samples(self, *, underpainted: bool = False) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield squares of the photograph at full size, spread over it and side by side.

        Parameters
        ----------
        underpainted : bool
            Whether they have the strokes of the underpainting.

        Yields
        ------
        (Tensor, Tensor)
            A row of squares (1, 3, side, w), and the masks of their parts (R + 1, 1, side, w). The last mask is that
            of the squares' borders, which have other neighbours here than in the picture.
        """
        (height, width), (rows, columns, side) = self.size, self.squares
        border = side // 8
        inside = torch.zeros(1, 1, side, side)
        inside[:, :, border:-border, border:-border] = 1
        for row in range(rows):
            top = round((row + GOLDEN * row % 1) / rows * (height - side))
            x, masks = (self.photo.underpainted if underpainted else self.photo.rows)(top, side)
            masks = torch.ones_like(x[:, :1]) if masks is None else masks
            lefts = [round((i + GOLDEN * (i + row * columns) % 1) / columns * (width - side)) for i in range(columns)]
            squares = [slice(left, left + side) for left in lefts]
            parts = torch.cat([torch.cat([masks[..., s] * inside, 1 - inside]) for s in squares], 3)
            yield torch.cat([x[..., s] for s in squares], 3), parts

    def _photo_moments(self) -> Generator[None, None, Tensor | None]:
        """Sum up the photograph's own colours if the strength needs them. Yields None for each strip."""
        if self.options.strength == 1:
            return None
        sums = Sums()
        for top in range(0, self.size[0], self.strip):
            sums.add(*self.photo.rows(top, min(self.strip, self.size[0] - top)))
            yield None
        return sums.moments()

    def _styles(self, moments: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return the affines and colours of the parts, given the moments of the photograph's own colours if needed."""
        found = self.stylizer.styles_of(max(self.size), [style for _, style in self.places], self.photo.cutout)
        if moments is None:
            return found
        return self.stylizer.at_strength(found, self.photo.source.reduced(PHOTO_SIZE), moments, self.options.strength)

    def _image(self, masks: "PlacedMasks | None", begin: int = 0) -> Stream:
        """Yield the photograph's padded rows from `begin` on, on the device, and append their masks."""
        for x, parts in self.photo.padded(self.strip, begin):
            if masks is not None and parts is not None:
                masks.append(parts.to(self.compute.device))
            yield self.compute.picture(x)

    def _cropped(self, stream: Stream, top: int = 0) -> Stream:
        """Remove the padding from painted rows, which begin at `top`."""
        height, width = self.size
        for rows in stream:
            if rows is not None:
                rows, top = rows[:, :, : max(0, height - top), :width], top + rows.shape[2]
            if rows is None or rows.shape[2]:
                yield rows

    def _masks(self, masks: Masks | None, x: Tensor, top: int) -> Tensor | None:
        return None if masks is None else masks.read(1, top, x.shape[2])[..., : x.shape[3]].to(x.device)

    def _finished(self, x: Tensor, top: int, found: PassStatistics, masks: "PlacedMasks | None") -> Tensor:
        """Set the colours of painted rows, and blend them with the photograph by the mask."""
        count = x.shape[2]
        if masks is not None:
            parts = self._masks(masks, x, top - masks.begin)
            masks.forget(top + count - masks.begin)
        else:
            parts = self.photo.rows(top, count)[1] if self.places or self.photo.cutout else None
            parts = None if parts is None else parts.to(x.device)
        painted = colour(x.float(), found.colours, found.moments, parts).contiguous()
        if self.mask is None:
            return painted
        mask, photo = self.mask, self.photo.rows(top, count)[0].to(painted)
        where = blur_rows(
            lambda t, n: mask_rows(mask, self.size, t, n), self.size[0], self.options.mask_feather, top, count
        )
        return photo + where.to(painted) * (painted - photo)


class StreamedPainting(TiledPainting):
    """A painting whose rows are written as they come, in the photograph's colours and with its alpha if it has one.

    Parameters
    ----------
    stylizer : NetworkStylizer, or ColourKeeper around one
        What paints.
    source, regions, mask, strip, kept, in_file
        As for `TiledPainting`.

    Raises
    ------
    OptionError
        If the stylizer does not paint in one pass.
    """

    def __init__(
        self,
        stylizer: Stylizer,
        source: PictureSource,
        regions: Sequence[Region],
        mask: Tensor | None,
        *,
        strip: int | None = None,
        kept: Path | None = None,
        in_file: bool | None = None,
    ):
        from .colours import ColourKeeper
        from .network import NetworkStylizer

        self.keeper = stylizer if isinstance(stylizer, ColourKeeper) else None
        inner = stylizer if self.keeper is None else self.keeper.inner
        if not isinstance(inner, NetworkStylizer):
            raise OptionError(f"the method {inner.method} does not paint in strips; choose the method network")
        super().__init__(inner, source, regions, mask, streaming=True, strip=strip, kept=kept, in_file=in_file)

    def _finished(self, x: Tensor, top: int, found: PassStatistics, masks: "PlacedMasks | None") -> Tensor:
        """Set the colours of painted rows, and add the photograph's alpha: (1, 3 or 4, n, W), on the CPU."""
        rows, count = super()._finished(x, top, found, masks).cpu(), x.shape[2]
        if self.keeper is not None:
            rows = self.keeper.kept(rows, self.photo.rows(top, count)[0])
        shown = self.photo.shown(top, count)
        return rows if shown is None else torch.cat([rows, shown], 1)


class Sums:
    """Sums up the moments of the colours of a picture's parts, row by row."""

    def __init__(self) -> None:
        self.total = torch.zeros(1, 4, 4, dtype=torch.float64)

    def add(self, x: Tensor, masks: Tensor | None) -> None:
        """Add rows (1, 3, n, W), with the masks (R, 1, n, W) of the parts if there are several."""
        sums = [moment_sums(x)] if masks is None else [moment_sums(x, m[None]) for m in masks]
        self.total = self.total + torch.cat(sums).cpu().double()

    def moments(self) -> Tensor:
        """Return the raw moments (1 or R, 4, 4), float32."""
        return (self.total / self.total[:, -1:, -1:].clamp(min=1e-12)).float()
