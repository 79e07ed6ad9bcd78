"""2x2 max pooling that remembers one byte for each of its results.

PyTorch keeps the place of every maximum as a 64-bit number until the backward pass: with bfloat16 features that is as
much again as what was pooled. Here it is which of the four it was. That takes about twice as long, so it is done where
the memory counts.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

LARGE = 2**25
"""Numbers that a tensor has at least for its memory to count more than the time: 64 channels at 724x724 pixels."""


class _MaxPool(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        h, w = x.shape[2] // 2 * 2, x.shape[3] // 2 * 2
        a, b, c, d = (x[:, :, i:h:2, j:w:2] for i in (0, 1) for j in (0, 1))
        top, bottom = torch.maximum(a, b), torch.maximum(c, d)
        # Of equals the first, as PyTorch takes it.
        place = torch.where(bottom > top, (d > c).to(torch.uint8).add_(2), (b > a).to(torch.uint8))
        ctx.save_for_backward(place)
        ctx.shape = x.shape
        ctx.layout = (
            torch.channels_last if x.is_contiguous(memory_format=torch.channels_last) else torch.contiguous_format
        )
        return torch.maximum(top, bottom)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        (place,), (g,) = ctx.saved_tensors, grads
        gradient = torch.zeros(ctx.shape, dtype=g.dtype, device=g.device).contiguous(memory_format=ctx.layout)
        h, w = ctx.shape[2] // 2 * 2, ctx.shape[3] // 2 * 2
        for k in range(4):
            gradient[:, :, k // 2 : h : 2, k % 2 : w : 2] = g * (place == k)
        return gradient


def max_pool(x: Tensor) -> Tensor:
    """The maximum of every 2x2 window.

    Parameters
    ----------
    x : Tensor
        (N, C, H, W), any floating type and memory format.

    Returns
    -------
    Tensor
        (N, C, H // 2, W // 2).
    """
    if x.numel() < LARGE or not x.requires_grad:
        return F.max_pool2d(x, 2)
    return _MaxPool.apply(x)  # type: ignore[no-any-return]
