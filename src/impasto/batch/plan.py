"""Plan a batch: which photograph is painted in which style, and what its painting is called."""

import glob
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path, PurePosixPath

from ..errors import OptionError
from ..image.source import printable
from ..image.write import SUFFIXES, check_target
from ..options import StylizeOptions
from ..train.pictures import find_pictures
from .photos import GLOB, Photo, find_photos
from .table import Row, read_table

DEFAULT_SUFFIX = ".png"
"""Suffix of a painting whose photograph has a format that is not written."""
STYLE_SUFFIX = ".safetensors"


@dataclass(frozen=True)
class Look:
    """How a photograph is painted: a stylizer is made for each look, and kept.

    Parameters
    ----------
    style : str
        A style's path or built-in name.
    options : StylizeOptions
        The options.
    """

    style: str
    options: StylizeOptions

    @property
    def name(self) -> str:
        """The style's name, without folders and suffix."""
        return Path(self.style).name.split(".")[0]


@dataclass(frozen=True)
class Task:
    """A painting to make.

    Parameters
    ----------
    photo : Photo
        The photograph.
    look : Look
        How to paint it.
    out : str
        The painting's name in the folder, tar file or storage that the paintings go to, with slashes.
    """

    photo: Photo
    look: Look
    out: str


@dataclass(frozen=True)
class Request:
    """What the user asks for.

    Parameters
    ----------
    photos : tuple of str
        As for `find_photos`, and CSV files.
    styles : tuple of str
        Built-in names, files, folders and globs.
    out : str
        Where the paintings go: a folder, a tar file, or an address.
    pattern : str
        The pattern of their names.
    pairs : bool
        Paint the first photograph in the first style, and so on.
    """

    photos: tuple[str, ...]
    styles: tuple[str, ...]
    out: str
    pattern: str
    pairs: bool = False


def make_plan(request: Request, options: StylizeOptions) -> list[Task]:
    """Return the paintings to make, photograph by photograph.

    Raises
    ------
    OptionError
        If nothing is to be painted, a name does not exist, the numbers of a pairwise batch differ, or two paintings
        would have the same name or one that cannot be written.
    """
    tables = [name for name in request.photos if name.lower().endswith(".csv") and os.path.isfile(name)]
    named = [name for name in request.photos if name not in tables]
    styles = find_styles(request.styles)
    photos = find_photos(named, request.out)
    tasks = [task for name in tables for row in read_table(name, options) for task in _of_row(row, styles, request)]
    if photos and not styles:
        raise OptionError("no style given; name styles with --style (see `impasto styles`)")
    if request.pairs and photos:
        if len(photos) != len(styles):
            raise OptionError(f"--pairs: there are {len(photos)} photos and {len(styles)} styles; give as many of each")
        chosen = list(zip(photos, styles, strict=True))
    else:
        chosen = [(photo, style) for photo in photos for style in styles]
    tasks += [_task(photo, Look(style, options), request.pattern) for photo, style in chosen]
    if not tasks:
        raise OptionError("no photos given; name pictures, folders, globs, .csv or .tar files before --style")
    check_names(tasks, request.out)
    return tasks


def find_styles(given: Sequence[str]) -> list[str]:
    """Return the styles that the command line names; those of folders and globs by name."""
    found: list[str] = []
    for name in given:
        if os.path.isdir(name):
            files = [*find_pictures(Path(name)), *Path(name).rglob("*" + STYLE_SUFFIX)]
            several = sorted(str(path) for path in files)
        elif any(c in name for c in GLOB) and not os.path.exists(name):
            several = sorted(path for path in glob.glob(name, recursive=True) if os.path.isfile(path))
        else:
            several = [name]
        if not several:
            raise OptionError(f"--style {printable(name)} has no pictures and no style files; check the name")
        found += several
    return found


def _of_row(row: Row, styles: Sequence[str], request: Request) -> Iterator[Task]:
    if not (row.style or styles):
        raise OptionError(f"{row.where}: no style; fill in the column `style`, or give --style")
    for style in [row.style] if row.style else styles:
        yield _task(row.photo, Look(style, row.options), row.out or request.pattern)


def _task(photo: Photo, look: Look, pattern: str) -> Task:
    return Task(photo, look, painting_name(photo, look, pattern))


def painting_name(photo: Photo, look: Look, pattern: str) -> str:
    """Return the name of a painting, with slashes. Raises OptionError if it leaves the folder of the paintings."""
    stem, dot, end = photo.name.rpartition(".")
    suffix = "." + end.lower()
    ext = (end if suffix in SUFFIXES else DEFAULT_SUFFIX[1:]) if dot else DEFAULT_SUFFIX[1:]
    text = pattern.format(dir=photo.folder, stem=stem if dot else photo.name, style=look.name, ext=ext)
    parts = [part for part in text.split("/") if part not in ("", ".")]
    if not parts or ".." in parts or "\\" in text or "\0" in text or Path(parts[0]).drive:
        raise OptionError(f"the painting of {printable(photo.source)} would be called {printable(text)}; change --name")
    return "/".join(parts)


def check_formats(tasks: Sequence[Task], bits: int | None) -> None:
    """Raise OptionError if a painting's format does not support that many bits per channel."""
    for suffix in dict.fromkeys(PurePosixPath(task.out).suffix[1:] for task in tasks):
        check_target(BytesIO(), format=suffix, bits=bits)


def check_names(tasks: Sequence[Task], out: str) -> None:
    """Check the paintings' names before anything is painted.

    Raises
    ------
    OptionError
        If two paintings would have the same name, a name has no suffix that can be written, or a painting would
        replace a photograph.
    """
    taken: dict[str, Task] = {}
    files = {photo.span.file if photo.span else photo.source for photo in {task.photo for task in tasks}}
    here, folder = {os.path.realpath(file) for file in files}, os.path.realpath(out)
    if folder in here:
        raise OptionError(f"--out {printable(out)} is one of the photos or their tar file; name another --out")
    for task in tasks:
        suffix = PurePosixPath(task.out).suffix
        if suffix.lower() not in SUFFIXES:
            known = ", ".join(sorted(SUFFIXES))
            raise OptionError(f"--name: {printable(task.out)} has no suffix that can be written; use one of {known}")
        other = taken.setdefault(os.path.normcase(task.out), task)
        if other is not task:
            first, second = (f"{printable(t.photo.source)} in {printable(t.look.style)}" for t in (other, task))
            raise OptionError(
                f"{first} and {second} would both be called {printable(task.out)}; change --name, or name one folder "
                "above both"
            )
        if os.path.join(folder, task.out) in here:
            raise OptionError(
                f"{printable(task.out)} in {printable(out)} is a photo of this batch; change --name or --out"
            )
