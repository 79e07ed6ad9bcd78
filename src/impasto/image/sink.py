"""Write pictures of any size, row by row, with the extra `large`.

`open_sink` opens a file as a `PictureSink`. The rows are collected, uncompressed, in a temporary file beside the
target, and encoded from there by libvips.
"""

import logging
import os
import shutil
import struct
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

from ..errors import OptionError, PictureError
from ..files import beside, created, move
from . import deep, exif
from .picture import Metadata, Picture, over_white
from .source import one_line
from .write import (
    DEEP_FORMATS,
    Companions,
    Target,
    check_quality,
    check_record,
    check_target,
    check_writable,
    companions_of,
    described,
    encode,
    encoded,
    levels_of,
    target_name,
)

log = logging.getLogger(__name__)

DEEP_ZOOM, DEEP_ZOOM_SUFFIX = "DZI", ".dzi"
COMPRESSIONS = ("deflate", "lzw", "zstd", "jpeg", "none")
"""How a TIFF's pixels are compressed."""
LARGEST_CLASSIC = 2**32 - 2**26
"""A TIFF whose uncompressed pixels take more bytes is written as BigTIFF."""
TILE, WEB_TILE = 256, 254
"""Sides of the tiles of a TIFF, and of those of a DeepZoom folder, which overlap by a pixel on each side."""
STRIP_ROWS = 16
"""Rows in a strip of the temporary file."""
LAYOUT_TAGS = (274, 282, 283, 296, 700, 34675)
"""Entries that libvips writes by itself: orientation, resolution, XMP, profile."""
ENCODED_SHARE = {"TIFF": 1.4, "PNG": 1.0}
"""Format -> bytes of the largest encoded file, relative to the uncompressed rows; 0.5 for the other formats."""


class FileSink:
    """Collects the rows of a picture; made by `open_sink`.

    Attributes
    ----------
    size : (int, int)
        The picture's height and width.
    channels : int
        3, or 4 with alpha last.
    done : int
        The rows that it has.
    """

    def __init__(
        self, rows: "_Rows", channels: int, flat: bool, name: str, done: int, encode: Callable[[Target], None]
    ):
        self.size, self.done = rows.size, done
        self._rows, self.channels, self._flat, self._name, self._warned = rows, channels, flat, name, False
        self._encode, self._finished = encode, False

    def write(self, rows: Tensor) -> None:
        """Add the next rows: (1, C, n, W), float32, sRGB, [0, 1].

        Raises
        ------
        OptionError
            If the rows have another width or number of channels, or there are too many.
        PictureError
            If a value is not finite, or the disk is full.
        """
        height, width = self.size
        shape = tuple(rows.shape)
        if len(shape) != 4 or (*shape[:2], shape[3]) != (1, self.channels, width) or self.done + shape[2] > height:
            raise OptionError(f"rows of shape {shape} do not fit a picture of {width}x{height} after {self.done} rows")
        if self._flat:
            if not self._warned and rows[:, 3].min() < 1:
                log.warning("%s: JPEG has no transparency; filling transparent areas with white", self._name)
                self._warned = True
            rows = over_white(rows)
        picture = Picture(rows[:, :3], rows[:, 3:] if rows.shape[1] == 4 else None)
        try:
            self._rows.file.write(levels_of(picture, self._rows.dtype, True, self._name).data)
            self._rows.file.flush()
        except OSError as error:
            raise self._rows.full(error) from error
        self.done += shape[2]

    def thinned(self, step: int) -> Tensor:
        """Return every `step`-th pixel of the rows so far, without alpha: (1, 3, n, w), float32, sRGB, [0, 1]."""
        return self._rows.thinned(step, self.done)

    def finish(self, target: Target) -> None:
        """Encode the rows, once, and move the file into place. Raises the errors of `open_sink`."""
        if self._finished:
            return
        if self.done != self.size[0]:
            raise OptionError(f"{self._name}: only {self.done} of {self.size[0]} rows were given; it was not written")
        self._encode(target)
        self._finished = True


def check_sink(
    target: Target,
    size: tuple[int, int],
    *,
    rows: Path | None = None,
    channels: int = 3,
    bits: int | None = None,
    compression: str = "deflate",
    format: str | None = None,  # noqa: A002
) -> str:
    """Check, before a long job, that its result can be written. For the parameters and errors see `open_sink`.

    Returns
    -------
    str
        The format's name: one of those of `check_target`, or DZI.
    """
    name = target_name(target)
    deep.require(name)
    if is_deep_zoom(target, format):
        assert isinstance(target, str | os.PathLike)
        path = Path(os.path.realpath(target))
        if bits not in (None, 8):
            raise OptionError(f"{name}: DeepZoom tiles have 8 bits a sample; for 16 write .png or .tiff")
        check_writable(path, name)
        if _tiles_of(path).exists() and not path.exists():
            raise PictureError(f"{name}: the folder {_tiles_of(path).name} exists already; choose another name")
        file_format = DEEP_ZOOM
    else:
        file_format = check_target(target, format=format, bits=bits, size=size)
    if compression not in COMPRESSIONS:
        raise OptionError(f"--compression is {compression!r}; it must be {', '.join(COMPRESSIONS)}")
    if compression == "jpeg" and (bits == 16 or channels == 4):
        what = "16 bits a sample" if bits == 16 else "transparency"
        raise OptionError(f"--compression jpeg does not support {what}; choose deflate, lzw or zstd")
    if file_format == "TIFF" and not deep.compresses(compression):
        raise OptionError(f"--compression {compression}: this libvips does not support it; choose deflate or lzw")
    folder, need = _folder(target), rows_bytes(size, channels, bits)
    places = {folder: need * ENCODED_SHARE.get(file_format, 0.5)}
    kept = folder if rows is None else next(p for p in rows.absolute().parents if p.exists())
    there = rows.stat().st_size if rows is not None and rows.exists() else 0
    same = next((p for p in places if os.stat(p).st_dev == os.stat(kept).st_dev), kept)
    places[same] = places.get(same, 0) + max(0, need - there)
    for place, more in places.items():
        free = shutil.disk_usage(place).free
        if free < more:
            raise PictureError(
                f"{name} may need {more / 1e9:.1f} GB while it is written, and {place} has {free / 1e9:.1f} GB free; "
                "choose another place"
            )
    return file_format


def rows_bytes(size: tuple[int, int], channels: int, bits: int | None) -> int:
    """Return the bytes of the temporary file that the rows of a picture are collected in."""
    return size[0] * size[1] * channels * (2 if bits == 16 else 1)


@contextmanager
def open_sink(
    target: Target,
    size: tuple[int, int],
    *,
    channels: int = 3,
    metadata: Metadata | None = None,
    bits: int | None = None,
    quality: int = 95,
    compression: str = "deflate",
    pyramid: bool = False,
    big: bool | None = None,
    keep_gps: bool = False,
    record: dict[str, Any] | None = None,
    format: str | None = None,  # noqa: A002
    rows: Path | None = None,
    done: int = 0,
) -> Iterator[FileSink]:
    """Open a picture to write it row by row. At the end, it is encoded and moved into place; after an error it is not.

    Pixels and metadata are written as by `write_image`. Peak memory does not depend on the height, except for WebP and
    AVIF, whose encoders need the whole picture. TIFF has tiles of 256 x 256 pixels. A target that ends in `.dzi`
    becomes a DeepZoom pyramid for the web: that file, and a folder of JPEG tiles, or of PNG tiles if the picture has
    transparency, without metadata.

    Parameters
    ----------
    target : path, "-" or binary file object
        Where to write it; "-" is standard output. An existing file is replaced once the new one is complete.
    size : (int, int)
        Height and width in pixels.
    channels : int
        3, or 4 with alpha last. JPEG has no transparency: the picture is composited over white.
    metadata : Metadata, optional
        The photograph's metadata.
    bits : 8, 16 or None
        Bits per sample; 16 only for PNG and TIFF. None keeps the photograph's, if the format supports them.
    quality : int
        1 to 100, for JPEG (also in TIFF and DeepZoom), WebP (where 100 is lossless) and AVIF.
    compression : str
        Compression of a TIFF: one of `COMPRESSIONS`.
    pyramid : bool
        Whether a TIFF also holds the picture at 1/2, 1/4 ... of its size, for viewers that zoom.
    big : bool, optional
        Whether to write a TIFF as BigTIFF. By default, if its pixels take more than 4 GB uncompressed.
    keep_gps : bool
        Whether to keep the photograph's GPS position in the metadata.
    record : dict, optional
        How the picture was made, serialisable by `json.dumps`; `read_record` returns it.
    format : str, optional
        `png`, `jpeg`, `webp`, `tiff` or `avif`; None uses the target's suffix.
    rows : Path, optional
        Collect the rows in this file, and keep it if the picture is not finished. By default in a temporary file beside
        the target.
    done : int
        The rows that are in `rows` already, from an earlier sink of the same picture.

    Yields
    ------
    FileSink

    Raises
    ------
    OptionError
        If the format is unknown, an option is out of range or does not fit the format, or rows are missing at the end.
    PictureError
        If the extra `large` is not installed, the target is not writable, the format cannot hold a picture of that
        size, or the disk is too full.
    """
    name, source = target_name(target), metadata or Metadata()
    check_quality(quality)
    check_record(record)
    if channels not in (3, 4):
        raise OptionError(f"a picture with {channels} channels cannot be written; it must have 3 or 4")
    bits = bits_of(target, bits, source, compression, format)
    file_format = check_sink(
        target, size, rows=rows, channels=channels, bits=bits, compression=compression, format=format
    )
    flat = channels == 4 and file_format == "JPEG"
    dtype = np.dtype(np.uint16 if bits == 16 else np.uint8)
    companions = companions_of(source, size, keep_gps=keep_gps, record=record)
    temporary = rows or beside(_folder(target) / "rows")
    if not done:
        temporary.unlink(missing_ok=True)
    elif not temporary.exists():
        raise PictureError(f"{name}: its rows, which were kept in {temporary}, are gone; start over")
    file = open(temporary, "r+b") if done else created(temporary)  # noqa: SIM115
    finished = False
    try:
        collected = _Rows(file, size, 3 if flat else channels, dtype, done, name)

        def encode(final: Target) -> None:
            _finish(collected, final, file_format, companions, name, quality, compression, pyramid, big)

        sink = FileSink(collected, channels, flat, name, done, encode)
        yield sink
        sink.finish(target)
        finished = True
    finally:
        with suppress(OSError):  # raised again if the disk is full
            file.close()
        if finished or rows is None:
            with suppress(OSError):
                os.truncate(temporary, 0)  # libvips may keep it open for a while
            temporary.unlink(missing_ok=True)


def bits_of(target: Target, bits: int | None, source: Metadata, compression: str, format: str | None) -> int:  # noqa: A002
    """Return the bits per sample to write: those given, or else the photograph's, if the format supports them."""
    if bits is not None:
        return bits
    suffix_format = DEEP_ZOOM if is_deep_zoom(target, format) else check_target(target, format=format)
    return 16 if source.bits > 8 and suffix_format in DEEP_FORMATS and compression != "jpeg" else 8


def is_deep_zoom(target: Target, format: str | None = None) -> bool:  # noqa: A002
    """Return whether a target becomes a DeepZoom pyramid."""
    is_path = isinstance(target, str | os.PathLike)
    return format is None and is_path and Path(target).suffix.lower() == DEEP_ZOOM_SUFFIX


class _Rows:
    """The temporary file of uncompressed rows: a BigTIFF, which libvips reads from top to bottom in little memory."""

    def __init__(
        self, file: BinaryIO, size: tuple[int, int], channels: int, dtype: "np.dtype[Any]", done: int, name: str
    ):
        self.file, self.size, self.channels, self.dtype = file, size, channels, dtype
        self.name, self.folder = name, Path(os.path.realpath(file.name)).parent
        (height, width), row = size, size[1] * channels * dtype.itemsize
        self.nbytes = height * row
        starts = range(0, height, STRIP_ROWS)
        order = "<" if sys.byteorder == "little" else ">"

        def numbers(kind: str, *values: int) -> exif.Entry:
            return (
                {"H": exif.SHORT, "I": exif.LONG, "Q": exif.LONG8}[kind],
                len(values),
                struct.pack(f"{order}{len(values)}{kind}", *values),
            )

        def header(start: int) -> bytes:
            main = {
                256: numbers("I", width),
                257: numbers("I", height),
                258: numbers("H", *[8 * dtype.itemsize] * channels),
                259: numbers("H", 1),  # not compressed
                262: numbers("H", 2),  # RGB
                273: numbers("Q", *[start + top * row for top in starts]),
                277: numbers("H", channels),
                278: numbers("I", STRIP_ROWS),
                279: numbers("Q", *[min(STRIP_ROWS, height - top) * row for top in starts]),
                284: numbers("H", 1),  # interleaved samples
            }
            if channels == 4:
                main[338] = numbers("H", 2)  # alpha, the colours not multiplied by it
            head = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HHHQ", 43, 8, 0, 16)
            return head + exif.directories(exif.Exif(order, main), 16, form=exif.BIG)

        self.start = len(header(0))
        if not done:
            file.write(header(self.start))
            return
        kept = self.start + done * row
        if file.read(self.start) != header(self.start) or os.fstat(file.fileno()).st_size < kept:
            raise PictureError(f"{name}: the rows that were kept are damaged, or belong to another picture; start over")
        file.truncate(kept)
        file.seek(kept)

    def full(self, error: OSError) -> PictureError:
        """Return the error to raise if the rows cannot be written."""
        return PictureError(
            f"{self.name} cannot be written: its rows need {self.nbytes / 1e9:.1f} GB, and {self.folder} cannot take "
            f"them ({error.strerror}); free some space there, or choose another place"
        )

    def image(self) -> tuple[Any, Any]:
        """Return libvips' source, which must outlive the image, and the image, to be read from top to bottom."""
        import pyvips

        self.file.seek(0)
        source = pyvips.Source.new_from_descriptor(self.file.fileno())
        return source, pyvips.Image.tiffload_source(source, access="sequential", unlimited=True)

    def thinned(self, step: int, done: int) -> Tensor:
        """Return every `step`-th pixel of the first `done` rows, (1, 3, n, w), in [0, 1]."""
        at, shape = self.file.tell(), (done, self.size[1], self.channels)
        rows = np.memmap(self.file, self.dtype, "r", self.start, shape)[::step, ::step, :3]
        self.file.seek(at)
        return torch.from_numpy(rows.astype(np.float32) / np.iinfo(self.dtype).max).permute(2, 0, 1)[None]

    def levels(self) -> "np.ndarray[Any, Any]":
        """Return the whole picture: (H, W, C)."""
        self.file.seek(self.start)
        return np.fromfile(self.file, self.dtype).reshape(*self.size, self.channels)


def _finish(
    rows: _Rows,
    target: Target,
    file_format: str,
    companions: Companions,
    name: str,
    quality: int,
    compression: str,
    pyramid: bool,
    big: bool | None,
) -> None:
    """Encode the rows and move the file into place."""
    import pyvips

    temporary = beside(_folder(target) / "encoded")
    try:
        if file_format == DEEP_ZOOM:
            temporary.mkdir()
            _write_deep_zoom(rows, temporary, Path(os.path.realpath(os.fspath(target))), quality)  # pyright: ignore
            return
        with created(temporary) as file:
            if file_format == "TIFF":
                _write_tiff(rows, file, companions, quality, compression, pyramid, big)
            elif file_format in ("PNG", "JPEG"):
                _write_spliced(rows, file, file_format, companions, quality, name)
            else:
                file.write(encoded(rows.levels(), file_format, quality, companions, name))
            file.flush()
        _deliver(temporary, target)
    except (OSError, ValueError, pyvips.Error) as error:
        raise _not_written(name, error) from error
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary, ignore_errors=True)
        else:
            temporary.unlink(missing_ok=True)


def _deliver(temporary: Path, target: Target) -> None:
    if isinstance(target, str | os.PathLike) and os.fspath(target) != "-":
        path = Path(os.path.realpath(target))
        if path.is_file() or not path.exists():
            move(temporary, path)
            return
        with open(temporary, "rb") as file, open(path, "wb") as device:
            shutil.copyfileobj(file, device, 2**20)
        return
    stream = target if not isinstance(target, str | os.PathLike) else getattr(sys.stdout, "buffer", None)
    if stream is None:
        raise PictureError("standard output is not available here; give a path instead of -")
    with open(temporary, "rb") as file:
        shutil.copyfileobj(file, stream, 2**20)
    stream.flush()


def _write_tiff(
    rows: _Rows,
    file: BinaryIO,
    companions: Companions,
    quality: int,
    compression: str,
    pyramid: bool,
    big: bool | None,
) -> None:
    import pyvips

    if big is None:
        big = rows.nbytes * (4 / 3 if pyramid else 1) > LARGEST_CLASSIC
    options: dict[str, Any] = {"compression": compression, "bigtiff": big, "keep": "none"}
    if compression in ("deflate", "lzw", "zstd"):
        options["predictor"] = "horizontal"
    elif compression == "jpeg":
        options["Q"] = quality
    target = pyvips.Target.new_to_descriptor(file.fileno())
    source, image = rows.image()
    image.tiffsave_target(target, tile=True, tile_width=TILE, tile_height=TILE, pyramid=pyramid, **options)
    del image, source, target
    found = exif.first_directory(file)
    assert found is not None
    order, form, offset = found
    entries, following = exif.raw_entries(file, offset, order, form)
    entries = {tag: entry for tag, entry in entries.items() if tag not in LAYOUT_TAGS}
    start = file.seek(0, os.SEEK_END)
    start += file.write(bytes(-start % 8))
    file.write(exif.directories(described(companions, order), start, form=form, raw=entries, following=following))
    file.seek(4 if form == exif.CLASSIC else 8)
    file.write(start.to_bytes(4 if form == exif.CLASSIC else 8, "little" if order == "<" else "big"))


def _write_spliced(
    rows: _Rows, file: BinaryIO, file_format: str, companions: Companions, quality: int, name: str
) -> None:
    """Write a PNG or JPEG with the pixels as libvips encodes them, and the metadata as `encode` writes them."""
    import pyvips

    pixel = np.zeros((1, 1, rows.channels), rows.dtype)
    sample = encode(pixel, file_format, quality, companions, name)
    start, end = _metadata_range(sample, file_format)
    target = pyvips.TargetCustom()
    head, failures = bytearray(), []

    def write(buffer: Any) -> int:
        nonlocal head
        try:
            if head is None:
                file.write(buffer)
                return len(buffer)
            head += buffer
            found = _metadata_range(head, file_format)
            if found[1]:
                file.write(head[: found[0]] + sample[start:end] + head[found[1] :])
                head = None
        except BaseException as error:  # also an interrupt; libvips has to stop first
            failures.append(error)
            return -1
        return len(buffer)

    target.on_write(write)
    source, image = rows.image()
    try:
        if file_format == "PNG":
            image.pngsave_target(target, keep="none", compression=6)
        else:
            subsampling = "off" if quality >= 90 else "on"
            image.jpegsave_target(target, keep="none", Q=quality, subsample_mode=subsampling)
    except pyvips.Error:
        if failures:
            raise failures[0] from None
        raise
    finally:
        del image, source
    if failures:
        raise failures[0]


def _metadata_range(data: bytes | bytearray, file_format: str) -> tuple[int, int]:
    """Return where the metadata of a PNG or JPEG start and end: before the pixels. (0, 0) if `data` is too short."""
    start = at = 33 if file_format == "PNG" else 2
    while at + 8 <= len(data):
        if file_format == "PNG":
            if data[at + 4 : at + 8] == b"IDAT":
                return start, at
            at += 12 + int.from_bytes(data[at : at + 4], "big")
        else:
            if not (0xE0 <= data[at + 1] <= 0xEF or data[at + 1] == 0xFE):
                return start, at
            at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return 0, 0


def _tiles_of(path: Path) -> Path:
    return path.with_name(path.stem + "_files")


def _write_deep_zoom(rows: _Rows, folder: Path, path: Path, quality: int) -> None:
    """Write a DeepZoom pyramid in a temporary folder, and move it into place."""
    suffix = ".png" if rows.channels == 4 else f".jpg[Q={quality}]"
    source, image = rows.image()
    image.dzsave(str(folder / "new"), suffix=suffix, tile_size=WEB_TILE, overlap=1, keep="none")
    del image, source
    (folder / "new_files" / "vips-properties.xml").unlink(missing_ok=True)
    tiles = _tiles_of(path)
    if tiles.exists():
        os.replace(tiles, folder / "old")
    os.replace(folder / "new_files", tiles)
    move(folder / "new.dzi", path)


def _folder(target: Target) -> Path:
    """Return the folder for temporary files: the target's, if it is a file."""
    if isinstance(target, str | os.PathLike) and os.fspath(target) != "-":
        path = Path(os.path.realpath(target))
        if path.is_file() or not path.exists():
            return path.parent
    return Path(tempfile.gettempdir())


def _not_written(name: str, error: Exception) -> PictureError:
    reason = getattr(error, "strerror", None) or one_line(error)
    if "No space left" in reason:
        reason = "No space left on device"
    return PictureError(f"{name} cannot be written ({reason}); choose another place")
