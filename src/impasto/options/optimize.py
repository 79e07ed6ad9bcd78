"""How `optimize` paints."""

from dataclasses import dataclass, fields, replace
from typing import Annotated, Any, Literal

import tyro
from typing_extensions import Doc, Self

from ..errors import OptionError
from ..ranges import Range, check_ranges
from .kinds import COUNTS, INT, LARGEST_SIZE, LEAST_SIZE, NUMBER, NUMBERS, TIME, Group, named_weights

Quality = Literal["instant", "draft", "good", "best"]
ColourSpace = Literal["oklab", "ycbcr"]
PaletteMatch = Literal["none", "covariance", "histogram"]
Precision = Literal["auto", "float32", "bfloat16"]

LOOK, SIZE, OPTIMISER, NETWORK = Group("look"), Group("size"), Group("optimiser"), Group("network")

STARTS = ("auto", "content", "network", "blurred", "noise", "grey")
"""What a painting can start from, besides a picture."""

STYLE_LOSSES = ("gram", "moments", "nn")
"""The style losses: Gram matrices, Wasserstein distance of moments, nearest neighbours."""

STYLE_LAYER_WEIGHTS = "relu1_1:256,relu2_1:64,relu3_1:16,relu4_1:4"
"""The style layers and their weights."""

CONTENT_LAYERS = "relu3_1:3,relu4_1:1"
"""The content layers and their weights."""

LONG_SIDE: dict[Quality, int] = {"instant": 512, "draft": 512, "good": 1024, "best": 2048}
"""Quality -> the long side, in pixels, that a picture is painted at unless `--size` says otherwise; never enlarged."""

ITERATIONS: dict[Quality, tuple[int, ...]] = {"draft": (4, 4, 4), "good": (12, 14, 20), "best": (100, 80, 60)}
"""Quality -> iterations of the three finest scales, coarse to fine; still coarser ones have as many as the first."""
CONTENT_WEIGHT = 0.0125
"""Weight of the content loss over the style loss's."""
PYRAMID_RATE, PIXEL_RATE, LBFGS_RATE = 0.05, 0.03, 1.0
"""Learning rates of Adam on a Laplacian pyramid, of Adam on pixels, of L-BFGS."""

RECIPE = (
    *("preset", "quality", "size", "scale", "strict_size", "content_weight", "style_weight", "iterations", "rate"),
    *("method", "seed", "encoder", "pooling", "device", "precision", "offline", "keep_colours", "colour_space"),
)
"""The options that the preset `gatys` heeds."""


@dataclass(frozen=True)
class Settings:
    """The numbers that depend on the preset, the quality and the optimiser where the options leave them open."""

    content_weight: float
    style_weight: float
    iterations: int | tuple[int, ...] | None
    rate: float


@dataclass(frozen=True)
class OptimizeOptions:
    """How `optimize` paints: Gatys' method from coarse to fine, or his recipe to the letter with the preset `gatys`."""

    quality: Annotated[
        Quality,
        Doc(
            "How much time to spend, which also sets the size. `instant`: a network alone, in one pass. `draft`: a "
            "network, then a few quick steps. `good`: optimise. `best`: optimise longer."
        ),
        LOOK,
    ] = "good"
    preset: Annotated[
        Literal["impasto", "gatys"],
        Doc(
            "`impasto`: coarse to fine with scale-free losses. `gatys`: the classic recipe to the letter (one scale, "
            "raw Gram matrices, Adam at 0.0003 for 5,000 steps, short side 400)."
        ),
        OPTIMISER,
    ] = "impasto"
    size: Annotated[
        int | None,
        INT,
        Doc("Long side of the painting; the photo is enlarged if need be."),
        Range(LEAST_SIZE, LARGEST_SIZE, "px"),
        SIZE,
    ] = None
    scale: Annotated[
        float | None, NUMBER, Doc("Size of the painting as a multiple of the photo's."), Range(0.01, 16), SIZE
    ] = None
    strict_size: Annotated[
        bool, Doc("Refuse a size that does not fit into memory, instead of painting smaller."), SIZE
    ] = False
    strength: Annotated[
        float,
        Doc("How far to go from the photo to the style: 0 the photo, 1 the style, up to 1.5 for more of it."),
        Range(0, 1.5),
        LOOK,
    ] = 1.0
    detail: Annotated[
        float, Doc("How much of the start's own detail each finer scale begins with."), Range(0, 1), LOOK
    ] = 1.0
    content_weight: Annotated[
        float | None,
        NUMBER,
        Doc(f"Weight of the content loss: higher keeps more of the photo; {CONTENT_WEIGHT} if not given (gatys: 1)."),
        Range(0, 1e9),
        LOOK,
    ] = None
    style_weight: Annotated[
        float | None, NUMBER, Doc("Weight of the style loss; 1 if not given (gatys: 1e6)."), Range(0, 1e12), LOOK
    ] = None
    style_loss: Annotated[
        str,
        Doc(
            "`moments`: Wasserstein distance of the features' mean and covariance. `gram`: Gatys' Gram matrices. `nn`: "
            "nearest neighbours among the style's features. A mixture by weights: moments:1,nn:0.5."
        ),
        LOOK,
    ] = "moments"
    tv_weight: Annotated[float, Doc("Weight of the total variation: higher is smoother."), Range(0, 1e6), LOOK] = 1.5
    histogram_weight: Annotated[
        float, Doc("Weight of the histogram loss of each style layer."), Range(0, 1e6), LOOK
    ] = 0.0
    laplacian_weight: Annotated[
        float, Doc("Weight of the Laplacian loss, which keeps the photo's edges."), Range(0, 1e6), LOOK
    ] = 0.0
    similarity_weight: Annotated[
        float, Doc("Weight of the self-similarity loss: places alike in the photo stay alike."), Range(0, 1e6), LOOK
    ] = 0.0
    layers: Annotated[
        str,
        Doc(
            f"Style layers, with weights; {STYLE_LAYER_WEIGHTS} if not given. More of the deep layers gives larger "
            "shapes and less of the photo; relu5_1 at more than a hundredth leaves noise."
        ),
        LOOK,
    ] = ""
    content_layers: Annotated[str, Doc("Content layers, with weights."), LOOK] = CONTENT_LAYERS
    content_blur: Annotated[
        float, Doc("Blur the photo first, by that deviation at the painting's size."), Range(0, 1000, "px"), LOOK
    ] = 0.0
    style_weights: Annotated[
        tuple[float, ...],
        NUMBERS,
        Doc("Shares of several styles, in their order; equal if not given."),
        Range(0, 1e6),
        LOOK,
    ] = ()
    style_scale: Annotated[
        float | tuple[float, ...],
        NUMBERS,
        tyro.conf.arg(aliases=["--stroke"]),
        Doc("Size of the brush strokes: the style's size as a multiple of the painting's; one for all, or for each."),
        Range(0.1, 8),
        LOOK,
    ] = 1.0
    keep_colours: Annotated[
        float,
        Doc("How much of the photo's own colours to keep: 0 none, 1 all; light and shade are painted."),
        Range(0, 1),
        LOOK,
    ] = 0.0
    colour_space: Annotated[ColourSpace, Doc("Where light and colour are told apart when colours are kept."), LOOK] = (
        "oklab"
    )
    match_palette: Annotated[
        PaletteMatch,
        Doc("Give the style's picture the photo's palette first: by mean and covariance, or by its whole histogram."),
        LOOK,
    ] = "none"
    palette_strength: Annotated[
        float, Doc("How far the palette is matched: 0 not at all, 1 fully."), Range(0, 1), LOOK
    ] = 1.0
    mask_feather: Annotated[
        float, Doc("How softly --mask's edge goes over into the photo."), Range(0, 1000, "px"), LOOK
    ] = 4.0
    iterations: Annotated[
        int | tuple[int, ...] | None,
        COUNTS,
        Doc("Iterations in all scales together, or for each scale, coarse to fine; the quality sets them otherwise."),
        Range(1, 1_000_000),
        OPTIMISER,
    ] = None
    time: Annotated[
        float | None,
        TIME,
        Doc("Time to paint for, as 30s or 2m: as many iterations as it allows."),
        Range(0.1, 1e7, "s"),
        OPTIMISER,
    ] = None
    plateau: Annotated[
        float,
        Doc("Finish a scale early once 10 iterations lower the loss by less than this share of it; 0: never."),
        Range(0, 1),
        OPTIMISER,
    ] = 0.0
    coarsest: Annotated[
        int, Doc("Most that the coarsest scale's long side may be."), Range(LEAST_SIZE, LARGEST_SIZE, "px"), OPTIMISER
    ] = 128
    optimizer: Annotated[Literal["adam", "lbfgs"], Doc("The optimiser of the picture."), OPTIMISER] = "lbfgs"
    parameters: Annotated[
        Literal["auto", "pixels", "laplacian"],
        Doc("What is optimised: the pixels, or a Laplacian pyramid of them. `auto`: the pyramid by Adam, else pixels."),
        OPTIMISER,
    ] = "auto"
    carry: Annotated[bool, Doc("Take Adam's moments of the pixels along from scale to scale."), OPTIMISER] = False
    average: Annotated[
        float,
        Doc("Paint the iterates' exponential average with this decay, not the best of them; 0: the best."),
        Range(0, 0.9999),
        OPTIMISER,
    ] = 0.0
    rate: Annotated[
        float | None,
        NUMBER,
        Doc("Learning rate; if not given 1 for L-BFGS, 0.05 for Adam, 0.03 for it on pixels (gatys: 0.0003)."),
        Range(1e-6, 10),
        OPTIMISER,
    ] = None
    start: Annotated[
        str,
        Doc(
            "What the painting starts from: `content`, `network` (a painting in one pass), `blurred`, `noise`, `grey`, "
            "or a picture's path. `auto`: `network` for the quality draft, else `content`."
        ),
        OPTIMISER,
    ] = "auto"
    seed: Annotated[int, Doc("Seed of every random choice."), Range(0, 2**63 - 1), OPTIMISER] = 0
    encoder: Annotated[
        str,
        Doc(
            "Perceptual encoder: `compact` (bundled), `vgg16`, `vgg19` (fetched), or a model file. `auto`: `compact`, "
            "but for the preset `gatys` `vgg19` where its file is there."
        ),
        NETWORK,
    ] = "auto"
    pooling: Annotated[Literal["max", "average"], Doc("Pooling inside the encoder."), NETWORK] = "max"
    device: Annotated[str, Doc("`auto`, `cpu`, `cuda`, `cuda:1`, `mps`."), NETWORK] = "auto"
    precision: Annotated[
        Precision, Doc("Precision inside the networks; `auto` takes bfloat16 where the hardware has it."), NETWORK
    ] = "auto"
    offline: Annotated[bool, Doc("Never fetch anything."), NETWORK] = False

    def __post_init__(self) -> None:
        check_ranges(self)
        if self.size is not None and self.scale is not None:
            raise OptionError("--size and --scale exclude each other; give one")
        if self.time is not None and self.iterations is not None:
            raise OptionError("--time and --iterations exclude each other; give one")
        if self.content_weight == 0 and self.style_weight == 0:
            raise OptionError("--content-weight and --style-weight are both 0; one must be positive")
        if self.parameters == "laplacian" and self.optimizer != "adam":
            raise OptionError("--parameters laplacian is for Adam; leave out one of --parameters and --optimizer")
        if self.carry and (self.optimizer, self.parameters) != ("adam", "pixels"):
            raise OptionError("--carry is for Adam on pixels; add --parameters pixels, and no other --optimizer")
        named_weights(self.style_loss, "--style-loss", STYLE_LOSSES)
        named_weights(self.content_layers, "--content-layers")
        if self.layers:
            named_weights(self.layers, "--layers")
        if self.preset == "gatys":
            self._check_recipe()

    def _check_recipe(self) -> None:
        for field in fields(self):
            if field.name not in RECIPE and getattr(self, field.name) != field.default:
                name = field.name.replace("_", "-")
                raise OptionError(f"the preset gatys is a recipe without --{name}; leave out one of them")
        if isinstance(self.iterations, tuple):
            raise OptionError("the preset gatys has one scale; give --iterations one number")

    @property
    def pyramid(self) -> bool:
        """Whether what is optimised is a Laplacian pyramid."""
        return self.parameters == "laplacian" or (self.parameters, self.optimizer) == ("auto", "adam")

    @property
    def begins_with(self) -> str:
        """What the painting starts from, `auto` resolved."""
        if self.start != "auto":
            return self.start
        return "network" if self.quality == "draft" else "content"

    @property
    def settings(self) -> Settings:
        """The numbers that these options come to."""
        if self.preset == "gatys":
            default = Settings(1.0, 1e6, 5000, 0.0003)
        else:
            rate = LBFGS_RATE if self.optimizer == "lbfgs" else PYRAMID_RATE if self.pyramid else PIXEL_RATE
            default = Settings(CONTENT_WEIGHT, 1.0, None, rate)
        given = {f.name: getattr(self, f.name) for f in fields(Settings) if getattr(self, f.name) is not None}
        return replace(default, **given)

    def to_dict(self) -> dict[str, Any]:
        """As plain values, for the run record."""
        return {f.name: getattr(self, f.name) for f in fields(self)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """The inverse of `to_dict`, also after a trip through JSON; OptionError for a field of another version."""
        unknown = set(values) - {f.name for f in fields(cls)}
        if unknown:
            raise OptionError(f"this version has no option {', '.join(sorted(unknown))}")
        arguments: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        return cls(**arguments)
