"""With 16 bits per sample, nothing is lost in reading or writing."""

import io
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from impasto.errors import OptionError, PictureError
from impasto.image import deep
from impasto.image.picture import Picture
from impasto.image.read import read_image, to_picture
from impasto.image.write import write_image


def rgb16(height: int = 24, width: int = 40, channels: int = 3) -> NDArray[np.uint16]:
    """Return a picture in which every sample has a different level."""
    count = height * width * channels
    return (np.arange(count) * (65536 // count) + 1).astype(np.uint16).reshape(height, width, channels)


def read(data: bytes) -> Picture:
    return read_image(io.BytesIO(data))


def levels_of(picture: Picture) -> NDArray[np.uint16]:
    return (picture.tensor[0] * 65535).round().int().permute(1, 2, 0).numpy().astype(np.uint16)


@pytest.fixture
def tiff() -> Any:
    """Return `tiff(array, **options)`: the bytes of a TIFF written by another program."""
    tifffile = pytest.importorskip("tifffile")

    def encode(array: NDArray[Any], **options: Any) -> bytes:
        out = io.BytesIO()
        options = {"photometric": "rgb" if array.ndim == 3 else "minisblack", **options}
        tifffile.imwrite(out, array, **options)
        return out.getvalue()

    return encode


@pytest.fixture
def without_large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pretend that the extra is not installed."""
    monkeypatch.setattr(deep, "available", lambda: False)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("with_alpha", [False, True])
def test_round_trip(tmp_path: Path, suffix: str, with_alpha: bool) -> None:
    pytest.importorskip("pyvips")
    array = rgb16(channels=4 if with_alpha else 3)
    path = tmp_path / f"a{suffix}"
    write_image(to_picture(array), path, bits=16)
    picture = read_image(path)
    assert picture.metadata.bits == 16
    assert (levels_of(picture) == array[:, :, :3]).all()
    if with_alpha:
        assert picture.alpha is not None
        assert ((picture.alpha[0, 0] * 65535).round().numpy() == array[:, :, 3]).all()
    else:
        assert picture.alpha is None
    # Its own bits are the default for what is written next.
    write_image(picture, tmp_path / f"b{suffix}")
    assert read_image(tmp_path / f"b{suffix}").tensor.equal(picture.tensor)
    write_image(picture, tmp_path / "c.jpg")


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_other_readers_agree(tmp_path: Path, suffix: str) -> None:
    tifffile = pytest.importorskip("tifffile")
    pyvips = pytest.importorskip("pyvips")
    array = rgb16(300, 61)[:, :, ::-1]
    path = tmp_path / f"a{suffix}"
    write_image(to_picture(array), path, bits=16, record={"a": 1})
    assert (pyvips.Image.new_from_file(str(path)).numpy() == array).all()
    if suffix == ".tif":
        assert (tifffile.imread(path) == array).all()
    with Image.open(path) as image:  # which cuts to 8 bits
        assert (np.asarray(image) == array >> 8).all()
        assert image.info["icc_profile"]


def test_formats_of_8_bits_refuse_16(tmp_path: Path) -> None:
    for suffix in ("jpg", "webp", "avif"):
        with pytest.raises(OptionError, match=r"has 8 bits a sample; for 16 write \.png or \.tiff"):
            write_image(to_picture(rgb16()), tmp_path / f"a.{suffix}", bits=16)
    with pytest.raises(OptionError, match="bits is 12"):
        write_image(to_picture(rgb16()), tmp_path / "a.png", bits=12)


def test_grey(tiff: Any, encoded: Any) -> None:
    pytest.importorskip("pyvips")
    array = rgb16(channels=1)[:, :, 0]
    for data in (tiff(array), encoded(Image.fromarray(array), "PNG"), encoded(Image.fromarray(array), "TIFF")):
        picture = read(data)
        assert picture.metadata.bits == 16
        assert (levels_of(picture) == array[:, :, None]).all()


def test_grey_needs_no_extra(tiff: Any, encoded: Any, without_large: None) -> None:
    array = rgb16(channels=1)[:, :, 0]
    for data in (tiff(array), tiff(array, byteorder=">"), encoded(Image.fromarray(array), "PNG")):
        picture = read(data)
        assert picture.metadata.bits == 16
        assert (levels_of(picture) == array[:, :, None]).all()


@pytest.mark.parametrize("kind", ["png", "tif"])
def test_without_the_extra_it_is_8_bits_and_said(
    tmp_path: Path, kind: str, without_large: None, caplog: pytest.LogCaptureFixture
) -> None:
    array = rgb16()
    write_image(to_picture(array), tmp_path / f"a.{kind}", bits=16)
    with caplog.at_level(logging.WARNING):
        picture = read_image(tmp_path / f"a.{kind}")
    (message,) = caplog.messages
    assert 'pip install "impasto[large]"' in message
    assert str(tmp_path) in message
    assert picture.metadata.bits == 8
    assert torch.allclose(picture.tensor, to_picture(array).tensor, atol=1 / 255)


def test_a_rare_tiff_without_the_extra(tiff: Any, without_large: None) -> None:
    with pytest.raises(PictureError, match=r'is a TIFF of a rare kind; to read it, run pip install "impasto\[large\]"'):
        read(tiff(rgb16().astype(np.float32) / 65535))


@pytest.mark.parametrize(
    "options",
    [
        {"byteorder": ">"},
        {"bigtiff": True},
        {"compression": "zlib"},
        {"compression": "zlib", "predictor": True},
        {"tile": (16, 16)},
        {"rowsperstrip": 5},
    ],
)
def test_layouts_of_tiff(tiff: Any, options: dict[str, Any]) -> None:
    pytest.importorskip("pyvips")
    assert (levels_of(read(tiff(rgb16(), **options))) == rgb16()).all()


def test_planes(tiff: Any) -> None:
    pytest.importorskip("pyvips")
    array = rgb16()
    data = tiff(np.ascontiguousarray(np.moveaxis(array, 2, 0)), planarconfig="separate")
    assert (levels_of(read(data)) == array).all()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_turns(tiff: Any, orientation: int) -> None:
    pytest.importorskip("pyvips")
    array = rgb16()
    tags = [(274, "H", 1, orientation, True)]
    expected = read(tiff((array >> 8).astype(np.uint8), extratags=tags))
    found = read(tiff(array, extratags=tags))
    assert found.size == expected.size == ((40, 24) if orientation > 4 else (24, 40))
    assert torch.allclose(found.tensor, expected.tensor, atol=1.1 / 255)


def test_alpha_with_colours_multiplied(tiff: Any) -> None:
    pytest.importorskip("pyvips")
    array = np.zeros((4, 4, 4), np.uint16)
    array[:] = (16384, 8192, 0, 32768)
    array[0, 0] = 0
    picture = read(tiff(array, extrasamples=["assocalpha"]))
    assert picture.alpha is not None
    assert picture.alpha[0, 0, 0, 0] == 0
    assert torch.allclose(picture.tensor[0, :, 1, 1], torch.tensor([0.5, 0.25, 0.0]), atol=1e-4)


def test_profiles(tiff: Any, display_profile: bytes, grey_profile: bytes, cmyk_profile: bytes) -> None:
    pytest.importorskip("pyvips")
    array = np.zeros((4, 4, 3), np.uint16)
    array[:] = (51400, 12850, 25700)
    pixel = read(tiff(array, iccprofile=display_profile)).tensor[0, :, 0, 0] * 255
    assert torch.allclose(pixel, torch.tensor([50.0, 200.0, 100.0]), atol=4)
    pixel = read(tiff(array[:, :, 2], iccprofile=grey_profile)).tensor[0, :, 0, 0] * 255
    assert torch.allclose(pixel, torch.tensor(167.7), atol=1)
    pixel = read(tiff(array[:, :, 2], iccprofile=display_profile)).tensor[0, :, 0, 0] * 255
    assert torch.allclose(pixel, torch.tensor(100.0), atol=2)
    ink = np.concatenate((array, array[:, :, :1]), 2)
    eight = read(tiff((ink >> 8).astype(np.uint8), photometric="separated", iccprofile=cmyk_profile))
    sixteen = read(tiff(ink, photometric="separated", iccprofile=cmyk_profile))
    assert torch.allclose(eight.tensor, sixteen.tensor, atol=3 / 255)
    eight = read(tiff((ink >> 8).astype(np.uint8), photometric="separated"))
    assert torch.allclose(eight.tensor, read(tiff(ink, photometric="separated")).tensor, atol=3 / 255)


def test_a_profile_keeps_more_than_8_bits(tiff: Any, display_profile: bytes) -> None:
    pytest.importorskip("pyvips")
    ramp = np.repeat(np.arange(30000, 30512, dtype=np.uint16).reshape(1, -1, 1), 3, 2)
    assert read(tiff(ramp, iccprofile=display_profile)).tensor[0, 1].unique().numel() > 200


def test_a_profile_for_other_colours(tiff: Any, grey_profile: bytes, caplog: pytest.LogCaptureFixture) -> None:
    pytest.importorskip("pyvips")
    with caplog.at_level(logging.WARNING):
        assert (levels_of(read(tiff(rgb16(), iccprofile=grey_profile))) == rgb16()).all()
    assert "colour profile cannot be used (it is for GRAY colours)" in caplog.text


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_floats(tiff: Any, dtype: Any) -> None:
    pytest.importorskip("pyvips")
    array = np.linspace(0, 1, 8 * 8 * 3).reshape(8, 8, 3).astype(dtype)
    for values in (array, array[:, :, 0]):
        picture = read(tiff(values))
        assert picture.metadata.bits == 16
        expected = torch.from_numpy(values.astype(np.float32)).view(8, 8, -1).permute(2, 0, 1)[None]
        assert torch.allclose(picture.tensor, expected.expand(1, 3, 8, 8), atol=1e-6)


def test_floats_beyond_their_range(tiff: Any, caplog: pytest.LogCaptureFixture) -> None:
    pytest.importorskip("pyvips")
    array = np.full((4, 4, 3), 255, np.float32)
    array[0, 0] = (-5, 51, np.nan)
    with caplog.at_level(logging.WARNING):
        picture = read(tiff(array))
    assert torch.allclose(picture.tensor[0, :, 0, 0], torch.tensor([0, 0.2, 0]))
    assert picture.tensor[0, :, 1:].min() == 1
    assert "not finite" in caplog.text
    assert "go up to 255" in caplog.text


@pytest.mark.parametrize(("dtype", "factor"), [(np.uint32, 65537), (np.int16, 0.5)])
def test_other_whole_numbers(tiff: Any, dtype: Any, factor: float) -> None:
    pytest.importorskip("pyvips")
    picture = read(tiff((rgb16().astype(np.float64) * factor).astype(dtype)))
    assert torch.allclose(picture.tensor, to_picture(rgb16()).tensor, atol=1e-4)


def test_bombs(tiff: Any, tmp_path: Path) -> None:
    pytest.importorskip("pyvips")
    write_image(to_picture(rgb16()), tmp_path / "a.png", bits=16)
    for source in (io.BytesIO(tiff(rgb16())), io.BytesIO(tiff(rgb16() / 65535.0)), tmp_path / "a.png"):
        with pytest.raises(PictureError, match="--max-megapixels"):
            read_image(source, max_megapixels=0.0009)


def test_a_16_bit_png_cut_short(tmp_path: Path, levels: NDArray[np.uint8]) -> None:
    pytest.importorskip("pyvips")
    write_image(to_picture(levels.astype(np.uint16) * 257), tmp_path / "a.png", bits=16)
    with pytest.raises(PictureError, match=r"cut short|damaged"):
        read((tmp_path / "a.png").read_bytes()[:-2000])


def test_grey_and_alpha_and_a_transparent_colour() -> None:
    """PNGs with 16 bits in rarer colour types, as libvips writes them, are read."""
    pyvips = pytest.importorskip("pyvips")
    array = rgb16(channels=2)
    data = pyvips.Image.new_from_array(array).copy(interpretation="grey16").write_to_buffer(".png", bitdepth=16)
    picture = read(data)
    assert (levels_of(picture) == array[:, :, :1]).all()
    assert picture.alpha is not None
    assert ((picture.alpha[0, 0] * 65535).round().numpy() == array[:, :, 1]).all()
