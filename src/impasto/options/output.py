"""Options for reading and writing pictures."""

from dataclasses import dataclass
from typing import Annotated, Literal

from typing_extensions import Doc

from ..ranges import MAX_MEGAPIXELS, Range, check_ranges
from .kinds import BITS


@dataclass(frozen=True)
class FileOptions:
    """Options for reading pictures, and for writing one that is not made from a photograph."""

    bits: Annotated[
        Literal[8, 16] | None, BITS, Doc("Bits per channel of the output. Default: those of the photo, or 8.")
    ] = None
    jpeg_quality: Annotated[int, Doc("Quality of JPEG, WebP, AVIF and HEIC output."), Range(1, 100)] = 95
    max_megapixels: Annotated[float, Doc("Refuse larger pictures before decoding them."), Range(0.001, 1e6)] = (
        MAX_MEGAPIXELS
    )

    def __post_init__(self) -> None:
        check_ranges(self)


@dataclass(frozen=True)
class OutputOptions(FileOptions):
    """Options for reading a photograph and writing its painting."""

    keep_gps: Annotated[bool, Doc("Keep the photo's GPS position in the output.")] = False


@dataclass(frozen=True)
class TiffOptions:
    """Options for writing large TIFFs."""

    compression: Annotated[
        Literal["deflate", "lzw", "zstd", "jpeg", "none"], Doc("Compression of TIFF output; jpeg loses detail.")
    ] = "deflate"
    pyramid: Annotated[bool, Doc("Add smaller copies to TIFF output, for viewers that zoom.")] = False

    def __post_init__(self) -> None:
        check_ranges(self)
