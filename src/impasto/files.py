"""Files that are written completely or not at all, and large temporary files."""

import os
import secrets
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from .errors import MemoryNeedError

UNFINISHED = ".impasto-*.part"
"""Pattern of the names of unfinished files. A killed process leaves them behind."""


@contextmanager
def atomic_write(path: Path) -> Iterator[BinaryIO]:
    """Open a new file beside `path` for writing. At the end it is synced to the disk and replaces the file at `path`.

    A new file gets the permissions that the umask allows; a replaced file keeps its permissions. Several processes may
    write the same path at once. After an error, the old file is unchanged and nothing is left behind.

    Raises
    ------
    OSError
        If the file cannot be written.
    """
    temporary = beside(path)
    try:
        with created(temporary) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        move(temporary, path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise


def beside(path: Path) -> Path:
    """Return a new name for an unfinished file or folder in the same folder as `path`."""
    return path.parent / UNFINISHED.replace("*", secrets.token_hex(6))


def created(temporary: Path) -> BinaryIO:
    """Create an unfinished file and open it for reading and writing."""
    return open(temporary, "x+b")


def move(temporary: Path, path: Path) -> None:
    """Move a finished file into place. It gets the permissions of a file that it replaces."""
    with suppress(FileNotFoundError):
        mode = stat.S_IMODE(path.stat().st_mode)
        if mode != stat.S_IMODE(temporary.stat().st_mode):
            temporary.chmod(mode)
    os.replace(temporary, path)


def temporary_folder() -> Path:
    """Return the folder for large temporary files: TMPDIR if it is set, else /var/tmp, as /tmp may be in memory."""
    lasting = Path("/var/tmp")
    if not os.environ.get("TMPDIR"):
        return lasting if os.access(lasting, os.W_OK) else Path(tempfile.gettempdir())
    return Path(os.environ["TMPDIR"])


@dataclass(frozen=True)
class TemporaryFiles:
    """The large temporary files of a task, in `temporary_folder`.

    Parameters
    ----------
    what : str
        What needs them, for messages, in the plural.
    need : int
        Their bytes in total.
    instead : str
        What to do instead of finding space for them; may be empty.
    """

    what: str
    need: int
    instead: str = ""

    def check(self) -> None:
        """Raise MemoryNeedError if the folder cannot be used, or has too little free space."""
        folder = temporary_folder()
        with self.named():
            free = shutil.disk_usage(folder).free
        if free < self.need:
            raise self._error(f"{folder} has {free / 1e9:.1f} GB")

    def open(self) -> BinaryIO:
        """Open a new file without a name, which the system deletes however the process ends, and without a buffer."""
        with self.named():
            return cast(BinaryIO, tempfile.TemporaryFile(buffering=0, dir=temporary_folder()))

    @contextmanager
    def named(self) -> Iterator[None]:
        """Turn an OSError of the files into a MemoryNeedError that names the folder and says what to do."""
        try:
            yield
        except OSError as error:
            raise self._error(f"{temporary_folder()} cannot take them ({error.strerror})") from error

    def _error(self, problem: str) -> MemoryNeedError:
        advice = "free some space there, or set TMPDIR to a folder on a larger disk"
        return MemoryNeedError(
            f"{self.what} need about {self.need / 1e9:.1f} GB for temporary files, and {problem}; {advice}"
            + (f", or {self.instead}" if self.instead else "")
        )


def write_all(file: BinaryIO, data: memoryview) -> None:
    """Write all bytes to a file without a buffer. Raises OSError if the disk is full."""
    while data.nbytes:
        data = data[file.write(data) :]
