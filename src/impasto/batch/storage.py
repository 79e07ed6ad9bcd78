"""Object storage, such as s3:// and gs://, through fsspec. Needs the extra `storage`."""

from collections.abc import Collection, Iterator
from functools import cache
from typing import Any, BinaryIO, cast

from ..errors import ImpastoError, OptionError, PictureError
from ..image.source import one_line, printable

INSTALL = 'pip install "impasto[storage]"'


def is_address(name: str) -> bool:
    """Return whether a name is an address of object storage, such as s3://bucket/photos."""
    return "://" in name


@cache
def _filesystem(protocol: str) -> Any:
    """Return fsspec's file system for a protocol. Raises ImpastoError if its package is not installed."""
    try:
        import fsspec
    except ImportError as error:
        raise ImpastoError(f"{protocol}:// needs fsspec: {INSTALL}") from error
    try:
        return fsspec.filesystem(protocol)
    except (ImportError, ValueError) as error:
        raise ImpastoError(f"{protocol}:// is not available ({one_line(error)}); run {INSTALL}") from error


def split(address: str) -> tuple[Any, str, str]:
    """Return the file system of an address, the path in it, and the address's beginning, such as s3://."""
    protocol, _, path = address.partition("://")
    return _filesystem(protocol), path.rstrip("/"), f"{protocol}://"


def read(address: str, start: int | None = None, length: int | None = None) -> bytes:
    """Return the bytes of an object, or a part of them. Raises PictureError if it cannot be read."""
    files, path, _ = split(address)
    try:
        if start is None or length is None:
            return files.cat_file(path)
        return files.cat_file(path, start=start, end=start + length)
    except FileNotFoundError as error:
        raise PictureError(f"{printable(address)} does not exist; check the address") from error
    except Exception as error:  # every protocol has its own errors
        raise PictureError(f"{printable(address)} cannot be read ({one_line(error)}); check the address") from error


def write(address: str, data: bytes) -> None:
    """Write an object, completely or not at all. Raises PictureError if that fails."""
    files, path, _ = split(address)
    try:
        files.pipe_file(path, data)
    except Exception as error:
        raise PictureError(f"{printable(address)} cannot be written ({one_line(error)}); check the address") from error


def opened(address: str) -> BinaryIO:
    """Open an object for reading at any position. Raises OSError."""
    files, path, _ = split(address)
    return cast(BinaryIO, files.open(path, "rb"))


def listed(address: str) -> set[str]:
    """Return the names of the objects below an address, relative to it. Raises OptionError if it cannot be listed."""
    files, path, _ = split(address)
    try:
        files.invalidate_cache()
        return {name.removeprefix(path + "/") for name in files.find(path)}
    except FileNotFoundError:
        return set()
    except Exception as error:
        raise OptionError(f"{printable(address)} cannot be listed ({one_line(error)}); check the address") from error


def find(address: str, suffixes: Collection[str]) -> Iterator[tuple[str, str]]:
    """Yield the addresses of the pictures and tar files below an address or matching its glob, and their folders.

    Raises
    ------
    OptionError
        If it cannot be listed.
    """
    files, path, beginning = split(address)
    base = path
    try:
        if any(c in path for c in "*?["):
            parts = path.split("/")
            fixed = next(i for i, part in enumerate(parts) if any(c in part for c in "*?["))
            base, names = "/".join(parts[:fixed]), files.glob(path)
        elif files.isfile(path):
            base, names = path.rpartition("/")[0], [path]
        else:
            names = files.find(path)
    except Exception as error:
        raise OptionError(f"{printable(address)} cannot be listed ({one_line(error)}); check the address") from error
    for name in sorted(names):
        hidden = any(part.startswith(".") for part in name.removeprefix(base + "/").split("/"))
        if not hidden and ("." + name.rpartition(".")[2].lower()) in {*suffixes, ".tar"}:
            yield beginning + name, name.removeprefix(base + "/").rpartition("/")[0]
