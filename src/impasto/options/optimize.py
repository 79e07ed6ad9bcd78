"""Options for painting by optimisation."""

from dataclasses import dataclass, fields, replace
from typing import Annotated, Literal

from typing_extensions import Doc

from ..errors import OptionError
from ..ranges import check_ranges
from .groups import (
    CONTENT_WEIGHT,
    NEIGHBOUR_CONTENT_WEIGHT,
    OPTIMISER,
    BlendOptions,
    ContentLossOptions,
    EncoderOptions,
    LookOptions,
    MachineOptions,
    OptimiserOptions,
    Options,
    Quality,
    QualityOptions,
    SizeOptions,
    StyleLossOptions,
    names_of,
)
from .kinds import named_weights

STARTS = ("auto", "content", "network", "blurred", "noise", "grey")
"""What a painting can start from, apart from a picture."""

LONG_SIDE: dict[Quality, int] = {"instant": 512, "draft": 512, "good": 1024, "best": 2048}
"""Quality -> largest long side in pixels if `--size` is not given; smaller pictures are not enlarged."""

ITERATIONS: dict[Quality, tuple[int, ...]] = {"draft": (4, 4, 6), "good": (7, 9, 14), "best": (100, 80, 60)}
"""Quality -> iterations of the three finest scales, coarse to fine. Coarser scales use the first number."""
OTHER_STARTS: dict[Quality, tuple[int, ...]] = {**ITERATIONS, "good": (12, 14, 20)}
"""The same for a start other than the network's painting."""
PYRAMID_RATE, PIXEL_RATE, LBFGS_RATE = 0.05, 0.03, 1.0
"""Learning rates of Adam on a Laplacian pyramid, Adam on pixels, and L-BFGS."""

RECIPE = (
    *names_of(QualityOptions, SizeOptions, EncoderOptions, MachineOptions),
    *("preset", "method", "content_weight", "style_weight", "iterations", "rate", "keep_colours", "colour_space"),
)
"""The options that apply to the preset `gatys`."""


@dataclass(frozen=True)
class Settings:
    """The numbers whose defaults depend on the preset, the quality and the optimiser."""

    content_weight: float
    style_weight: float
    iterations: int | tuple[int, ...] | None
    rate: float


@dataclass(frozen=True)
class OptimizeOptions(
    MachineOptions,
    EncoderOptions,
    OptimiserOptions,
    ContentLossOptions,
    StyleLossOptions,
    BlendOptions,
    LookOptions,
    SizeOptions,
    QualityOptions,
    Options,
):
    """Options for painting by optimisation: Gatys' method from coarse to fine, or his exact recipe (preset `gatys`)."""

    preset: Annotated[
        Literal["impasto", "gatys"],
        Doc(
            "`impasto`: coarse to fine, with scale-free losses. `gatys`: the classic recipe to the letter (one scale, "
            "raw Gram matrices, Adam at 0.0003 for 5,000 steps, short side 400)."
        ),
        OPTIMISER,
    ] = "impasto"
    start: Annotated[
        str,
        Doc(
            "What to start from: `content`, `network` (one pass of the network), `blurred`, `noise`, `grey`, or the "
            "path of a picture. `auto`: `network`, or `content` where the network cannot use a style."
        ),
        OPTIMISER,
    ] = "auto"

    def __post_init__(self) -> None:
        check_ranges(self)
        if self.size is not None and self.scale is not None:
            raise OptionError("--size and --scale cannot be combined; give one")
        if self.content_weight == 0 and self.style_weight == 0:
            raise OptionError("--content-weight and --style-weight are both 0; one must be positive")
        self.check_strokes()
        self.check_optimiser()
        self.check_losses()
        named_weights(self.content_layers, "--content-layers")
        if self.preset == "gatys":
            self._check_recipe()

    def _check_recipe(self) -> None:
        for field in fields(self):
            if field.name not in RECIPE and getattr(self, field.name) != field.default:
                name = field.name.replace("_", "-")
                raise OptionError(f"--{name} does not work with --preset gatys; leave out one of them")
        if isinstance(self.iterations, tuple):
            raise OptionError("--preset gatys has one scale; give --iterations one number")

    @property
    def begins_with(self) -> str:
        """What the painting starts from, with `auto` resolved."""
        if self.start != "auto":
            return self.start
        return "content" if self.preset == "gatys" else "network"

    @property
    def settings(self) -> Settings:
        """These numbers, with defaults filled in."""
        if self.preset == "gatys":
            default = Settings(1.0, 1e6, 5000, 0.0003)
        else:
            rate = LBFGS_RATE if self.optimizer == "lbfgs" else PYRAMID_RATE if self.pyramid else PIXEL_RATE
            content = NEIGHBOUR_CONTENT_WEIGHT if self.neighbour_weight else CONTENT_WEIGHT
            default = Settings(content, 1.0, None, rate)
        given = {f.name: getattr(self, f.name) for f in fields(Settings) if getattr(self, f.name) is not None}
        return replace(default, **given)
