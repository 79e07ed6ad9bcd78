"""Tests of the optional terms: answers worked out by hand, and gradients against finite differences."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from impasto.models.vgg import VGG, VGGConfig
from impasto.style.extra import (
    histogram_loss,
    laplacian_loss,
    quantiles,
    sample_positions,
    self_similarity_loss,
)
from impasto.style.losses import head_metric


def features(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).double()


def test_quantiles_by_hand() -> None:
    """The values 0, 1, 2, 3 are at 1/8, 3/8, 5/8, 7/8.

    So the quantiles 1/4 and 3/4 lie half way between two of them.
    """
    f = torch.tensor([[[[3.0, 0.0], [2.0, 1.0]], [[5.0, 5.0], [5.0, 5.0]]]])
    assert quantiles(f, 2).tolist() == [[[0.5, 2.5], [5.0, 5.0]]]
    assert quantiles(f, 4).tolist() == [[[0.0, 1.0, 2.0, 3.0], [5.0] * 4]]
    assert quantiles(f, 8)[0, 0].tolist() == [0.0, 0.25, 0.75, 1.25, 1.75, 2.25, 2.75, 3.0]


def test_histogram_loss_by_hand() -> None:
    """Sorted 4, 1, 0, 1 is 0, 1, 1, 4; against 1, 2, 3, 4 it gives (1 + 1 + 4 + 0) / 4, over the mean square 30 / 4."""
    f, a = torch.tensor([[[[4.0, 1.0], [0.0, 1.0]]]]), torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
    assert histogram_loss(f, quantiles(a, 4)).item() == pytest.approx(6 / 30)


def test_histogram_loss_does_not_see_where_things_are_but_what_they_are() -> None:
    a = features(0, 2, 3, 8, 8)
    order = torch.randperm(64, generator=torch.Generator().manual_seed(1))
    moved = a.flatten(2)[:, :, order].view_as(a)
    target = quantiles(a, 64)
    assert histogram_loss(moved, target).abs().max() == 0
    assert torch.allclose(histogram_loss(0 * a, target), torch.ones(2).double())
    assert torch.allclose(histogram_loss(7 * moved + 1, quantiles(7 * a)), histogram_loss(moved + 1 / 7, quantiles(a)))


def test_histogram_loss_of_another_size_is_small() -> None:
    """A finer grid of the same smooth picture has the same histogram, except for what the quantiles leave out."""
    x = torch.linspace(0, 1, 40)[None, None, None].double().square()
    y = torch.linspace(0, 1, 100)[None, None, None].double().square()
    assert histogram_loss(y, quantiles(x)).item() < 1e-3


def test_histogram_loss_of_shifted_features() -> None:
    a = features(0, 1, 3, 6, 6)
    spread = a.square().mean((0, 2, 3)).sum().item()
    assert histogram_loss(a + 2, quantiles(a, 36)).item() == pytest.approx(3 * 2**2 / spread)


def test_histogram_loss_gradcheck_and_precision() -> None:
    f, target = features(0, 2, 3, 4, 3), quantiles(features(1, 2, 3, 5, 5), 8)
    assert torch.autograd.gradcheck(lambda f: histogram_loss(f, target), (f.requires_grad_(True),))
    assert histogram_loss(f.bfloat16(), target.float()).dtype == torch.float32
    assert histogram_loss(0 * f, 0 * target).tolist() == [0, 0]


def test_laplacian_loss_of_a_point() -> None:
    """A pixel that is off by 1 gives 4 at its place and -1 at its four neighbours: 20 over 3 x 3 places."""
    x = torch.zeros(1, 1, 5, 5)
    point = x.clone()
    point[0, 0, 2, 2] = 1
    assert laplacian_loss(point, x, pooling=1).item() == pytest.approx(20 / 9)
    cells = point.repeat_interleave(4, 2).repeat_interleave(4, 3)
    assert laplacian_loss(cells, 0 * cells).item() == pytest.approx(20 / 9)


def test_laplacian_loss_sees_neither_ramps_nor_what_a_cell_averages_out() -> None:
    y, x = torch.meshgrid(torch.arange(24.0), torch.arange(32.0), indexing="ij")
    photo = features(0, 2, 3, 24, 32).float()
    assert laplacian_loss(photo + 0.3 * y - 0.1 * x + 2, photo).max() < 1e-9
    board = (y + x) % 2 - 0.5
    assert laplacian_loss(photo + board, photo).max() < 1e-9
    assert laplacian_loss(photo + board, photo, pooling=1).min() > 1


def test_laplacian_loss_of_a_parabola() -> None:
    """The Laplacian of x^2 is 2 everywhere."""
    x = torch.arange(9.0).square().expand(1, 2, 7, 9)
    assert laplacian_loss(x, 0 * x, pooling=1).item() == pytest.approx(4)


def test_laplacian_loss_gradcheck_and_small_pictures() -> None:
    f, a = features(0, 2, 3, 9, 7), features(1, 2, 3, 9, 7)
    assert torch.autograd.gradcheck(lambda f: laplacian_loss(f, a, 2), (f.requires_grad_(True),))
    with pytest.raises(ValueError, match="7x9 picture is too small for a Laplacian of 4x4"):
        laplacian_loss(f, a)


def test_sample_positions() -> None:
    found = sample_positions((10, 20), seed=3, count=50)
    assert len(found.unique()) == 50
    assert (found.min() >= 0, found.max() < 200) == (True, True)
    assert torch.equal(found, sample_positions((10, 20), seed=3, count=50))
    assert not torch.equal(found, sample_positions((10, 20), seed=4, count=50))
    assert torch.equal(sample_positions((2, 3), seed=0), torch.arange(6))


def test_self_similarity_loss_by_hand() -> None:
    """The columns (1, 0), (1, 0), (0, 1) have the distances 0 0 1, 0 0 1, 1 1 0. The third row sums to 2, so 1/2 1/2 0.

    The content's (1, 0), (0, 1), (0, 1) have 0 1 1, 1 0 0, 1 0 0. Over their sums the rows differ by
    |0 0 1 - 0 1/2 1/2| = 1, |0 0 1 - 1 0 0| = 2, |1/2 1/2 0 - 1 0 0| = 1: the mean is 4/3.
    """
    f = torch.tensor([[[[1.0, 1.0, 0.0]], [[0.0, 0.0, 1.0]]]])
    content = torch.tensor([[[[1.0, 0.0, 0.0]], [[0.0, 1.0, 1.0]]]])
    assert self_similarity_loss(f, content, torch.arange(3)).item() == pytest.approx(4 / 3)


def test_self_similarity_loss_keeps_likeness_not_looks() -> None:
    """Rotated and scaled features have the same cosines."""
    f = features(0, 2, 4, 5, 6)
    turn = torch.linalg.qr(features(1, 4, 4)).Q
    turned = 3 * torch.einsum("ij,njhw->nihw", turn, f)
    where = sample_positions((5, 6), seed=0, count=17)
    assert self_similarity_loss(turned, f, where).abs().max() < 1e-12
    assert self_similarity_loss(features(2, 2, 4, 5, 6), f, where).min() > 0.1


def test_self_similarity_loss_only_sees_its_places() -> None:
    f, content = features(0, 1, 3, 4, 4), features(1, 1, 3, 4, 4)
    where = torch.tensor([0, 3, 7, 9])
    changed = f.clone()
    changed[0, :, 3, 3] += 5  # place 15
    assert torch.equal(self_similarity_loss(changed, content, where), self_similarity_loss(f, content, where))
    few = (f.flatten(2)[:, :, where][:, :, None], content.flatten(2)[:, :, where][:, :, None])
    assert torch.allclose(self_similarity_loss(*few, torch.arange(4)), self_similarity_loss(f, content, where))


def test_self_similarity_loss_behind_the_heads() -> None:
    net = VGG(VGGConfig((4,), (1,), {"relu1_1": 7}), "headed").eval()
    net.initialise(torch.Generator().manual_seed(2))
    net.heads["relu1_1"].bias.data.fill_(0.3)  # type: ignore[union-attr]
    f, a = features(0, 2, 4, 5, 6).float().relu(), features(1, 2, 4, 5, 6).float().relu()
    wide, where = net.heads["relu1_1"], sample_positions((5, 6), seed=0, count=20)
    expected = self_similarity_loss(wide(f), wide(a), where)
    assert torch.allclose(self_similarity_loss(f, a, where, head_metric(net, "relu1_1")), expected, rtol=1e-4)


@pytest.mark.parametrize("with_metric", [False, True])
def test_self_similarity_loss_gradcheck(with_metric: bool) -> None:
    metric = features(2, 4, 4) if with_metric else None
    f, a, where = features(0, 2, 3, 3, 3).requires_grad_(True), features(1, 2, 3, 3, 3), torch.tensor([0, 2, 5, 6, 8])
    assert torch.autograd.gradcheck(lambda f: self_similarity_loss(f, a, where, metric), (f,))


def test_self_similarity_loss_of_flat_features_is_finite() -> None:
    for value in (0.0, 1.0):
        f = torch.full((1, 3, 4, 4), value).requires_grad_(True)
        loss = self_similarity_loss(f, features(0, 1, 3, 4, 4).float(), torch.arange(16))
        loss.sum().backward()
        assert loss.isfinite().all()
        assert f.grad is not None
        assert f.grad.isfinite().all()


@pytest.mark.parametrize(
    ("loss", "rate"),
    [
        (lambda f, a: histogram_loss(f, quantiles(a, 16)), 10.0),
        (lambda f, a: laplacian_loss(f, a, 2), 0.5),
        (lambda f, a: self_similarity_loss(f, a, torch.arange(0, 64, 3)), 5.0),
    ],
    ids=["histogram", "laplacian", "self-similarity"],
)
def test_gradient_descent_and_one_loss_a_picture(loss: Callable[[Tensor, Tensor], Tensor], rate: float) -> None:
    f, a = features(0, 3, 4, 8, 8), features(1, 3, 4, 8, 8)
    assert torch.allclose(loss(f, a), torch.cat([loss(f[i : i + 1], a[i : i + 1]) for i in range(3)]))
    first = loss(f, a)
    for _ in range(60):
        f.requires_grad_(True)
        (gradient,) = torch.autograd.grad(loss(f, a).sum(), f)
        f = (f - rate * gradient).detach()
    assert (loss(f, a) < 0.5 * first).all()
