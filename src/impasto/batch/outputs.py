"""Where the paintings of a batch go: a folder, a tar file, or object storage. Each is written whole or not at all."""

import os
import tarfile
from abc import ABC, abstractmethod
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from ..errors import OptionError, PictureError
from ..files import UNFINISHED
from ..image.source import printable
from ..image.write import place
from . import storage

REPORT = "report.jsonl"


class Output(ABC):
    """Where the paintings go."""

    report: Path
    """The report's default path."""

    @abstractmethod
    def begin(self, names: Iterable[str]) -> set[str]:
        """Prepare for paintings of these names, and return the names of those that are there already."""

    def target(self, name: str) -> str | None:
        """Return the path or address that a worker writes a painting to; None if its bytes are given to `add`."""
        return None

    def add(self, name: str, data: bytes, beside: Iterable[tuple[str, bytes]] = ()) -> None:
        """Add a painting's file, and those that go with it: what follows the name, and the bytes."""
        raise NotImplementedError

    def finish(self) -> None:  # noqa: B027 - most have nothing to do
        """Finish the output, once all paintings are there."""


def open_output(out: str) -> Output:
    """Return the output for what `--out` names."""
    if out.lower().endswith(".tar") and not storage.is_address(out):
        return TarOutput(Path(out))
    return StorageOutput(out) if storage.is_address(out) else FolderOutput(Path(out))


def write(data: bytes, target: str) -> None:
    """Write a painting's file to a path or address. Raises PictureError."""
    if storage.is_address(target):
        storage.write(target, data)
        return
    try:
        Path(target).parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PictureError(f"{printable(target)} cannot be written ({error.strerror}); choose another place") from error
    place(data, target)


class FolderOutput(Output):
    """A folder, with folders in it."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.report = folder / REPORT

    def begin(self, names: Iterable[str]) -> set[str]:
        """Return the names that exist, and remove unfinished files, which a killed batch leaves behind."""
        found, folders = set[str](), {self.folder}
        for name in names:
            path = self.folder / name
            folders.add(path.parent)
            if os.path.lexists(path):
                found.add(name)
        for folder in folders:
            for path in folder.glob(UNFINISHED):
                path.unlink(missing_ok=True)
        return found

    def target(self, name: str) -> str | None:
        """Return where a worker writes a painting."""
        return str(self.folder / name)


class StorageOutput(Output):
    """Object storage."""

    def __init__(self, address: str):
        self.address = address.rstrip("/")
        self.report = Path(REPORT)

    def begin(self, names: Iterable[str]) -> set[str]:
        """Return what is there."""
        return storage.listed(self.address) & set(names)

    def target(self, name: str) -> str | None:
        """Return where a worker writes a painting."""
        return f"{self.address}/{name}"


class TarOutput(Output):
    """A tar file. While it grows, its name ends in `.unfinished`, and what is complete in it is kept."""

    def __init__(self, path: Path):
        self.path, self.growing = path, path.with_name(path.name + ".unfinished")
        self.report = path.with_suffix(".jsonl")
        self.file: BinaryIO | None = None
        self.end = 0

    def begin(self, names: Iterable[str]) -> set[str]:
        """Return what is there."""
        there = self.growing if self.growing.exists() else self.path
        if not there.exists():
            return set()
        try:
            if there == self.path and not tarfile.is_tarfile(there):
                raise OptionError(f"{printable(str(there))} is there and is not a tar file; name another --out")
            found, self.end = complete_members(there)
        except OSError as error:
            raise OptionError(
                f"{printable(str(there))} cannot be read ({error.strerror}); name another --out"
            ) from error
        return found & set(names)

    def add(self, name: str, data: bytes, beside: Iterable[tuple[str, bytes]] = ()) -> None:
        """Append a painting to the tar file."""
        key = name.rpartition(".")[0]
        members = [*((key + suffix, other) for suffix, other in beside), (name, data)]
        try:
            file = self._opened()
            # The painting comes last: if it is complete, so are the others.
            file.write(b"".join(_member(*member) for member in members))
            file.flush()
        except OSError as error:
            at = printable(str(self.path))
            raise PictureError(
                f"{at} cannot be written ({error.strerror}); free some space, and run it again"
            ) from error

    def finish(self) -> None:
        """Write the end of the tar file, and give it its name."""
        if self.file is None and not self.growing.exists():
            return
        file = self._opened()
        file.write(bytes(2 * tarfile.BLOCKSIZE))
        file.flush()
        os.fsync(file.fileno())
        file.close()
        self.file = None
        os.replace(self.growing, self.path)

    def _opened(self) -> BinaryIO:
        if self.file is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if self.path.exists() and not self.growing.exists():
                os.replace(self.path, self.growing)
            self.file = open(self.growing, "r+b" if self.growing.exists() else "x+b")  # noqa: SIM115
            self.file.truncate(self.end)
            self.file.seek(self.end)
        return self.file


def _member(name: str, data: bytes) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(data), 0o644
    return info.tobuf(tarfile.PAX_FORMAT) + data + bytes(-len(data) % tarfile.BLOCKSIZE)


def complete_members(path: Path) -> tuple[set[str], int]:
    """Return the names of a tar file's complete members, and the offset where the next begins."""
    found, end, length = set[str](), 0, path.stat().st_size
    with suppress(tarfile.ReadError), tarfile.open(path, mode="r:") as archive:
        for member in archive:
            after = member.offset_data + -(-member.size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
            if after > length:
                break
            found.add(member.name)
            end = after
    return found, end
