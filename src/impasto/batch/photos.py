"""Find the photographs of a batch: files, folders, globs, tar files, object storage."""

import glob
import os
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from ..errors import OptionError, PictureError
from ..image.source import printable
from ..train.pictures import PICTURE_SUFFIXES, find_pictures
from . import storage

GLOB = "*?["
"""Characters that make a name a glob."""
MOST_BESIDE = 16 * 2**20
"""Bytes above which a file that goes with a photograph in a tar file is not copied."""


@dataclass(frozen=True)
class Span:
    """A part of a file: the data of a member of a tar file.

    Parameters
    ----------
    file : str
        Path or address of the tar file.
    start, length : int
        The first byte and the number of bytes.
    """

    file: str
    start: int
    length: int

    def read(self) -> bytes:
        """Return the bytes. Raises PictureError if they cannot be read."""
        if storage.is_address(self.file):
            return storage.read(self.file, self.start, self.length)
        try:
            with open(self.file, "rb") as file:
                file.seek(self.start)
                return file.read(self.length)
        except OSError as error:
            raise PictureError(f"{printable(self.file)} cannot be read ({error.strerror}); check the path") from error


@dataclass(frozen=True)
class Photo:
    """A photograph to paint.

    Parameters
    ----------
    source : str
        Its path or address; for a member of a tar file, the tar file's with the member's name appended.
    folder : str
        Its folder inside the one given, with slashes; empty at the top.
    span : Span, optional
        Its place in a tar file.
    beside : tuple of (str, Span)
        The files that go with it in a tar file, as in WebDataset: what follows the shared name, and their places.
    """

    source: str
    folder: str = ""
    span: Span | None = None
    beside: tuple[tuple[str, Span], ...] = ()

    @property
    def name(self) -> str:
        """The file's name, without folders."""
        return (
            PurePosixPath(self.source).name if self.span or storage.is_address(self.source) else Path(self.source).name
        )

    def open(self) -> str | BinaryIO:
        """Return what `read_image` reads: the path, or the bytes as a file. Raises PictureError."""
        if self.span is not None:
            return NamedBytes(self.span.read(), self.source)
        if storage.is_address(self.source):
            return NamedBytes(storage.read(self.source), self.source)
        return self.source


class NamedBytes(BytesIO):
    """A file in memory with a name for messages."""

    def __init__(self, data: bytes, name: str):
        super().__init__(data)
        self.name = name


def find_photos(given: Sequence[str], without: str = "") -> list[Photo]:
    """Return the photographs that the command line names, in its order; those of a folder by name.

    Parameters
    ----------
    given : sequence of str
        Files, folders (searched recursively), globs, tar files, and addresses of object storage.
    without : str
        The folder of the paintings. What lies in it is left out where folders and globs are searched.

    Raises
    ------
    OptionError
        If a name does not exist, or has no pictures.
    """
    files = [name for name in given if is_plain(name)]
    base = os.path.commonpath([os.path.dirname(os.path.abspath(f)) for f in files]) if files else ""
    found: list[Photo] = []
    for name in given:
        if is_plain(name):
            found.append(Photo(name, inside(os.path.dirname(os.path.abspath(name)), base)))
            continue
        photos = list(_photos_of(name, os.path.abspath(without) if without else ""))
        if not photos:
            raise OptionError(f"{printable(name)} has no pictures; check the name")
        found += photos
    return found


def is_plain(name: str) -> bool:
    """Return whether a name is that of a single picture file on this machine."""
    return os.path.isfile(name) and not name.lower().endswith(".tar")


def inside(folder: str, base: str) -> str:
    """Return the path of a folder inside another, with slashes; empty for the folder itself."""
    return "" if folder == base else Path(os.path.relpath(folder, base)).as_posix()


def _photos_of(name: str, without: str) -> Iterator[Photo]:
    if name.lower().endswith(".tar") and not any(c in name for c in GLOB):
        yield from in_tar(name)
    elif storage.is_address(name):
        for address, folder in storage.find(name, PICTURE_SUFFIXES):
            yield from in_tar(address) if address.endswith(".tar") else [Photo(address, folder)]
    elif os.path.isdir(name):
        for path in find_pictures(Path(name)):
            if not is_below(str(path), without):
                yield Photo(str(path), inside(str(path.parent), str(Path(name))))
    elif any(c in name for c in GLOB):
        yield from _matching(name, without)
    else:
        raise OptionError(f"{printable(name)} does not exist; name pictures, a folder, a glob, a .csv or a .tar")


def is_below(path: str, folder: str) -> bool:
    """Return whether a path lies in a folder; no path lies in the folder ""."""
    return bool(folder) and os.path.abspath(path).startswith(folder + os.sep)


def _matching(pattern: str, without: str) -> Iterator[Photo]:
    fixed = []
    for part in Path(pattern).parts[:-1]:
        if any(c in part for c in GLOB):
            break
        fixed.append(part)
    base = str(Path(*fixed))
    for path in sorted(glob.glob(pattern, recursive=True)):
        if os.path.splitext(path)[1].lower() == ".tar":
            yield from in_tar(path)
        elif is_picture(path) and not is_below(path, without):
            yield Photo(path, inside(str(Path(path).parent), base))


def is_picture(path: str) -> bool:
    """Return whether a path is that of a file with a picture's suffix."""
    return os.path.splitext(path)[1].lower() in PICTURE_SUFFIXES and os.path.isfile(path)


def open_here(path: str) -> BinaryIO:
    """Open a file of this machine for reading. Raises OSError."""
    return open(path, "rb")


def in_tar(name: str) -> Iterator[Photo]:
    """Yield the pictures of a tar file, with the files that go with them, as in WebDataset.

    Files go together if their names are the same up to the first dot. Only the headers are read.

    Raises
    ------
    OptionError
        If it is not a tar file, or is compressed.
    """
    try:
        opened = storage.opened if storage.is_address(name) else open_here
        with opened(name) as file, tarfile.open(fileobj=file, mode="r:") as archive:
            members = [(m.name, Span(name, m.offset_data, m.size)) for m in archive if m.isreg() and not m.issparse()]
    except (OSError, tarfile.TarError, EOFError) as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise OptionError(
            f"{printable(name)} cannot be read as a tar file ({reason}); unpack it, or do not compress it"
        ) from error
    others: dict[str, list[tuple[str, Span]]] = {}
    pictures = []
    for member, span in members:
        path = PurePosixPath(member)
        if path.name.startswith("."):
            continue
        if path.suffix.lower() in PICTURE_SUFFIXES:
            pictures.append((path, span))
        elif span.length <= MOST_BESIDE:
            key, dot, rest = path.name.partition(".")
            others.setdefault(str(path.parent / key), []).append((dot + rest, span))
    for path, span in pictures:
        folder = "/".join(p for p in path.parent.parts if p not in ("/", "..", "."))
        beside = others.get(str(path.parent / path.name.partition(".")[0]), [])
        yield Photo(f"{name}/{path}", folder, span, tuple(beside))
