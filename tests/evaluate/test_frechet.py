"""Tests of the Fréchet distance against answers worked out by hand."""

import pytest
import torch

from impasto.evaluate.frechet import LAYER, frechet_distance, sifid
from impasto.tools.metrics import Judge, load_judge

I2 = torch.eye(2)
ZERO = torch.zeros(2)


@pytest.fixture(scope="module")
def judge() -> Judge:
    return Judge(load_judge().encoder, long_side=64)


def test_equal_gaussians() -> None:
    c = torch.tensor([[2.0, 0.5], [0.5, 1.0]])
    assert frechet_distance(torch.ones(2), c, torch.ones(2), c) == pytest.approx(0, abs=1e-7)


def test_shift_of_the_mean() -> None:
    assert frechet_distance(torch.tensor([3.0, 4.0]), I2, ZERO, I2) == pytest.approx(25)


def test_commuting_covariances() -> None:
    """For diagonal covariances it is the squared distance of the deviations: (1 - 3)^2 + (2 - 1)^2."""
    c, d = torch.diag(torch.tensor([1.0, 4.0])), torch.diag(torch.tensor([9.0, 1.0]))
    assert frechet_distance(ZERO, c, ZERO, d) == pytest.approx(5)


def test_turned_covariances() -> None:
    """For diag(4, 1) and the same turned by 90 degrees, it is 5 + 5 - 2 (2 + 2).

    Both roots have eigenvalues 2 and 2.
    """
    c, d = torch.diag(torch.tensor([4.0, 1.0])), torch.diag(torch.tensor([1.0, 4.0]))
    assert frechet_distance(ZERO, c, ZERO, d) == pytest.approx(2)
    a = torch.tensor([[1.0, 1.0], [1.0, 1.0]])  # of rank 1: tr 2; C'^1/2 = I, and the root of C has trace sqrt 2
    assert frechet_distance(ZERO, a, ZERO, I2) == pytest.approx(2 + 2 - 2 * 2**0.5)


def test_sifid_is_relative_to_the_spread_of_the_style(judge: Judge) -> None:
    """A flat picture has no covariance, so the distance is that of the means plus the style's own variance."""
    g = torch.Generator().manual_seed(0)
    style, plain = judge.measure(torch.rand(1, 3, 64, 64, generator=g)), judge.measure(torch.full((1, 3, 64, 64), 0.5))
    assert sifid(style, style) == pytest.approx(0, abs=1e-4)
    shift = float((plain.mean[LAYER] - style.mean[LAYER]).square().sum())
    spread = float(style.cov[LAYER].diagonal(dim1=1, dim2=2).sum())
    assert sifid(plain, style) == pytest.approx(1 + shift / spread, rel=1e-3)


def test_means_are_behind_the_head(judge: Judge) -> None:
    """The Gram matrix is the covariance plus the outer product of the means."""
    measured = judge.measure(torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(1)))
    mean = measured.mean[LAYER][0]
    torch.testing.assert_close(measured.gram[LAYER], measured.cov[LAYER] + mean[:, None] * mean, rtol=1e-3, atol=1e-3)
