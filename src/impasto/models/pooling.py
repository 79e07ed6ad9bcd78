"""2x2 max pooling of features behind a ReLU, forward and back, that remembers nothing but its input.

PyTorch's own keeps the place of every maximum as a 64-bit number: with bfloat16 features that is as much memory again
as what was pooled, and on a CPU much of the time. Here the backward pass compares the input once more.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def max_pool(x: Tensor) -> Tensor:
    """Return the maximum of every 2x2 window.

    Parameters
    ----------
    x : Tensor
        (N, C, H, W), any floating type and memory format; finite. Of an odd side the last row or column is left out.

    Returns
    -------
    Tensor
        (N, C, H // 2, W // 2).
    """
    return torch.maximum(*_halves(torch.maximum(*_halves(x, 2)), 3))


def max_pool_back(x: Tensor, gradient: Tensor) -> Tensor:
    """Return the gradient of `max_pool`'s input (N, C, H, W): of equal values the first one takes all of it."""
    rows = torch.maximum(*_halves(x, 2))
    left, right = _halves(rows, 3)
    second = torch.ops.aten.threshold_backward(gradient, right - left, 0)  # where the right one is larger
    # Written by one operation: single pixels are too short for two that each write every second one.
    pairs = torch.stack([(gradient - second).permute(0, 2, 3, 1), second.permute(0, 2, 3, 1)], 3)  # (N, h, w, 2, C)
    by_row = pairs.flatten(2, 3).permute(0, 3, 1, 2)
    if x.shape[3] % 2:
        by_row = F.pad(by_row, (0, 1))
    found = torch.empty_like(x)
    if x.shape[2] % 2:
        found[:, :, -1].zero_()
    (top, bottom), (even, odd) = _halves(x, 2), _halves(found, 2)
    torch.ops.aten.threshold_backward.grad_input(by_row, bottom - top, 0, grad_input=odd)
    torch.sub(by_row, odd, out=even)
    return found


def _halves(x: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """Return the even and the odd rows (dim 2) or columns (3); the last of an odd number is in neither."""
    end = x.shape[dim] // 2 * 2
    at = (slice(None),) * dim
    return x[(*at, slice(0, end, 2))], x[(*at, slice(1, end, 2))]
