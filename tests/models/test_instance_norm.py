"""The instance norm equals PyTorch's own followed by an affine map and a ReLU, and so does its gradient."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from impasto.models.layers import EPSILON, instance_norm, statistics_of

SIZES = [(1, 1), (1, 7), (6, 7), (31, 33), (32, 32), (36, 41)]
"""Sizes from one pixel on, with a single row, and odd ones."""


def drawn(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def plain(x: Tensor, scale: Tensor, shift: Tensor, relu: bool = False, statistics: Tensor | None = None) -> Tensor:
    """Return what the docstring of `instance_norm` says, in the fewest operations."""
    mean, variance = (
        (x.mean((2, 3)), x.var((2, 3), correction=0))
        if statistics is None
        else statistics.expand(len(x), -1, -1).unbind(1)
    )
    y = (x - mean[:, :, None, None]) / (variance + EPSILON).sqrt()[:, :, None, None]
    y = y * scale[:, :, None, None] + shift[:, :, None, None]
    return y.relu() if relu else y


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_it_is_pytorchs_own(size: tuple[int, int], relu: bool) -> None:
    """Each picture of a batch has its own scale and shift."""
    x, scale, shift = 2 + 3 * drawn(2, 5, *size), drawn(2, 5, seed=1), drawn(2, 5, seed=2)
    found = instance_norm(x, scale, shift, relu=relu)
    if size == (1, 1):  # of one pixel nothing is left but the shift
        wanted = shift[:, :, None, None]
    else:
        wanted = torch.cat([F.instance_norm(x[i : i + 1], weight=scale[i], bias=shift[i]) for i in range(2)])
    torch.testing.assert_close(found, wanted.relu() if relu else wanted, rtol=1e-4, atol=1e-4)
    assert found.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("size", [(6, 7), (36, 41)], ids=str)
def test_the_memory_format_does_not_matter(size: tuple[int, int]) -> None:
    x, scale, shift = drawn(2, 4, *size), drawn(2, 4, seed=1), drawn(2, 4, seed=2)
    other = x.contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(instance_norm(other, scale, shift), instance_norm(x, scale, shift))


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("size", [(6, 7), (36, 41)], ids=str)
def test_small_and_large_pictures(size: tuple[int, int], relu: bool) -> None:
    x, scale, shift = drawn(2, 4, *size), drawn(2, 4, seed=1), drawn(2, 4, seed=2)
    wanted = plain(x, scale, shift, relu)
    for given in (None, statistics_of(x)):
        found = instance_norm(x, scale, shift, relu=relu, statistics=given)
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_a_large_mean_does_not_cancel_the_variance(dtype: torch.dtype) -> None:
    """The mean is a hundred deviations, as it is in channels of trained networks; forward and back."""
    x = (100 + drawn(1, 4, 180, 200)).to(dtype).requires_grad_()  # what bfloat16 makes of it is the input
    scale, shift, of = drawn(1, 4, seed=1), drawn(1, 4, seed=2), drawn(1, 4, 180, 200, seed=3)
    found = instance_norm(x, scale, shift)
    (gradient,) = torch.autograd.grad((found.float() * of).sum(), x)
    exact = x.detach().double().requires_grad_()
    wanted = plain(exact, scale.double(), shift.double())
    (wanted_gradient,) = torch.autograd.grad((wanted * of.double()).sum(), exact)
    for a, b in ((found, wanted), (gradient, wanted_gradient)):
        error = (a.double() - b).norm() / b.norm()
        assert error < (1e-3 if dtype == torch.float32 else 1e-2)


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("size", [(1, 3), (3, 4)], ids=str)
def test_gradients_are_those_of_finite_differences(size: tuple[int, int], relu: bool) -> None:
    inputs = [drawn(2, 3, *size, dtype=torch.float64)]
    inputs += [drawn(2, 3, seed=i, dtype=torch.float64) for i in (1, 2)]
    for t in inputs:
        t.requires_grad_()
    assert torch.autograd.gradcheck(lambda *t: instance_norm(*t, relu=relu), inputs)


@pytest.mark.parametrize("relu", [False, True])
def test_gradients_of_large_pictures_are_autograds(relu: bool) -> None:
    """Compare with autograd in float64, with sizes of real features."""
    inputs = [1 + drawn(2, 3, 36, 41, dtype=torch.float64)]
    inputs += [drawn(2, 3, seed=i, dtype=torch.float64) for i in (1, 2)]
    of = drawn(2, 3, 36, 41, seed=9, dtype=torch.float64)
    found, wanted = (
        torch.autograd.grad((function(*copies, relu=relu) * of).sum(), copies)
        for function in (instance_norm, plain)
        for copies in [[t.clone().requires_grad_() for t in inputs]]
    )
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


def test_gradients_through_given_statistics() -> None:
    """Given statistics are constants, so a pixel affects only itself."""
    x, scale, shift = (drawn(*s, seed=i, dtype=torch.float64) for i, s in enumerate([(1, 3, 4, 5)] + [(1, 3)] * 2))
    given = torch.stack([drawn(1, 3, seed=5), drawn(1, 3, seed=6).square()], 1).double()
    inputs = [t.requires_grad_() for t in (x, scale, shift)]
    assert torch.autograd.gradcheck(lambda *t: instance_norm(*t, relu=True, statistics=given), inputs)


def test_statistics_of_another_picture() -> None:
    """Statistics may be given once for all pictures, or for each."""
    x, scale, shift = drawn(2, 4, 5, 6), drawn(2, 4, seed=1), drawn(2, 4, seed=2)
    given = torch.rand(2, 2, 4, generator=torch.Generator().manual_seed(3))
    for statistics in (given, given[:1]):
        found = instance_norm(x, scale, shift, statistics=statistics)
        torch.testing.assert_close(found, plain(x, scale, shift, statistics=statistics), rtol=1e-4, atol=1e-5)


def test_statistics_are_mean_and_variance() -> None:
    x = 3 + 2 * drawn(2, 4, 9, 11)
    wanted = torch.stack([x.mean((2, 3)), x.var((2, 3), correction=0)], 1)
    torch.testing.assert_close(statistics_of(x), wanted)
    torch.testing.assert_close(statistics_of(x, torch.full((2, 1, 9, 11), 0.3)), wanted)


def test_statistics_of_a_part() -> None:
    """Weights of 0 and 1 select a part, and a weight of 2 counts a pixel twice."""
    x, mask = drawn(2, 4, 6, 8), torch.zeros(2, 1, 6, 8)
    mask[..., :3] = 1
    torch.testing.assert_close(statistics_of(x, mask), statistics_of(x[..., :3]))
    mask[..., 3:6] = 2
    torch.testing.assert_close(statistics_of(x, mask), statistics_of(torch.cat([x[..., :6], x[..., 3:6]], 3)))
    assert statistics_of(x, torch.zeros(2, 1, 6, 8)).abs().max() == 0  # of nothing at all


def test_a_large_mean_does_not_spoil_the_variance() -> None:
    x = 1000 + drawn(1, 3, 16, 16)
    torch.testing.assert_close(statistics_of(x)[:, 1], x.double().var((2, 3), correction=0).float(), rtol=1e-3, atol=0)


@torch.no_grad()
@pytest.mark.parametrize("size", [(16, 16), (64, 64)], ids=str)
def test_the_statistics_are_float32_in_bfloat16(size: tuple[int, int]) -> None:
    x, scale, shift = 3 + drawn(1, 8, *size), 1 + 0.3 * drawn(1, 8, seed=1), drawn(1, 8, seed=2)
    low = x.bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        found = instance_norm(low, scale, shift)
    assert found.dtype == torch.bfloat16
    wanted = instance_norm(low.float(), scale, shift)
    assert (found.float() - wanted).abs().max() < 0.1
    assert abs(float(found.float().mean() - wanted.mean())) < 0.01


def test_statistics_of_large_pictures_are_accurate() -> None:
    """Plain sums in float32 over millions of pixels are not accurate, and tiles would then not match the picture."""
    x = (0.5 * drawn(1, 3, 700, 900) - 3) * torch.linspace(0.2, 1.8, 700)[:, None]
    mean, variance = x.double().mean((2, 3)), x.double().var((2, 3), correction=0)
    found = statistics_of(x)[0]
    torch.testing.assert_close(found[0], mean[0].float(), rtol=1e-6, atol=0)
    torch.testing.assert_close(found[1], variance[0].float(), rtol=1e-6, atol=0)
    normalised = instance_norm(x, torch.ones(1, 3), torch.zeros(1, 3)).double()
    torch.testing.assert_close(normalised.mean((2, 3)), torch.zeros(1, 3).double(), rtol=0, atol=1e-5)
    torch.testing.assert_close(normalised.var((2, 3)), torch.ones(1, 3).double(), rtol=0, atol=2e-5)
