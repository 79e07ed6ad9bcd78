"""Tests of the moments loss: distances of Gaussians by hand, and gradients for covariances without full rank."""

import pytest
import torch
from torch import Tensor

from impasto.models.moments import raw_moments
from impasto.models.vgg import VGG, VGGConfig
from impasto.style.losses import EPSILON, MomentsTarget, covariance_metric, moments_loss


def features(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).double()


def moments(mean: list[float], covariance: list[list[float]]) -> Tensor:
    """Return raw moments (1, C + 1, C + 1) with that mean and covariance."""
    m, one = torch.tensor([*mean, 1.0], dtype=torch.float64), len(mean)
    raw = torch.outer(m, m)
    raw[:one, :one] += torch.tensor(covariance, dtype=torch.float64)
    return raw[None]


def distance(found: Tensor, target: Tensor) -> float:
    """Return the squared distance itself, without the scale."""
    scale = target.diagonal(dim1=1, dim2=2).sum() - 1  # the mean square: tr(C) + ||m||^2
    return (moments_loss(found, MomentsTarget.of(target)) * scale).item()


@pytest.mark.parametrize(
    ("mean", "variance", "expected"),
    [(3.0, 4.0, 2**2 + 1**2), (1.0, 9.0, 2**2), (-2.0, 1.0, 3**2), (1.0, 1.0, 0.0)],
)
def test_one_channel_by_hand(mean: float, variance: float, expected: float) -> None:
    """In one dimension the distance is (m - m')^2 + (s - s')^2; the style has m' = 1, s' = 1."""
    found = distance(moments([mean], [[variance]]), moments([1.0], [[1.0]]))
    assert found == pytest.approx(expected, rel=1e-3, abs=1e-12)  # `EPSILON` is not nothing


def test_diagonal_covariances_by_hand() -> None:
    """Uncorrelated channels are one-dimensional each.

    The means give 3^2 + 1^2, the deviations (2 - 1)^2 + (1 - 4)^2.
    """
    found = moments([3.0, 0.0], [[4.0, 0.0], [0.0, 1.0]])
    assert distance(found, moments([0.0, 1.0], [[1.0, 0.0], [0.0, 16.0]])) == pytest.approx(10 + 10, rel=1e-3)


def test_full_covariances_by_hand() -> None:
    """C = [[5, 4], [4, 5]] has the root [[2, 1], [1, 2]]; to the identity, the distance is

    root - 1||^2 = 4.
    """
    found, target = moments([0.0, 0.0], [[5.0, 4.0], [4.0, 5.0]]), moments([0.0, 0.0], [[1.0, 0.0], [0.0, 1.0]])
    assert distance(found, target) == pytest.approx(4, rel=1e-3)
    assert distance(target, found) == pytest.approx(4, rel=1e-3)


def test_covariances_that_do_not_commute() -> None:
    """For diag(4, 1) and [[2, 1], [1, 2]], P = [[8, 2], [2, 2]].

    For 2 x 2 matrices, tr P^1/2 = (tr P + 2 det^1/2 P)^1/2.
    """
    found = distance(moments([0.0, 0.0], [[2.0, 1.0], [1.0, 2.0]]), moments([0.0, 0.0], [[4.0, 0.0], [0.0, 1.0]]))
    assert found == pytest.approx(5 + 4 - 2 * (10 + 2 * 12**0.5) ** 0.5, rel=1e-3)


def test_shifted_features_differ_by_their_means() -> None:
    f = features(0, 1, 5, 8, 9)
    shift = torch.tensor([1.0, -2.0, 0.5, 0.0, 3.0]).double()
    assert distance(raw_moments(f + shift[:, None, None]), raw_moments(f)) == pytest.approx(shift.square().sum().item())


def test_no_scale_one_for_zeros_and_none_for_itself() -> None:
    f, a = features(0, 1, 4, 8, 7), features(1, 1, 4, 8, 9) + 0.5
    target = MomentsTarget.of(raw_moments(a))
    loss = moments_loss(raw_moments(f), target)
    assert torch.allclose(moments_loss(raw_moments(100 * f), MomentsTarget.of(raw_moments(100 * a))), loss)
    assert torch.allclose(moments_loss(raw_moments(f.repeat(1, 1, 2, 3)), target), loss)
    assert moments_loss(raw_moments(a), target).item() == pytest.approx(0, abs=1e-12)
    assert moments_loss(raw_moments(a.float()), MomentsTarget.of(raw_moments(a.float()))).item() < 1e-6
    assert moments_loss(raw_moments(0 * a), target).item() == pytest.approx(1, abs=2 * EPSILON**0.5)


def test_each_picture_has_its_own_loss_against_one_style_or_its_own() -> None:
    f, a = features(0, 3, 4, 5, 6), features(1, 3, 4, 5, 6)
    own = torch.cat(
        [moments_loss(raw_moments(f[i : i + 1]), MomentsTarget.of(raw_moments(a[i : i + 1]))) for i in range(3)]
    )
    assert torch.allclose(moments_loss(raw_moments(f), MomentsTarget.of(raw_moments(a))), own)
    first = MomentsTarget.of(raw_moments(a[:1]))
    one = torch.cat([moments_loss(raw_moments(f[i : i + 1]), first) for i in range(3)])
    assert torch.allclose(moments_loss(raw_moments(f), first), one)


@pytest.mark.parametrize("out", [7, 3])  # a head wider, and one narrower, than its layer
def test_behind_the_heads(out: int) -> None:
    net = VGG(VGGConfig((5,), (1,), {"relu1_1": out}), "headed").eval()
    net.initialise(torch.Generator().manual_seed(2))
    wide = net.heads["relu1_1"].double()
    wide.bias.data.fill_(0.3)  # type: ignore[union-attr]
    metric = covariance_metric(net, "relu1_1")
    assert metric is not None
    assert (metric.dtype, metric.shape) == (torch.float32, (5, 5))
    f, a = features(0, 2, 5, 9, 8).relu(), features(1, 2, 5, 5, 6).relu()
    narrow, behind = MomentsTarget.of(raw_moments(a), metric), MomentsTarget.of(raw_moments(wide(a)))
    found = moments_loss(raw_moments(f), narrow) * narrow.scale
    expected = moments_loss(raw_moments(wide(f)), behind) * behind.scale
    # The variance that is added differs, as do the channels that it is added to.
    assert torch.allclose(found, expected, rtol=5e-3)


def test_behind_the_heads_differences_have_their_lengths_and_cosines() -> None:
    net = VGG(VGGConfig((4,), (1,), {"relu1_1": 9}), "headed").eval()
    net.initialise(torch.Generator().manual_seed(2))
    wide, metric = net.heads["relu1_1"], covariance_metric(net, "relu1_1")
    assert metric is not None
    x, y, c = features(0, 3, 4).float()
    head = [wide(v[None, :, None, None]).flatten() for v in (x, y, c)]
    narrow = [metric @ (x - c), metric @ (y - c)]
    expected = torch.cosine_similarity(head[0] - head[2], head[1] - head[2], dim=0)
    assert torch.allclose(torch.cosine_similarity(narrow[0], narrow[1], dim=0), expected, atol=1e-5)
    assert torch.allclose(narrow[0].norm(), (head[0] - head[2]).norm(), rtol=1e-5)


def test_no_head_no_metric() -> None:
    assert covariance_metric(VGG(VGGConfig((4,), (1,), {})), "relu1_1") is None


@pytest.mark.parametrize("with_metric", [False, True])
@pytest.mark.parametrize("pixels", [(5, 4), (1, 3)])  # (1, 3): three pixels of four channels, rank two
def test_gradcheck(with_metric: bool, pixels: tuple[int, int]) -> None:
    metric = features(2, 4, 4) if with_metric else None
    metric = metric @ metric.t() if metric is not None else None
    target = MomentsTarget.of(raw_moments(features(1, 2, 4, 3, 3)), metric)
    f = features(0, 2, 4, *pixels).requires_grad_(True)
    assert torch.autograd.gradcheck(lambda f: moments_loss(raw_moments(f), target), (f,))


@pytest.mark.parametrize("with_metric", [False, True])
@pytest.mark.parametrize("pixels", [(3, 4), (1, 3)])  # (1, 3): of rank two
def test_the_gradient_of_the_moments_themselves(with_metric: bool, pixels: tuple[int, int]) -> None:
    """The gradient equals finite differences of the formula in every symmetric direction."""
    metric = features(2, 4, 4) @ features(2, 4, 4).t() if with_metric else None
    target = MomentsTarget.of(raw_moments(features(1, 2, 4, 3, 3)), metric)
    raw, h = raw_moments(features(0, 2, 4, *pixels) + 0.3), 1e-6
    (gradient,) = torch.autograd.grad(moments_loss(raw.requires_grad_(True), target).sum(), raw)
    raw = raw.detach()
    for i in range(4):
        for j in range(i, 5):
            step = torch.zeros(5, 5, dtype=torch.float64)
            step[i, j] = step[j, i] = 1
            ends = [moments_loss(raw + s * step, target) for s in (h, -h)]
            expected = (ends[0] - ends[1]) / (2 * h)
            torch.testing.assert_close((gradient * step).sum((1, 2)), expected, rtol=1e-3, atol=1e-6)


def test_gradcheck_of_a_style_without_full_rank() -> None:
    target = MomentsTarget.of(raw_moments(features(1, 1, 4, 1, 2)))
    f = features(0, 1, 4, 3, 3).requires_grad_(True)
    assert torch.autograd.gradcheck(lambda f: moments_loss(raw_moments(f), target), (f,))


@pytest.mark.parametrize("style", [0.0, 0.7])
@pytest.mark.parametrize("picture", ["zero", "constant", "nearly constant", "random"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_flat_features_give_finite_values_and_gradients(style: float, picture: str, dtype: torch.dtype) -> None:
    noise = features(0, 1, 6, 5, 5)
    f = {"zero": 0 * noise, "constant": 0 * noise + 3, "nearly constant": 3 + 1e-7 * noise, "random": noise}[picture]
    f = f.to(dtype).requires_grad_(True)
    for a in (torch.full((1, 6, 4, 4), style), features(1, 1, 6, 4, 4)):
        loss = moments_loss(raw_moments(f), MomentsTarget.of(raw_moments(a.to(dtype))))
        (gradient,) = torch.autograd.grad(loss.sum(), f)
        assert loss.isfinite().all()
        assert gradient.isfinite().all()
        assert loss.item() > -1e-6


def test_a_gradient_at_the_goal_is_nothing() -> None:
    a = features(1, 1, 4, 8, 9)
    f = a.clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(moments_loss(raw_moments(f), MomentsTarget.of(raw_moments(a))).sum(), f)
    assert gradient.abs().max() < 1e-9


def test_float16_moments_of_a_style_file_serve() -> None:
    """A covariance rounded to float16 may have negative eigenvalues; the error is no larger than that rounding."""
    f, thin = features(0, 1, 6, 9, 9).relu(), features(1, 1, 2, 9, 9)
    a = (thin.repeat(1, 3, 1, 1) + 2).relu()  # rank two of six
    target = raw_moments(a.float()).half().float()
    assert torch.linalg.eigvalsh(target[0, :-1, :-1] - torch.outer(target[0, :-1, -1], target[0, :-1, -1])).min() < 0
    exact = moments_loss(raw_moments(f), MomentsTarget.of(raw_moments(a)))
    assert torch.allclose(moments_loss(raw_moments(f), MomentsTarget.of(target)), exact, rtol=5e-3)


def test_not_finite_in_not_finite_out() -> None:
    """The eigendecomposition must not raise an error, so that the optimiser can report the divergence."""
    f = features(0, 1, 3, 4, 4)
    f[0, 1, 2, 2] = torch.nan
    f.requires_grad_(True)
    loss = moments_loss(raw_moments(f), MomentsTarget.of(raw_moments(features(1, 1, 3, 4, 4))))
    loss.sum().backward()
    assert loss.isnan().all()


def test_one_step_of_gradient_descent_is_the_optimal_transport() -> None:
    """With half the number of pixels as the rate, one step moves each column to its place in the style's Gaussian."""
    f, a = features(0, 1, 4, 12, 12).requires_grad_(True), 2 * features(1, 1, 4, 9, 9).relu() + 1
    target = MomentsTarget.of(raw_moments(a))
    loss = moments_loss(raw_moments(f), target)
    (gradient,) = torch.autograd.grad(loss * target.scale, f)
    moved = f.detach() - 144 / 2 * gradient
    assert moments_loss(raw_moments(moved), target).item() < 1e-6 * loss.item()


def test_gradient_descent_reaches_the_style() -> None:
    f, a = features(0, 1, 4, 8, 8), 2 * features(1, 1, 4, 9, 9).relu() + 1
    target = MomentsTarget.of(raw_moments(a))
    losses = []
    for _ in range(30):
        f.requires_grad_(True)
        loss = moments_loss(raw_moments(f), target)
        (gradient,) = torch.autograd.grad(loss * target.scale, f)
        f = (f - 0.1 * 64 / 2 * gradient).detach()
        losses.append(loss.item())
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < 0.01 * losses[0]
