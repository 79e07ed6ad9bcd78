"""Groups of options. The options of a task are composed of these, and each option stands in one group."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Annotated, Any, Literal

import tyro
from typing_extensions import Doc, Self

from ..errors import OptionError
from ..ranges import Range
from .kinds import COUNTS, INT, LARGEST_SIZE, LEAST_SIZE, NUMBER, NUMBERS, TIME, Group, named_weights

Quality = Literal["instant", "draft", "good", "best"]
ColourSpace = Literal["oklab", "ycbcr"]
PaletteMatch = Literal["none", "covariance", "histogram"]
Precision = Literal["auto", "float32", "bfloat16"]

LOOK, SIZE, OPTIMISER, NETWORK = Group("look"), Group("size"), Group("optimiser"), Group("network")

STYLE_LOSSES = ("gram", "moments", "nn")
"""The style losses: Gram matrices, Wasserstein distance of moments, nearest neighbours."""

STYLE_LAYER_WEIGHTS = "relu1_1:256,relu2_1:64,relu3_1:16,relu4_1:4"
"""The style layers and their weights."""

CONTENT_LAYERS = "relu3_1:3,relu4_1:1"
"""The content layers and their weights."""

CONTENT_WEIGHT = 0.0125
"""Weight of the content loss over the style loss's."""


class Options:
    """What all options have."""

    def to_dict(self) -> dict[str, Any]:
        """Return them as plain values, for the run record."""
        return {name: getattr(self, name) for name in names_of(type(self))}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Return the inverse of `to_dict`, also after a trip through JSON.

        Raises
        ------
        OptionError
            If this version has no such option.
        """
        unknown = set(values) - set(names_of(cls))
        if unknown:
            raise OptionError(f"this version has no option {', '.join(sorted(unknown))}")
        return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})


def names_of(*groups: Any) -> tuple[str, ...]:
    """Return the names of the options in some groups."""
    return tuple(f.name for group in groups for f in fields(group))


@dataclass(frozen=True)
class QualityOptions:
    """How much time to spend."""

    quality: Annotated[
        Quality,
        Doc(
            "How much time to spend, which also sets the size. `instant`: a network alone, in one pass. `draft`: a "
            "network, then a few quick steps. `good`: optimise. `best`: optimise longer."
        ),
        LOOK,
    ] = "good"


@dataclass(frozen=True)
class SizeOptions:
    """How large the painting is."""

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


@dataclass(frozen=True)
class LookOptions:
    """What is kept of the photograph, whatever paints."""

    strength: Annotated[
        float,
        Doc("How far to go from the photo to the style: 0 the photo, 1 the style, up to 1.5 for more of it."),
        Range(0, 1.5),
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
    mask_feather: Annotated[
        float, Doc("How softly --mask's edge goes over into the photo."), Range(0, 1000, "px"), LOOK
    ] = 4.0


@dataclass(frozen=True)
class BlendOptions:
    """How styles are blended, and the size of their strokes."""

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


@dataclass(frozen=True)
class StyleLossOptions:
    """What an optimisation takes from the style."""

    style_loss: Annotated[
        str,
        Doc(
            "`moments`: Wasserstein distance of the features' mean and covariance. `gram`: Gatys' Gram matrices. `nn`: "
            "nearest neighbours among the style's features. A mixture by weights: moments:1,nn:0.5."
        ),
        LOOK,
    ] = "moments"
    layers: Annotated[
        str,
        Doc(
            f"Style layers, with weights; {STYLE_LAYER_WEIGHTS} if not given. More of the deep layers gives larger "
            "shapes and less of the photo; relu5_1 at more than a hundredth leaves noise."
        ),
        LOOK,
    ] = ""
    tv_weight: Annotated[float, Doc("Weight of the total variation: higher is smoother."), Range(0, 1e6), LOOK] = 1.5
    histogram_weight: Annotated[
        float, Doc("Weight of the histogram loss of each style layer."), Range(0, 1e6), LOOK
    ] = 0.0

    def check_losses(self) -> None:
        """Raise OptionError if the style's losses or layers are not written as they must be."""
        named_weights(self.style_loss, "--style-loss", STYLE_LOSSES)
        if self.layers:
            named_weights(self.layers, "--layers")


@dataclass(frozen=True)
class ContentLossOptions:
    """What an optimisation takes from the photograph."""

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
    content_layers: Annotated[str, Doc("Content layers, with weights."), LOOK] = CONTENT_LAYERS
    content_blur: Annotated[
        float, Doc("Blur the photo first, by that deviation at the painting's size."), Range(0, 1000, "px"), LOOK
    ] = 0.0
    detail: Annotated[
        float, Doc("How much of the start's own detail each finer scale begins with."), Range(0, 1), LOOK
    ] = 1.0
    laplacian_weight: Annotated[
        float, Doc("Weight of the Laplacian loss, which keeps the photo's edges."), Range(0, 1e6), LOOK
    ] = 0.0
    similarity_weight: Annotated[
        float, Doc("Weight of the self-similarity loss: places alike in the photo stay alike."), Range(0, 1e6), LOOK
    ] = 0.0
    match_palette: Annotated[
        PaletteMatch,
        Doc("Give the style's picture the photo's palette first: by mean and covariance, or by its whole histogram."),
        LOOK,
    ] = "none"
    palette_strength: Annotated[
        float, Doc("How far the palette is matched: 0 not at all, 1 fully."), Range(0, 1), LOOK
    ] = 1.0


@dataclass(frozen=True)
class OptimiserOptions:
    """How the picture is optimised."""

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

    def check_optimiser(self) -> None:
        """Raise OptionError if options of the optimiser exclude each other."""
        if self.time is not None and self.iterations is not None:
            raise OptionError("--time and --iterations exclude each other; give one")
        if self.parameters == "laplacian" and self.optimizer != "adam":
            raise OptionError("--parameters laplacian is for Adam; leave out one of --parameters and --optimizer")
        if self.carry and (self.optimizer, self.parameters) != ("adam", "pixels"):
            raise OptionError("--carry is for Adam on pixels; add --parameters pixels, and no other --optimizer")

    @property
    def pyramid(self) -> bool:
        """Whether what is optimised is a Laplacian pyramid."""
        return self.parameters == "laplacian" or (self.parameters, self.optimizer) == ("auto", "adam")


@dataclass(frozen=True)
class EncoderOptions:
    """The encoder that the losses look through."""

    encoder: Annotated[
        str,
        Doc(
            "Perceptual encoder: `compact` (bundled), `vgg16`, `vgg19` (fetched), or a model file. `auto`: `compact`, "
            "but for the preset `gatys` `vgg19` where its file is there."
        ),
        NETWORK,
    ] = "auto"
    pooling: Annotated[Literal["max", "average"], Doc("Pooling inside the encoder."), NETWORK] = "max"


@dataclass(frozen=True)
class MachineOptions:
    """Where and how it is computed."""

    seed: Annotated[int, Doc("Seed of every random choice."), Range(0, 2**63 - 1), OPTIMISER] = 0
    device: Annotated[str, Doc("`auto`, `cpu`, `cuda`, `cuda:1`, `mps`."), NETWORK] = "auto"
    precision: Annotated[
        Precision, Doc("Precision inside the networks; `auto` takes bfloat16 where the hardware has it."), NETWORK
    ] = "auto"
    offline: Annotated[bool, Doc("Never fetch anything."), NETWORK] = False
