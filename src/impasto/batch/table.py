"""Read a CSV file of photographs, styles and options."""

import csv
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import lru_cache
from pathlib import Path
from typing import Any

from ..errors import OptionError
from ..image.source import printable
from ..options import StylizeOptions
from ..tools.web.controls import Control, controls
from . import storage
from .photos import Photo

PHOTO, STYLE, OUT = "photo", "style", "out"
"""The columns that are not options."""
FLAGS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


@dataclass(frozen=True)
class Row:
    """A line of the file.

    Parameters
    ----------
    where : str
        The file and the line, for messages.
    photo : Photo
        The photograph.
    style, out : str
        The style, and the pattern of the painting's name; empty if the line does not say.
    options : StylizeOptions
        The options.
    """

    where: str
    photo: Photo
    style: str
    out: str
    options: StylizeOptions


def read_table(path: str, options: StylizeOptions) -> Iterator[Row]:
    """Yield the lines of a CSV file.

    Its header names the columns: `photo`, `style`, `out`, and options as in Python, such as `keep_colours`. Paths are
    relative to the file's folder. Empty cells mean the option of the command line.

    Raises
    ------
    OptionError
        If the file cannot be read, a column is unknown, or a value is not valid.
    """
    name = printable(path)
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            lines = csv.reader(file)
            columns = [_column(cell) for cell in next(lines, [])]
            _check(columns, name)

            @lru_cache
            def changed(cells: tuple[tuple[str, str], ...]) -> StylizeOptions:
                return replace(options, **{k: parsed(controls()[k], text) for k, text in cells})

            for cells in lines:
                if any(cell.strip() for cell in cells):
                    values = dict(zip(columns, (cell.strip() for cell in cells), strict=False))
                    yield _row(values, f"{name}, line {lines.line_num}", Path(path).parent, changed)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not a CSV file in UTF-8"
        raise OptionError(f"{name} cannot be read ({reason}); check the file") from error


def _column(cell: str) -> str:
    found = cell.strip().lstrip("-").replace("-", "_").lower()
    return {"content": PHOTO, "photograph": PHOTO, "stroke": "style_scale"}.get(found, found)


def _check(columns: list[str], name: str) -> None:
    if PHOTO not in columns:
        raise OptionError(f"{name} has no column `photo`; begin the file with a line such as photo,style,strength")
    known = (PHOTO, STYLE, OUT, *controls())
    for column in columns:
        if column not in known or columns.count(column) > 1:
            near = get_close_matches(column, known, 2)
            hint = f"did you mean {' or '.join(near)}?" if near else "docs/batch.md lists the columns"
            what = "twice" if column in known else "which is unknown"
            raise OptionError(f"{name} has the column {column!r}, {what}; {hint}")


def _row(values: Mapping[str, str], where: str, near: Path, changed: Any) -> Row:
    if not values.get(PHOTO):
        raise OptionError(f"{where}: no photo; fill in the column `photo`")
    cells = tuple((k, v) for k, v in values.items() if v and k not in (PHOTO, STYLE, OUT))
    try:
        options = changed(cells)
    except OptionError as error:
        raise OptionError(f"{where}: {error}") from error
    photo, style = values[PHOTO], values.get(STYLE, "")
    folder = "" if storage.is_address(photo) else _folder(photo)
    if style and os.path.exists(near / style):
        style = str(near / style)
    at = photo if storage.is_address(photo) else str(near / photo)
    return Row(where, Photo(at, folder), style, values.get(OUT, ""), options)


def _folder(photo: str) -> str:
    """Return the folder of a relative path, with slashes; empty for other paths."""
    parts = Path(photo).parent.parts
    return "" if Path(photo).is_absolute() or ".." in parts else "/".join(parts)


def parsed(control: Control, text: str) -> Any:
    """Return an option's value from its text. Raises OptionError if it is not valid."""
    if control.kind != "flag":
        return control.value(text)
    if text.lower() not in FLAGS:
        raise OptionError(f"{control.flag} is {text!r}; it must be true or false")
    return FLAGS[text.lower()]
