"""A 3x3 convolution of frozen weights with its padding and its ReLU, forward and back to its input.

An encoder that only looks at pictures needs no gradient of its weights. So the padded input is not kept, the ReLU is
applied while the convolution writes, and the backward pass is a convolution with the kernel turned round.
"""

from functools import cache
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .padding import fold_reflection, reflected


class Kernel(NamedTuple):
    """The frozen weights of a 3x3 convolution, cast once.

    Parameters
    ----------
    weight : Tensor
        (O, I, 3, 3), channels_last, or as oneDNN orders it.
    bias : Tensor
        (O,).
    turned : Tensor
        (I, O, 3, 3), the weight turned by 180 degrees: convolving a gradient with it is the backward pass.
    """

    weight: Tensor
    bias: Tensor
    turned: Tensor

    @classmethod
    def of(cls, weight: Tensor, bias: Tensor, like: Tensor) -> "Kernel":
        """Return the kernel of a weight (O, I, 3, 3) and a bias (O,), in the type and on the device of a tensor."""
        weight, bias = weight.to(like), bias.to(like)
        turned = weight.flip(2, 3).transpose(0, 1).contiguous(memory_format=torch.channels_last)
        weight = weight.contiguous(memory_format=torch.channels_last)
        if _onednn(like):
            weight, turned = _ordered(weight, like), _ordered(turned, like)
        return cls(weight, bias, turned)


def convolve(x: Tensor, kernel: Kernel, *, reflect: bool, relu: bool) -> Tensor:
    """Return a convolution of the same size, followed by a ReLU if asked for.

    Parameters
    ----------
    x : Tensor
        (N, I, H, W), of the kernel's type and device; fastest in channels_last.
    kernel : Kernel
        The weights.
    reflect : bool
        Pad by reflection, else with zeros.
    relu : bool
        Apply a ReLU.

    Returns
    -------
    Tensor
        (N, O, H, W).

    Raises
    ------
    ValueError
        If the picture is too small to be reflected.
    """
    x, padding = (reflected(x), 0) if reflect else (x, 1)
    return _convolve(x, kernel.weight, kernel.bias, padding, relu)


def convolve_back(gradient: Tensor, kernel: Kernel, *, reflect: bool) -> Tensor:
    """Return the gradient of `convolve`'s input (N, I, H, W), from that of its output before the ReLU."""
    g = _convolve(gradient, kernel.turned, None, 2 if reflect else 1, relu=False)
    return fold_reflection(g) if reflect else g


def _convolve(x: Tensor, weight: Tensor, bias: Tensor | None, padding: int, relu: bool) -> Tensor:
    if _onednn(x):
        pads, ones = [padding, padding], [1, 1]
        return torch.ops.mkldnn._convolution_pointwise(  # type: ignore[no-any-return]
            x, weight, bias, pads, ones, ones, 1, "relu" if relu else "none", [], ""
        )
    y = F.conv2d(x, weight, bias, padding=padding)
    return F.relu_(y) if relu else y


def _onednn(x: Tensor) -> bool:
    """Return whether oneDNN can convolve `x` and apply a ReLU while it writes."""
    if x.device.type != "cpu" or x.dtype not in (torch.float32, torch.bfloat16):
        return False
    return _onednn_has(x.dtype)


@cache
def _onednn_has(dtype: torch.dtype) -> bool:
    """Return whether this build and this processor have the operation; in bfloat16 few processors do."""
    if not (torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_convolution_pointwise")):
        return False
    able = getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: False)
    return dtype == torch.float32 or bool(able())


def _ordered(weight: Tensor, like: Tensor) -> Tensor:
    """Return a weight in the order that oneDNN wants for pictures of about that size, so that it is ordered once."""
    order = getattr(getattr(torch._C, "_nn", None), "mkldnn_reorder_conv2d_weight", None)
    if order is None:
        return weight
    size = [1, weight.shape[1], *like.shape[-2:]]
    return order(weight.to_mkldnn(), [1, 1], [1, 1], [1, 1], 1, size)  # type: ignore[no-any-return]
