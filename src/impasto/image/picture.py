"""Pictures: tensors with the metadata of their files, and cut-outs.

A cut-out is a picture with transparent areas: a tensor (N, 4, H, W) in sRGB, the alpha last and not multiplied in.
`resize` weights its colours by the alpha. Networks see it through `opaque`, and its statistics are weighted by
`visible`, so hidden colours have no influence.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import OptionError, PictureError
from .resize import resize


@dataclass(frozen=True)
class Metadata:
    """The metadata of a picture's file.

    Parameters
    ----------
    name : str
        Name of the picture in messages: its path as given, or `standard input`.
    format : str
        Pillow's name of the file's format (`JPEG`, `PNG` ...), or "" for a picture without a file.
    bits : int
        Bits per sample at which the source was read: 8 or 16 (floats count as 16).
    exif : bytes
        The EXIF block as a TIFF structure, without orientation, thumbnail and maker note, or b"".
    xmp : bytes
        The XMP packet, without orientation and thumbnail, or b"".
    iptc : bytes
        The IPTC record, without previews, or b"".
    full_size : (int, int) or None
        (H, W) of the picture in the file, if it was reduced while reading.
    """

    name: str = "the picture"
    format: str = ""
    bits: int = 8
    exif: bytes = b""
    xmp: bytes = b""
    iptc: bytes = b""
    full_size: tuple[int, int] | None = None


@dataclass(frozen=True, eq=False)
class Picture:
    """A picture in memory.

    Parameters
    ----------
    tensor : Tensor
        (1, 3, H, W), float32, sRGB, range [0, 1].
    alpha : Tensor or None
        (1, 1, H, W), float32, range [0, 1], 1 where opaque; None if the picture has no transparency.
        The colours are not multiplied by it.
    metadata : Metadata
        The metadata of its file.

    Raises
    ------
    OptionError
        If a tensor has another shape.
    """

    tensor: Tensor
    alpha: Tensor | None = None
    metadata: Metadata = field(default_factory=Metadata)

    def __post_init__(self) -> None:
        shape = tuple(self.tensor.shape)
        if len(shape) != 4 or shape[:2] != (1, 3) or 0 in shape:
            raise OptionError(f"a picture's tensor has shape {shape}; it must be (1, 3, H, W)")
        if self.alpha is not None and tuple(self.alpha.shape) != (1, 1, *shape[2:]):
            wanted = (1, 1, *shape[2:])
            raise OptionError(f"a picture's alpha has shape {tuple(self.alpha.shape)}; it must be {wanted}")

    @property
    def pixels(self) -> Tensor:
        """The picture's tensor, (1, 3, H, W), or (1, 4, H, W) with the alpha last if any pixel is transparent.

        Raises PictureError if all pixels are transparent.
        """
        if self.alpha is None or self.alpha.min() >= 1:
            return self.tensor
        if self.alpha.max() <= 0:
            raise PictureError(f"{self.metadata.name} is transparent everywhere; give a picture with visible pixels")
        return torch.cat((self.tensor, self.alpha.to(self.tensor)), 1)

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) in pixels."""
        return self.tensor.shape[2], self.tensor.shape[3]

    def with_tensor(self, tensor: Tensor) -> "Picture":
        """Return the picture with other pixels, its alpha resized to them if needed.

        Parameters
        ----------
        tensor : Tensor
            (1, 3, H', W'), float32, sRGB, range [0, 1].
        """
        alpha = self.alpha
        if alpha is not None:
            height, width = tensor.shape[-2:]
            alpha = resize(alpha, (height, width)).to(tensor.device)
        return replace(self, tensor=tensor, alpha=alpha)


TRUSTED = 1 / 8
"""Pixels with at least this alpha keep their colour. Below it, they blend into the colour of visible ones nearby."""


def visible(picture: Tensor) -> Tensor | None:
    """Return the visibility of each pixel, (N, 1, H, W), in [0, 1]; None for a fully visible picture (N, 3, H, W)."""
    return picture[:, 3:] if picture.shape[1] == 4 else None


def opaque(picture: Tensor) -> Tensor:
    """Return an opaque picture (N, 3, H, W): fill hidden areas with the colours of the visible ones around them.

    Averages the colours of visible pixels into coarser and coarser grids. Hidden pixels take their colour from the
    finest grid that has one: the pull-push of Gortler, Grzeszczuk, Szeliski, Cohen, "The Lumigraph", SIGGRAPH 1996.

    Parameters
    ----------
    picture : Tensor
        (N, 3, H, W), returned unchanged, or (N, 4, H, W).
    """
    if picture.shape[1] == 3:
        return picture
    return _filled(*_weighted(picture)).clamp(0, 1)


def _weighted(picture: Tensor) -> tuple[Tensor, Tensor]:
    """Return a cut-out's colours (N, 3, H, W), multiplied by their weights, and these weights (N, 1, H, W)."""
    weight = (picture[:, 3:] / TRUSTED).clamp(0, 1)
    return picture[:, :3] * weight, weight


def _filled(colours: Tensor, weight: Tensor) -> Tensor:
    """Return colours (N, 3, H, W) without holes, from colours multiplied by their weights (N, 1, H, W) in [0, 1]."""
    if weight.shape[-2:] == (1, 1) or weight.min() >= 1:
        return colours / weight.clamp(min=1e-6)
    return _filled_from(_filled(*_halved(colours, weight)), colours, weight)


def _halved(colours: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Return weighted colours and weights at half the size, rounded up."""
    sums, share = (F.avg_pool2d(x, 2, ceil_mode=True, count_include_pad=False) for x in (colours, weight))
    trusted = (4 * share).clamp(max=1)  # one visible pixel of the four is enough
    return sums * (trusted / share.clamp(min=1e-6)), trusted


def _filled_from(coarse: Tensor, colours: Tensor, weight: Tensor) -> Tensor:
    """Fill the holes of weighted colours from colours (N, 3, h, w) at half the size, rounded up."""
    height, width = weight.shape[-2:]
    large = F.interpolate(coarse, scale_factor=2, mode="bilinear", align_corners=False)
    return colours + (1 - weight) * large[:, :, :height, :width]


class OpaqueRows:
    """The rows of `opaque`'s result, for a cut-out of any size.

    Reads the whole cut-out once, to fill a copy of a thousandth of its pixels.

    Parameters
    ----------
    read : callable
        Takes the first row and the number of rows, and returns these rows (1, 4, n, W).
    height : int
        The cut-out's height.
    """

    LEVELS = 5
    CELL = 2**LEVELS
    """Pixels of the picture per pixel of the reduced copy."""

    def __init__(self, read: Callable[[int, int], Tensor], height: int):
        self.read, self.height = read, height
        strips = [self._pyramid(top, min(8 * self.CELL, height - top))[-1] for top in range(0, height, 8 * self.CELL)]
        self.coarse = _filled(*(torch.cat(x, 2) for x in zip(*strips, strict=True)))

    def __call__(self, top: int, count: int) -> Tensor:
        """Return `count` opaque rows that begin at `top`, (1, 3, count, W)."""
        cell = self.CELL
        # One more cell on either side: interpolation at the border of these rows would differ there.
        begin, end = max(0, top // cell - 1), min(-(-self.height // cell), -(-(top + count) // cell) + 1)
        *levels, _ = self._pyramid(begin * cell, min(end * cell, self.height) - begin * cell)
        filled = self.coarse[:, :, begin:end]
        for colours, weight in reversed(levels):
            filled = _filled_from(filled, colours, weight)
        return filled[:, :, top - begin * cell : top - begin * cell + count].clamp(0, 1)

    def _pyramid(self, top: int, count: int) -> list[tuple[Tensor, Tensor]]:
        """Return weighted colours and weights of rows, at each size from the picture's own down to the copy's."""
        levels = [_weighted(self.read(top, count))]
        for _ in range(self.LEVELS):
            levels.append(_halved(*levels[-1]))
        return levels


def over_white(picture: Tensor) -> Tensor:
    """Composite a picture (N, 3 or 4, H, W) over white. Returns (N, 3, H, W)."""
    shown = visible(picture)
    return picture if shown is None else torch.lerp(torch.ones_like(picture[:, :3]), picture[:, :3], shown)
