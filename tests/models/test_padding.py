"""Reflection and circular padding equal PyTorch's own."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from impasto.models.layers import circular_pad, reflection_pad


def random(*shape: int, layout: torch.memory_format = torch.contiguous_format) -> Tensor:
    x = torch.randn(*shape, generator=torch.Generator().manual_seed(0))
    return x.contiguous(memory_format=layout)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(
    ("shape", "pad"),
    [((2, 3, 7, 9), 1), ((1, 4, 6, 5), 3), ((1, 2, 5, 8), 4), ((3, 1, 2, 2), 1), ((1, 1, 3, 40), 2), ((2, 5, 4, 4), 0)],
)
def test_equals_torch(shape: tuple[int, ...], pad: int, layout: torch.memory_format) -> None:
    x = random(*shape, layout=layout)
    ours, theirs = x.clone().requires_grad_(True), x.clone().requires_grad_(True)
    y, expected = reflection_pad(ours, pad), F.pad(theirs, (pad,) * 4, mode="reflect")
    assert torch.equal(y, expected)
    assert y.is_contiguous(memory_format=layout) or min(shape[1:]) == 1
    weight = random(*y.shape)
    (y * weight).sum().backward()
    (expected * weight).sum().backward()
    assert ours.grad is not None
    assert theirs.grad is not None
    assert torch.allclose(ours.grad, theirs.grad, atol=1e-5)


@pytest.mark.parametrize("pad", [1, 2])
def test_gradcheck(pad: int) -> None:
    x = random(1, 2, 3, 4).double().requires_grad_(True)
    assert torch.autograd.gradcheck(lambda x: reflection_pad(x, pad), (x,))
    assert torch.autograd.gradgradcheck(lambda x: reflection_pad(x, pad), (x,))


def test_view_and_half_precision() -> None:
    x = random(1, 3, 8, 8)[:, :, 1:6, ::2].bfloat16()
    assert torch.equal(reflection_pad(x, 2), F.pad(x, (2,) * 4, mode="reflect"))


def test_backward_keeps_the_gradient_it_was_given() -> None:
    x = random(1, 1, 4, 4).requires_grad_(True)
    given = torch.ones(1, 1, 6, 6)
    reflection_pad(x).backward(given)
    assert torch.equal(given, torch.ones(1, 1, 6, 6))


@pytest.mark.parametrize(("height", "width", "pad"), [(1, 5, 1), (5, 1, 1), (3, 9, 3)])
def test_too_small(height: int, width: int, pad: int) -> None:
    with pytest.raises(ValueError, match=f"{width}x{height} picture is too small for reflection padding by {pad}"):
        reflection_pad(torch.zeros(1, 1, height, width), pad)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(
    ("shape", "pad"), [((2, 3, 7, 9), 1), ((1, 4, 5, 8), 5), ((1, 1, 3, 40), 2), ((1, 3, 4, 4), 0)]
)
def test_circular_equals_torch(shape: tuple[int, ...], pad: int, layout: torch.memory_format) -> None:
    x = random(*shape, layout=layout)
    ours, theirs = x.clone().requires_grad_(True), x.clone().requires_grad_(True)
    y, expected = circular_pad(ours, pad), F.pad(theirs, (pad,) * 4, mode="circular")
    assert torch.equal(y, expected)
    weight = random(*y.shape)
    (y * weight).sum().backward()
    (expected * weight).sum().backward()
    assert ours.grad is not None
    assert theirs.grad is not None
    assert torch.allclose(ours.grad, theirs.grad, atol=1e-5)


@pytest.mark.parametrize("pad", [3, 4, 5, 11])
def test_a_picture_smaller_than_its_circular_padding_is_repeated(pad: int) -> None:
    """Pixel (y, x) of the result is pixel (y - pad, x - pad) of the plane tiled by the picture."""
    x = random(1, 2, 3, 4)
    rows, columns = (torch.arange(-pad, n + pad) % n for n in (3, 4))
    assert torch.equal(circular_pad(x, pad), x[:, :, rows][:, :, :, columns])
    x = x.double().requires_grad_(True)
    assert torch.autograd.gradcheck(lambda x: circular_pad(x, pad), (x,))
