"""Training pictures: found in folders and packed files, and read when they are drawn.

A set may be larger than memory, and several processes read it. So it only holds names, in a few arrays that can be sent
to other processes quickly. Every picture is decoded in the process that needs it.
"""

import logging
import os
import struct
import zipfile
import zlib
from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

from ..errors import PictureError, TrainingError
from ..image.reduced import read_reduced
from ..image.resize import random_crop
from ..image.source import one_line, printable

PICTURE_SUFFIXES = frozenset(
    (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".tif", ".tiff", ".bmp", ".avif", ".heic", ".heif")
)
PACKED_SUFFIX = ".webp"
"""The suffix of packed pictures, after the suffix of the original."""
KEPT_BYTES = 512 * 2**20
"""Each process caches a set's decoded pictures if all of them together need no more than this."""
ATTEMPTS = 100
"""Number of unreadable pictures drawn in a row after which a training gives up."""
REPORT_EVERY = 500
"""Pictures between two calls of a progress callback."""
LOCAL_HEADER = struct.Struct("<4s2xHH16xHH")
"""Header of a file in a ZIP archive (APPNOTE 4.3.7): signature, flags, method, lengths of name and extra field."""
DEFLATED, ENCRYPTED = 8, 1

Progress = Callable[[int], None]
"""Called with the number of pictures found so far."""

log = logging.getLogger(__name__)


def find_pictures(folder: Path) -> list[Path]:
    """Return the picture files in a folder, recursively: first each folder's files by name, then its subfolders.

    Skips hidden files and folders, whose names start with a dot. Does not follow links to folders.
    """
    return [Path(inner, name) for inner, names in _walk(str(folder)) for name in names]


def _walk(folder: str) -> Iterator[tuple[str, list[str]]]:
    """Yield each folder with pictures, and their sorted names."""
    for inner, folders, files in os.walk(folder, onerror=_warn_of_folder):
        folders[:] = sorted(f for f in folders if not f.startswith("."))
        names = sorted(f for f in files if _is_picture(f))
        if names:
            yield inner, names


def _warn_of_folder(error: OSError) -> None:
    log.warning("skipped: folder %s cannot be listed (%s)", printable(str(error.filename)), error.strerror)


def _is_picture(name: str) -> bool:
    return not name.startswith(".") and os.path.splitext(name)[1].lower() in PICTURE_SUFFIXES


def read_exclude(path: Path) -> frozenset[str]:
    """Read a list of pictures to leave out of training: names or ends of paths, with slashes, one per line.

    Raises
    ------
    TrainingError
        If it cannot be read.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise TrainingError(f"cannot read --exclude {path}: {error}") from error
    return frozenset(line.strip().strip("/") for line in lines if line.strip())


def is_excluded(name: str, excluded: frozenset[str]) -> bool:
    """Return whether a path, with slashes, ends in one of `excluded`. A packed `a.jpg.webp` also matches `a.jpg`."""
    parts = name.split("/")
    tails = ("/".join(parts[i:]) for i in range(len(parts))) if excluded else ()
    return any(t in excluded or t.removesuffix(PACKED_SUFFIX) in excluded for t in tails)


class _Index:
    """The location of each picture, in 20 bytes plus the length of its file name.

    Parameters
    ----------
    groups : list of str
        Absolute paths of folders and packed files.
    packed : list of bool
        Whether each of them is a packed file.
    """

    def __init__(self) -> None:
        self.groups: list[str] = []
        self.packed: list[bool] = []
        self.names = bytearray()  # all file names, UTF-8, without separators
        self.ends = array("I")  # end of each name in `names`
        self.group, self.start, self.length = array("I"), array("Q"), array("I")

    def __len__(self) -> int:
        return len(self.ends)

    def begin(self, group: str, packed: bool) -> None:
        """Start a new folder or packed file."""
        self.groups.append(group)
        self.packed.append(packed)

    def add(self, name: str, start: int = 0, length: int = 0) -> None:
        """Add a picture to the current folder or packed file, where it takes `length` bytes after its header."""
        self.names += name.encode("utf-8", "surrogateescape")
        self.ends.append(len(self.names))
        self.group.append(len(self.groups) - 1)
        self.start.append(start)
        self.length.append(length)

    def name(self, i: int) -> str:
        """Return a picture's name in its folder or packed file."""
        return self.names[self.ends[i - 1] if i else 0 : self.ends[i]].decode("utf-8", "surrogateescape")

    @property
    def nbytes(self) -> int:
        """Size in memory in bytes."""
        arrays = (self.ends, self.group, self.start, self.length)
        return len(self.names) + sum(len(a) * a.itemsize for a in arrays) + sum(map(len, self.groups))


class _NamedBytes(BytesIO):
    """A file in memory with a name for messages."""

    def __init__(self, data: bytes, name: str):
        super().__init__(data)
        self.name = name


class PictureSet:
    """Pictures on disk, by number. Create it with `open`.

    A set of 100,000 pictures takes 4 to 5 MB, in memory and pickled. Each process opens packed files for itself. If all
    pictures, decoded and reduced, need 512 MB or less, each process caches those that it has read; otherwise none. Only
    one thread may use a set at a time.

    Parameters
    ----------
    index : _Index
        The locations of the pictures.
    short_side : int
        Larger pictures are reduced to this short side, in pixels.
    """

    def __init__(self, index: _Index, short_side: int):
        self.index, self.short_side = index, short_side
        # In shared memory, so that only one of several processes logs an unreadable picture, and all skip it.
        self.unreadable = torch.zeros(len(index), dtype=torch.bool).share_memory_()
        self._begin()

    def _begin(self) -> None:
        self._kept: dict[int, Tensor] = {}
        self._read, self._bytes = 0, 0  # pictures decoded in this process, and their bytes
        self._process, self._files = os.getpid(), dict[str, BinaryIO]()

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if not k.startswith("_")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._begin()

    def __del__(self) -> None:
        self._close()

    def _close(self) -> None:
        files: dict[str, BinaryIO] = getattr(self, "_files", {})  # none if `__init__` failed
        while files:
            files.popitem()[1].close()

    @classmethod
    def open(
        cls, roots: Sequence[Path], exclude: Path | None, short_side: int, *, progress: Progress | None = None
    ) -> "PictureSet":
        """Find the pictures in folders and packed files, without decoding them.

        Parameters
        ----------
        roots : sequence of Path
            Folders, searched recursively (see `find_pictures`), and packed files: written by `impasto train pack`, or
            any other ZIP archive with pictures.
        exclude : Path or None
            A text file of pictures to leave out (see `read_exclude`).
        short_side : int
            Larger pictures are reduced to this short side, in pixels.
        progress : callable, optional
            Called at intervals with the number of pictures found so far.

        Raises
        ------
        TrainingError
            If a root does not exist or is of another kind, the list cannot be read, or there are no pictures.
        """
        excluded, index, left_out = read_exclude(exclude) if exclude else frozenset[str](), _Index(), 0
        begun: dict[str, Path] = {}  # folder or packed file -> the first root that contains it; others are ignored
        for root in dict.fromkeys(roots):
            for group, packed, name, start, length in _pictures_of(os.path.abspath(root), root):
                if begun.setdefault(group, root) != root:
                    continue
                if is_excluded(f"{group}/{name}".replace(os.sep, "/"), excluded):
                    left_out += 1
                    continue
                if not index.groups or index.groups[-1] != group:
                    index.begin(group, packed)
                index.add(name, start, length)
                if progress is not None and len(index) % REPORT_EVERY == 0:
                    progress(len(index))
        if progress is not None:
            progress(len(index))
        if not len(index):
            where, but = ", ".join(map(str, roots)) or "no folder", f" but the {left_out} that {exclude} names"
            raise TrainingError(
                f"there are no pictures in {where}{but if left_out else ''}; give folders or packed files with JPEG or "
                "PNG pictures"
            )
        return cls(index, short_side)

    def __len__(self) -> int:
        return len(self.index)

    @property
    def skipped(self) -> int:
        """Number of pictures found to be unreadable so far, by all processes that share the set."""
        return int(self.unreadable.sum())

    def name(self, i: int) -> str:
        """Return the path of a picture; for a packed one, the path of the packed file followed by its name in it."""
        return os.path.join(self.index.groups[self.index.group[i]], self.index.name(i))

    def read(self, i: int) -> Tensor | None:
        """Read a picture upright, in sRGB and over white, as `read_reduced` does.

        Returns
        -------
        Tensor or None
            (3, H, W), uint8. Do not modify it; it may be cached. None if the picture cannot be read; the reason is
            logged the first time.
        """
        kept = self._kept.get(i)
        if kept is not None or self.unreadable[i]:
            return kept
        try:
            with _quietly():
                levels = read_reduced(self._source(i), self.short_side)
        except PictureError as error:
            self.unreadable[i] = True
            log.warning("skipped: %s", error)
            return None
        picture = torch.from_numpy(levels).permute(2, 0, 1).contiguous()
        self._read, self._bytes = self._read + 1, self._bytes + picture.numel()
        if self._bytes / self._read * len(self) <= KEPT_BYTES:
            self._kept[i] = picture
        else:
            self._kept.clear()
        return picture

    def _source(self, i: int) -> str | BinaryIO:
        name, group = self.name(i), self.index.group[i]
        if not self.index.packed[group]:
            return name
        try:
            return _NamedBytes(self._packed(self.index.groups[group], self.index.start[i], self.index.length[i]), name)
        except (OSError, ValueError, struct.error, zlib.error) as error:
            raise PictureError(f"{printable(name)} cannot be read ({one_line(error)}); pack it again") from error

    def _packed(self, path: str, start: int, length: int) -> bytes:
        """Return the bytes of a file in an archive, given the offset of its header."""
        if self._process != os.getpid():  # after a fork, a shared file would share its position, too
            self._close()
            self._process = os.getpid()
        file = self._files.get(path)
        if file is None:
            file = self._files[path] = open(path, "rb", buffering=0)  # noqa: SIM115
        file.seek(start)
        signature, flags, method, name, extra = LOCAL_HEADER.unpack(file.read(LOCAL_HEADER.size))
        if signature != b"PK\3\4" or flags & ENCRYPTED:
            raise ValueError("encrypted" if flags & ENCRYPTED else "the file has changed")
        file.seek(name + extra, os.SEEK_CUR)
        data = file.read(length)
        if len(data) < length:
            raise ValueError("the file is cut short")
        return zlib.decompress(data, -zlib.MAX_WBITS) if method == DEFLATED else data

    def crop(self, rng: np.random.Generator, size: int, zoom: tuple[float, float] = (0.6, 1.7)) -> Tensor:
        """Return a random square crop of a random picture.

        The crop depends only on the generator. If a picture cannot be read, another one is drawn.

        Parameters
        ----------
        rng : numpy Generator
            Source of randomness.
        size : int
            Side of the crop in pixels.
        zoom : (float, float)
            Range of the log-uniform factor by which to enlarge; limited by the picture's size.

        Returns
        -------
        Tensor
            (3, size, size), float32, in [0, 1].

        Raises
        ------
        TrainingError
            If 100 pictures in a row cannot be read.
        """
        return random_crop(self._draw(rng), rng, size, zoom)

    def _draw(self, rng: np.random.Generator) -> Tensor:
        i = 0
        for _ in range(ATTEMPTS):
            i = int(rng.integers(len(self)))
            picture = self.read(i)
            if picture is not None:
                return picture
        raise TrainingError(
            f"{ATTEMPTS} training pictures in a row cannot be read; the last was {printable(self.name(i))}, and "
            "the log says why"
        )


def _pictures_of(here: str, root: Path) -> Iterator[tuple[str, bool, str, int, int]]:
    """Yield the folder or packed file, whether it is packed, and the name, offset and length of each picture in it."""
    if os.path.isdir(here):
        for folder, names in _walk(here):
            yield from ((folder, False, name, 0, 0) for name in names)
        return
    try:
        with zipfile.ZipFile(here) as archive:
            infos = archive.infolist()
    except FileNotFoundError:
        raise TrainingError(f"{root} does not exist; give a folder of pictures or a packed file") from None
    except (OSError, ValueError, zipfile.BadZipFile, NotImplementedError) as error:
        raise TrainingError(
            f"{root} is not a folder or packed file ({one_line(error)}); give one of these (see `impasto train pack`)"
        ) from error
    for info in infos:
        *folders, name = info.filename.split("/")
        hidden = any(f.startswith(".") or f == "__MACOSX" for f in folders)
        if _is_picture(name) and not hidden and info.compress_size < 2**32:
            yield here, True, info.filename, info.header_offset, info.compress_size


@contextmanager
def _quietly() -> Iterator[None]:
    """Mute the readers' warnings about odd files, which would repeat every time a picture is drawn."""
    readers = logging.getLogger("impasto.image")
    level = readers.level
    readers.setLevel(logging.ERROR)
    try:
        yield
    finally:
        readers.setLevel(level)
