"""Tests for preparing photographs: noise goes, edges stay, and plain areas become slightly uneven."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from impasto.models import prepare
from impasto.models.prepare import BORDER, LONGEST, MOTTLE, SHORTEST, denoised_inside, mottle, prepared


def noise(height: int, width: int, deviation: float) -> Tensor:
    return deviation * torch.randn(1, 3, height, width, generator=torch.Generator().manual_seed(3))


def denoised(picture: Tensor) -> Tensor:
    return denoised_inside(F.pad(picture, (BORDER,) * 4, mode="reflect"))[0]


def plain(picture: Tensor) -> Tensor:
    return denoised_inside(F.pad(picture, (BORDER,) * 4, mode="reflect"))[1]


def field(height: int, width: int, top: int = 0, left: int = 0, light: float = 7 / 9) -> Tensor:
    rows, columns = torch.arange(top, top + height).float(), torch.arange(left, left + width).float()
    return mottle(torch.full((1, 3, height, width), light), rows, columns)


def test_faint_noise_goes() -> None:
    plain = torch.full((1, 3, 64, 80), 0.6)
    found = denoised(plain + noise(64, 80, 0.01))
    assert found.std() < 0.0025
    assert abs(float(found.mean()) - 0.6) < 1e-3


def test_an_edge_stays_sharp() -> None:
    """Across an edge of half the range, the step between two neighbouring pixels stays, on both sides of the noise."""
    edge = torch.full((1, 3, 64, 64), 0.25)
    edge[..., 33:] = 0.75
    found = denoised(edge + noise(64, 64, 0.01))
    assert (found[..., 33] - found[..., 32]).mean() > 0.46
    assert (found - edge).abs().max() < 0.06


def test_strong_texture_stays() -> None:
    texture = 0.5 + noise(64, 64, 0.15)
    assert (denoised(texture) - texture).std() < 0.01


def test_a_plain_picture_and_a_ramp_do_not_change() -> None:
    plain = torch.full((1, 3, 32, 40), 0.3)
    torch.testing.assert_close(denoised(plain), plain, atol=1e-6, rtol=0)
    ramp = torch.linspace(0, 1, 200).expand(1, 3, 64, 200)
    assert (denoised(ramp) - ramp)[..., 16:-16].abs().max() < 0.005


def test_plain_areas_reach_up_to_the_edges_of_objects() -> None:
    half = torch.full((1, 3, 96, 96), 0.5)
    half[..., 48:] += noise(96, 48, 0.15)
    found = plain(half)
    assert found.shape == (1, 1, 96, 96)
    assert found[..., :44].min() > 0.95
    assert found[..., 64:].max() < 0.2
    assert plain(noise(64, 64, 0.01)).min() > 0.3


def test_colours_share_the_slope() -> None:
    """Noise in one colour does not remove an edge in another."""
    picture = torch.full((1, 3, 64, 64), 0.5)
    picture[:, 0, :, 30:] = 0.9
    found = denoised(picture)
    torch.testing.assert_close(found[:, 1:], picture[:, 1:], atol=1e-5, rtol=0)
    assert (found - picture)[:, 0].abs().max() < 0.02


def test_mottle_has_its_size_and_depends_on_light() -> None:
    grey = field(1200, 1500)
    assert grey.std().item() == pytest.approx(MOTTLE, rel=0.25)
    assert abs(float(grey.mean())) < 0.3 * MOTTLE
    assert field(64, 64, light=0.0).abs().max() < field(64, 64, light=1.0).abs().max() / 3


def test_mottle_is_slow() -> None:
    """No wave is shorter than the shortest, or longer than the longest."""
    side = 1024
    window = torch.hann_window(side)
    power = torch.fft.rfft2(field(side, side)[0, 0] * window[:, None] * window).abs().square()
    frequency = (torch.fft.fftfreq(side)[:, None].square() + torch.fft.rfftfreq(side).square()).sqrt()
    inside = (frequency > 0.7 / LONGEST) & (frequency < 1.2 / SHORTEST)
    assert power[inside].sum() > 0.99 * power.sum()
    assert field(64, 64)[..., 1:].sub(field(64, 64)[..., :-1]).abs().max() < MOTTLE / 4


def test_a_part_of_the_mottle_is_that_of_the_whole() -> None:
    whole = field(300, 400)
    torch.testing.assert_close(field(100, 80, 120, 200), whole[..., 120:220, 200:280], atol=1e-6, rtol=0)
    rows = torch.stack([torch.arange(8.0), 40 + torch.arange(8.0)])
    both = mottle(torch.full((2, 3, 8, 8), 7 / 9), rows, rows)
    torch.testing.assert_close(both, torch.cat([field(8, 8), field(8, 8, 40, 40)]), atol=1e-6, rtol=0)


@pytest.mark.parametrize("size", [(1, 1), (5, 37), (23, 24), (64, 50), (130, 70)], ids=str)
def test_any_size_in_bands(size: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Bands, as for large pictures, give the same as the whole."""
    photo = 0.5 + noise(*size, 0.1)
    whole = prepared(photo, 0.8, 1.5)
    monkeypatch.setattr(prepare, "BAND", 16)
    assert whole.shape == photo.shape
    torch.testing.assert_close(prepared(photo, 0.8, 1.5), whole, atol=1e-6, rtol=0)
    assert torch.equal(prepared(photo, 0.0, 0.0), photo)
