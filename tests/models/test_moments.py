"""Sums of products over pixels add up, and their gradient is that of plain operations by autograd."""

import pytest
import torch
from torch import Tensor

from impasto.models.moments import CHUNK, add_moments_gradient, moment_sums, moments_gradient, raw_moments

LAYOUTS = pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
WEIGHTED = pytest.mark.parametrize("masks", [None, 1, 3], ids=["plain", "one mask", "a mask each"])


def features(n: int = 3, c: int = 5, h: int = 6, w: int = 8) -> Tensor:
    return torch.randn(n, c, h, w, generator=torch.Generator().manual_seed(0)).double()


def weights(n: int | None, h: int = 6, w: int = 8) -> Tensor | None:
    return None if n is None else torch.rand(n, 1, h, w, generator=torch.Generator().manual_seed(1)).double()


def plain(f: Tensor, w: Tensor | None) -> Tensor:
    """Return the definition: the sum of w [f; 1] [f; 1]^T."""
    ones = torch.ones_like(f[:, :1])
    one = torch.cat([f, ones], 1)
    return torch.einsum("nihw,njhw,nhw->nij", one, one, (ones if w is None else w * ones)[:, 0])


def test_by_hand() -> None:
    """Let F = [[1, 2, 3, 4], [0, 1, 0, -1]].

    The weights 3, 0, 0, 1 count the pixel (1, 0) three times and (4, -1) once.
    """
    f = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]], [[0.0, 1.0], [0.0, -1.0]]]])
    assert moment_sums(f).tolist() == [[[30, -2, 10], [-2, 2, 0], [10, 0, 4]]]
    found = moment_sums(f, torch.tensor([[[[3.0, 0.0], [0.0, 1.0]]]]))
    assert found.tolist() == [[[19, -4, 7], [-4, 1, -1], [7, -1, 4]]]


@LAYOUTS
@WEIGHTED
def test_sums_by_definition(layout: torch.memory_format, masks: int | None) -> None:
    f, w = features().contiguous(memory_format=layout), weights(masks)
    torch.testing.assert_close(moment_sums(f, w), plain(f, w))
    torch.testing.assert_close(moment_sums(f.float(), w).double(), plain(f, w), rtol=1e-5, atol=1e-5)


@WEIGHTED
@pytest.mark.parametrize("dim", [2, 3])
def test_sums_of_parts_add_up(masks: int | None, dim: int) -> None:
    f, w = features(), weights(masks)
    parts = [f.narrow(dim, 0, 2), f.narrow(dim, 2, f.shape[dim] - 2)]
    own = [None, None] if w is None else [w.narrow(dim, 0, 2), w.narrow(dim, 2, f.shape[dim] - 2)]
    found = sum((moment_sums(p, q) for p, q in zip(parts, own, strict=True)), torch.zeros(()))
    torch.testing.assert_close(found, moment_sums(f, w))


@pytest.mark.parametrize("pixels", [(1, 1), (7, 9), (64, CHUNK // 64), (64, CHUNK // 64 + 3)], ids=str)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@LAYOUTS
def test_sums_of_half_precision_are_not_rounded(
    pixels: tuple[int, int], dtype: torch.dtype, layout: torch.memory_format
) -> None:
    f = (features(2, 4, *pixels) + 1).to(dtype).contiguous(memory_format=layout)
    found, expected = moment_sums(f), plain(f.double(), None)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-5 * expected.abs().max().item())


@LAYOUTS
@WEIGHTED
def test_the_gradient_is_that_of_plain_operations(layout: torch.memory_format, masks: int | None) -> None:
    f, w = features().contiguous(memory_format=layout).requires_grad_(True), weights(masks)
    of = torch.randn(3, 6, 6, generator=torch.Generator().manual_seed(2)).double()  # not symmetric
    (expected,) = torch.autograd.grad(plain(f, w), f, of)
    torch.testing.assert_close(moments_gradient(f.detach(), of, w), expected)


@LAYOUTS
@WEIGHTED
@pytest.mark.parametrize("part", ["whole", "inside", "rows", "a row", "a column"])
def test_the_gradient_is_added_in_place(layout: torch.memory_format, masks: int | None, part: str) -> None:
    """The gradient is added to existing values of any layout, and to a part of a larger tensor."""
    whole = features().contiguous(memory_format=layout)
    rows, columns = {
        "whole": (slice(None), slice(None)),
        "inside": (slice(1, 5), slice(2, 7)),
        "rows": (slice(0, 4), slice(None)),
        "a row": (slice(2, 3), slice(None)),
        "a column": (slice(None), slice(3, 4)),
    }[part]
    f, w = whole[:, :, rows, columns], weights(masks)
    w = None if w is None else w[:, :, rows, columns]
    of = torch.randn(3, 6, 6, generator=torch.Generator().manual_seed(2)).double()
    expected, found = torch.ones_like(whole), torch.ones_like(whole)
    expected[:, :, rows, columns] += moments_gradient(f, of, w)
    add_moments_gradient(f, of, found[:, :, rows, columns], w)
    torch.testing.assert_close(found, expected)


@LAYOUTS
@pytest.mark.parametrize("size", [(1, 8), (8, 1), (1, 1)], ids=str)
def test_the_gradient_of_a_single_row_is_added_whole(layout: torch.memory_format, size: tuple[int, int]) -> None:
    f = features(2, 5, *size).contiguous(memory_format=layout)
    of = torch.randn(2, 6, 6, generator=torch.Generator().manual_seed(2)).double()
    found = torch.zeros_like(f)
    add_moments_gradient(f, of, found)
    torch.testing.assert_close(found, moments_gradient(f, of))


def test_raw_moments_are_the_sums_over_their_number() -> None:
    f, w = features(), weights(3)
    assert w is not None
    torch.testing.assert_close(raw_moments(f), moment_sums(f) / 48)
    torch.testing.assert_close(raw_moments(f, w), moment_sums(f, w) / w.sum((1, 2, 3))[:, None, None])


def test_many_pixels_are_summed_accurately() -> None:
    f = 3 + 0.1 * torch.randn(1, 3, 700, 900, generator=torch.Generator().manual_seed(0))
    w = torch.rand(1, 1, 700, 900, generator=torch.Generator().manual_seed(1))
    for given in (None, w):
        wanted = plain(f.double(), None if given is None else given.double()).float()
        torch.testing.assert_close(moment_sums(f, given), wanted, rtol=1e-6, atol=0)
