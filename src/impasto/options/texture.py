"""Options for `texture`, which optimises without a photograph."""

from dataclasses import dataclass
from typing import Annotated

from typing_extensions import Doc

from ..errors import OptionError
from ..ranges import Range, check_ranges
from .groups import (
    LOOK,
    OPTIMISER,
    BlendOptions,
    EncoderOptions,
    MachineOptions,
    OptimiserOptions,
    Options,
    Quality,
    QualityOptions,
    StyleLossOptions,
)
from .kinds import NUMBERS


@dataclass(frozen=True)
class TextureOptions(
    MachineOptions, EncoderOptions, OptimiserOptions, StyleLossOptions, BlendOptions, QualityOptions, Options
):
    """Options for `texture`."""

    quality: Annotated[
        Quality, Doc("How much time to spend; sets the iterations. `instant` is not available."), LOOK
    ] = "good"
    tv_weight: Annotated[float, Doc("Weight of the total variation: higher is smoother."), Range(0, 1e6), LOOK] = 0.3
    style_scale: Annotated[
        float | tuple[float, ...],
        NUMBERS,
        Doc(
            "Size of the brush strokes: the style's size relative to the texture, at most its original size. One for "
            "all styles, or one each."
        ),
        Range(0.1, 8),
        LOOK,
    ] = 1.0
    start: Annotated[str, Doc("What to start from: `noise`, `grey`, or the path of a picture."), OPTIMISER] = "noise"

    def __post_init__(self) -> None:
        check_ranges(self)
        self.check_strokes()
        self.check_optimiser()
        self.check_losses()
        if self.quality == "instant":
            raise OptionError("--quality instant is not available for textures; give draft")
        if self.start in ("auto", "content", "network", "blurred"):
            raise OptionError(f"--start {self.start} needs a photograph, but a texture has none; give noise or grey")
