"""Reading pictures of any size in parts, with the extra `large`.

`open_source` opens a file as a `PictureSource`, whose pixels are those of `read_image`.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import BinaryIO

import torch
from torch import Tensor

from ..errors import OptionError
from ..ranges import MAX_MEGAPIXELS
from . import deep
from .decode import identify, turned
from .decoder import Decoder
from .heif import is_heif
from .picture import Metadata, Picture
from .read import decoder_of, is_raw, read_opened, tensors, without_large_chunks
from .resize import fit_size, resize
from .source import Source, check_size, decoding, opened
from .strips import MemorySource

TRANSPOSED = (5, 6, 7, 8)
"""EXIF orientations that exchange rows and columns."""
FROM_BELOW = (3, 4, *TRANSPOSED)
"""EXIF orientations whose first row is not the file's first."""


class FileSource:
    """A picture in a file that is decoded in parts, as a `PictureSource`.

    Attributes
    ----------
    metadata : Metadata
        The metadata of the file.
    """

    def __init__(self, decoder: Decoder, orientation: int, metadata: Metadata):
        self.metadata = metadata
        self._decoder, self._orientation = decoder, orientation

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        height, width = self._decoder.layout.size
        return (width, height) if self._orientation in TRANSPOSED else (height, width)

    @property
    def channels(self) -> int:
        """3, or 4 with alpha last."""
        return 4 if self._decoder.layout.alpha else 3

    def read(self, top: int, left: int, height: int, width: int) -> Tensor:
        """Return a rectangle inside the picture: (1, `channels`, height, width), float32, sRGB, [0, 1].

        Raises
        ------
        OptionError
            If the rectangle is empty or not inside the picture.
        PictureError
            If the file is damaged there, or there is no space for a temporary copy.
        """
        full_height, full_width = self.size
        if not (0 <= top < top + height <= full_height and 0 <= left < left + width <= full_width):
            raise OptionError(
                f"the rectangle of {width}x{height} pixels at ({left}, {top}) is not inside the picture of "
                f"{full_width}x{full_height}"
            )
        if self._orientation in (3, 4, 7, 8):
            top = full_height - top - height
        if self._orientation in (2, 3, 6, 7):
            left = full_width - left - width
        if self._orientation in TRANSPOSED:
            top, left, height, width = left, top, width, height
        with decoding(self.metadata.name):
            if self._orientation in FROM_BELOW:
                self._decoder.unpack()
            raw = self._decoder.read(top, left, height, width)
            return _joined(*tensors(turned(self._decoder.layout.samples(raw, self.metadata.name), self._orientation)))

    def reduced(self, long_side: int) -> Tensor:
        """Return the whole picture, (1, `channels`, H, W), reduced to at most `long_side` pixels."""
        size = fit_size(self.size, long_side=min(long_side, max(self.size)))
        needed = (size[1], size[0]) if self._orientation in TRANSPOSED else size
        with decoding(self.metadata.name):
            samples = self._decoder.layout.samples(self._decoder.reduced(needed), self.metadata.name)
            return resize(_joined(*tensors(turned(samples, self._orientation))), size)


class WholeSource(MemorySource):
    """A picture that was read as a whole, as a `PictureSource`, with its metadata."""

    def __init__(self, picture: Picture):
        super().__init__(_joined(picture.tensor, picture.alpha))
        self.metadata = picture.metadata


@contextmanager
def open_source(
    source: Source, *, max_megapixels: float = MAX_MEGAPIXELS, random_access: bool = False
) -> Iterator[FileSource | WholeSource]:
    """Open a picture to read it in parts. Rotation, colours and transparency are as in `read_image`.

    JPEG, PNG, WebP and TIFF with 8 or 16 bits per sample are decoded in parts. Reading goes from top to bottom, as
    often as needed, and keeps only some rows in memory; tiled TIFF can be read in any order. The decoders themselves
    keep a whole picture in memory for WebP, interlaced PNG and progressive JPEG. Other formats and kinds (AVIF, HEIC,
    Lab, floats ...) are read as a whole.

    If the picture must be turned by its EXIF orientation, or is read in another order, it is copied, uncompressed, to a
    temporary file in `tempfile.gettempdir()`, which honours TMPDIR. That takes 3 bytes per pixel for RGB at 8 bits and
    8 for RGBA at 16.

    Parameters
    ----------
    source : path, "-" or binary file object
        The picture; "-" is standard input.
    max_megapixels : float
        Most pixels allowed, in millions, checked before decoding.
    random_access : bool
        Whether to make the temporary copy at once, because the order of reading will be arbitrary.

    Yields
    ------
    FileSource or WholeSource
        The picture. Only one thread at a time may read from it.

    Raises
    ------
    PictureError
        As in `read_image`; also if the extra `large` is not installed, or there is no space for the temporary copy.
    """
    with opened(source, max_megapixels) as (file, name), _in_parts(file, name, max_megapixels, random_access) as found:
        if found is None:
            file.seek(0)
            with decoding(name):
                found = WholeSource(read_opened(file, name, max_megapixels))
        yield found


@contextmanager
def open_in_parts(
    source: Source, wanted: Callable[[tuple[int, int]], bool], *, max_megapixels: float = MAX_MEGAPIXELS
) -> Iterator[FileSource | None]:
    """Open a picture as `open_source` does, if it is wanted and can be read in parts. Reads only the file's header.

    Parameters
    ----------
    wanted : callable
        Takes the two sides in pixels, in any order, and returns whether to open the picture.

    Yields
    ------
    FileSource or None
        None if the picture is not wanted, or must be read as a whole.
    """
    with opened(source, max_megapixels) as (file, name):
        with decoding(name):
            image = identify(file, file.read(64))
        if image is None or not wanted(image.size):
            yield None
            return
        file.seek(0)
        with _in_parts(file, name, max_megapixels, False) as found:
            yield found


@contextmanager
def _in_parts(file: BinaryIO, name: str, max_megapixels: float, random_access: bool) -> Iterator[FileSource | None]:
    deep.require(name)
    with decoding(name):
        found = _decoder(file, name, max_megapixels)
    if found is None:
        yield None
        return
    decoder, orientation, metadata = found
    try:
        if random_access:
            with decoding(name):
                decoder.unpack()
        yield FileSource(decoder, orientation, metadata)
    finally:
        decoder.close()


def _decoder(file: BinaryIO, name: str, max_megapixels: float) -> tuple[Decoder, int, Metadata] | None:
    """Return a decoder in parts, the EXIF orientation and the metadata of a file; None if it must be read whole."""
    head = file.read(64)
    file = without_large_chunks(file, head, name)
    image = None if is_heif(head) else identify(file, head)
    if image is None or is_raw(image):
        return None
    check_size(*image.size, name, max_megapixels)
    return decoder_of(file, image, head, name)


def _joined(colour: Tensor, alpha: Tensor | None) -> Tensor:
    return colour if alpha is None else torch.cat((colour, alpha), 1)
