"""Tests of colour matching in plain operations: known answers, and the same results as with eigenvalues."""

import pytest
import torch
from torch import Tensor

from impasto.export.colours import cholesky, colours_in, matched, orthogonal, transport
from impasto.models.colours import EPSILON, colour, colour_moments, colours_of
from impasto.models.colours import transport as exact_transport


def covariances(count: int, condition: float, seed: int = 0) -> Tensor:
    """Return covariances (count, 3, 3), float64, with eigenvalues from 0.1 / condition to 0.1."""
    g = torch.Generator().manual_seed(seed)
    q, _ = torch.linalg.qr(torch.randn(count, 3, 3, generator=g, dtype=torch.float64))
    values = 0.1 * torch.tensor([1, condition**-0.5, 1 / condition], dtype=torch.float64)
    return q * values @ q.transpose(1, 2)


def test_transport_of_independent_channels() -> None:
    own, wanted = (torch.tensor(v) - EPSILON for v in ([0.04, 0.01, 0.09], [0.01, 0.04, 0.09]))
    found = transport(own.diag()[None], wanted.diag()[None])[0]
    torch.testing.assert_close(found, torch.diag(torch.tensor([0.5, 2.0, 1.0])), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("condition", [1, 30, 1000])
def test_transport_is_symmetric_and_gives_the_covariance(condition: float) -> None:
    own, wanted = covariances(20, condition), covariances(20, condition, seed=1)
    found = transport(own.float(), wanted.float()).double()
    torch.testing.assert_close(found, found.transpose(1, 2), rtol=2e-3, atol=2e-3)
    ridge = EPSILON * torch.eye(3, dtype=torch.float64)
    torch.testing.assert_close(found @ (own + ridge) @ found, wanted + ridge, rtol=1e-3, atol=1e-5)


def test_transport_is_that_of_the_package() -> None:
    own, wanted = covariances(20, 100), covariances(20, 5, seed=1)
    moments = torch.zeros(20, 4, 4, dtype=torch.float64)
    moments[:, :3, :3], moments[:, 3, 3] = own, 1
    expected, _ = exact_transport(moments, torch.cat([wanted, torch.zeros(20, 3, 1)], 2))
    torch.testing.assert_close(transport(own.float(), wanted.float()), expected.float(), rtol=1e-3, atol=1e-3)


def test_cholesky() -> None:
    lower = torch.tensor([[[2.0, 0, 0], [1, 3, 0], [-1, 0.5, 0.25]]])
    torch.testing.assert_close(cholesky(lower @ lower.transpose(1, 2)), lower)


def test_orthogonal_factor_of_a_stretched_rotation() -> None:
    c, s = torch.tensor(0.7).cos(), torch.tensor(0.7).sin()
    turn = torch.stack([torch.stack([c, -s, 0 * c]), torch.stack([s, c, 0 * c]), torch.tensor([0.0, 0, 1])])
    stretch = torch.diag(torch.tensor([3.0, 0.02, 5e-4]))
    torch.testing.assert_close(orthogonal((stretch @ turn)[None])[0], turn, rtol=1e-3, atol=1e-3)


def test_colours_of_two_pixels() -> None:
    """Black and white in equal parts have the mean 1/2, and all covariances are 1/4."""
    picture = torch.tensor([0.0, 1.0]).view(1, 1, 1, 2).expand(1, 3, 4, 2)
    found = colours_in(picture)[0]
    torch.testing.assert_close(found, torch.tensor([[0.25, 0.25, 0.25, 0.5]] * 3))


def test_colours_of_a_large_picture_are_accurate() -> None:
    """A plain sum in float32 over all pixels would be off by a thousandth."""
    picture = 0.9 + 0.05 * torch.rand(1, 3, 1800, 1600, generator=torch.Generator().manual_seed(0))
    expected = colours_of(colour_moments(picture.double()))
    torch.testing.assert_close(colours_in(picture).double(), expected, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("spread", [0.0, 0.01, 0.3], ids=["flat", "pale", "strong"])
def test_matched_is_that_of_the_package(spread: float) -> None:
    g = torch.Generator().manual_seed(3)
    painting = 0.5 + spread * torch.randn(2, 3, 33, 41, generator=g) * torch.rand(1, 3, 1, 1, generator=g)
    colours = torch.cat([covariances(2, 50, seed=2).float(), torch.full((2, 3, 1), 0.4)], 2)
    found = matched(painting, colours).clamp(0, 1)
    torch.testing.assert_close(found, colour(painting, colours), rtol=0, atol=1e-3)
