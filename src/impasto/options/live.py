"""Options for `live`, which paints what a camera sees."""

from dataclasses import dataclass
from typing import Annotated

from typing_extensions import Doc

from ..errors import OptionError
from ..ranges import Range, check_ranges
from .groups import (
    SIZE,
    BlendOptions,
    ColourOptions,
    MachineOptions,
    NetworkOptions,
    Options,
    SteadyOptions,
    StrengthOptions,
    names_of,
)
from .kinds import INT, LEAST_SIZE
from .video import VideoOptions

LARGEST_LIVE = 1920
"""Largest long side of a live painting, in pixels."""


@dataclass(frozen=True)
class LiveOptions(MachineOptions, NetworkOptions, BlendOptions, ColourOptions, StrengthOptions, SteadyOptions, Options):
    """Options for `live`."""

    size: Annotated[
        int | None,
        INT,
        Doc("Long side of the painting. Default: as large as the rate allows, and it adjusts itself."),
        Range(LEAST_SIZE, LARGEST_LIVE, "px"),
        SIZE,
    ] = None
    largest: Annotated[
        int, Doc("Largest long side that the size adjusts itself to."), Range(LEAST_SIZE, LARGEST_LIVE, "px"), SIZE
    ] = 640
    rate: Annotated[
        float, Doc("Frames a second to hold. A lower rate gives a larger painting."), Range(1, 120), SIZE
    ] = 12.0

    def __post_init__(self) -> None:
        check_ranges(self)
        self.check_strokes()
        if self.size is not None and self.largest != LiveOptions.largest:
            raise OptionError("--size and --largest cannot be combined; leave out one")

    @property
    def film(self) -> VideoOptions:
        """The options that paint a film in the same way."""
        shared = names_of(MachineOptions, NetworkOptions, BlendOptions, ColourOptions, SteadyOptions)
        named = {name: getattr(self, name) for name in shared}
        return VideoOptions(strength=(f"{self.strength:.12f}",), **named)
