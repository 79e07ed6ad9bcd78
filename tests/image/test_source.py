"""Tests of sources, and of the messages for those that cannot be read."""

import io
import os
import sys
import threading
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from impasto.errors import OptionError, PictureError
from impasto.image.read import read_image
from impasto.image.source import quiet


class Stdin:
    """Standard input with these bytes."""

    def __init__(self, data: bytes, terminal: bool = False) -> None:
        self.buffer = io.BytesIO(data)
        self.buffer.isatty = lambda: terminal  # type: ignore[method-assign]


@pytest.fixture
def png(levels: NDArray[np.uint8], encoded: Any) -> bytes:
    return encoded(Image.fromarray(levels), "PNG")


def test_a_path_a_file_and_standard_input_give_the_same(
    png: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(png)
    monkeypatch.setattr(sys, "stdin", Stdin(png))
    pictures = [read_image(path), read_image(str(path)), read_image(io.BytesIO(png)), read_image("-")]
    for picture in pictures[1:]:
        assert picture.tensor.equal(pictures[0].tensor)
    with path.open("rb") as file:
        assert read_image(file).metadata.name == str(path)
    assert [p.metadata.name for p in pictures] == [str(path), str(path), "the picture", "standard input"]


def test_a_suffix_may_lie(png: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(png)
    assert read_image(path).metadata.format == "PNG"


def test_a_pipe_is_read(png: bytes) -> None:
    read_end, write_end = os.pipe()
    writer = threading.Thread(target=lambda: (os.write(write_end, png), os.close(write_end)))
    writer.start()
    with os.fdopen(read_end, "rb") as stream:
        assert read_image(stream).size == (40, 56)
    writer.join()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("missing.png", None, "missing.png does not exist; check the path"),
        ("empty.png", b"", "empty.png is empty"),
        ("words.png", b"these are words", "words.png is not a picture of a known format; convert it"),
        ("short.png", b"\x89", "short.png is not a picture"),
        ("drawing.svg", b"<svg xmlns=''/>", "drawing.svg is a vector drawing or a document"),
        ("page.pdf", b"%PDF-1.7", "page.pdf is a vector drawing or a document"),
        (
            "program.eps",
            b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
            "program.eps is a vector drawing or a document",
        ),
        ("camera.NEF", b"II*\0", "camera.NEF is a camera's raw file; develop it"),
        ("two\nlines.png", b"x", r"two\\nlines.png' is not a picture"),
    ],
)
def test_what_is_said(tmp_path: Path, name: str, content: bytes | None, message: str) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(PictureError, match=message) as caught:
        read_image(path)
    assert "\n" not in str(caught.value)
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("https://example.org/a.png", "is a web address; download"),
        ("a\0b.png", "cannot be opened"),
        ("x" * 5000, "cannot be opened"),
    ],
)
def test_impossible_paths(source: str, message: str) -> None:
    with pytest.raises(PictureError, match=message):
        read_image(source)


def test_a_folder(tmp_path: Path) -> None:
    with pytest.raises(PictureError, match="is a folder; give the path of a picture"):
        read_image(tmp_path)


def test_a_file_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"x")

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", refuse)
    with pytest.raises(PictureError, match=r"a\.png is not readable; change its permissions"):
        read_image(path)


def test_nothing_on_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", Stdin(b""))
    with pytest.raises(PictureError, match="standard input is empty"):
        read_image("-")
    closed = Stdin(b"")
    closed.buffer.close()
    for stdin in (None, closed, Stdin(b"", terminal=True)):
        monkeypatch.setattr(sys, "stdin", stdin)
        with pytest.raises(PictureError, match="standard input holds no picture"):
            read_image("-")


@pytest.mark.parametrize("source", [5, None, io.StringIO("text")])
def test_other_kinds(source: Any) -> None:
    with pytest.raises(OptionError):
        read_image(source)


def test_a_stream_that_fails() -> None:
    class Failing(io.RawIOBase):
        def read(self, size: int = -1) -> bytes:
            raise OSError("wire cut")

    with pytest.raises(PictureError, match="wire cut"):
        read_image(Failing())  # type: ignore[arg-type]


def test_a_file_far_too_long(tmp_path: Path) -> None:
    path = tmp_path / "video.mkv"
    with path.open("wb") as file:
        file.truncate(300 * 2**20)  # a hole: it takes no space
    with pytest.raises(PictureError, match="too long for a picture; if it is one, raise --max-megapixels"):
        read_image(path, max_megapixels=1)


def test_the_size_is_checked_before_decoding(levels: NDArray[np.uint8], encoded: Any) -> None:
    image = Image.fromarray(levels)
    for kind in ("PNG", "JPEG", "WEBP", "TIFF", "AVIF", "BMP", "GIF"):
        data = encoded(image, kind)
        with pytest.raises(PictureError, match=r"0\.0 megapixels \(56x40\), more than 0\.002.*--max-megapixels"):
            read_image(io.BytesIO(data), max_megapixels=0.002)
        assert read_image(io.BytesIO(data), max_megapixels=0.00224).size == (40, 56)


def test_a_bomb_costs_nothing(encoded: Any) -> None:
    bomb = bytearray(encoded(Image.new("1", (8, 8)), "BMP"))
    bomb[18:26] = (2**20).to_bytes(4, "little") * 2
    with pytest.raises(PictureError, match=r"1,099,511\.6 megapixels .*raise --max-megapixels"):
        read_image(io.BytesIO(bomb))


def test_pillows_own_limit_is_not_ours(monkeypatch: pytest.MonkeyPatch, png: bytes) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert read_image(io.BytesIO(png)).size == (40, 56)


def test_no_limit(png: bytes) -> None:
    assert read_image(io.BytesIO(png), max_megapixels=float("inf")).size == (40, 56)


@pytest.mark.parametrize("limit", [0, -1, float("nan")])
def test_a_limit_of_nothing(limit: float) -> None:
    with pytest.raises(OptionError, match="--max-megapixels"):
        read_image("a.png", max_megapixels=limit)


def test_warnings_come_back_after_decoding() -> None:
    before = warnings.filters[:]
    with quiet(), quiet():
        warnings.warn("unheard", stacklevel=1)
    assert warnings.filters == before
    with pytest.warns(UserWarning, match="heard"):
        warnings.warn("heard", stacklevel=1)


def test_warnings_come_back_after_decoding_in_threads(png: bytes) -> None:
    before = warnings.filters[:]
    threads = [threading.Thread(target=lambda: [read_image(io.BytesIO(png)) for _ in range(5)]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert warnings.filters == before
