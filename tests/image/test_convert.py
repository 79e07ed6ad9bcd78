"""Any kind of picture is accepted, and the same kind is returned."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from PIL import Image

from impasto.errors import OptionError, PictureError
from impasto.image.picture import Picture
from impasto.image.read import like, read_image, to_picture


def test_every_kind_gives_the_same_picture(levels: NDArray[np.uint8], tmp_path: Path) -> None:
    image = Image.fromarray(levels)
    path = tmp_path / "a.png"
    image.save(path)
    floats = levels.astype(np.float32) / 255
    tensor = torch.from_numpy(floats).permute(2, 0, 1)
    expected = read_image(path).tensor
    with path.open("rb") as file, Image.open(path) as opened:
        kinds = [
            *(path, str(path), file, image, opened, levels, floats, floats.astype(np.float64), tensor, tensor[None]),
            *(levels.astype(np.uint16) * 257, torch.from_numpy(levels.copy()).permute(2, 0, 1), levels[::-1][::-1]),
        ]
        for kind in kinds:
            picture = to_picture(kind)
            assert torch.allclose(picture.tensor, expected, atol=1e-6), type(kind)
            assert picture.tensor.is_contiguous()
            assert picture.tensor.dtype == torch.float32
            assert picture.alpha is None
            assert to_picture(picture) is picture


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float16, np.float32, np.float64])
@pytest.mark.parametrize("channels", [None, 1, 2, 3, 4])
def test_arrays_come_back_as_they_were(dtype: Any, channels: int | None) -> None:
    shape = (5, 7) if channels is None else (5, 7, channels)
    values = np.random.default_rng(0).random(shape)
    whole = np.issubdtype(dtype, np.integer)
    array = (values * np.iinfo(dtype).max).astype(dtype) if whole else values.astype(dtype)
    picture = to_picture(array)
    assert picture.size == (5, 7)
    assert (picture.alpha is not None) == (channels in (2, 4))
    again = like(picture, array)
    assert again.dtype == array.dtype
    assert again.shape == array.shape
    assert again.flags.c_contiguous
    assert np.abs(again.astype(np.float64) - array.astype(np.float64)).max() <= (0 if dtype == np.uint8 else 1e-2)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("rank", [3, 4])
def test_tensors_come_back_as_they_were(dtype: torch.dtype, rank: int) -> None:
    tensor = (torch.rand(3, 5, 7) * (255 if dtype == torch.uint8 else 1)).to(dtype)
    tensor = tensor if rank == 3 else tensor[None]
    again = like(to_picture(tensor), tensor)
    assert again.dtype == dtype
    assert again.equal(tensor)


def test_a_tensor_with_a_gradient() -> None:
    tensor = torch.rand(3, 4, 4, requires_grad=True)
    assert not to_picture(tensor).tensor.requires_grad


def test_what_is_given_is_not_changed(levels: NDArray[np.uint8]) -> None:
    floats = levels.astype(np.float32) / 255
    tensor = torch.rand(1, 3, 4, 4)
    before = floats.copy(), tensor.clone()
    for picture in (to_picture(floats), to_picture(tensor)):
        picture.tensor.zero_()
    assert (floats == before[0]).all()
    assert tensor.equal(before[1])


def test_results_of_another_size(levels: NDArray[np.uint8], tmp_path: Path) -> None:
    result = Picture(torch.rand(1, 3, 3, 2), torch.rand(1, 1, 3, 2))
    assert like(result, levels).shape == (3, 2, 3)
    assert like(result, torch.rand(3, 9, 9)).shape == (3, 3, 2)
    for kind in ("a.png", Path("a.png"), io.BytesIO(), Image.new("L", (9, 9))):
        image = like(result, kind)
        assert (image.mode, image.size) == ("RGBA", (2, 3))
    assert like(Picture(result.tensor), "a.png").mode == "RGB"
    assert like(result, result) is result


def test_grey_by_luminance() -> None:
    green = to_picture(np.array([[[0, 255, 0]]], np.uint8))
    assert like(green, np.zeros((9, 9), np.uint8)).tolist() == [[182]]  # 0.7152 of 255


def test_pil_images_are_treated_as_files_are(display_profile: bytes, encoded: Any) -> None:
    image = Image.new("RGBA", (8, 4), (200, 50, 100, 77))
    tags = Image.Exif()
    tags[274], tags[271] = 6, "Maker"
    with Image.open(io.BytesIO(encoded(image, "PNG", exif=tags, icc_profile=display_profile))) as opened:
        picture = to_picture(opened)
        assert opened.size == (8, 4), "the caller's image stays as it was"
    assert picture.size == (8, 4)
    assert picture.alpha is not None
    assert torch.allclose(picture.tensor[0, :, 0, 0] * 255, torch.tensor([50.0, 200.0, 100.0]), atol=4)
    assert b"Maker" in picture.metadata.exif


@pytest.mark.parametrize(
    "mode",
    ["1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBX", "RGBa", "CMYK", "YCbCr", "LAB", "HSV", "I", "F", "I;16"],
)
def test_every_mode_of_pil(mode: str) -> None:
    picture = to_picture(Image.new(mode, (4, 3)))
    assert picture.size == (3, 4)
    assert (picture.alpha is not None) == (mode in ("LA", "La", "PA", "RGBA", "RGBa"))


def test_a_damaged_pil_image(levels: NDArray[np.uint8], encoded: Any) -> None:
    data = encoded(Image.fromarray(levels), "JPEG")
    with Image.open(io.BytesIO(data[: len(data) // 2])) as image, pytest.raises(PictureError, match="cut short"):
        to_picture(image)


@pytest.mark.parametrize(
    ("obj", "message"),
    [
        (np.zeros((4, 4, 5)), r"\(4, 4, 5\) is not a picture"),
        (np.zeros((3, 8, 8)), "move the channels last"),
        (np.zeros(4), r"\(4,\) is not a picture"),
        (np.zeros((0, 4, 3)), "is not a picture"),
        (np.zeros((1, 4, 4, 3)), "is not a picture"),
        (np.zeros((4, 4, 3), np.int64), "int64 is not a picture"),
        (np.zeros((4, 4, 3), bool), "bool is not a picture"),
        (np.full((4, 4, 3), np.nan), "an array holds NaN"),
        (np.full((4, 4, 3), np.inf), "an array holds NaN or infinity"),
        (np.full((4, 4, 3), 200.0), "goes from 200 to 200; floats must lie in .*divide it by 255"),
        (np.full((4, 4, 3), -1.0), "goes from -1 to -1"),
        (torch.zeros(4, 4), r"\(4, 4\) is not a picture"),
        (torch.zeros(2, 3, 4, 4), r"\(2, 3, 4, 4\) is not a picture"),
        (torch.zeros(4, 4, 3), "move the channels first"),
        (torch.zeros(3, 0, 4), "is not a picture"),
        (torch.zeros(3, 4, 4, dtype=torch.int64), "torch.int64 is not a picture"),
        (torch.full((3, 4, 4), float("nan")), "a tensor holds NaN"),
        (torch.full((3, 4, 4), 255.0), "divide it by 255"),
        (None, "not NoneType"),
        (5, "not int"),
        ([[1]], "not list"),
        (Image.new("RGB", (0, 4)), "has no pixels"),
    ],
)
def test_what_is_no_picture(obj: Any, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        to_picture(obj)


def test_what_nothing_can_be_like() -> None:
    with pytest.raises(OptionError, match="returned as int"):
        like(Picture(torch.rand(1, 3, 4, 4)), 5)


@pytest.mark.parametrize(
    ("tensor", "alpha"),
    [((3, 4, 4), None), ((2, 3, 4, 4), None), ((1, 4, 4, 4), None), ((1, 3, 0, 4), None), ((1, 3, 4, 4), (1, 1, 4, 5))],
)
def test_a_pictures_shapes(tensor: tuple[int, ...], alpha: tuple[int, ...] | None) -> None:
    with pytest.raises(OptionError, match="has shape"):
        Picture(torch.zeros(tensor), None if alpha is None else torch.zeros(alpha))


def test_a_picture_with_other_pixels() -> None:
    picture = Picture(torch.rand(1, 3, 8, 6), torch.ones(1, 1, 8, 6))
    other = picture.with_tensor(torch.rand(1, 3, 4, 3))
    assert other.size == (4, 3)
    assert other.alpha is not None
    assert other.alpha.shape == (1, 1, 4, 3)
    assert other.metadata is picture.metadata


shapes = st.tuples(st.integers(1, 6), st.integers(1, 6)) | st.tuples(
    st.integers(1, 6), st.integers(1, 6), st.sampled_from((3, 4))
)


@given(shapes.flatmap(lambda s: arrays(np.uint8, s)))
def test_any_8_bit_array_comes_back(array: NDArray[np.uint8]) -> None:
    assert (like(to_picture(array), array) == array).all()


@given(shapes.flatmap(lambda s: arrays(np.float32, s, elements=st.floats(0, 1, width=32))))
def test_any_float_array_comes_back(array: NDArray[np.float32]) -> None:
    assert np.allclose(like(to_picture(array), array), array, atol=1e-6)
