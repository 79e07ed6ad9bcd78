"""Device, precision, memory layout and threads of the computation."""

import ctypes
import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor, nn

from .container import ROOT, allowed_processors, free_memory
from .errors import OptionError
from .options import Precision

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Compute:
    """A device and the precision of networks on it. Statistics, losses and pictures stay float32.

    Parameters
    ----------
    device : torch.device
        The device of tensors.
    autocast_dtype : torch.dtype or None
        The dtype that autocast uses inside networks; None for float32 throughout.
    """

    device: torch.device
    autocast_dtype: torch.dtype | None

    def autocast(self) -> AbstractContextManager[object]:
        """Return the context manager in which to run a network's forward pass."""
        dtype = self.autocast_dtype
        return torch.autocast(self.device.type, dtype or torch.float32, enabled=dtype is not None)

    def picture(self, x: Tensor) -> Tensor:
        """Move a picture to the device, in channels_last: the fastest layout for convolutions."""
        return x.to(self.device).contiguous(memory_format=torch.channels_last)

    def network(self, net: nn.Module) -> None:
        """Move a network to the device, in channels_last."""
        channels_last(net.to(self.device))

    @property
    def precision(self) -> Literal["float32", "bfloat16"]:
        """The precision's name, as in `--precision`."""
        return "float32" if self.autocast_dtype is None else "bfloat16"

    def __str__(self) -> str:
        return f"{self.device}, {self.precision}"


Function = TypeVar("Function", bound=Callable[..., Any])


def with_gradients(function: Function) -> Function:
    """Run a function, or each step of a generator, as if outside of `torch.no_grad` and `torch.inference_mode`.

    Painting by optimisation needs gradients, and tensors that are kept for later must not be inference tensors,
    whatever the caller has switched off for its own networks.
    """
    return torch.inference_mode(False)(torch.enable_grad()(function))


def ordinary(value: Any) -> Any:
    """Return a value whose tensors autograd accepts: those made in `torch.inference_mode` are copied.

    Looks for tensors in lists, tuples, dicts and dataclasses. Call it inside a function with `with_gradients`.
    """
    if isinstance(value, Tensor):
        return value.clone() if value.is_inference() else value
    if isinstance(value, dict):
        return {k: ordinary(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(ordinary, value))
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{f.name: ordinary(getattr(value, f.name)) for f in fields(value)})
    return value


_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD, _M_MMAP_MAX = -1, -2, -3, -4  # of malloc.h
_KEEP_FREED = {_M_TRIM_THRESHOLD: 1 << 30, _M_TOP_PAD: 1 << 26, _M_MMAP_MAX: 0}
_DEFAULTS = {_M_TRIM_THRESHOLD: 1 << 26, _M_TOP_PAD: 1 << 17, _M_MMAP_THRESHOLD: 1 << 25, _M_MMAP_MAX: 65536}
"""glibc's defaults, with the thresholds that it adapts to for large, short-lived blocks."""


def _glibc() -> ctypes.CDLL | None:
    """Return glibc, or None where it is not in use."""
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    return libc if hasattr(libc, "mallopt") and hasattr(libc, "malloc_trim") else None


def return_freed_memory() -> None:
    """Return all freed memory to the system, with glibc on Linux."""
    libc = _glibc()
    if libc is not None:
        libc.malloc_trim(0)


_KEEP_SMALL = {_M_TRIM_THRESHOLD: 1 << 27, _M_TOP_PAD: 1 << 25, _M_MMAP_THRESHOLD: 1 << 25}
"""As `_KEEP_FREED` for blocks of less than 32 MB, the most that glibc allows."""


@contextmanager
def freed_memory_kept(large: bool = True) -> Iterator[None]:
    """Keep freed memory for the next tensors, with glibc on Linux; return it to the system at the end.

    Every step of an optimisation frees memory that the next step allocates again. If it is returned to the system in
    between, its pages are cleared and mapped again each time, which takes a fifth of a step at 512 pixels.

    Parameters
    ----------
    large : bool
        Whether to keep large blocks, too. Where memory is scarce, their gaps would take too much of it.
    """
    libc = _glibc()
    if libc is None:
        yield
        return
    for parameter, value in (_KEEP_FREED if large else _KEEP_SMALL).items():
        libc.mallopt(parameter, value)
    try:
        yield
    finally:
        for parameter, value in _DEFAULTS.items():
            libc.mallopt(parameter, value)
        libc.malloc_trim(0)


Module = TypeVar("Module", bound=nn.Module)


def channels_last(net: Module) -> Module:
    """Convert a network's weights to channels_last and return the network."""
    return net.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]


@lru_cache
def has_bfloat16() -> bool:
    """Return whether this processor multiplies bfloat16 in hardware (AVX-512 BF16 or AMX); else float32 is faster."""
    checks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(bool(getattr(torch.cpu, name, lambda: False)()) for name in checks)


def available_memory(device: torch.device) -> int | None:
    """Return the free bytes on the device, within a container's limits, or None if the system does not say."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return free_memory()


@lru_cache
def bound_threads(root: Path = ROOT) -> None:
    """Limit PyTorch's threads, once, to the processors that this process may use, unless OMP_NUM_THREADS is set.

    PyTorch starts one thread per processor of the machine. In a container with fewer processors, threads wait for each
    other.

    Parameters
    ----------
    root : Path
        The folder that holds `proc` and `sys`.
    """
    allowed = allowed_processors(root)
    if allowed is None or allowed >= torch.get_num_threads() or "OMP_NUM_THREADS" in os.environ:
        return
    log.info("computing with %d threads, the number of processors available to this process", allowed)
    torch.set_num_threads(allowed)


def choose_compute(device: str = "auto", precision: Precision = "auto") -> Compute:
    """Resolve device and precision, and limit the threads to a container's processors.

    Parameters
    ----------
    device : str
        `auto`, `cpu`, `cuda`, `cuda:1`, `mps`.
    precision : "auto", "float32" or "bfloat16"
        `auto` uses bfloat16 if the hardware supports it. If it does not, bfloat16 is emulated, with a warning.

    Raises
    ------
    OptionError
        If the device is not available.
    """
    bound_threads()
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        chosen = torch.device(device)
        torch.zeros(1, device=chosen).item()
    except (RuntimeError, AssertionError) as error:  # NotImplementedError too: `meta` and the like hold no values
        raise OptionError(f"--device {device} is not available here; try cpu") from error
    if chosen.type == "cpu":
        able = has_bfloat16()
    else:
        able = chosen.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    if precision == "bfloat16" and not able and chosen.type != "mps":
        log.warning("bfloat16 is slow here: %s does not support it in hardware and emulates it", chosen)
    low = torch.bfloat16 if precision == "bfloat16" or (precision == "auto" and able) else None
    return Compute(chosen, low)
