"""Reading for training gives the result of `read_image`, at 8 bits, over white and reduced."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from impasto.errors import PictureError
from impasto.image.read import read_image
from impasto.image.reduced import read_reduced


def expected(data: bytes) -> NDArray[np.uint8]:
    picture = read_image(io.BytesIO(data))
    colour = picture.tensor if picture.alpha is None else picture.tensor * picture.alpha + (1 - picture.alpha)
    return (colour[0].permute(1, 2, 0) * 255).round().numpy().astype(np.uint8)


def read(data: bytes, short_side: int = 1000) -> NDArray[np.uint8]:
    return read_reduced(io.BytesIO(data), short_side)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "I", "F"])
def test_all_modes_are_read_as_the_product_reads_them(levels: NDArray[np.uint8], encoded: Any, mode: str) -> None:
    image = Image.fromarray(levels)
    if mode in ("LA", "RGBA"):
        image.putalpha(Image.linear_gradient("L").resize(image.size))
        image = image.convert(mode)
    elif mode in ("I;16", "I"):
        image = Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16 if mode == "I;16" else np.int32) * 256)
    else:
        image = image.convert(mode)
    data = encoded(image, "TIFF" if mode in ("CMYK", "F", "I") else "PNG")
    found = read(data)
    assert found.flags.writeable
    assert np.array_equal(found, expected(data))


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF", "MPO"])
@pytest.mark.parametrize("orientation", [1, 3, 6, 7])
def test_upright(levels: NDArray[np.uint8], encoded: Any, file_format: str, orientation: int) -> None:
    tags = Image.Exif()
    tags[274] = orientation
    data = encoded(Image.fromarray(levels), file_format, exif=tags)
    assert np.array_equal(read(data), expected(data))
    assert read(data, 20).shape == ((28, 20, 3) if orientation in (6, 7) else (20, 28, 3))


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_profile(levels: NDArray[np.uint8], encoded: Any, display_profile: bytes, file_format: str) -> None:
    data = encoded(Image.fromarray(levels), file_format, icc_profile=display_profile)
    assert np.array_equal(read(data), expected(data))
    assert np.abs(read(data) - read(encoded(Image.fromarray(levels), file_format)).astype(int)).mean() > 5


def test_heic(levels: NDArray[np.uint8]) -> None:
    heif = pytest.importorskip("pillow_heif")
    out = io.BytesIO()
    heif.from_pillow(Image.fromarray(levels)).save(out)
    assert np.array_equal(read(out.getvalue()), expected(out.getvalue()))


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "MPO"])
def test_large_pictures(photo_file: Callable[[str], Path], encoded: Any, file_format: str) -> None:
    """A JPEG decoded at a fraction of its size differs little from the reduced whole."""
    with Image.open(photo_file("coffee")) as image:
        whole = image.convert("RGB").resize((1600, 1067), Image.Resampling.BICUBIC)
    found = read(encoded(whole, file_format, **({} if file_format == "PNG" else {"quality": 95})), 100)
    wanted = np.asarray(whole.resize((150, 100), Image.Resampling.LANCZOS))
    assert found.shape == wanted.shape
    assert np.abs(found - wanted.astype(int)).mean() < (1e-9 if file_format == "PNG" else 1.0)


def test_a_small_picture_keeps_its_size(levels: NDArray[np.uint8], encoded: Any) -> None:
    assert np.array_equal(read(encoded(Image.fromarray(levels), "PNG"), 40), levels)


@pytest.mark.parametrize(
    ("data", "message"),
    [(b"", "is empty"), (b"text", "is not a picture"), (b"\xff\xd8\xff\xe0 no", "is (damaged|cut short)")],
)
def test_errors_name_the_file(tmp_path: Path, data: bytes, message: str) -> None:
    (tmp_path / "x.jpg").write_bytes(data)
    with pytest.raises(PictureError, match=rf"x.jpg {message}"):
        read_reduced(tmp_path / "x.jpg", 100)
