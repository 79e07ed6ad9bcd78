"""How a picture is read and written."""

from dataclasses import dataclass
from typing import Annotated, Literal

from typing_extensions import Doc

from ..ranges import Range, check_ranges
from .kinds import BITS


@dataclass(frozen=True)
class FileOptions:
    """How pictures are read, and one is written that has no photograph behind it."""

    bits: Annotated[
        Literal[8, 16] | None, BITS, Doc("Bits a channel of the output; those of the photo, or 8, if not given.")
    ] = None
    jpeg_quality: Annotated[int, Doc("Quality of JPEG, WebP, AVIF and HEIC output."), Range(1, 100)] = 95
    max_megapixels: Annotated[float, Doc("Refuse larger pictures, before they are decoded."), Range(0.001, 1e6)] = 200.0

    def __post_init__(self) -> None:
        check_ranges(self)


@dataclass(frozen=True)
class OutputOptions(FileOptions):
    """How a photograph is read and its painting written."""

    keep_gps: Annotated[bool, Doc("Keep the photo's GPS position in the output.")] = False
