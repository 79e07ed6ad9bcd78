"""Options for reading and writing pictures."""

from dataclasses import dataclass
from typing import Annotated, Literal

from typing_extensions import Doc

from ..ranges import MAX_MEGAPIXELS, Range, check_ranges
from .kinds import BITS, NUMBER

Compression = Literal["deflate", "lzw", "zstd", "jpeg", "none"]


@dataclass(frozen=True)
class FileOptions:
    """Options for reading pictures, and for writing one that is not made from a photograph."""

    bits: Annotated[
        Literal[8, 16] | None, BITS, Doc("Bits per channel of the output. Default: those of the photo, or 8.")
    ] = None
    jpeg_quality: Annotated[int, Doc("Quality of JPEG, WebP and AVIF output."), Range(1, 100)] = 95
    max_megapixels: Annotated[
        float | None,
        NUMBER,
        Doc(
            f"Refuse larger pictures before decoding them. Default {MAX_MEGAPIXELS:g}; a photo that is painted in "
            "strips from its file may have any size."
        ),
        Range(0.001, 1e6),
    ] = None

    def __post_init__(self) -> None:
        check_ranges(self)

    @property
    def limit(self) -> float:
        """The most megapixels of a picture that is held in memory."""
        return MAX_MEGAPIXELS if self.max_megapixels is None else self.max_megapixels


@dataclass(frozen=True)
class PhotoOptions(FileOptions):
    """Options for reading photographs and writing their paintings."""

    keep_gps: Annotated[bool, Doc("Keep the photo's GPS position in the output.")] = False


@dataclass(frozen=True)
class OutputOptions(PhotoOptions):
    """Options for reading a photograph and writing its painting, also one from file to file."""

    compression: Annotated[Compression, Doc("Compression of TIFF output; jpeg loses detail.")] = "deflate"
    pyramid: Annotated[bool, Doc("Add smaller copies to TIFF output, for viewers that zoom.")] = False
