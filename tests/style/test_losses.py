"""Tests of the losses: answers worked out by hand, and gradients against finite differences."""

import pytest
import torch
from torch import Tensor

from impasto.models.moments import gram_matrix, raw_moments
from impasto.models.vgg import VGG, VGGConfig
from impasto.style.losses import content_loss, gram_loss, head_metric, total_variation


def features(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).double()


def gatys_style_loss(f: Tensor, a: Tensor) -> Tensor:
    """Return E_l of Gatys, Ecker, Bethge 2016, equation 4, as it is printed."""
    n, m = f.shape[1], f.shape[2] * f.shape[3]
    g_f = torch.einsum("bihw,bjhw->bij", f, f)
    g_a = torch.einsum("bihw,bjhw->bij", a, a)
    return (g_f - g_a).square().sum((1, 2)) / (4 * n**2 * m**2)


def test_gram_loss_by_hand() -> None:
    """F = [[1, 2, 3, 4], [0, 1, 0, -1]] has G = [[30, -2], [-2, 2]]; a picture of ones has [[4, 4], [4, 4]]."""
    f = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]], [[0.0, 1.0], [0.0, -1.0]]]])
    ones = torch.ones(1, 2, 2, 2)
    difference = 26**2 + 2 * 6**2 + 2**2  # of the Gram matrices, squared
    assert gatys_style_loss(f, ones).item() == difference / (4 * 2**2 * 4**2)
    assert gram_loss(raw_moments(f), raw_moments(ones)).item() == pytest.approx(difference / (4 * 4**2))
    assert gram_loss(raw_moments(ones), raw_moments(f)).item() == pytest.approx(difference / (30**2 + 3 * 2**2))


def test_gram_loss_is_the_papers_up_to_the_styles_size() -> None:
    f, a = features(0, 3, 5, 6, 4), features(1, 3, 5, 6, 4)
    size = gram_matrix(a, normalise=False).square().sum((1, 2)) / (4 * 5**2 * 24**2)
    assert torch.allclose(gram_loss(raw_moments(f), raw_moments(a)) * size, gatys_style_loss(f, a))


def test_gram_loss_has_no_scale() -> None:
    f, a = features(0, 1, 4, 5, 6), features(1, 1, 4, 8, 9)
    loss = gram_loss(raw_moments(f), raw_moments(a))
    assert torch.allclose(gram_loss(raw_moments(100 * f), raw_moments(100 * a)), loss)
    assert torch.allclose(gram_loss(raw_moments(f.repeat(1, 1, 2, 3)), raw_moments(a)), loss)
    assert gram_loss(raw_moments(a), raw_moments(a)).item() == 0
    assert gram_loss(raw_moments(0 * a), raw_moments(a)).item() == pytest.approx(1)


def test_gram_loss_of_a_style_that_is_zero() -> None:
    zero = raw_moments(torch.zeros(1, 3, 4, 4))
    assert gram_loss(zero, zero).item() == 0


def test_gram_loss_behind_the_heads() -> None:
    net = VGG(VGGConfig((4,), (1,), {"relu1_1": 7}), "headed").eval()
    net.initialise(torch.Generator().manual_seed(2))
    net.heads["relu1_1"].bias.data.fill_(0.3)  # type: ignore[union-attr]
    f, a = features(0, 2, 4, 9, 8).float().relu(), features(1, 2, 4, 5, 6).float().relu()
    wide = net.heads["relu1_1"]
    expected = gram_loss(raw_moments(wide(f)), raw_moments(wide(a)))
    assert torch.allclose(gram_loss(raw_moments(f), raw_moments(a), head_metric(net, "relu1_1")), expected, rtol=1e-4)


@pytest.mark.parametrize("with_metric", [False, True])
def test_gram_loss_gradcheck(with_metric: bool) -> None:
    metric = features(2, 4, 4) if with_metric else None
    f, target = features(0, 2, 3, 4, 3).requires_grad_(True), raw_moments(features(1, 2, 3, 5, 5))
    assert torch.autograd.gradcheck(lambda f: gram_loss(raw_moments(f), target, metric), (f,))


def test_content_loss_by_hand() -> None:
    """The channel with 1 and 3 spreads by 2 around its mean 2, the constant channel by 0; one value is off by 3."""
    target = torch.tensor([[[[1.0, 3.0]], [[5.0, 5.0]]]])
    found = target.clone()
    found[0, 1, 0, 0] += 3
    assert content_loss(found, target).item() == pytest.approx(9 / 2)
    assert content_loss(target, target).item() == 0


def test_content_loss_has_no_scale_and_is_one_for_the_mean() -> None:
    f, target = features(0, 2, 4, 5, 6), features(1, 2, 4, 5, 6)
    assert torch.allclose(content_loss(9 * f, 9 * target), content_loss(f, target))
    mean = target.mean((2, 3), keepdim=True).expand_as(target)
    assert torch.allclose(content_loss(mean, target), torch.ones(2, dtype=torch.float64))


def test_content_loss_of_a_flat_content_is_finite() -> None:
    flat = torch.ones(1, 2, 3, 3)
    assert content_loss(flat, flat).item() == 0
    assert content_loss(flat + 1, flat).isfinite().all()


def test_content_loss_gradcheck_and_precision() -> None:
    f, target = features(0, 2, 3, 4, 3), features(1, 2, 3, 4, 3)
    assert torch.autograd.gradcheck(lambda f: content_loss(f, target), (f.requires_grad_(True),))
    assert content_loss(f.bfloat16(), target.bfloat16()).dtype == torch.float32


def test_total_variation_of_a_ramp() -> None:
    """On a ramp of slopes a and b, every difference is a down or b to the right, so the loss is a^2 + b^2."""
    y, x = torch.meshgrid(torch.arange(5.0), torch.arange(9.0), indexing="ij")
    ramp = (0.25 * y + 0.5 * x).expand(2, 3, 5, 9)
    assert torch.allclose(total_variation(ramp), torch.full((2,), 0.25**2 + 0.5**2))
    assert torch.allclose(total_variation(ramp.repeat_interleave(2, 0)[:1] * 0 + 0.7), torch.zeros(1))


def test_total_variation_of_a_step_and_a_chessboard() -> None:
    step = torch.zeros(1, 1, 4, 6)
    step[..., 3:] = 1  # of the 5 pairs in each row, one differs
    assert total_variation(step).item() == pytest.approx(1 / 5)
    board = torch.tensor([[0.0, 1.0], [1.0, 0.0]]).repeat(3, 3)[None, None]
    assert total_variation(board).item() == 2


def test_total_variation_of_a_picture_that_tiles() -> None:
    """Opposite borders are neighbours: of the 6 pairs in each row of a step, two differ."""
    step = torch.zeros(1, 1, 4, 6)
    step[..., 3:] = 1
    assert total_variation(step, wrap=True).item() == pytest.approx(2 / 6)


@pytest.mark.parametrize("wrap", [False, True])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_total_variation_gradcheck(layout: torch.memory_format, wrap: bool) -> None:
    image = features(0, 2, 3, 4, 5).contiguous(memory_format=layout).requires_grad_(True)
    assert torch.autograd.gradcheck(lambda x: total_variation(x, wrap), (image,))


def test_each_picture_has_its_own_loss() -> None:
    f, a = features(0, 3, 4, 5, 6), features(1, 3, 4, 5, 6)
    for loss in (
        lambda f, a: gram_loss(raw_moments(f), raw_moments(a)),
        content_loss,
        lambda f, _: total_variation(f),
    ):
        one_by_one = torch.cat([loss(f[i : i + 1], a[i : i + 1]) for i in range(3)])
        assert torch.allclose(loss(f, a), one_by_one)
