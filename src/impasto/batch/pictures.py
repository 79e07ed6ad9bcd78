"""Read photographs and write paintings: what the worker processes of a batch do."""

import hashlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import PurePosixPath
from typing import Any

import torch
from numpy.typing import NDArray

from ..image.picture import Metadata, Picture
from ..image.read import read_image
from ..image.resize import resize
from ..image.write import write_image
from ..options import OutputOptions, StylizeOptions
from ..stylizers.choose import choose_method
from ..stylizers.schedule import painting_size
from ..tools.job import source_entry
from .outputs import write
from .photos import Photo


@dataclass(frozen=True)
class Packed:
    """A picture between two processes, as arrays: these are sent much faster than tensors.

    Parameters
    ----------
    colours : array
        (1, 3, H, W), float32.
    alpha : array or None
        (1, 1, H, W), float32.
    metadata : Metadata
        The metadata of its file.
    """

    colours: NDArray[Any]
    alpha: NDArray[Any] | None
    metadata: Metadata

    @classmethod
    def of(cls, picture: Picture) -> "Packed":
        """Return a picture as arrays."""
        alpha = picture.alpha
        return cls(picture.tensor.cpu().numpy(), None if alpha is None else alpha.cpu().numpy(), picture.metadata)

    @property
    def picture(self) -> Picture:
        """The picture as tensors."""
        # A copy, since arrays that were received cannot be written to, and PyTorch warns of that.
        alpha = None if self.alpha is None else torch.from_numpy(self.alpha.copy())
        return Picture(torch.from_numpy(self.colours.copy()), alpha, self.metadata)


@dataclass(frozen=True)
class Found:
    """A photograph that was read.

    Parameters
    ----------
    packed : Packed
        Its picture.
    size : (int, int)
        Height and width of its paintings, in pixels.
    entry : dict
        Its name and hash, for the record of its paintings.
    cutout : bool
        Whether a part of it is transparent.
    seconds : float
        The time that it took.
    """

    packed: Packed
    size: tuple[int, int]
    entry: Mapping[str, str]
    cutout: bool
    seconds: float

    @property
    def shape(self) -> tuple[tuple[int, int], tuple[int, ...], bool]:
        """What must be the same for photographs in one pass: the size of the painting, and what the picture is like."""
        return self.size, self.packed.colours.shape, self.cutout


def read_photo(
    photo: Photo,
    options: StylizeOptions,
    max_megapixels: float,
    check: Callable[[tuple[int, int]], object] | None = None,
) -> Found:
    """Read a photograph for paintings with these options.

    A picture much larger than the painting is reduced while it is read. If the network needs nothing but the picture at
    the painting's size, it is also resized.

    Parameters
    ----------
    check : callable, optional
        Called with its height and width before it is decoded.

    Raises
    ------
    ImpastoError
        If it cannot be read, or `check` raises it.
    """
    begun = time.perf_counter()
    source = photo.open()
    if isinstance(source, str):
        entry = source_entry(source)
    else:
        entry = {"name": photo.name, "sha256": hashlib.sha256(source.read()).hexdigest()}
        source.seek(0)

    def sized(size: tuple[int, int]) -> tuple[int, int]:
        if check is not None:
            check(size)
        return painting_size(size, options)

    picture = read_image(source, max_megapixels=max_megapixels, sized=sized)
    size = painting_size(picture.metadata.full_size or picture.size, options)
    pixels = picture.pixels
    if choose_method(options) == "network" and options.strength == 1:
        alpha, pixels = picture.alpha, resize(pixels, size)
        alpha = None if alpha is None else resize(alpha, size)
        picture = Picture(pixels[:, :3], alpha, picture.metadata)
    cutout = pixels.shape[1] == 4
    return Found(Packed.of(picture), size, entry, cutout, time.perf_counter() - begun)


def write_painting(
    packed: Packed, name: str, target: str | None, output: OutputOptions, record: dict[str, Any], photo: Photo
) -> tuple[bytes, list[tuple[str, bytes]], float]:
    """Write a painting.

    Parameters
    ----------
    packed : Packed
        The painting.
    name : str
        Its name; the suffix determines the format.
    target : str or None
        The path or address to write to; None to return the file.
    output : OutputOptions
        The options of writing.
    record : dict
        How it was made.
    photo : Photo
        The photograph.

    Returns
    -------
    (bytes, list of (str, bytes), float)
        The file, and those that go with it, unless there is a target; and the seconds that it took.

    Raises
    ------
    PictureError
        If it cannot be written.
    """
    begun = time.perf_counter()
    file = BytesIO()
    suffix = PurePosixPath(name).suffix[1:].lower()
    options: dict[str, Any] = {"bits": output.bits, "quality": output.jpeg_quality, "keep_gps": output.keep_gps}
    write_image(packed.picture, file, format=suffix, record=record, **options)
    if target is None:
        beside = [(suffix, span.read()) for suffix, span in photo.beside]
        return file.getvalue(), beside, time.perf_counter() - begun
    write(file.getvalue(), target)
    return b"", [], time.perf_counter() - begun
