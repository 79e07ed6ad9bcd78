"""Files that are written completely or not at all."""

import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

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
