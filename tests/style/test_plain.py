"""How plain parts of a photograph are found, and how much of the style they take."""

import pytest
import torch

from impasto.style.plain import (
    Rims,
    calmness,
    plain_weight,
    plainness,
    squares_of,
    style_weights,
)


def test_a_plain_half_is_found_at_any_size() -> None:
    photo = torch.rand(1, 3, 256, 512, generator=torch.Generator().manual_seed(0))
    photo[..., :256] = 0.4
    plain = plainness(photo)
    assert plain.shape == (1, 1, 64, 128)
    assert plain[..., :60].min() > 0.99
    assert plain[..., 68:].max() < 0.3
    for size in ((32, 64), (256, 512), (600, 1200)):
        found = style_weights(photo, size, 0.25)
        assert found.shape == (1, 1, *size)
        middle = size[1] // 2
        assert found[..., : middle - size[1] // 20] == pytest.approx(0.25, abs=0.01)
        assert found[..., middle + size[1] // 20 :].min() > 0.75


def test_plain_areas_reach_up_to_the_edges_of_objects() -> None:
    photo = torch.full((1, 3, 512, 512), 0.7)
    photo[..., 200:312, 200:312] = torch.rand(1, 3, 112, 112, generator=torch.Generator().manual_seed(0))
    found = style_weights(photo, (512, 512), 0.0)
    assert found[..., 250, :196].max() < 0.05
    assert found[..., 215:297, 215:297].min() > 0.5


def test_a_photos_own_size_hardly_matters() -> None:
    photo = torch.rand(1, 3, 16, 32, generator=torch.Generator().manual_seed(0))
    photo[..., :16] = 0.4
    sizes = [(256, 512), (512, 1024), (1024, 2048)]
    found = [style_weights(torch.nn.functional.interpolate(photo, s), (64, 128), 0.0) for s in sizes]
    for other in found[:-1]:
        assert (other - found[-1]).abs().mean() < 0.05


@pytest.mark.parametrize("size", [(2, 600), (600, 2), (1, 1)])
def test_a_narrow_photo(size: tuple[int, int]) -> None:
    found = style_weights(torch.full((1, 3, *size), 0.7), (40, 50), 0.5)
    assert found == pytest.approx(torch.full((1, 1, 40, 50), 0.5), abs=1e-3)


def test_a_halo_is_a_rim_and_strokes_or_another_colour_are_not() -> None:
    photo = torch.full((1, 3, 256, 256), 0.7)
    photo[..., 96:160, 96:160] = 0.1
    halo, noise = torch.zeros_like(photo), torch.Generator().manual_seed(0)
    halo[..., 88:168, 88:168] = 0.3
    halo[..., 96:160, 96:160] = 0.0
    strokes = 0.3 * (2 * (torch.rand(photo.shape, generator=noise) > 0.5) - 1)
    rims = Rims(photo, plainness(photo))
    found = [rims(squares_of(x)).item() for x in (halo, -halo, strokes, torch.full_like(photo, 0.3))]
    assert found[0] == pytest.approx(found[1])
    assert max(found[2:]) < found[0] / 20


def test_a_rim_needs_a_plain_area_and_an_edge() -> None:
    noise = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    edge = torch.full_like(noise, 0.7)
    edge[..., 32:] = 0.1
    photos, squares = (edge, noise, torch.full_like(noise, 0.7)), squares_of(noise.flip(3))
    found = [Rims(photo, plainness(photo))(squares).item() for photo in photos]
    assert max(found[1:]) < found[0] / 10


@pytest.mark.parametrize("size", [(8, 12), (11, 9), (4, 5)])
def test_the_gradient_of_a_rim(size: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(0)
    photo = torch.rand(1, 3, *size, generator=generator).round()
    rims = Rims(photo, plainness(photo))
    x = torch.rand(1, 3, *size, generator=generator).double().requires_grad_(True)
    assert torch.autograd.gradcheck(lambda x: rims(squares_of(x)), (x,))


def dabs() -> torch.Tensor:
    """Return squares of 4x4 pixels of random colours, (1, 3, 256, 384)."""
    colours = torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    return colours.repeat_interleave(4, 2).repeat_interleave(4, 3)


def test_how_calm_a_style_is() -> None:
    strokes = 0.4 * dabs()
    strokes[:, :, 128:] += 0.6
    half = strokes.clone()
    half[..., :192] = 0.4
    calm = [calmness(picture) for picture in (strokes, half, torch.full_like(strokes, 0.4))]
    assert calm[0] < 0.1
    assert calm[1] == pytest.approx(0.5, abs=0.06)
    assert calm[2] > 0.99
    cut_out = torch.cat([half, torch.zeros_like(half[:, :1])], 1)
    cut_out[:, 3, :, :150] = 1
    assert calmness(cut_out) > 0.95


def test_a_crowd_counts_as_calm() -> None:
    """Most of its contrast is in small shapes, and that of strokes is in large ones."""
    noise = 0.4 * dabs()
    shapes = torch.zeros_like(noise)
    shapes[:, :, 128:] = 1
    crowd, between, strokes = (calmness(noise + contrast * shapes) for contrast in (0.0, 0.35, 0.6))
    assert crowd == 0.5
    assert strokes < between < crowd
    assert strokes < 0.1


def test_the_calmer_a_style_the_less_of_it_plain_areas_take() -> None:
    weights = [plain_weight(calm / 20) for calm in range(21)]
    assert weights == sorted(weights, reverse=True)
    assert weights[0] == pytest.approx(0.9)
    assert weights[-1] == weights[10] == 0.3
    assert plain_weight(0.25) == pytest.approx(0.6)
    assert plain_weight(None) == 0.3  # a style file from before
