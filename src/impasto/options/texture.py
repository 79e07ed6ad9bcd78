"""How `texture` works: as `optimize` paints, without a photograph."""

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
    """How `texture` works."""

    quality: Annotated[Quality, Doc("How much time to spend: it sets the iterations; there is no `instant`."), LOOK] = (
        "good"
    )
    tv_weight: Annotated[float, Doc("Weight of the total variation: higher is smoother."), Range(0, 1e6), LOOK] = 0.3
    style_scale: Annotated[
        float | tuple[float, ...],
        NUMBERS,
        Doc(
            "Size of the brush strokes: the style's size as a multiple of the texture's, its own at most; one for all, "
            "or for each."
        ),
        Range(0.1, 8),
        LOOK,
    ] = 1.0
    start: Annotated[str, Doc("What the texture starts from: `noise`, `grey`, or a picture's path."), OPTIMISER] = (
        "noise"
    )

    def __post_init__(self) -> None:
        check_ranges(self)
        self.check_optimiser()
        self.check_losses()
        if self.quality == "instant":
            raise OptionError("--quality instant is one pass of a network, and none makes textures; give draft")
        if self.start in ("auto", "content", "network", "blurred"):
            raise OptionError(f"--start {self.start} needs a photograph, and a texture has none; give noise or grey")
