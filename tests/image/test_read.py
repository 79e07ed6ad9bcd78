"""Tests of reading: orientations, modes, alpha, metadata."""

import io
import logging
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from impasto.errors import PictureError
from impasto.image import exif
from impasto.image.picture import Picture
from impasto.image.read import read_image


def read(data: bytes) -> Picture:
    return read_image(io.BytesIO(data))


def tensor_of(array: NDArray[Any], white: int = 255) -> Tensor:
    """Return (H, W, C) numbers as (1, C, H, W) in [0, 1]."""
    return torch.from_numpy(array.astype(np.float32) / white).permute(2, 0, 1)[None]


@pytest.mark.parametrize("name", ["astronaut", "coffee", "chelsea"])
def test_photographs(photo_file: Callable[[str], Path], name: str) -> None:
    picture = read_image(photo_file(name))
    with Image.open(photo_file(name)) as image:
        assert picture.size == (image.height, image.width)
        assert picture.tensor.equal(tensor_of(np.asarray(image.convert("RGB"))))
        assert picture.metadata.format == image.format
    assert picture.tensor.dtype == torch.float32
    assert picture.tensor.is_contiguous()
    assert picture.alpha is None
    assert picture.metadata.bits == 8


def test_a_photograph_in_adobe_rgb(photo_file: Callable[[str], Path]) -> None:
    picture = read_image(photo_file("rocket"))
    with Image.open(photo_file("rocket")) as image:
        linear = (np.asarray(image.convert("RGB")) / 255) ** (563 / 256)
    # Adobe RGB (1998) to linear sRGB: both have the white point D65.
    matrix = np.array([[1.39836, -0.39836, 0], [0, 1, 0], [0, -0.04293, 1.04293]])
    light = (linear @ matrix.T).clip(0, 1)
    expected = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    difference = (picture.tensor - tensor_of(expected, 1)).abs() * 255
    assert difference.mean() < 0.5
    assert difference.max() < 4


@pytest.mark.parametrize("file_format", ["PNG", "WEBP", "TIFF", "BMP"])
def test_lossless_formats_are_exact(levels: NDArray[np.uint8], encoded: Any, file_format: str) -> None:
    options = {"lossless": True} if file_format == "WEBP" else {}
    assert read(encoded(Image.fromarray(levels), file_format, **options)).tensor.equal(tensor_of(levels))


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_cameras_turn_is_undone(encoded: Any, file_format: str, orientation: int) -> None:
    upright = np.zeros((24, 40, 3), np.uint8)  # red top left, green top right, blue bottom left
    upright[:12, :20], upright[:12, 20:], upright[12:, :20] = (255, 0, 0), (0, 255, 0), (0, 0, 255)
    # What the sensor saw: the inverse of what EXIF 2.3 says that the viewer does.
    turn = {
        1: lambda x: x,
        2: lambda x: x[:, ::-1],
        3: lambda x: x[::-1, ::-1],
        4: lambda x: x[::-1],
        5: lambda x: x.swapaxes(0, 1),
        6: lambda x: np.rot90(x, 1),
        7: lambda x: x[::-1, ::-1].swapaxes(0, 1),
        8: lambda x: np.rot90(x, -1),
    }[orientation]
    tags = Image.Exif()
    tags[274], tags[271] = orientation, "Maker"
    picture = read(encoded(Image.fromarray(np.ascontiguousarray(turn(upright))), file_format, exif=tags))
    assert picture.size == (24, 40)
    corners = picture.tensor[0, :, 4:-4:15, 4:-4:31].round()
    assert corners.equal(tensor_of(upright)[0, :, 4:-4:15, 4:-4:31])
    kept = exif.parse(picture.metadata.exif)
    assert kept is not None
    assert kept.orientation == 1
    assert kept.main[271][2] == b"Maker\0"


def test_a_turn_that_is_none(levels: NDArray[np.uint8], encoded: Any) -> None:
    for orientation in (0, 9, 300):
        tags = Image.Exif()
        tags[274] = orientation
        assert read(encoded(Image.fromarray(levels), "PNG", exif=tags)).size == (40, 56)


def grey_ramp() -> Image.Image:
    return Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16))


def test_grey(encoded: Any) -> None:
    ramp = tensor_of(np.arange(256).reshape(16, 16, 1)).expand(1, 3, 16, 16)
    for kind in ("PNG", "TIFF", "BMP", "PPM"):
        assert read(encoded(grey_ramp(), kind)).tensor.equal(ramp)


def test_one_bit(encoded: Any) -> None:
    image = Image.new("1", (8, 4))
    image.putpixel((3, 2), 1)
    for kind in ("PNG", "TIFF", "BMP"):
        picture = read(encoded(image, kind))
        assert picture.tensor.sum() == 3
        assert (picture.tensor[0, :, 2, 3] == 1).all()


def test_palette(encoded: Any) -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putpixel((1, 0), 1)
    for kind in ("PNG", "GIF", "TIFF", "BMP"):
        picture = read(encoded(image, kind))
        assert (picture.tensor[0, :, 0] * 255).round().T.tolist() == [[10, 20, 30], [40, 50, 60]]
        assert picture.alpha is None


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF", "AVIF"])
def test_alpha_of_rgba(levels: NDArray[np.uint8], encoded: Any, kind: str) -> None:
    alpha = np.linspace(0, 255, 40 * 56).reshape(40, 56, 1).astype(np.uint8)
    image = Image.fromarray(np.concatenate((levels, alpha), 2), "RGBA")
    options = {"WEBP": {"lossless": True, "exact": True}, "AVIF": {"quality": 100, "subsampling": "4:4:4"}}
    picture = read(encoded(image, kind, **options.get(kind, {})))
    assert picture.alpha is not None
    assert picture.alpha.shape == (1, 1, 40, 56)
    tolerance = 0.02 if kind == "AVIF" else 0
    assert torch.allclose(picture.alpha, tensor_of(alpha), rtol=0, atol=tolerance)
    assert (picture.tensor - tensor_of(levels)).abs().mean() <= tolerance


def test_alpha_of_grey(encoded: Any) -> None:
    image = Image.merge("LA", (grey_ramp(), grey_ramp().transpose(Image.Transpose.ROTATE_180)))
    for kind in ("PNG", "TIFF"):
        picture = read(encoded(image, kind))
        assert picture.alpha is not None
        assert picture.alpha.equal(picture.tensor[:, :1].flip(2, 3))


def test_alpha_of_a_palette(encoded: Any) -> None:
    image = Image.new("P", (3, 1))
    image.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    image.putpixel((1, 0), 1)
    image.putpixel((2, 0), 2)
    for kind, transparency, expected in (
        ("PNG", 1, [255, 0, 255]),
        ("GIF", 1, [255, 0, 255]),
        ("PNG", b"\x80\xff\x01", [128, 255, 1]),
    ):
        picture = read(encoded(image, kind, transparency=transparency))
        assert picture.alpha is not None
        assert (picture.alpha.flatten() * 255).round().tolist() == expected
        if kind == "PNG":
            assert (picture.tensor[0, 0, 0] * 255).round().tolist() == [10, 40, 70]


@pytest.mark.parametrize(
    ("mode", "colour", "other", "transparency"),
    [
        ("RGB", (1, 2, 3), (1, 2, 4), (1, 2, 3)),
        ("L", 7, 8, 7),
        ("1", 1, 0, 1),
        ("I;16", 40000, 40001, 40000),
    ],
)
def test_alpha_of_one_colour(encoded: Any, mode: str, colour: Any, other: Any, transparency: Any) -> None:
    """PNG's tRNS chunk makes one colour transparent."""
    image = Image.new(mode, (2, 1), colour)
    image.putpixel((1, 0), other)
    picture = read(encoded(image, "PNG", transparency=transparency))
    assert picture.alpha is not None
    assert picture.alpha.flatten().tolist() == [0, 1]


def test_cmyk_without_a_profile(encoded: Any) -> None:
    image = Image.new("CMYK", (8, 8), (255, 0, 0, 0))
    for kind in ("JPEG", "TIFF"):
        pixel = read(encoded(image, kind)).tensor[0, :, 4, 4]
        assert torch.allclose(pixel, torch.tensor([0.0, 1.0, 1.0]), atol=0.02)


def test_the_first_picture_of_many(encoded: Any) -> None:
    frames = [Image.new("RGB", (6, 4), c) for c in ((255, 0, 0), (0, 255, 0))]
    for kind in ("GIF", "PNG", "WEBP", "TIFF", "AVIF"):
        picture = read(encoded(frames[0], kind, save_all=True, append_images=frames[1:]))
        assert picture.tensor[0, 0].min() > 0.95
        assert picture.tensor[0, 1].max() < 0.05


def test_a_damaged_exif_block_is_left_out(
    levels: NDArray[np.uint8], encoded: Any, caplog: pytest.LogCaptureFixture
) -> None:
    for block in (
        b"Exif\0\0nonsense",
        b"Exif\0\0II*\0\xff\xff\xff\xff",
        b"Exif\0\0MM\0*\0\0\0\x08\xff\xff" + b"\1" * 40,
    ):
        with caplog.at_level(logging.WARNING):
            picture = read(encoded(Image.fromarray(levels), "JPEG", exif=block))
        assert picture.metadata.exif == b""


@pytest.mark.parametrize("sides", [(0, 5), (5, 0), (0, 0)])
def test_zero_sides(sides: tuple[int, int]) -> None:
    header = b"IHDR" + struct.pack(">IIBBBBB", *sides, 8, 2, 0, 0, 0)
    png = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    png += struct.pack(">I", 0) + b"IDAT" + struct.pack(">I", zlib.crc32(b"IDAT"))
    with pytest.raises(PictureError, match="has no pixels, or none of a known kind; save it again"):
        read(png)


def test_xmp_is_kept(levels: NDArray[np.uint8], encoded: Any) -> None:
    packet = (
        b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        b'<rdf:Description xmlns:dc="http://purl.org/dc/elements/1.1/" dc:format="a cat"/></rdf:RDF></x:xmpmeta>'
    )
    for kind in ("JPEG", "WEBP", "AVIF"):
        assert b'dc:format="a cat"' in read(encoded(Image.fromarray(levels), kind, xmp=packet)).metadata.xmp


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("size", [(1, 1), (1, 5), (5, 1)])
def test_a_picture_one_pixel_wide_is_turned(size: tuple[int, int], orientation: int) -> None:
    tags, out = Image.Exif(), io.BytesIO()
    tags[274] = orientation
    Image.new("RGBA", size, (10, 20, 30, 40)).save(out, "PNG", exif=tags)
    picture = read_image(io.BytesIO(out.getvalue()))
    assert picture.size == (size if orientation in (5, 6, 7, 8) else size[::-1])
