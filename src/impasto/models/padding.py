"""Reflection padding whose backward is fast on the CPU, and circular padding of whatever width.

PyTorch's own reflection padding has a very slow backward for channels_last tensors on the CPU, which would be most of
the time of an encoder that pads before every convolution. Here the forward copies the picture into a larger one and
fills the border with slices; the backward folds the border's gradient back with the same slices.
"""

import math
from typing import Any

import torch
from torch import Tensor


class _ReflectionPad(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, pad: int) -> Tensor:
        ctx.pad = pad
        return reflected(x, pad)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return fold_reflection(grads[0].clone(memory_format=torch.preserve_format), ctx.pad), None


def reflected(x: Tensor, pad: int = 1) -> Tensor:
    """Return `reflection_pad`'s result, without a gradient; the same errors."""
    n, c, h, w = x.shape
    if min(h, w) <= pad:
        raise ValueError(f"a {w}x{h} picture is too small to be padded by {pad} through reflection")
    # Of a one-channel or one-pixel tensor both layouts are true; channels_last is what the convolutions want.
    layout = torch.channels_last if x.is_contiguous(memory_format=torch.channels_last) else torch.contiguous_format
    y = torch.empty((n, c, h + 2 * pad, w + 2 * pad), dtype=x.dtype, device=x.device, memory_format=layout)
    y[:, :, pad : pad + h, pad : pad + w] = x
    for i in range(pad):
        y[:, :, pad - 1 - i, pad : pad + w] = x[:, :, i + 1]
        y[:, :, pad + h + i, pad : pad + w] = x[:, :, h - 2 - i]
    for i in range(pad):
        y[:, :, :, pad - 1 - i] = y[:, :, :, pad + 1 + i]
        y[:, :, :, pad + w + i] = y[:, :, :, pad + w - 2 - i]
    return y


def fold_reflection(g: Tensor, pad: int = 1) -> Tensor:
    """Return the gradient of `reflected` from that of its result (N, C, H + 2 pad, W + 2 pad), which is overwritten."""
    h, w = g.shape[2] - 2 * pad, g.shape[3] - 2 * pad
    for i in range(pad):
        g[:, :, :, pad + 1 + i] += g[:, :, :, pad - 1 - i]
        g[:, :, :, pad + w - 2 - i] += g[:, :, :, pad + w + i]
    for i in range(pad):
        g[:, :, pad + 1 + i] += g[:, :, pad - 1 - i]
        g[:, :, pad + h - 2 - i] += g[:, :, pad + h + i]
    return g[:, :, pad : pad + h, pad : pad + w]


def reflection_pad(x: Tensor, pad: int = 1) -> Tensor:
    """Pad both spatial sides by reflection, the border pixel itself not repeated.

    Parameters
    ----------
    x : Tensor
        (N, C, H, W), any floating type and memory format, H and W greater than `pad`.
    pad : int
        Pixels added on each side.

    Returns
    -------
    Tensor
        (N, C, H + 2 pad, W + 2 pad) in the memory format of `x`.

    Raises
    ------
    ValueError
        If the picture is too small to be reflected.
    """
    return _ReflectionPad.apply(x, pad)  # type: ignore[no-any-return]


def circular_pad(x: Tensor, pad: int) -> Tensor:
    """Pad both spatial sides by the opposite side, as in a plane that the picture tiles.

    Parameters
    ----------
    x : Tensor
        (N, C, H, W), any type and memory format; smaller than `pad` it is repeated, which PyTorch's own refuses.
    pad : int
        Pixels added on each side.

    Returns
    -------
    Tensor
        (N, C, H + 2 pad, W + 2 pad).
    """
    for dim in (2, 3):
        side = x.shape[dim]
        copies = math.ceil(pad / side)
        x = torch.cat([x] * (2 * copies + 1), dim).narrow(dim, copies * side - pad, side + 2 * pad)
    return x


def fill(image: Tensor, stride: int, least: int) -> Tensor:
    """(N, C, H, W), reflected to the right and below until the stride divides its sides of `least` or more."""
    height, width = image.shape[-2:]
    sides = [max(least, -(-s // stride) * stride) for s in (height, width)]
    if sides == [height, width]:
        return image
    rows, columns = (mirrored(s, full, image.device) for s, full in zip((height, width), sides, strict=True))
    return image.index_select(2, rows).index_select(3, columns)


def mirrored(side: int, full: int, device: torch.device) -> Tensor:
    """Indices 0 ... side - 1, and on, back and forth, to `full` of them."""
    period = max(1, 2 * (side - 1))
    index = torch.arange(full, device=device) % period
    return torch.minimum(index, period - index) if side > 1 else torch.zeros_like(index)
