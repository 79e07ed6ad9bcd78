"""Large pictures that are needed small are reduced while they are read, and decoded in part if the format allows it."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageFile, features
from torch import Tensor

from impasto.errors import MemoryNeedError
from impasto.image.picture import Picture
from impasto.image.read import read_image, to_picture
from impasto.image.resize import fit_size, resize
from impasto.image.write import write_image


def to(long_side: int) -> Callable[[tuple[int, int]], tuple[int, int]]:
    return lambda size: fit_size(size, long_side=long_side)


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Record the sizes of the pictures as Pillow decodes them."""
    sizes = []
    load = ImageFile.ImageFile.load

    def noted(self: Any) -> Any:
        found = load(self)
        sizes.append(self.size)
        return found

    monkeypatch.setattr(ImageFile.ImageFile, "load", noted)
    return sizes


@pytest.fixture(scope="module")
def large(photo_file: Callable[[str], Path]) -> Image.Image:
    with Image.open(photo_file("coffee")) as image:
        return image.convert("RGB").resize((1600, 1068), Image.Resampling.BICUBIC)


@pytest.mark.parametrize("file_format", ["JPEG", "MPO", "JPEG2000"])
def test_a_part_is_decoded(large: Image.Image, encoded: Any, decoded: list[tuple[int, int]], file_format: str) -> None:
    if file_format == "JPEG2000" and not features.check("jpg_2000"):
        pytest.skip("this Pillow has no JPEG 2000")
    options = {} if file_format == "JPEG2000" else {"quality": 95}
    data = encoded(large, file_format, **options)
    decoded.clear()
    picture = read_image(io.BytesIO(data), sized=to(100))
    assert picture.size == (67, 100)
    assert picture.metadata.full_size == (1068, 1600)
    assert max(max(size) for size in decoded) <= 400
    wanted = resize(read_image(io.BytesIO(data)).tensor, (67, 100))
    assert (picture.tensor - wanted).abs().mean() < 0.01


@pytest.mark.parametrize("file_format", ["PNG", "WEBP", "TIFF"])
def test_other_formats_are_streamed_with_the_extra(
    large: Image.Image, encoded: Any, decoded: list[tuple[int, int]], display_profile: bytes, file_format: str
) -> None:
    pytest.importorskip("pyvips")
    tags = Image.Exif()
    tags[274], tags[271] = 6, "Maker"
    data = encoded(large, file_format, exif=tags, icc_profile=display_profile)
    decoded.clear()
    picture = read_image(io.BytesIO(data), sized=to(100))
    assert all(max(size) <= 1 for size in decoded)
    whole = read_image(io.BytesIO(data))
    assert picture.metadata.full_size == whole.size == (1600, 1068)
    assert picture.metadata.exif == whole.metadata.exif
    assert (picture.tensor - resize(whole.tensor, (100, 67))).abs().mean() < 0.01


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "CMYK", "I;16", "F"])
def test_every_mode_is_reduced_to_what_it_shows(large: Image.Image, encoded: Any, mode: str) -> None:
    image = large.convert("L").convert(mode) if mode in ("I;16", "F") else large.convert(mode)
    if mode == "I;16":
        image = Image.fromarray(np.asarray(large.convert("L")).astype(np.uint16) * 257)
    data = encoded(image, "TIFF" if mode in ("CMYK", "F") else "PNG")
    picture = read_image(io.BytesIO(data), sized=to(100))
    assert picture.size == (67, 100)
    wanted = resize(read_image(io.BytesIO(data)).tensor, (67, 100))
    assert (picture.tensor - wanted).abs().mean() < 0.01


@pytest.mark.parametrize("bits", [8, 16])
def test_transparency_is_reduced_with_the_colours(large: Image.Image, tmp_path: Path, bits: int) -> None:
    """Colours hidden under transparency do not show through."""
    levels = np.asarray(large).copy()
    levels[:, :800] = (255, 0, 255)
    alpha = np.full((*levels.shape[:2], 1), 255, np.uint8)
    alpha[:, :800] = 0
    cutout = np.concatenate((levels, alpha), 2)
    write_image(to_picture(cutout if bits == 8 else cutout.astype(np.uint16) * 257), tmp_path / "a.png", bits=bits)
    picture = read_image(tmp_path / "a.png", sized=to(100))
    assert picture.alpha is not None
    assert picture.alpha.shape == (1, 1, 67, 100)
    plain = resize(to_picture(np.asarray(large)).tensor, (67, 100))
    assert (picture.tensor - plain)[..., 50:].abs().mean() < 0.01
    assert (picture.tensor - plain)[..., 53:].abs().max() < 0.06
    assert picture.alpha[..., :47].max() < 0.01


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_upright(large: Image.Image, encoded: Any, orientation: int) -> None:
    tags = Image.Exif()
    tags[274] = orientation
    data = encoded(large, "JPEG", exif=tags)
    picture, whole = read_image(io.BytesIO(data), sized=to(100)), read_image(io.BytesIO(data))
    assert picture.metadata.full_size == whole.size
    assert (picture.tensor - resize(whole.tensor, fit_size(whole.size, long_side=100))).abs().mean() < 0.01


def test_less_than_twice_is_read_whole(large: Image.Image, encoded: Any) -> None:
    picture = read_image(io.BytesIO(encoded(large, "JPEG")), sized=to(900))
    assert picture.size == (1068, 1600)
    assert picture.metadata.full_size is None


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_what_speaks_against_it_is_said_before_decoding(
    large: Image.Image, encoded: Any, decoded: list[tuple[int, int]], file_format: str
) -> None:
    def refuse(size: tuple[int, int]) -> tuple[int, int]:
        raise MemoryNeedError(f"{size[1]}x{size[0]} is too much")

    data = encoded(large, file_format)
    decoded.clear()
    with pytest.raises(MemoryNeedError, match="1600x1068 is too much"):
        read_image(io.BytesIO(data), sized=refuse)
    assert not decoded


def test_heic(large: Image.Image) -> None:
    heif = pytest.importorskip("pillow_heif")
    out = io.BytesIO()
    heif.from_pillow(large).save(out)
    picture: Picture = read_image(io.BytesIO(out.getvalue()), sized=to(100))
    whole: Tensor = read_image(io.BytesIO(out.getvalue())).tensor
    assert (picture.tensor - resize(whole, (67, 100))).abs().mean() < 0.01
    assert torch.equal(read_image(io.BytesIO(out.getvalue()), sized=to(900)).tensor, whole)
