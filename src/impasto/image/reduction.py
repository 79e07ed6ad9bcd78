"""Pictures that are needed much smaller than they are: reduced while they are read, so that little memory is taken.

A decoder that can leaves out what is not needed (JPEG, JPEG 2000). What remains is brought to the size that is needed
before it becomes floats.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from PIL import Image, Jpeg2KImagePlugin

from .cutout import visible
from .picture import Picture
from .resize import resize

Sized = Callable[[tuple[int, int]], tuple[int, int]]
"""From a picture's height and width to those that are needed, in pixels."""
GAP = 2
"""At least so many times the needed sides are decoded; the filter does the rest."""
CODESTREAM, CODING_STYLE, LEVELS_AT = b"\xff\x4f\xff\x51", b"\xff\x52", 9
"""JPEG 2000: how a codestream begins, the marker of its coding style, and where after it the number of halvings is."""


@dataclass(frozen=True)
class Reduction:
    """What is needed of a file's picture.

    Parameters
    ----------
    full, needed : (int, int) or None
        Height and width in the file, and those that are needed; None for a picture that is wanted as it is.
    """

    full: tuple[int, int] | None = None
    needed: tuple[int, int] | None = None

    @classmethod
    def of(cls, full: tuple[int, int] | None, sized: Sized | None) -> "Reduction":
        """Return what `sized` says of a picture, if that is at most half of it."""
        if full is None or sized is None:
            return cls()
        needed = sized(full)
        return cls(full, needed) if all(GAP * n <= m for n, m in zip(needed, full, strict=True)) else cls()

    def ask(self, image: Image.Image) -> None:
        """Have Pillow decode a part of the detail, where the format allows that; it is not loaded yet."""
        if self.needed is None:
            return
        height, width = self.needed
        if isinstance(image, Jpeg2KImagePlugin.Jpeg2KImageFile):
            times = min(image.height // (GAP * height), image.width // (GAP * width))
            halvings = min(max(1, times).bit_length() - 1, _levels(image))
            image.reduce = halvings  # pyright: ignore[reportAttributeAccessIssue]
        else:
            image.draft(None, (GAP * width, GAP * height))

    def applied(self, image: Image.Image, resample: Image.Resampling = Image.Resampling.BICUBIC) -> Image.Image:
        """Return a loaded image in the size that is needed, before it is turned; colours count by their alpha."""
        if self.needed is None or self.full is None:
            return image
        (height, width), long = self.needed, max(self.full)
        part = 2 ** round(math.log2(long / max(image.size)))  # of which a decoder rounds the sides up
        box = (0, 0, self.full[1] / part, self.full[0] / part)
        return image.resize((width, height), resample, box, reducing_gap=GAP + 1)

    def finished(self, picture: Picture, orientation: int = 1) -> Picture:
        """Return an upright picture in the size that is needed, if it is not yet; it was turned from `orientation`."""
        if self.needed is None or self.full is None:
            return picture
        size, full = self.needed, self.full
        if orientation in (5, 6, 7, 8):
            size, full = (size[1], size[0]), (full[1], full[0])
        metadata = replace(picture.metadata, full_size=full)
        if picture.alpha is None:
            return Picture(resize(picture.tensor, size), None, metadata)
        whole = resize(torch.cat((picture.tensor, picture.alpha), 1), size)
        return Picture(whole[:, :3].contiguous(), visible(whole), metadata)


def _levels(image: Jpeg2KImagePlugin.Jpeg2KImageFile) -> int:
    """Return how often a JPEG 2000 file's picture can be halved by leaving out detail."""
    assert image.fp is not None
    at = image.fp.tell()
    image.fp.seek(0)
    head = image.fp.read(2**20)
    image.fp.seek(at)
    start = head.find(CODESTREAM)
    style = head.find(CODING_STYLE, start) if start >= 0 else -1
    return head[style + LEVELS_AT] if 0 <= style < len(head) - LEVELS_AT else 0
