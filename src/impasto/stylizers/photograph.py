"""A photograph that is painted strip by strip: its rows at the painting's size, and a preview of the painting."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..image.picture import OpaqueRows, opaque
from ..image.resize import resize, resize_rows
from ..image.strips import PictureSource, ResizedSource
from ..models.layers import mirrored
from .network_memory import padded_size
from .underpainting import enlarged_rows

if TYPE_CHECKING:
    from .network import MeasuredStyle

PHOTO_SIZE = 512
"""Long side in pixels at which the photograph is measured for strengths other than 1."""
PREVIEW_SIZE = 1024
"""Long side in pixels of the picture that shows how far a painting is."""


class Photograph:
    """A photograph at the painting's size, and the masks of its parts, row by row.

    Parameters
    ----------
    source : PictureSource
        The photograph, of any size.
    size : (int, int)
        Height and width of the painting.
    places : sequence of (Tensor, MeasuredStyle)
        The regions' masks (1, 1, h, w), of any size, and their styles.

    Attributes
    ----------
    underpainting : Tensor or None
        What is added to the photograph before it is painted (`underpainting`).
    """

    def __init__(self, source: PictureSource, size: tuple[int, int], places: "Sequence[tuple[Tensor, MeasuredStyle]]"):
        self.source = source if source.size == size else ResizedSource(source, size)
        self.size, self.places = size, places
        self.underpainting: Tensor | None = None
        self.cutout = source.channels == 4
        self._opaque = OpaqueRows(self._read, size[0]) if self.cutout else self._read

    def rows(self, top: int, count: int) -> tuple[Tensor, Tensor | None]:
        """Return opaque rows (1, 3, count, W), and the masks (R, 1, count, W) of the parts if there are several."""
        from .network import NetworkStylizer

        x = self._opaque(top, count)
        places = [(mask_rows(mask, self.size, top, count), style) for mask, style in self.places]
        return x, NetworkStylizer.masks_of(x, places, self.shown(top, count))

    def underpainted(self, top: int, count: int) -> tuple[Tensor, Tensor | None]:
        """Return `rows`, with the strokes of the underpainting as three more channels, if there is one."""
        x, masks = self.rows(top, count)
        if self.underpainting is not None:
            x = torch.cat([x, enlarged_rows(self.underpainting, self.size, top, count).to(x)], 1)
        return x, masks

    def shown(self, top: int, count: int) -> Tensor | None:
        """Return the alpha of rows, (1, 1, count, W), or None if the photograph has none."""
        return self._read(top, count)[:, 3:] if self.cutout else None

    def padded(self, strip: int, begin: int = 0) -> Iterator[tuple[Tensor, Tensor | None]]:
        """Yield `rows` from `begin` on, `strip` at a time, padded by reflection as `Network.forward` pads pictures.

        They have the strokes of the `underpainting` as three more channels, if there is one.
        """
        width, sides = self.size[1], padded_size(self.size)
        rows, columns = (mirrored(s, side, torch.device("cpu")) for s, side in zip(self.size, sides, strict=True))
        for part in rows[begin:].split(strip):
            first, last = int(part.min()), int(part.max())
            found = self.underpainted(first, last + 1 - first)
            plain = sides[1] == width and len(part) == last + 1 - first and int(part[-1]) == last
            x, masks = found if plain else (_picked(f, part - first, columns) for f in found)
            assert x is not None
            yield x, masks

    def _read(self, top: int, count: int) -> Tensor:
        return self.source.read(top, 0, count, self.size[1])


def mask_rows(mask: Tensor, size: tuple[int, int], top: int, count: int) -> Tensor:
    """Return rows (1, 1, count, W) of a mask (1, 1, h, w) resized to `size`."""
    return resize_rows(lambda a, b: mask[:, :, a:b], (mask.shape[2], mask.shape[3]), size, top, count)


def _picked(x: Tensor | None, rows: Tensor, columns: Tensor) -> Tensor | None:
    return None if x is None else x.index_select(2, rows).index_select(3, columns)


class Preview:
    """A reduced copy of the photograph, painted from the top as far as the painting is done.

    Parameters
    ----------
    source : PictureSource
        The photograph.
    size : (int, int)
        Height and width of the painting.

    Attributes
    ----------
    image : Tensor
        (1, 3, h, w). Never modified: it is replaced when rows are added.
    """

    def __init__(self, source: PictureSource, size: tuple[int, int]):
        self.image, self.size, self.done = opaque(source.reduced(min(PREVIEW_SIZE, max(size)))), size, 0

    def add(self, rows: Tensor, count: int | None = None) -> None:
        """Show the next rows of the painting, (1, 3, n, W), or a reduced copy of `count` rows."""
        height, width = self.image.shape[2:]
        begin, self.done = self.done, self.done + (count or rows.shape[2])
        top, bottom = (height * row // self.size[0] for row in (begin, self.done))
        if top < bottom:
            small = resize(rows, (bottom - top, width)).to(self.image)
            self.image = torch.cat([self.image[:, :, :top], small, self.image[:, :, bottom:]], 2)
