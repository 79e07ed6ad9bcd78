"""Options for teaching the network a style."""

from dataclasses import dataclass
from typing import Annotated, Literal

from typing_extensions import Doc

from ..ranges import Range, check_ranges


@dataclass(frozen=True, kw_only=True)
class LearnOptions:
    """Options for teaching a network one style: training numbers for that style alone, on photographs."""

    seconds: Annotated[float, Doc("Stop after this many seconds."), Range(0.1)] = 60.0
    steps: Annotated[int, Doc("Stop after this many steps."), Range(1)] = 400
    batch: Annotated[int, Doc("Photographs per step."), Range(1)] = 4
    crop: Annotated[int, Doc("Side of the training crops."), Range(64, 4096, "px")] = 192
    rate: Annotated[float, Doc("Learning rate (Adam)."), Range(0)] = 0.03
    content_weight: Annotated[float, Doc("Weight of the content loss."), Range(0)] = 0.032
    tone_weight: Annotated[
        float, Doc("Weight of the tone loss: large shapes keep the photo's light in the style's palette."), Range(0)
    ] = 0.1
    tv_weight: Annotated[float, Doc("Weight of the total variation."), Range(0)] = 2.5
    seed: Annotated[int, Doc("Seed of every random choice."), Range(0)] = 0
    device: Annotated[Literal["auto", "cpu", "cuda", "mps"], Doc("Device to learn on.")] = "auto"
    precision: Annotated[
        Literal["auto", "float32", "bfloat16"],
        Doc("Precision of the networks; `auto` uses bfloat16 if the hardware supports it."),
    ] = "auto"

    def __post_init__(self) -> None:
        check_ranges(self)
