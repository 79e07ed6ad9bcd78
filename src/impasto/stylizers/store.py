"""Tensors that are read and written in pieces: in memory, or in a temporary file if they do not fit."""

import math
import os
import weakref
from typing import BinaryIO

import numpy as np
import torch
from torch import Tensor

from ..errors import MemoryNeedError
from ..files import TemporaryFiles, write_all


class Store:
    """A tensor in memory, or in a temporary file that is deleted with this object.

    Parameters
    ----------
    shape : tuple of int
        Its shape. It starts with zeros.
    dtype : torch.dtype
        Its type.
    device : torch.device
        Its device, if it is in memory.
    on_disk : bool
        Whether to keep it in a file.

    Raises
    ------
    MemoryNeedError
        If the disk has no room for the file.
    """

    def __init__(self, shape: tuple[int, ...], dtype: torch.dtype, device: torch.device, *, on_disk: bool = False):
        self.shape, self.dtype = shape, dtype
        self._tensor = None if on_disk else torch.zeros(shape, dtype=dtype, device=device)
        self._file = _reserved(math.prod(shape) * dtype.itemsize) if on_disk else None
        if self._file is not None:
            weakref.finalize(self, self._file.close)

    def open(self) -> Tensor:
        """Return the tensor for reading and writing.

        If it is in a file, the parts that you use stay in memory as long as the tensor does. So take a slice at once,
        and keep neither.
        """
        if self._file is None:
            assert self._tensor is not None
            return self._tensor
        mapped = np.memmap(self._file, dtype=np.uint8, mode="r+", shape=(math.prod(self.shape) * self.dtype.itemsize,))
        return torch.from_numpy(mapped).view(self.dtype).view(self.shape)


def _reserved(size: int) -> BinaryIO:
    """Return a temporary file of `size` bytes, with its space on the disk reserved."""
    files = TemporaryFiles("paintings in tiles", size)
    file = files.open()
    try:
        with files.named():
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, max(1, size))
            else:
                piece = memoryview(bytes(1 << 20))
                for start in range(0, size, len(piece)):
                    write_all(file, piece[: size - start])
    except MemoryNeedError:
        file.close()
        raise
    return file
