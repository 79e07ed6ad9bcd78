"""Putting a finished file where it belongs: whole, or not at all."""

import os
import secrets
import stat
import sys
import tempfile
from pathlib import Path
from typing import BinaryIO

from ..errors import OptionError, PictureError
from .encode import DEEP_FORMATS, SUFFIXES, check_sides
from .source import one_line, source_name

Target = str | os.PathLike[str] | BinaryIO
"""A path, "-" for standard output, or a file object opened for writing in binary mode."""

NEW_FILE_MODE = 0o666
"""The process's umask takes its part away, as for every new file."""


def check_target(
    target: Target,
    *,
    format: str | None = None,  # noqa: A002
    bits: int | None = None,
    size: tuple[int, int] | None = None,
) -> str:
    """Make sure, before a long job, that its picture can be written.

    Parameters
    ----------
    target : path, "-" or binary file object
        Where it shall go.
    format : str, optional
        `png`, `jpeg`, `webp`, `tiff` or `avif`; needed where no suffix tells it.
    bits : int, optional
        8 or 16 bits a sample.
    size : (int, int), optional
        Height and width of the picture, in pixels.

    Returns
    -------
    str
        The format's name: PNG, JPEG, WEBP, TIFF or AVIF.

    Raises
    ------
    OptionError
        If the suffix or format is unknown, or cannot have that many bits.
    PictureError
        If the folder does not exist or may not be written to, the target is a folder or may not be replaced, or the
        format cannot hold a picture of that size.
    """
    name = target_name(target)
    file_format = _format(target, name, format)
    if bits not in (None, 8, 16):
        raise OptionError(f"bits is {bits}; it must be 8 or 16")
    if bits == 16 and file_format not in DEEP_FORMATS:
        raise OptionError(f"{name}: {file_format} has 8 bits a sample; for 16 write .png or .tiff")
    if size is not None:
        check_sides(size, file_format, name)
    if isinstance(target, str | os.PathLike) and os.fspath(target) != "-":
        _check_place(Path(target), name)
    return file_format


def target_name(target: Target) -> str:
    """What messages call `target`."""
    name = source_name(target)
    return "standard output" if name == "standard input" else name


def _format(target: Target, name: str, asked: str | None) -> str:
    known = ", ".join(sorted(SUFFIXES))
    if asked is not None:
        file_format = SUFFIXES.get("." + asked.lower().lstrip("."))
        if file_format is None:
            raise OptionError(f"pictures are not written as {asked!r}; use one of {known}")
        return file_format
    if not isinstance(target, str | os.PathLike) or os.fspath(target) == "-":
        raise OptionError(f"the format for {name} is not given; it has no suffix that tells it")
    suffix = Path(target).suffix
    if suffix.lower() not in SUFFIXES:
        what = f"pictures are not written as {suffix}" if suffix else "its name has no suffix"
        raise OptionError(f"{name}: {what}; end it in one of {known}")
    return SUFFIXES[suffix.lower()]


def _check_place(path: Path, name: str) -> None:
    try:
        path = Path(os.path.realpath(path))
        mode = os.stat(path).st_mode if path.exists() else None
        if mode is not None and stat.S_ISDIR(mode):
            raise PictureError(f"{name} is a folder; give the name of a file in it")
        if mode is not None and not stat.S_ISREG(mode):
            return
        folder = path.parent
        if not folder.is_dir():
            raise PictureError(f"{name}: there is no folder {folder}; create it first")
        if not os.access(folder, os.W_OK | os.X_OK):
            raise PictureError(f"{name}: the folder {folder} may not be written to; choose another one")
        if mode is not None and not os.access(path, os.W_OK):
            raise PictureError(f"{name} is write-protected; choose another name")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or one_line(error)
        raise PictureError(f"{name} cannot be written ({reason}); choose another name") from error


def place(data: bytes, target: Target) -> None:
    """Write a finished file.

    A path gets it through a temporary file beside it that is moved into place, so that an interrupted run neither
    leaves half a file nor harms one that was there. A link is followed; the permissions of a file that is replaced
    are kept. What is no regular file (a pipe, a device) is written to directly.

    Raises
    ------
    PictureError
        If the disk is full, the pipe closed, or the like.
    """
    name = target_name(target)
    try:
        if not isinstance(target, str | os.PathLike):
            target.write(data)
        elif os.fspath(target) == "-":
            stream = getattr(sys.stdout, "buffer", None)
            if stream is None:
                raise PictureError("standard output takes no picture here; give a path instead of -")
            stream.write(data)
            stream.flush()
        else:
            _place_at(data, Path(os.path.realpath(target)))
    except (OSError, ValueError, TypeError) as error:
        reason = getattr(error, "strerror", None) or one_line(error)
        raise PictureError(f"{name} cannot be written ({reason}); choose another place") from error


def keep_elsewhere(data: bytes, target: Target, suffix: str) -> Path | None:
    """Put a finished file that could not be placed into the working folder or that of temporary files.

    Returns
    -------
    Path or None
        Where it is, under a new name that ends in `suffix`; None if neither folder takes it.
    """
    stem = Path(target).stem if isinstance(target, str | os.PathLike) and os.fspath(target) != "-" else "painting"
    for folder in (os.getcwd, tempfile.gettempdir):
        try:
            path = Path(folder()) / f"{stem[:80]}-{secrets.token_hex(3)}{suffix}"
            _place_at(data, path)
        except (OSError, ValueError):
            continue
        return path
    return None


def _place_at(data: bytes, path: Path) -> None:
    old = os.stat(path).st_mode if path.exists() else None
    if old is not None and not stat.S_ISREG(old):
        path.write_bytes(data)
        return
    temporary = path.parent / f".impasto-{secrets.token_hex(6)}.part"
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
        with open(os.open(temporary, flags, NEW_FILE_MODE), "wb") as file:
            file.write(data)
        if old is not None:
            os.chmod(temporary, stat.S_IMODE(old))
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
