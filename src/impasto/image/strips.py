"""Pictures that are read and written part by part, so that they need not fit into memory.

A stylizer that paints in tiles reads rectangles from a `PictureSource` and gives the finished rows to a `PictureSink`.
"""

from typing import Protocol

import torch
from torch import Tensor

from .resize import fit_size, resize, resize_rows


class PictureSource(Protocol):
    """A picture whose rectangles can be read in any order, but are read fastest from top to bottom."""

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        ...

    @property
    def channels(self) -> int:
        """3, or 4 with alpha last."""
        ...

    def read(self, top: int, left: int, height: int, width: int) -> Tensor:
        """Return a rectangle inside the picture: (1, `channels`, height, width), float32, sRGB, [0, 1]."""
        ...

    def reduced(self, long_side: int) -> Tensor:
        """Return the whole picture, (1, `channels`, H, W), reduced to at most `long_side` pixels."""
        ...


class PictureSink(Protocol):
    """Receives a picture's rows from top to bottom."""

    def write(self, rows: Tensor) -> None:
        """Add the next rows: (1, C, n, W), float32, sRGB, [0, 1]."""
        ...


class MemorySource:
    """A picture in memory.

    Parameters
    ----------
    image : Tensor
        (1, 3, H, W), or (1, 4, H, W) with alpha last.
    """

    def __init__(self, image: Tensor):
        self.image = image

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.image.shape[-2], self.image.shape[-1]

    @property
    def channels(self) -> int:
        """3, or 4 with alpha last."""
        return self.image.shape[1]

    def read(self, top: int, left: int, height: int, width: int) -> Tensor:
        """Return the pixels of a rectangle inside the picture."""
        return self.image[:, :, top : top + height, left : left + width]

    def reduced(self, long_side: int) -> Tensor:
        """Return the whole picture, reduced to at most `long_side` pixels."""
        return resize(self.image, fit_size(self.size, long_side=min(long_side, max(self.size))))


class ResizedSource:
    """A picture at another size, resized part by part as `resize` would resize it.

    Parameters
    ----------
    source : PictureSource
        The picture.
    size : (int, int)
        The new height and width in pixels.
    """

    def __init__(self, source: PictureSource, size: tuple[int, int]):
        self.source, self._size = source, size

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self._size

    @property
    def channels(self) -> int:
        """3, or 4 with alpha last."""
        return self.source.channels

    def read(self, top: int, left: int, height: int, width: int) -> Tensor:
        """Return the pixels of a rectangle inside the picture. Reads whole rows."""

        def rows(begin: int, end: int) -> Tensor:
            return self.source.read(begin, 0, end - begin, self.source.size[1])

        return resize_rows(rows, self.source.size, self._size, top, height)[:, :, :, left : left + width]

    def reduced(self, long_side: int) -> Tensor:
        """Return the whole picture, reduced to at most `long_side` pixels."""
        size = fit_size(self._size, long_side=min(long_side, max(self._size)))
        return resize(self.source.reduced(max(size)), size)


class MemorySink:
    """Collects the rows in memory."""

    def __init__(self) -> None:
        self.parts: list[Tensor] = []

    def write(self, rows: Tensor) -> None:
        """Add the next rows."""
        self.parts.append(rows)

    def image(self) -> Tensor:
        """Return the picture (1, C, H, W)."""
        return torch.cat(self.parts, 2)
