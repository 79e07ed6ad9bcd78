"""Where and how to compute: device, precision, memory layout."""

from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeVar

import torch
from torch import Tensor, nn

from .errors import OptionError
from .options import Precision


@dataclass(frozen=True)
class Compute:
    """A device and the precision that networks run in on it; statistics, losses and pictures stay float32.

    Parameters
    ----------
    device : torch.device
        Where tensors live.
    low : torch.dtype or None
        The type that autocast uses inside networks; None for float32 throughout.
    """

    device: torch.device
    low: torch.dtype | None

    def autocast(self) -> AbstractContextManager[object]:
        """The context in which a network's forward runs."""
        return torch.autocast(self.device.type, self.low or torch.float32, enabled=self.low is not None)

    def picture(self, x: Tensor) -> Tensor:
        """A picture on the device, channels_last: the layout that convolutions are fastest in."""
        return x.to(self.device).contiguous(memory_format=torch.channels_last)

    def network(self, net: nn.Module) -> None:
        """Move a network to the device, channels_last."""
        channels_last(net.to(self.device))

    def __str__(self) -> str:
        return f"{self.device}, {'float32' if self.low is None else str(self.low).removeprefix('torch.')}"


Module = TypeVar("Module", bound=nn.Module)


def channels_last(net: Module) -> Module:
    """The network itself, its weights in channels_last order."""
    return net.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]


@lru_cache
def has_bfloat16() -> bool:
    """Whether this processor multiplies bfloat16 in hardware (AVX-512 BF16 or AMX); without, float32 is faster."""
    checks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(bool(getattr(torch.cpu, name, lambda: False)()) for name in checks)


def choose_compute(device: str = "auto", precision: Precision = "auto") -> Compute:
    """The device and precision that the options ask for, or the best there are.

    Parameters
    ----------
    device : str
        `auto`, `cpu`, `cuda`, `cuda:1`, `mps`.
    precision : "auto", "float32" or "bfloat16"
        `auto` takes bfloat16 where the hardware has it.

    Raises
    ------
    OptionError
        If there is no such device, or the precision is not available on it.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        chosen = torch.device(device)
        torch.zeros(1, device=chosen).item()
    except (RuntimeError, AssertionError) as error:  # NotImplementedError too: `meta` and the like hold no values
        raise OptionError(f"--device {device} is not to be had here; try cpu") from error
    able = has_bfloat16() if chosen.type == "cpu" else chosen.type == "cuda" and torch.cuda.is_bf16_supported()
    low = torch.bfloat16 if precision == "bfloat16" or (precision == "auto" and able) else None
    return Compute(chosen, low)
