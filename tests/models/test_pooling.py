"""Max pooling equals PyTorch's, and its gradient goes to one of the largest pixels of each window."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from impasto.models.layers import max_pool, max_pool_back

SIZES = pytest.mark.parametrize("size", [(6, 8), (7, 9), (6, 9), (7, 8), (2, 2), (3, 2)], ids=str)
TYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
LAYOUTS = pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)


def test_by_hand() -> None:
    """The last row and column of odd sides are left out, and have no gradient."""
    x = torch.tensor([[[[1.0, 2.0, 9.0], [4.0, 3.0, 9.0], [9.0, 9.0, 9.0]]]])
    assert max_pool(x).tolist() == [[[[4.0]]]]
    found = max_pool_back(x, torch.tensor([[[[5.0]]]]))
    assert found.tolist() == [[[[0.0, 0.0, 0.0], [5.0, 0.0, 0.0], [0.0, 0.0, 0.0]]]]


@SIZES
@TYPES
@LAYOUTS
def test_values_and_gradients_are_pytorchs(
    size: tuple[int, int], dtype: torch.dtype, layout: torch.memory_format
) -> None:
    g = torch.Generator().manual_seed(0)
    order = torch.randperm(2 * 3 * size[0] * size[1], generator=g) - 200  # no two are equal, in bfloat16 either
    x = order.view(2, 3, *size).to(dtype).contiguous(memory_format=layout)
    found, gradient = max_pool(x), torch.randn(2, 3, size[0] // 2, size[1] // 2, generator=g).to(dtype)
    theirs = x.clone().requires_grad_(True)
    wanted = F.max_pool2d(theirs, 2)
    wanted.backward(gradient)
    assert torch.equal(found, wanted)
    back = max_pool_back(x, gradient)
    assert theirs.grad is not None
    assert torch.equal(back, theirs.grad)
    assert back.is_contiguous(memory_format=layout)


@SIZES
@TYPES
@LAYOUTS
def test_of_equal_values_one_takes_all(size: tuple[int, int], dtype: torch.dtype, layout: torch.memory_format) -> None:
    g = torch.Generator().manual_seed(0)
    x = torch.randint(0, 3, (2, 3, *size), generator=g).to(dtype).contiguous(memory_format=layout)
    gradient = torch.randint(1, 9, (2, 3, size[0] // 2, size[1] // 2), generator=g).to(dtype)
    back = max_pool_back(x, gradient)

    def windows(t: Tensor) -> Tensor:
        """Return the windows (N, C, h, w, 4), without pixels that belong to none."""
        return t.unfold(2, 2, 2).unfold(3, 2, 2).flatten(4)

    of, inside = windows(back), windows(x)
    assert ((of != 0).sum(4) == 1).all()
    assert torch.equal(of.sum(4), gradient)
    assert (inside[of != 0] == inside.amax(4).flatten()).all()
    assert back.sum() == gradient.sum()  # and nothing outside of the windows
