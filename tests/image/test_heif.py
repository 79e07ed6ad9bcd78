"""Tests of HEIC, the format of iPhones."""

import io
import sys
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from impasto.errors import PictureError
from impasto.image import deep
from impasto.image.heif import is_heif
from impasto.image.read import read_image


@pytest.fixture
def heic(levels: NDArray[np.uint8]) -> Any:
    """Return `heic(image, **options)`, the file as bytes."""
    pillow_heif = pytest.importorskip("pillow_heif")

    def encode(image: Image.Image, **options: Any) -> bytes:
        out = io.BytesIO()
        pillow_heif.from_pillow(image).save(out, quality=95, chroma=444, **options)
        return out.getvalue()

    try:
        encode(Image.new("RGB", (16, 16)))
    except RuntimeError:
        pytest.skip("this pillow-heif cannot write HEIC")
    return encode


def test_a_picture(heic: Any, levels: NDArray[np.uint8]) -> None:
    picture = read_image(io.BytesIO(heic(Image.fromarray(levels))))
    assert picture.size == (40, 56)
    assert picture.alpha is None
    assert picture.metadata.format == "HEIF"
    expected = torch.from_numpy(levels / np.float32(255)).permute(2, 0, 1)[None]
    assert (picture.tensor - expected).abs().mean() < 0.02


def test_alpha_metadata_and_turn(heic: Any) -> None:
    image = Image.new("RGBA", (32, 16), (200, 50, 100, 128))
    tags = Image.Exif()
    tags[274], tags[271] = 6, "Maker"
    picture = read_image(io.BytesIO(heic(image, exif=tags.tobytes())))
    assert picture.alpha is not None
    assert torch.allclose(picture.alpha * 255, torch.tensor(128.0), atol=2)
    assert b"Maker" in picture.metadata.exif
    assert sorted(picture.size) == [16, 32]


def test_a_profile(heic: Any, display_profile: bytes) -> None:
    picture = read_image(io.BytesIO(heic(Image.new("RGB", (16, 16), (200, 50, 100)), icc_profile=display_profile)))
    pixel = picture.tensor[0, :, 8, 8] * 255
    assert torch.allclose(pixel, torch.tensor([50.0, 200.0, 100.0]), atol=8)


@pytest.mark.parametrize("with_large", [True, False])
def test_ten_bits(
    heic: Any, levels: NDArray[np.uint8], display_profile: bytes, monkeypatch: pytest.MonkeyPatch, with_large: bool
) -> None:
    pillow_heif = pytest.importorskip("pillow_heif")
    if with_large:
        pytest.importorskip("pyvips")
    else:
        monkeypatch.setattr(deep, "available", lambda: False)
    wide = levels.astype(np.uint16) * 257
    for options in ({}, {"icc_profile": display_profile}):
        out = io.BytesIO()
        image = pillow_heif.from_bytes(mode="RGB;16", size=(56, 40), data=wide.tobytes())
        image.save(out, quality=95, chroma=444, **options)
        plain = read_image(io.BytesIO(heic(Image.fromarray(levels), **options)))
        picture = read_image(io.BytesIO(out.getvalue()))
        assert (picture.tensor - plain.tensor).abs().mean() < 0.02
        assert picture.metadata.bits == (16 if with_large or not options else 8)


def test_too_many_pixels(heic: Any) -> None:
    with pytest.raises(PictureError, match="--max-megapixels"):
        read_image(io.BytesIO(heic(Image.new("RGB", (64, 64)))), max_megapixels=0.004)


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(PictureError, match=r'HEIC picture; to read it, run pip install "impasto\[heif\]"'):
        read_image(io.BytesIO(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"))


def test_avif_is_not_heic(encoded: Any) -> None:
    assert not is_heif(encoded(Image.new("RGB", (8, 8)), "AVIF")[:64])
    assert not is_heif(b"\0\0\0\x1cftypmif1\0\0\0\0mif1avifmiaf")
    assert is_heif(b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic")
    assert not is_heif(b"\0\0\0\x18ftypisom\0\0\0\0isommp41")
