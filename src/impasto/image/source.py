"""Sources of pictures, with a one-line error for every way in which reading can fail."""

import logging
import os
import stat
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

from PIL import Image

from ..errors import ImpastoError, OptionError, PictureError

log = logging.getLogger(__name__)

Source = str | os.PathLike[str] | BinaryIO
"""A path, "-" for standard input, or a file object opened for reading in binary mode."""

BYTES_PER_PIXEL = 32
"""Bytes of RGBA in 64-bit floats, the most that an uncompressed pixel needs. This limits the length of a file."""
NO_PIXELS = "not identified by this driver"
"""Pillow's message for a header with a width or height of 0."""
MOST_MEGAPIXELS = 1e6
"""Stands for "no limit"."""
HEADER_ALLOWANCE = 256 * 2**20
"""Extra bytes allowed in a file for metadata."""

RAW_SUFFIXES = frozenset(
    (".3fr", ".arw", ".cr2", ".cr3", ".dng", ".erf", ".nef", ".nrw", ".orf", ".pef", ".raf", ".rw2", ".srw", ".x3f")
)
"""Raw files of cameras. They hold a small preview, which a TIFF reader would take for the picture."""


def printable(name: str) -> str:
    """Return a file's name in a form that is safe in a one-line message."""
    return name if name.isprintable() and name else repr(name)


def one_line(error: BaseException) -> str:
    """Return the message of another library's error, on one line."""
    said = " ".join(str(error).split())
    return said if any(c.isalpha() for c in said) else type(error).__name__


def source_name(source: Any) -> str:
    """Return the name of `source` for messages."""
    if isinstance(source, str | os.PathLike):
        path = os.fspath(source)
        return "standard input" if path == "-" else printable(os.fsdecode(path))
    name = getattr(source, "name", None)
    return printable(name) if isinstance(name, str) and name else "the picture"


@contextmanager
def opened(source: Source, max_megapixels: float) -> Iterator[tuple[BinaryIO, str]]:
    """Open a source for random access.

    Parameters
    ----------
    source : path, "-" or binary file object
        The source. A file object is read from its current position to its end.
    max_megapixels : float
        Largest size of the picture, in millions of pixels. The limit on the file's length follows from it.

    Yields
    ------
    tuple of BinaryIO and str
        A seekable file that is not empty, and its name for messages.

    Raises
    ------
    PictureError
        If it is missing, not readable, a folder, empty, or far too long.
    OptionError
        If `source` is not one of the three kinds.
    """
    name = source_name(source)
    limit = int(min(max_megapixels, MOST_MEGAPIXELS) * 1e6 * BYTES_PER_PIXEL) + HEADER_ALLOWANCE
    if not isinstance(source, str | os.PathLike):
        yield _in_memory(_read(source, name, limit), name, limit), name
    elif os.fspath(source) == "-":
        stream = getattr(sys.stdin, "buffer", None)
        if stream is None or stream.closed or stream.isatty():
            raise PictureError("standard input holds no picture; pipe one in, or give a path instead of -")
        yield _in_memory(_read(stream, name, limit), name, limit), name
    else:
        with _open(Path(source), name) as file:
            if file.seekable():
                _check_length(os.fstat(file.fileno()).st_size, name, limit)
                yield file, name
            else:
                yield _in_memory(_read(file, name, limit), name, limit), name


def _open(path: Path, name: str) -> BinaryIO:
    if path.suffix.lower() in RAW_SUFFIXES and path.is_file():
        raise PictureError(f"{name} is a camera's raw file; develop it to TIFF or JPEG first")
    try:
        if stat.S_ISDIR(os.stat(path).st_mode):
            raise PictureError(f"{name} is a folder; give the path of a picture")
        return open(path, "rb")
    except FileNotFoundError:
        if "://" in name:
            raise PictureError(f"{name} is a web address; download the picture and give its path") from None
        raise PictureError(f"{name} does not exist; check the path") from None
    except PermissionError:
        raise PictureError(f"{name} is not readable; change its permissions") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or one_line(error)
        raise PictureError(f"{name} cannot be opened ({reason}); check the path") from error


def _read(stream: BinaryIO, name: str, limit: int) -> bytes:
    read = getattr(stream, "read", None)
    if read is None:
        raise OptionError(f"a picture must be a path, - or a binary file, not {type(stream).__name__}")
    try:
        data = read(limit + 1)
    except (OSError, ValueError) as error:
        raise PictureError(f"{name} cannot be read ({one_line(error)}); check where it comes from") from error
    if not isinstance(data, bytes):
        raise OptionError(f"{name} is open in text mode; open it in binary mode ('rb')")
    return data


def _in_memory(data: bytes, name: str, limit: int) -> BinaryIO:
    _check_length(len(data), name, limit)
    return BytesIO(data)


def _check_length(length: int, name: str, limit: int) -> None:
    if length == 0:
        raise PictureError(f"{name} is empty; save or fetch the picture again")
    if length > limit:
        raise PictureError(f"{name} is too long for a picture; if it is one, raise --max-megapixels")


def check_size(width: int, height: int, name: str, max_megapixels: float) -> None:
    """Check the size in a picture's header before decoding.

    Raises
    ------
    PictureError
        If it has no pixels, or more than `max_megapixels` million.
    """
    if width < 1 or height < 1:
        raise PictureError(f"{name} has no pixels ({width}x{height}); save it again")
    megapixels = width * height / 1e6
    if megapixels > max_megapixels:
        raise PictureError(
            f"{name} has {megapixels:,.1f} megapixels ({width}x{height}), more than {max_megapixels:g}; "
            "make it smaller, or raise --max-megapixels"
        )


@contextmanager
def decoding(name: str) -> Iterator[None]:
    """Convert any exception of a decoder to a PictureError with the file's name, and mute the decoder's warnings.

    Decoders raise nearly every kind of exception for damaged files (SyntaxError, struct.error, OverflowError, EOFError,
    zlib.error ...), so all of them count as "this file is damaged".
    """
    try:
        with quiet():
            yield
    except ImpastoError:
        raise
    except MemoryError as error:
        raise PictureError(f"{name} does not fit into memory; make it smaller") from error
    except Image.DecompressionBombError as error:
        raise PictureError(
            f"{name} has more pixels than Pillow allows in this format, whatever --max-megapixels is; make it smaller"
        ) from error
    except Exception as error:
        reason = one_line(error)
        if reason == NO_PIXELS:
            raise PictureError(f"{name} has no pixels, or none of a known kind; save it again") from error
        cut = isinstance(error, EOFError) or any(
            sign in reason.lower() for sign in ("truncat", "end of", "incomplete", "not enough", "too short")
        )
        what = "is cut short" if cut else "is damaged"
        raise PictureError(f"{name} {what} ({reason}); save or fetch it again") from error


class _Quiet:
    """Mutes warnings while at least one thread decodes. `warnings.catch_warnings` alone is not thread-safe."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.depth = 0
        self.caught: warnings.catch_warnings[Any] | None = None

    def enter(self) -> None:
        with self.lock:
            if self.depth == 0:
                self.caught = warnings.catch_warnings()
                self.caught.__enter__()
                warnings.simplefilter("ignore")
            self.depth += 1

    def leave(self) -> None:
        with self.lock:
            self.depth -= 1
            if self.depth == 0 and self.caught is not None:
                self.caught.__exit__(None, None, None)


_QUIET = _Quiet()


@contextmanager
def quiet() -> Iterator[None]:
    """Mute image libraries' warnings about damaged and large files. Our own errors and warnings replace them."""
    _QUIET.enter()
    try:
        yield
    finally:
        _QUIET.leave()
