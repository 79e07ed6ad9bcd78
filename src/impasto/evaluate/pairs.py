"""What to evaluate: results with their photographs and styles, from a list or from folders."""

import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import OptionError
from ..image.source import printable
from ..train.pictures import find_pictures

HEADERS = ("photograph", "photo", "content")
"""First cells that mark a list's first line as its header."""
BETWEEN = re.compile(r"[-_. +]+(?:stylized[-_. +]+)?")
"""What may separate the photograph's name from the style's in a result's name."""


@dataclass(frozen=True)
class Triple:
    """A result with its photograph and its style.

    Parameters
    ----------
    content, style, result : Path
        The pictures.
    """

    content: Path
    style: Path
    result: Path


def read_list(path: Path, columns: int = 3) -> list[list[Path]]:
    """Read a list of pictures: one line each with photograph, style and result.

    Columns are separated by commas in a file named `.csv`, else by tabs. Paths are relative to the list's folder. A
    first line that begins with `photograph`, `photo` or `content` is a header.

    Parameters
    ----------
    path : Path
        The list.
    columns : int
        Number of columns needed: 3, or 2 without results. More are ignored.

    Raises
    ------
    OptionError
        If the list cannot be read, is empty, or a line has too few columns.
    """
    name = printable(str(path))
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            if path.suffix.lower() == ".csv":
                lines = list(csv.reader(file))
            else:
                lines = [line.rstrip("\r\n").split("\t") for line in file]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not a text file in UTF-8"
        raise OptionError(f"cannot read the list {name}: {reason}") from error
    numbered = [(i, line) for i, line in enumerate(lines, start=1) if any(cell.strip() for cell in line)]
    if numbered and numbered[0][1][0].strip().lower() in HEADERS:
        del numbered[0]
    if not numbered:
        raise OptionError(f"{name} lists no pictures; write lines of photograph, style and result")
    for i, line in numbered:
        if len([cell for cell in line[:columns] if cell.strip()]) < columns:
            wanted = "photograph, style and result" if columns == 3 else "photograph and style"
            by = "commas" if path.suffix.lower() == ".csv" else "tabs"
            raise OptionError(f"{name}, line {i}: give {wanted}, separated by {by}")
    return [[path.parent / cell.strip() for cell in line[:columns]] for _, line in numbered]


def pictures_of(path: Path, option: str) -> list[Path]:
    """Return the pictures in a folder and its subfolders, or the one picture. Raises OptionError if there is none."""
    if path.is_dir():
        found = find_pictures(path)
        if not found:
            raise OptionError(f"{option} {printable(str(path))} holds no pictures; name another folder")
        return found
    if not path.exists():
        raise OptionError(f"{option} {printable(str(path))} does not exist; name a folder of pictures, or a picture")
    return [path]


def match(contents: Sequence[Path], styles: Sequence[Path], results: Sequence[Path]) -> tuple[list[Triple], list[Path]]:
    """Find each result's photograph and style by its name without suffix.

    A result is named like both, or PHOTO-STYLE (also with `_`, a dot, a space, or `_stylized_` between them), or, if
    there is only one style or one photograph, like the other of the two.

    Returns
    -------
    (list of Triple, list of Path)
        The matched results, and the ones without a photograph or style.

    Raises
    ------
    OptionError
        If two photographs or two styles have the same name.
    """
    photos, paintings = _by_stem(contents, "photographs"), _by_stem(styles, "styles")
    found, left = [], []
    for result in results:
        pair = _pair_of(result.stem, photos, paintings)
        if pair is None:
            left.append(result)
        else:
            found.append(Triple(*pair, result))
    return found, left


def _by_stem(paths: Sequence[Path], what: str) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in paths:
        if path.stem in found:
            first, second = (printable(str(p)) for p in (found[path.stem], path))
            raise OptionError(f"two {what} have the same name, {first} and {second}; rename one, or list the pairs")
        found[path.stem] = path
    return found


def _pair_of(stem: str, photos: Mapping[str, Path], paintings: Mapping[str, Path]) -> tuple[Path, Path] | None:
    if stem in photos and stem in paintings:
        return photos[stem], paintings[stem]
    for end in range(len(stem) - 1, 0, -1):  # the longest name of a photograph first
        between = BETWEEN.match(stem, end)
        if stem[:end] in photos and between is not None and stem[between.end() :] in paintings:
            return photos[stem[:end]], paintings[stem[between.end() :]]
    if len(paintings) == 1 and stem in photos:
        return photos[stem], next(iter(paintings.values()))
    if len(photos) == 1 and stem in paintings:
        return next(iter(photos.values())), paintings[stem]
    return None


def named_results(pairs: Sequence[tuple[Path, Path]], folder: Path) -> list[Triple]:
    """Return the pairs with files for their paintings: PHOTO-STYLE.png in the folder, with a number from the second."""
    taken: dict[str, int] = {}
    found = []
    for content, style in pairs:
        name = f"{content.stem}-{style.stem}"
        count = taken[name] = taken.get(name, 0) + 1
        found.append(Triple(content, style, folder / (f"{name}.png" if count == 1 else f"{name}.{count}.png")))
    return found


@dataclass(frozen=True)
class Sources:
    """Where the paintings and their pictures are: a list, or folders.

    Parameters
    ----------
    pairs : Path, optional
        A list for `read_list`.
    content, style, result : Path, optional
        Folders, or single pictures.
    """

    pairs: Path | None = None
    content: Path | None = None
    style: Path | None = None
    result: Path | None = None

    def painted(self) -> tuple[list[Triple], list[Path]]:
        """Return the paintings that exist, and the results without a photograph or style.

        Raises
        ------
        OptionError
            If sources are missing or empty.
        """
        if self.pairs is not None:
            self._check_list()
            return [Triple(*row) for row in read_list(self.pairs)], []
        if self.content is None or self.style is None or self.result is None:
            raise OptionError("give a list of pictures, or --content, --style and --result (or --paint for a result)")
        contents, styles = pictures_of(self.content, "--content"), pictures_of(self.style, "--style")
        return match(contents, styles, pictures_of(self.result, "--result"))

    def to_paint(self, folder: Path) -> list[Triple]:
        """Return the paintings to make in a folder: each pair of the list, or every photograph in every style.

        Raises
        ------
        OptionError
            If sources are missing or empty, or results are given.
        """
        if self.result is not None:
            raise OptionError("--paint makes the results; leave out --result")
        if self.pairs is not None:
            self._check_list()
            rows = read_list(self.pairs, columns=2)
            return named_results([(content, style) for content, style in rows], folder)
        if self.content is None or self.style is None:
            raise OptionError("--paint needs --content and --style, or a list of photographs and styles")
        contents, styles = pictures_of(self.content, "--content"), pictures_of(self.style, "--style")
        return named_results([(content, style) for style in styles for content in contents], folder)

    def _check_list(self) -> None:
        if (self.content, self.style, self.result) != (None, None, None):
            raise OptionError("give either a list of pictures or folders, not both")
