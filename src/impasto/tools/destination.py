"""The destination of a painting: the file that the user names, or a new file in a folder.

A file that the user names is replaced. A generated name never replaces a file: it gets a number instead.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from ..errors import PictureError
from ..image.source import printable


@dataclass(frozen=True)
class Destination:
    """The destination of a painting.

    Parameters
    ----------
    out : Path or None
        A file, a folder, or - for standard output; None is the current folder.
    name, suffix : str
        File name in a folder: name.png, or name-2.png, name-3.png and so on if that exists.
    """

    out: Path | None
    name: str
    suffix: str = ".png"

    @property
    def folder(self) -> Path | None:
        """The folder in which the file gets a generated name; None if the user named the file."""
        if self.out is None:
            return Path()
        return self.out if str(self.out) != "-" and self.out.is_dir() else None

    @property
    def file(self) -> str:
        """The file that would be written now; - for standard output."""
        if self.folder is None:
            return str(self.out)
        return str(next(p for p in self._names(self.folder) if not os.path.lexists(p)))

    @contextmanager
    def claimed(self) -> Iterator[str]:
        """Yield the file to write. A file with a generated name is created now, so that no other painting takes it.

        Raises
        ------
        PictureError
            If the file cannot be created.
        """
        if self.folder is None:
            yield str(self.out)
            return
        path = self._create(self.folder)
        try:
            yield str(path)
        except BaseException:
            path.unlink(missing_ok=True)
            raise

    def _create(self, folder: Path) -> Path:
        for path in self._names(folder):
            try:
                path.touch(exist_ok=False)
            except FileExistsError:
                continue
            except OSError as error:
                name = printable(str(path))
                raise PictureError(f"{name} cannot be written ({error.strerror}); choose another place") from error
            return path
        raise AssertionError("the numbers never end")

    def _names(self, folder: Path) -> Iterator[Path]:
        yield folder / (self.name + self.suffix)
        yield from (folder / f"{self.name}-{i}{self.suffix}" for i in count(2))
