"""Groups of options. The options of a task are composed of these groups. Each option is in one group."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Annotated, Any, Literal

import tyro
from typing_extensions import Doc, Self

from ..errors import OptionError
from ..ranges import Range
from .kinds import BYTES, COUNTS, INT, LARGEST_SIZE, LEAST_SIZE, NUMBER, NUMBERS, TIME, Group, named_weights

Quality = Literal["instant", "draft", "good", "best"]
ColourSpace = Literal["oklab", "ycbcr"]
PaletteMatch = Literal["none", "covariance", "histogram"]
Precision = Literal["auto", "float32", "bfloat16"]

LOOK, SIZE, OPTIMISER, NETWORK = Group("look"), Group("size"), Group("optimiser"), Group("network")

STROKES = 25
"""Strokes along the long side of a painting in its style's own proportions: their size in pixels follows from it."""

STYLE_LOSSES = ("gram", "moments", "nn")
"""The style losses: Gram matrices, Wasserstein distance of moments, nearest neighbours."""

STYLE_LAYER_WEIGHTS = "relu1_1:256,relu2_1:64,relu3_1:16,relu4_1:4"
"""The style layers and their weights."""

CONTENT_LAYERS = "relu3_1:3,relu4_1:1"
"""The content layers and their weights."""

CONTENT_WEIGHT, NEIGHBOUR_CONTENT_WEIGHT = 0.0089, 0.024
"""Weight of the content loss, relative to the weight of the style loss: without and with the neighbour loss, beside
which more is needed to keep the photograph."""


class Options:
    """Base class of all options."""

    def to_dict(self) -> dict[str, Any]:
        """Return the options as plain values, for the run record."""
        return {name: getattr(self, name) for name in names_of(type(self))}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Return the options from the result of `to_dict`, which may have been through JSON.

        Raises
        ------
        OptionError
            If this version does not have one of the options.
        """
        unknown = set(values) - set(names_of(cls))
        if unknown:
            raise OptionError(f"this version has no option {', '.join(sorted(unknown))}")
        return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})


def names_of(*groups: Any) -> tuple[str, ...]:
    """Return the names of the options in the groups."""
    return tuple(f.name for group in groups for f in fields(group))


@dataclass(frozen=True)
class QualityOptions:
    """How much time to spend."""

    quality: Annotated[
        Quality,
        Doc(
            "How much time to spend; also sets the size. `instant`: one pass of a network. `draft`: a "
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
        Doc("Long side of the painting. A smaller photo is enlarged."),
        Range(LEAST_SIZE, LARGEST_SIZE, "px"),
        SIZE,
    ] = None
    scale: Annotated[
        float | None, NUMBER, Doc("Size of the painting relative to the photo."), Range(0.01, 16), SIZE
    ] = None
    strict_size: Annotated[
        bool, Doc("Fail if the size does not fit into memory, instead of painting smaller."), SIZE
    ] = False


@dataclass(frozen=True)
class ColourOptions:
    """How much of the original colours to keep."""

    keep_colours: Annotated[
        float,
        Doc("Keep the photo's own colours (0 to 1). Light and shade still come from the painting."),
        Range(0, 1),
        LOOK,
    ] = 0.0
    colour_space: Annotated[
        ColourSpace, Doc("Colour space that separates light from colour when colours are kept."), LOOK
    ] = "oklab"


@dataclass(frozen=True)
class StrengthOptions:
    """How far to paint."""

    strength: Annotated[
        float,
        Doc("How strongly to apply the style: 0 keeps the photo, 1 is the full style, up to 1.5 exaggerates it."),
        Range(0, 1.5),
        LOOK,
    ] = 1.0


@dataclass(frozen=True)
class PrepareOptions:
    """How the photograph is prepared."""

    denoise: Annotated[
        float,
        Doc("Remove the photo's noise, and the traces of JPEG, before it is painted (0 to 1)."),
        Range(0, 1),
        LOOK,
    ] = 1.0
    mottle: Annotated[
        float,
        Doc("How uneven to paint plain areas: slow changes of light that give strokes a place to begin. 0 for none."),
        Range(0, 4),
        LOOK,
    ] = 1.0


@dataclass(frozen=True)
class SteadyOptions:
    """How frames that follow each other hold together."""

    stability: Annotated[
        float,
        Doc("How steady the painting is: 0 paints each frame alone; higher flickers less, but follows changes later."),
        Range(0, 1),
        LOOK,
    ] = 0.5


@dataclass(frozen=True)
class LookOptions(ColourOptions, PrepareOptions, StrengthOptions):
    """How much of the photograph to keep, for every method."""

    mask_feather: Annotated[
        float, Doc("Soften the edge of --mask by this many pixels."), Range(0, 1000, "px"), LOOK
    ] = 4.0


@dataclass(frozen=True)
class BlendOptions:
    """How styles are blended, and the size of their strokes."""

    style_weights: Annotated[
        tuple[float, ...],
        NUMBERS,
        Doc("Weights of several styles, in the order given; equal by default."),
        Range(0, 1e6),
        LOOK,
    ] = ()
    style_scale: Annotated[
        float | tuple[float, ...],
        NUMBERS,
        tyro.conf.arg(aliases=["--stroke"]),
        Doc("Size of the brush strokes: the style's size relative to the painting. One for all styles, or one each."),
        Range(0.1, 8),
        LOOK,
    ] = 1.0
    stroke_px: Annotated[
        float | tuple[float, ...],
        NUMBERS,
        Doc(
            "Size of the brush strokes in pixels, instead of relative to the painting: 40 gives strokes as large as in "
            f"a painting of {40 * STROKES} pixels, at any size. One for all styles, or one each."
        ),
        Range(1, 4000, "px"),
        LOOK,
    ] = ()

    def check_strokes(self) -> None:
        """Raise OptionError if the size of the strokes is given twice."""
        if self.stroke_px != () and self.style_scale != 1.0:
            raise OptionError("--stroke-px and --stroke (--style-scale) cannot be combined; give one")

    def style_scales(self, long_side: float) -> tuple[float, ...]:
        """Return the sizes of the styles relative to the painting: one for all styles, or one each.

        Parameters
        ----------
        long_side : float
            The painting's long side in pixels.
        """
        given = self.style_scale if self.stroke_px == () else self.stroke_px
        scales = given if isinstance(given, tuple) else (given,)
        return scales if self.stroke_px == () else tuple(STROKES * px / long_side for px in scales)


@dataclass(frozen=True)
class StyleLossOptions:
    """The losses that an optimisation measures against the style."""

    style_loss: Annotated[
        str,
        Doc(
            "`moments`: Wasserstein distance between the means and covariances of the features. `gram`: Gatys' Gram "
            "matrices. `nn`: nearest neighbours among the style's features. Mix them with weights: moments:1,nn:0.5."
        ),
        LOOK,
    ] = "moments"
    layers: Annotated[
        str,
        Doc(
            f"Style layers and their weights; {STYLE_LAYER_WEIGHTS} by default. Higher weights on deep layers give "
            "larger shapes and keep less of the photo. relu5_1 leaves noise above a hundredth of the total weight."
        ),
        LOOK,
    ] = ""
    tv_weight: Annotated[float, Doc("Weight of the total variation: higher is smoother."), Range(0, 1e6), LOOK] = 1.5
    histogram_weight: Annotated[
        float, Doc("Weight of the histogram loss of each style layer."), Range(0, 1e6), LOOK
    ] = 0.0
    neighbour_weight: Annotated[
        float,
        Doc(
            "Weight of the loss that draws each place to the most similar place of the style's picture, such as 0.2. "
            "It needs the style's picture."
        ),
        Range(0, 1e6),
        LOOK,
    ] = 0.0

    def check_losses(self) -> None:
        """Raise OptionError if the style losses or layers are malformed."""
        named_weights(self.style_loss, "--style-loss", STYLE_LOSSES)
        if self.layers:
            named_weights(self.layers, "--layers")


@dataclass(frozen=True)
class ContentLossOptions:
    """The losses that an optimisation measures against the photograph."""

    content_weight: Annotated[
        float | None,
        NUMBER,
        Doc(
            f"Weight of the content loss: higher keeps more of the photo. Default {CONTENT_WEIGHT}, or "
            f"{NEIGHBOUR_CONTENT_WEIGHT} if there is a neighbour weight (gatys: 1)."
        ),
        Range(0, 1e9),
        LOOK,
    ] = None
    style_weight: Annotated[
        float | None, NUMBER, Doc("Weight of the style loss. Default 1 (gatys: 1e6)."), Range(0, 1e12), LOOK
    ] = None
    plain_weight: Annotated[
        float | None,
        NUMBER,
        Doc(
            "Weight of the style losses `moments` and `gram` where the photo is plain, such as a sky or a wall. Lower "
            "paints these areas more calmly; 1 paints them like the rest. By default, the style decides: 0.3 if it has "
            "plain areas itself, up to 0.9 if it is full of strokes."
        ),
        Range(0, 1),
        LOOK,
    ] = None
    plain_blur: Annotated[
        float,
        Doc(
            "Blur the painting where the photo is plain, with this standard deviation, at all scales but the last. So "
            "no large pattern comes from the fine detail of a coarse scale. 0 for no blur."
        ),
        Range(0, 16, "px"),
        LOOK,
    ] = 1.0
    rim_weight: Annotated[
        float,
        Doc("Weight of the loss on halos: plain areas that change their colour towards the edges of objects."),
        Range(0, 1e6),
        LOOK,
    ] = 0.5
    content_layers: Annotated[str, Doc("Content layers and their weights."), LOOK] = CONTENT_LAYERS
    content_blur: Annotated[
        float,
        Doc("Blur the photo first, with this standard deviation at the painting's size."),
        Range(0, 1000, "px"),
        LOOK,
    ] = 0.0
    detail: Annotated[
        float, Doc("How much detail of the start picture to add at each finer scale."), Range(0, 1), LOOK
    ] = 1.0
    laplacian_weight: Annotated[
        float, Doc("Weight of the Laplacian loss, which keeps the photo's edges."), Range(0, 1e6), LOOK
    ] = 0.0
    similarity_weight: Annotated[
        float,
        Doc("Weight of the self-similarity loss: what looks alike in the photo stays alike."),
        Range(0, 1e6),
        LOOK,
    ] = 0.0
    match_palette: Annotated[
        PaletteMatch,
        Doc("Recolour the style picture to the photo's palette first, by mean and covariance or by histogram."),
        LOOK,
    ] = "none"
    palette_strength: Annotated[
        float, Doc("How far to match the palette: 0 not at all, 1 fully."), Range(0, 1), LOOK
    ] = 1.0


@dataclass(frozen=True)
class OptimiserOptions:
    """How the picture is optimised."""

    iterations: Annotated[
        int | tuple[int, ...] | None,
        COUNTS,
        Doc("Iterations over all scales, or for each scale from coarse to fine. By default, the quality sets them."),
        Range(1, 1_000_000),
        OPTIMISER,
    ] = None
    time: Annotated[
        float | None,
        TIME,
        Doc("Time to spend, such as 30s or 2m; runs as many iterations as fit."),
        Range(0.1, 1e7, "s"),
        OPTIMISER,
    ] = None
    plateau: Annotated[
        float,
        Doc("Finish a scale early once 10 iterations lower the loss by less than this fraction; 0 for never."),
        Range(0, 1),
        OPTIMISER,
    ] = 0.0
    coarsest: Annotated[
        int, Doc("Largest long side of the coarsest scale."), Range(LEAST_SIZE, LARGEST_SIZE, "px"), OPTIMISER
    ] = 128
    optimizer: Annotated[Literal["adam", "lbfgs"], Doc("Optimiser."), OPTIMISER] = "lbfgs"
    parameters: Annotated[
        Literal["auto", "pixels", "laplacian"],
        Doc("Optimise the pixels or their Laplacian pyramid. `auto`: the pyramid with Adam, pixels with L-BFGS."),
        OPTIMISER,
    ] = "auto"
    carry: Annotated[bool, Doc("Keep Adam's moments of the pixels from scale to scale."), OPTIMISER] = False
    average: Annotated[
        float,
        Doc("Return the exponential average of the iterates with this decay; 0 returns the best iterate."),
        Range(0, 0.9999),
        OPTIMISER,
    ] = 0.0
    rate: Annotated[
        float | None,
        NUMBER,
        Doc("Learning rate. Default 1 for L-BFGS, 0.05 for Adam, 0.03 for Adam on pixels (gatys: 0.0003)."),
        Range(1e-6, 10),
        OPTIMISER,
    ] = None

    def check_optimiser(self) -> None:
        """Raise OptionError if options of the optimiser contradict each other."""
        if self.time is not None and self.iterations is not None:
            raise OptionError("--time and --iterations cannot be combined; give one")
        if self.parameters == "laplacian" and self.optimizer != "adam":
            raise OptionError("--parameters laplacian needs --optimizer adam")
        if self.carry and (self.optimizer, self.parameters) != ("adam", "pixels"):
            raise OptionError("--carry needs --optimizer adam --parameters pixels")

    @property
    def pyramid(self) -> bool:
        """Whether to optimise a Laplacian pyramid."""
        return self.parameters == "laplacian" or (self.parameters, self.optimizer) == ("auto", "adam")


@dataclass(frozen=True)
class EncoderOptions:
    """The encoder whose features the losses compare."""

    encoder: Annotated[
        str,
        Doc(
            "Perceptual encoder: `compact` (bundled), `vgg16` or `vgg19` (downloaded), or a model file. `auto`: "
            "`compact`; with the preset `gatys`, `vgg19` if its file is there."
        ),
        NETWORK,
    ] = "auto"
    pooling: Annotated[Literal["max", "average"], Doc("Pooling inside the encoder."), NETWORK] = "max"


@dataclass(frozen=True)
class NetworkOptions:
    """The network that paints in one pass."""

    model: Annotated[
        str | None,
        tyro.conf.arg(metavar="FILE"),
        Doc("Paint with your own network: a model file written by `impasto train network`."),
        NETWORK,
    ] = None
    learn: Annotated[
        bool,
        Doc(
            "Teach the network the style first, in seconds, and keep it. `impasto styles --learnt` lists these styles."
        ),
        NETWORK,
    ] = False


@dataclass(frozen=True)
class MachineOptions:
    """Device, precision and random seed."""

    seed: Annotated[int, Doc("Seed of every random choice."), Range(0, 2**63 - 1), OPTIMISER] = 0
    device: Annotated[str, Doc("Device: `auto`, `cpu`, `cuda`, `cuda:1`, `mps`."), NETWORK] = "auto"
    precision: Annotated[
        Precision, Doc("Precision of the networks; `auto` uses bfloat16 if the hardware supports it."), NETWORK
    ] = "auto"
    offline: Annotated[bool, Doc("Never download anything."), NETWORK] = False
    max_memory: Annotated[
        int | None,
        BYTES,
        Doc(
            "Maximum memory for a painting, such as 4GB or 800MB; the program itself takes about 0.4 GB more. "
            "Larger pictures are painted in parts."
        ),
        Range(1, None, "B"),
        NETWORK,
    ] = None
