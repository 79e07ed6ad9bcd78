"""Tests of the loss against spikes: its values, its gradient, and that a pass with it paints the same."""

import pytest
import torch
from torch import Tensor

from impasto.models.network import Network, NetworkConfig
from impasto.models.passes import ORIGIN
from impasto.train.spikes import LIMIT, MEAN_LIMIT, MEAN_SHARE, WatchedPass, excess, highest

SIDE = 64


def with_spike(height: float) -> Tensor:
    """Return features (1, 2, SIDE, SIDE) of +1 and -1; in the second channel one is replaced by a height."""
    x = torch.ones(1, 2, SIDE, SIDE)
    x[:, :, :, ::2] = -1
    x[0, 1, 5, 9] = height
    return x


def deviations(x: Tensor) -> float:
    """Return how many deviations the spike is from the mean."""
    channel = x[0, 1]
    return float((channel[5, 9] - channel.mean()) / channel.std(correction=0))


@pytest.mark.parametrize("height", [20.0, 50.0, -300.0])
def test_what_exceeds_the_limit_counts(height: float) -> None:
    x = with_spike(height)
    wanted = (abs(deviations(x)) - LIMIT) ** 2 / SIDE**2
    assert excess(x).tolist() == pytest.approx([wanted], rel=1e-4)
    assert highest(x).tolist() == pytest.approx([abs(deviations(x))], rel=1e-4)


def test_features_without_spikes_cost_nothing() -> None:
    x = torch.randn(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0)).requires_grad_()
    found = excess(x)
    found.sum().backward()
    assert found.tolist() == [0, 0]
    assert x.grad is not None
    assert not x.grad.any()


def test_the_gradient_pulls_only_at_the_spike_even_when_it_is_most_of_the_variance() -> None:
    x = with_spike(10_000.0).requires_grad_()
    (gradient,) = torch.autograd.grad(excess(x).sum(), x)
    assert gradient.count_nonzero() == 1
    deviation = x.detach()[0, 1].std(correction=0)
    wanted = 2 * (deviations(x.detach()) - LIMIT) / deviation / SIDE**2
    assert float(gradient[0, 1, 5, 9]) == pytest.approx(float(wanted), rel=1e-4)


def test_a_mean_beyond_its_limit_counts_and_is_pulled_back() -> None:
    x = torch.randn(1, 2, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    x[0, 0] -= 30
    x.requires_grad_()
    channel = x.detach()[0, 0]
    far = float(channel.mean() / channel.std(correction=0)) + MEAN_LIMIT
    assert excess(x).item() == pytest.approx(MEAN_SHARE * far**2, rel=1e-4)
    (gradient,) = torch.autograd.grad(excess(x).sum(), x)
    assert (gradient[0, 0] < 0).all()
    assert not gradient[0, 1].any()
    with torch.no_grad():
        x -= 1e5 * gradient
    assert excess(x).item() < 0.99 * MEAN_SHARE * far**2


def test_the_same_in_bfloat16() -> None:
    x = with_spike(60.0)
    assert excess(x.bfloat16()).tolist() == pytest.approx(excess(x).tolist(), rel=0.02)


def test_a_watched_pass_paints_the_same_and_measures_every_norm() -> None:
    net = Network(NetworkConfig("none", {"relu1_1": 4}, width=4, blocks=1, fine=1, rank=1, hidden=4))
    net.initialise(torch.Generator().manual_seed(0))
    affine = torch.randn(2, net.layout.size, generator=torch.Generator().manual_seed(1))
    image = torch.rand(2, 3, 32, 40, generator=torch.Generator().manual_seed(2))
    watched = WatchedPass(net, affine, ORIGIN, highest)
    with torch.no_grad():
        assert torch.equal(net.run(watched, image), net(image, affine))
    assert len(watched.spikes) == len(net.layout.norms)
    assert all(s.shape == (2,) for s in watched.spikes)
