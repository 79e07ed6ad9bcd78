"""How `texture` works: as `optimize` paints, without a photograph."""

from dataclasses import dataclass, fields
from typing import Annotated, Literal, TypeVar, get_args, get_type_hints

import tyro
from typing_extensions import Doc

from ..errors import OptionError
from ..ranges import Range
from .kinds import BITS, NUMBERS
from .optimize import CONTENT_LAYERS, LOOK, OPTIMISER, ColourSpace, OptimizeOptions, PaletteMatch, Quality
from .output import OutputOptions

T = TypeVar("T")
NEEDS_PHOTO = "needs a photograph"
Closed = Annotated[tyro.conf.Suppress[tyro.conf.Fixed[T]], NEEDS_PHOTO]
"""A field of `OptimizeOptions` that says something about a photograph, or about the size that follows from it."""


@dataclass(frozen=True)
class TextureOptions(OptimizeOptions):
    """How `texture` works: those options of `optimize` that mean something without a photograph."""

    # The others keep these values; the size is given beside the options.
    preset: Closed[Literal["impasto", "gatys"]] = "impasto"
    size: Closed[int | None] = None
    scale: Closed[float | None] = None
    strict_size: Closed[bool] = True
    strength: Closed[float] = 1.0
    detail: Closed[float] = 1.0
    content_weight: Closed[float | None] = 0.0
    style_weight: Closed[float | None] = None
    laplacian_weight: Closed[float] = 0.0
    similarity_weight: Closed[float] = 0.0
    content_layers: Closed[str] = CONTENT_LAYERS
    content_blur: Closed[float] = 0.0
    keep_colours: Closed[float] = 0.0
    colour_space: Closed[ColourSpace] = "oklab"
    match_palette: Closed[PaletteMatch] = "none"
    palette_strength: Closed[float] = 1.0
    mask_feather: Closed[float] = 4.0
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
        super().__post_init__()
        hints = get_type_hints(type(self), include_extras=True)
        for field in fields(self):
            if NEEDS_PHOTO in get_args(hints[field.name])[1:] and getattr(self, field.name) != field.default:
                name = field.name.replace("_", "-")
                raise OptionError(f"--{name} needs a photograph, and a texture has none; leave it out")
        if self.quality == "instant":
            raise OptionError("--quality instant is one pass of a network, and none makes textures; give draft")
        if self.start in ("auto", "content", "network", "blurred"):
            raise OptionError(f"--start {self.start} needs a photograph, and a texture has none; give noise or grey")


@dataclass(frozen=True)
class TextureOutputOptions(OutputOptions):
    """How a style is read and a texture written."""

    bits: Annotated[Literal[8, 16] | None, BITS, Doc("Bits a channel of the output; 8 if not given.")] = None
    keep_gps: Closed[bool] = False
