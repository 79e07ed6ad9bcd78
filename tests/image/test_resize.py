import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from impasto.errors import OptionError
from impasto.image.resize import blur, fit, fit_size, resize

sides = st.integers(1, 5000)


def test_a_constant_picture_stays_constant() -> None:
    image = torch.full((1, 3, 40, 60), 0.3)
    for size in ((7, 9), (80, 61), (1, 1)):
        assert torch.allclose(resize(image, size), torch.full((1, 3, *size), 0.3), atol=1e-6)


def test_it_is_antialiased() -> None:
    stripes = torch.zeros(1, 3, 64, 64)
    stripes[..., ::2] = 1
    small = resize(stripes, (64, 8))
    assert torch.allclose(small[..., 1:-1], torch.full((1, 3, 64, 6), 0.5), atol=0.02)


def test_overshoot_is_clamped() -> None:
    edge = torch.zeros(1, 1, 8, 8)
    edge[..., 4:] = 1
    large = resize(edge, (32, 32))
    assert large.min() == 0
    assert large.max() == 1


def test_the_same_size_is_the_same_tensor() -> None:
    image = torch.rand(1, 3, 5, 6)
    assert resize(image, (5, 6)) is image
    assert fit(image, 10) is image


@pytest.mark.parametrize("deviation", [0.4, 1.0, 2.5])
def test_a_blurred_point_is_a_gaussian(deviation: float) -> None:
    point = torch.zeros(1, 1, 33, 41)
    point[0, 0, 16, 20] = 1
    found = blur(point, deviation)[0, 0].double()
    y, x = torch.meshgrid(torch.arange(33) - 16, torch.arange(41) - 20, indexing="ij")
    bell = torch.exp(-(x.square() + y.square()) / (2 * deviation**2)).double()
    assert found.sum().item() == pytest.approx(1, abs=1e-5)
    assert torch.allclose(found, bell / bell.sum(), atol=0.01 * float((bell / bell.sum()).max()))  # cut at 3 deviations


@pytest.mark.parametrize("deviation", [1.5, 4.0, 12.0])
def test_a_blurred_edge_is_the_error_function(deviation: float) -> None:
    """The edge lies between two pixels; beyond the border, the border's pixels are repeated."""
    edge = torch.zeros(1, 1, 4, 128)
    edge[..., 64:] = 1
    places = torch.arange(128) - 63.5
    expected = 0.5 * (1 + torch.erf(places / (deviation * math.sqrt(2))))
    assert torch.allclose(blur(edge, deviation), expected.expand(1, 1, 4, 128), atol=0.01)


def test_blur_keeps_what_it_must() -> None:
    picture = torch.rand(2, 3, 20, 31, generator=torch.Generator().manual_seed(0))
    assert blur(picture, 0) is picture
    found = blur(picture, 2.0)
    assert (found.shape, found.dtype) == (picture.shape, torch.float32)
    assert found.min() >= picture.min()
    assert found.max() <= picture.max()
    assert found.std() < 0.5 * picture.std()
    assert torch.allclose(blur(torch.full((1, 3, 9, 7), 0.3), 4.0), torch.full((1, 3, 9, 7), 0.3))
    assert torch.allclose(blur(picture.transpose(2, 3), 2.0), found.transpose(2, 3), atol=1e-6)
    for i in range(2):
        for c in range(3):
            assert torch.allclose(blur(picture[i : i + 1, c : c + 1], 2.0), found[i : i + 1, c : c + 1], atol=1e-6)
    last = picture.contiguous(memory_format=torch.channels_last)
    assert torch.allclose(blur(last, 2.0), found, atol=1e-6)


def test_a_blur_wider_than_the_picture_leaves_nearly_one_colour() -> None:
    """The border's pixels count for everything beyond them: rows of 0, 0, 1 and 1 become about 1/2, not quite equal."""
    picture = torch.tensor([[0.0, 0.0, 1.0, 1.0]]).expand(1, 3, 5, 4)
    found = blur(picture, 50.0)
    assert torch.allclose(found, torch.full_like(found, 0.5), atol=0.02)
    assert (found.diff(dim=3) > 0).all()


def test_two_blurs_are_one() -> None:
    """Variances add up."""
    picture = torch.zeros(1, 1, 40, 40)
    picture[..., 15:22, 18:30] = 1
    assert torch.allclose(blur(blur(picture, 1.5), 2.0), blur(picture, 2.5), atol=5e-3)


def test_fit() -> None:
    assert fit(torch.rand(1, 3, 30, 60), 20).shape == (1, 3, 10, 20)
    assert fit(torch.rand(1, 3, 30, 60), 120, enlarge=True).shape == (1, 3, 60, 120)


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({}, (300, 400)),
        ({"long_side": 200}, (150, 200)),
        ({"short_side": 150}, (150, 200)),
        ({"scale": 0.5}, (150, 200)),
        ({"long_side": 800}, (300, 400)),
        ({"long_side": 800, "enlarge": True}, (600, 800)),
        ({"short_side": 600, "enlarge": True}, (600, 800)),
        ({"scale": 2.0, "enlarge": True}, (600, 800)),
        ({"long_side": 1}, (1, 1)),
    ],
)
def test_fit_size(asked: dict[str, float], expected: tuple[int, int]) -> None:
    assert fit_size((300, 400), **asked) == expected  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"long_side": 5, "scale": 1.0}, "given twice, as long side and as scale"),
        ({"long_side": 0}, "long side is 0"),
        ({"short_side": -3}, "short side is -3"),
        ({"scale": float("nan")}, "scale is nan"),
        ({"scale": float("inf")}, "scale is inf"),
    ],
)
def test_fit_size_refuses(asked: dict[str, float], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        fit_size((300, 400), **asked)  # type: ignore[arg-type]


def test_no_size_without_pixels() -> None:
    with pytest.raises(OptionError, match="no pixels"):
        fit_size((0, 4))
    with pytest.raises(OptionError, match="at least 1 pixel"):
        resize(torch.rand(1, 3, 4, 4), (0, 4))


@given(height=sides, width=sides, long_side=sides, enlarge=st.booleans())
def test_the_long_side_fits_exactly(height: int, width: int, long_side: int, enlarge: bool) -> None:
    fitted = fit_size((height, width), long_side=long_side, enlarge=enlarge)
    assert max(fitted) == (long_side if enlarge else min(long_side, max(height, width)))
    assert min(fitted) >= 1
    assert (fitted[0] >= fitted[1]) if height > width else (fitted[0] <= fitted[1]) or height == width
