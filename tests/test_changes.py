"""The keyword arguments of the library's calls: their types, and the page that lists them."""

from dataclasses import MISSING, fields
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import pytest
from typing_extensions import Doc

from impasto.options import BatchOptions, LearnOptions, LiveOptions, StylizeOptions, TextureOptions, VideoOptions
from impasto.options.changes import LearnChanges, StylizeChanges, TextureChanges
from impasto.ranges import Range

PAGE = Path(__file__).parents[1] / "docs" / "options.md"
FILMS, LIVE, BATCH = (PAGE.with_name(f"{n}.md") for n in ("video", "live", "batch"))
needs_page = pytest.mark.skipif(not PAGE.exists(), reason="the documentation is not in the source distribution")


def with_lists(hint: Any) -> set[Any]:
    """Return the alternatives of a type, with a list for each tuple."""
    if get_origin(hint) in (Union, UnionType):
        return set().union(*map(with_lists, get_args(hint)))
    if get_origin(hint) is tuple:
        return {hint, list[get_args(hint)[0]]}
    return {hint}


@pytest.mark.parametrize(
    ("options", "changes"),
    [(StylizeOptions, StylizeChanges), (TextureOptions, TextureChanges), (LearnOptions, LearnChanges)],
)
def test_keyword_arguments_are_the_options(options: type, changes: type) -> None:
    hints = get_type_hints(options)
    expected = {f.name: with_lists(hints[f.name]) for f in fields(options)}
    assert {name: with_lists(hint) for name, hint in get_type_hints(changes).items()} == expected


def type_name(hint: Any) -> str:
    if get_origin(hint) in (Union, UnionType):
        return " or ".join(type_name(h) for h in get_args(hint) if h is not type(None))
    if get_origin(hint) is Literal:
        return ", ".join(f'`"{value}"`' for value in get_args(hint))
    if get_origin(hint) is tuple:
        return f"tuple of {get_args(hint)[0].__name__}"
    return hint.__name__


def rows(options: type, besides: type | None = None) -> list[str]:
    """Return the rows of the page's table, except those that are the same for the class `besides`."""
    found, hints = [], get_type_hints(options, include_extras=True)
    for field in fields(options):
        assert field.default is not MISSING
        assert get_origin(hints[field.name]) is Annotated
        hint, *notes = get_args(hints[field.name])
        (said,) = (n.documentation for n in notes if isinstance(n, Doc))
        limits = "".join(f", {n} {n.unit}".rstrip() for n in notes if isinstance(n, Range))
        default = f'`"{field.default}"`' if isinstance(field.default, str) else f"`{field.default}`"
        found.append(f"| `{field.name}` | {type_name(hint)}{limits} | {default} | {said} |")
    return [row for row in found if besides is None or row not in rows(besides)]


@needs_page
@pytest.mark.parametrize(
    ("heading", "table"),
    [
        ("## Painting", rows(StylizeOptions)),
        ("## Textures", rows(TextureOptions, besides=StylizeOptions)),
        ("## Learning a style", rows(LearnOptions)),
    ],
)
def test_the_page_lists_the_options(heading: str, table: list[str]) -> None:
    section = PAGE.read_text(encoding="utf-8").partition(heading)[2].partition("\n## ")[0]
    found = [line for line in section.splitlines() if line.startswith("| `")]
    assert found == table, f"under {heading} in {PAGE.name} must stand:\n" + "\n".join(table)


@needs_page
@pytest.mark.parametrize(
    ("page", "table"),
    [(FILMS, rows(VideoOptions, besides=StylizeOptions)), (LIVE, rows(LiveOptions, besides=VideoOptions))],
)
def test_the_pages_of_films_and_live_list_their_options(page: Path, table: list[str]) -> None:
    section = page.read_text(encoding="utf-8").partition("## Options")[2]
    found = [line for line in section.splitlines() if line.startswith("| `")]
    assert found == table, f"under Options in {page.name} must stand:\n" + "\n".join(table)


@needs_page
def test_the_page_of_batches_lists_their_options() -> None:
    section = BATCH.read_text(encoding="utf-8").partition("## Options")[2].partition("\n## ")[0]
    found = [line for line in section.splitlines() if line.startswith("| `")]
    table = rows(BatchOptions)
    assert found == table, f"under Options in {BATCH.name} must stand:\n" + "\n".join(table)


@needs_page
def test_the_page_names_the_options_of_textures() -> None:
    section = PAGE.read_text(encoding="utf-8").partition("## Textures")[2].partition("\n\n|")[0]
    differing = {row.split("`")[1] for row in rows(TextureOptions, besides=StylizeOptions)}
    assert {name for name in section.split("`")[1::2] if name.isidentifier()} >= {
        f.name for f in fields(TextureOptions) if f.name not in differing
    }
