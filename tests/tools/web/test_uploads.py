"""Uploads get safe names, and styles are built-in names or uploaded files."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from impasto.errors import ImpastoError, OptionError, PictureError, StyleError
from impasto.options import OutputOptions, StylizeOptions
from impasto.tools.job import PaintJob
from impasto.tools.web.uploads import Request, Upload, check_uploads, place, safe_name, without_folder


def put(request: Request, folder: Path) -> PaintJob:
    return place(request, folder, StylizeOptions(), OutputOptions())


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("photo.jpg", "photo.jpg"),
        ("My photo (1).JPG", "My photo -1-.JPG"),
        ("Größe.png", "Größe.png"),
        ("../../etc/passwd", "passwd"),
        ("C:\\Users\\me\\a.png", "a.png"),
        ("-rf.png", "rf.png"),
        (".hidden", "hidden"),
        ("", "photo"),
        ("..", "photo"),
        ("-", "photo"),
        ("a\nb;$(c).png", "a-b-c-.png"),
        ("x" * 300 + ".style.safetensors", "x" * 67 + ".safetensors"),
    ],
)
def test_names(name: str, safe: str) -> None:
    assert safe_name(name, "photo") == safe


@given(st.text())
def test_any_name_stays_in_its_folder(name: str) -> None:
    found = safe_name(name, "photo")
    assert Path(found).name == found
    assert found[0] not in ".-"
    assert found.isprintable()
    assert len(found) <= 80


def test_files_are_put_apart(tmp_path: Path, picture: bytes) -> None:
    """Two files with one name, and one named like a built-in style, are all kept apart."""
    request = Request(
        Upload("a.png", picture),
        ("udnie", "file:2"),
        (Upload("a.png", picture), Upload("udnie", picture)),
        ((Upload("a.png", picture), "file:1"),),
    )
    placed = put(request, tmp_path)
    assert Path(placed.content).name == "a.png"
    assert placed.styles == ("udnie", str(tmp_path / "udnie-2"))
    assert placed.regions == ((str(tmp_path / "a-3.png"), str(tmp_path / "a-2.png")),)
    sizes: list[tuple[int, int]] = []
    check_uploads(placed, 1.0, sizes.append)
    assert sizes == [(64, 72)]


@pytest.mark.parametrize(
    ("style", "error", "message"),
    [
        ("stary-night", StyleError, "is not a built-in style"),
        ("/etc/passwd", StyleError, "is not a built-in style"),
        ("http://example.com/a.png", StyleError, "is not a built-in style"),
        ("-", StyleError, "is not a built-in style"),
        ("file:2", StyleError, "1 style files were sent"),
        ("file:0", StyleError, "1 style files were sent"),
    ],
)
def test_styles_that_are_none(
    tmp_path: Path, picture: bytes, style: str, error: type[ImpastoError], message: str
) -> None:
    with pytest.raises(error, match=message):
        put(Request(Upload("a.png", picture), (style,), (Upload("b.png", picture),)), tmp_path)


def test_no_style(tmp_path: Path, picture: bytes) -> None:
    with pytest.raises(OptionError, match="no style given"):
        put(Request(Upload("a.png", picture)), tmp_path)


def test_messages_do_not_tell_where_files_lie(tmp_path: Path) -> None:
    placed = put(Request(Upload("a.png", b"no picture"), ("udnie",)), tmp_path)
    with pytest.raises(PictureError) as caught:
        check_uploads(placed, 1.0, id)
    said = without_folder(str(caught.value), tmp_path)
    assert said.startswith("a.png is not a picture")
    assert str(tmp_path) not in said
