"""Tests of the figures of pixels: known answers, and scikit-image's SSIM."""

import math
from collections.abc import Callable

import pytest
import torch
from skimage.metrics import structural_similarity
from torch import Tensor

from impasto.evaluate import pixels
from impasto.evaluate.pixels import lattice, ms_ssim, noise, palette, palette_distance, ssim
from impasto.image.color import oklab_to_srgb, srgb_to_oklab

Photo = Callable[[str, int], Tensor]


def flat(value: float, side: int = 64) -> Tensor:
    return torch.full((1, 3, side, side), value)


def test_equal_pictures(photo: Photo) -> None:
    x = photo("coffee", 200)
    assert ssim(x, x) == pytest.approx(1, abs=1e-12)
    assert ms_ssim(x, x) == pytest.approx(1, abs=1e-12)
    assert palette_distance(palette(x), palette(x)) == 0


@pytest.mark.parametrize("other", ["noisy", "darker", "negative", "another"])
def test_ssim_is_scikit_images(photo: Photo, other: str) -> None:
    x = photo("coffee", 120)
    y = {
        "noisy": (x + 0.1 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0))).clamp(0, 1),
        "darker": 0.6 * x,
        "negative": 1 - x,
        "another": photo("chelsea", 200)[:, :, : x.shape[2], : x.shape[3]],
    }[other]
    luma = [(t[0] * torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)).sum(0).double().numpy() for t in (x, y)]
    expected = structural_similarity(*luma, data_range=1, gaussian_weights=True, sigma=1.5, use_sample_covariance=False)
    assert ssim(x, y) == pytest.approx(expected, abs=1e-6)
    assert ssim(x, y) == pytest.approx(ssim(y, x), abs=1e-12)


def test_similarity_of_flat_pictures() -> None:
    """Without contrast, only the luminance term remains.

    It is (2 a b + C1) / (a^2 + b^2 + C1), to the exponent of one scale.
    """
    light = (2 * 0.4 * 0.6 + 1e-4) / (0.4**2 + 0.6**2 + 1e-4)
    assert ssim(flat(0.4), flat(0.6)) == pytest.approx(light, abs=1e-6)
    assert ms_ssim(flat(0.4, 180), flat(0.6, 180)) == pytest.approx(light**0.1333, abs=1e-6)
    # At 64 pixels three scales fit, and their exponents are enlarged to the sum of all five.
    share = 1.0001 / (0.0448 + 0.2856 + 0.3001)
    assert ms_ssim(flat(0.4), flat(0.6)) == pytest.approx(light ** (0.3001 * share), abs=1e-6)


def test_opposite_structure_has_no_ms_ssim(photo: Photo) -> None:
    x = photo("coffee", 64)
    assert ssim(x, 1 - x) < 0
    assert ms_ssim(x, 1 - x) == 0


def test_cross_contrast_is_the_smaller_eigenvalue() -> None:
    """A ramp has gradients in one direction, so none across; a saddle x y has both."""
    rows, columns = torch.meshgrid(torch.arange(32.0), torch.arange(32.0), indexing="ij")
    ramp = (rows + 2 * columns).expand(1, 3, -1, -1) / 100
    inner = pixels.cross_contrast(ramp).view(7, 7)[1:-1, 1:-1]
    torch.testing.assert_close(inner, torch.zeros_like(inner), atol=1e-6, rtol=0)
    saddle = (rows * columns).expand(1, 3, -1, -1) / 1000
    window = [(i / 1000, j / 1000) for i in range(4, 12) for j in range(4, 12)]  # d/dx = row, d/dy = column
    square = sum(i * i for i, _ in window) / 64
    product = sum(i * j for i, j in window) / 64
    assert float(pixels.cross_contrast(saddle).view(7, 7)[1, 1]) == pytest.approx(3 * (square - product), rel=1e-4)


def test_noise(photo: Photo) -> None:
    content, style = photo("coffee", 160), photo("chelsea", 160)
    assert noise(flat(0.5), content, style) == 0
    assert noise(content, content, style) < 1.1
    rough = (content + 0.3 * torch.randn(content.shape, generator=torch.Generator().manual_seed(0))).clamp(0, 1)
    assert noise(rough, content, style) > 50


def test_lattice() -> None:
    """A grid in a plain area is found at any contrast; scattered dots and coarse waves are not."""
    plain = flat(0.5, 192)
    at = torch.arange(192)
    grid = ((at[:, None] % 12 < 3) & (at % 12 < 3)).float()
    dots = grid.flatten()[torch.randperm(192 * 192, generator=torch.Generator().manual_seed(1))].reshape(192, 192)
    waves = torch.sin(at / 20)[:, None] * torch.sin(at / 20)
    faint, strong, scattered, wide = (
        lattice(plain + c * x, plain) for c, x in ((0.02, grid), (0.3, grid), (0.3, dots), (0.3, waves))
    )
    assert strong == pytest.approx(faint, rel=1e-3)
    assert strong > 5
    assert scattered < 0.02 * strong
    assert wide < 0.5 * strong


def test_no_lattice_without_a_plain_area(photo: Photo) -> None:
    x = photo("coffee", 192)
    rough = torch.rand(x.shape, generator=torch.Generator().manual_seed(1)).round()
    assert lattice(x, rough) == 0
    assert lattice(flat(0.5, 192), flat(0.5, 192)) == 0
    assert lattice(flat(0.5, 16), flat(0.5, 16)) == 0


def test_half_the_windows_are_noise() -> None:
    """Windows have 8 pixels and are 4 apart: of the 15 columns in 64 pixels, 8 touch the right half."""
    x = flat(0.5)
    x[:, :, :, 32:] += 0.2 * torch.randn(1, 1, 64, 32, generator=torch.Generator().manual_seed(0))
    assert noise(x, flat(0.2), flat(0.7)) == pytest.approx(100 * 8 / 15)


def test_palette_distance_of_greys() -> None:
    """If all colours shift by d, the distance is d in any direction, up to the finite number of directions."""
    light, dark = flat(1.0), flat(0.0)
    assert palette_distance(palette(light), palette(dark)) == pytest.approx(1, rel=0.01)
    colours = torch.tensor([[0.6, 0.05, 0.02], [0.5, 0.02, -0.07]])
    x, y = (oklab_to_srgb(c.view(1, 3, 1, 1)).expand(-1, -1, 8, 8).contiguous() for c in colours)
    shift = float((srgb_to_oklab(x) - srgb_to_oklab(y))[0, :, 0, 0].norm())
    assert shift == pytest.approx(math.dist(*colours.tolist()), rel=1e-3)
    assert palette_distance(palette(x), palette(y)) == pytest.approx(shift, rel=0.02)


def test_palette_ignores_where_the_colours_are(photo: Photo) -> None:
    x = photo("coffee", 100)
    assert palette_distance(palette(x), palette(x.flip(3))) == pytest.approx(0, abs=1e-6)
    assert palette_distance(palette(x), palette(photo("rocket", 100))) > 0.05
