"""Where a picture comes from, and every way in which reading it can fail, as one line each."""

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
"""More than any uncompressed picture needs (RGBA in 64-bit floats): a longer file is no picture of the size allowed."""
NO_PIXELS = "not identified by this driver"
"""What Pillow says of a header whose width or height is 0."""
MOST_MEGAPIXELS = 1e6
"""A stand-in for "no limit"."""
HEADER_ALLOWANCE = 256 * 2**20
"""Bytes that a file may be longer for its metadata."""

RAW_SUFFIXES = frozenset(
    (".3fr", ".arw", ".cr2", ".cr3", ".dng", ".erf", ".nef", ".nrw", ".orf", ".pef", ".raf", ".rw2", ".srw", ".x3f")
)
"""Camera files that hold a small preview, which a reader of TIFF would take for the picture."""


def printable(name: str) -> str:
    """A file's name as it can stand in a one-line message."""
    return name if name.isprintable() and name else repr(name)


def one_line(error: BaseException) -> str:
    """What an error of another library says, on one line."""
    said = " ".join(str(error).split())
    return said if any(c.isalpha() for c in said) else type(error).__name__


def source_name(source: Any) -> str:
    """What messages call `source`."""
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
        What was given. A file object is read from where it stands to its end.
    max_megapixels : float
        The limit on the picture's size, in millions of pixels, from which a limit on the file's length follows.

    Yields
    ------
    tuple of BinaryIO and str
        A seekable file that is not empty, and the name for messages.

    Raises
    ------
    PictureError
        If it is missing, may not be read, is a folder, is empty, or is far too long.
    OptionError
        If `source` is none of the three kinds.
    """
    name = source_name(source)
    limit = int(min(max_megapixels, MOST_MEGAPIXELS) * 1e6 * BYTES_PER_PIXEL) + HEADER_ALLOWANCE
    if not isinstance(source, str | os.PathLike):
        yield _in_memory(_read(source, name, limit), name, limit), name
    elif os.fspath(source) == "-":
        stream = getattr(sys.stdin, "buffer", None)
        if stream is None or stream.closed or stream.isatty():
            raise PictureError("standard input brings no picture; pipe one in, or give a path instead of -")
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
        raise PictureError(f"{name} may not be read; change its permissions") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or one_line(error)
        raise PictureError(f"{name} cannot be opened ({reason}); check the path") from error


def _read(stream: BinaryIO, name: str, limit: int) -> bytes:
    read = getattr(stream, "read", None)
    if read is None:
        raise OptionError(f"a picture is given as a path, - or a binary file, not as {type(stream).__name__}")
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
    """Refuse a picture by the size that its header names, before any pixel is decoded.

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
    """Turn whatever a decoder raises into a PictureError that names the file; keep its warnings to ourselves.

    Decoders meet hostile files with nearly every exception there is (SyntaxError, struct.error, OverflowError,
    EOFError, zlib.error ...), so all of them count as "this file is damaged".
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
            f"{name} has more pixels than its format's reader allows, whatever --max-megapixels says; make it smaller"
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
    """Mutes warnings while at least one thread decodes; `warnings.catch_warnings` alone is not made for threads."""

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
    """Mute the warnings that image libraries give about damaged files and large ones; we say what matters ourselves."""
    _QUIET.enter()
    try:
        yield
    finally:
        _QUIET.leave()
