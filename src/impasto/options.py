"""Every task's options: one frozen dataclass each, the only home of defaults.

Each field carries its help text, unit and range, so that the command line, the web page, the run record and a model
file's metadata all derive from here. Nothing in this module imports torch.
"""

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from typing_extensions import Doc

from .errors import OptionError
from .ranges import Range, check_ranges

INT, NUMBER, BITS, FILE = (tyro.conf.arg(metavar=m) for m in ("INT", "NUMBER", "{8,16}", "FILE"))
"""What the help calls the value of an option that may be left out."""


@dataclass(frozen=True)
class Group:
    """The group of controls that a field is shown in."""

    name: str


Method = Literal["optimize"]
Quality = Literal["draft", "good", "best"]
ColourSpace = Literal["oklab", "ycbcr"]
PaletteMatch = Literal["none", "covariance", "histogram"]
StyleLoss = Literal["gram", "moments"]
Precision = Literal["auto", "float32", "bfloat16"]

LOOK, SIZE, OPTIMISER, NETWORK = Group("look"), Group("size"), Group("optimiser"), Group("network")

LEAST_SIZE, LARGEST_SIZE = 32, 65536
"""What may be asked for as a picture's long side, in pixels."""

STARTS = ("content", "noise", "grey")
"""What a painting can start from, besides a picture."""

LONG_SIDE: dict[Quality, int] = {"draft": 512, "good": 1024, "best": 2048}
"""Quality -> the long side, in pixels, that a picture is painted at unless `--size` says otherwise; never enlarged."""


ITERATIONS: dict[Quality, int] = {"draft": 100, "good": 300, "best": 800}
"""Quality -> iterations in all scales together."""


@dataclass(frozen=True)
class Settings:
    """The numbers that depend on the preset, the quality and the optimiser where the options leave them open."""

    content_weight: float
    style_weight: float
    iterations: int
    rate: float


@dataclass(frozen=True)
class OptimizeOptions:
    """How `optimize` paints: Gatys' method from coarse to fine, or his recipe to the letter with the preset `gatys`."""

    quality: Annotated[Quality, Doc("How much time to spend: it sets the size and the iterations."), LOOK] = "good"
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
    content_weight: Annotated[
        float | None,
        NUMBER,
        Doc("Weight of the content loss: higher keeps more of the photo; 0.05 if not given (gatys: 1)."),
        Range(0, 1e9),
        LOOK,
    ] = None
    style_weight: Annotated[
        float | None, NUMBER, Doc("Weight of the style loss; 1 if not given (gatys: 1e6)."), Range(0, 1e12), LOOK
    ] = None
    style_loss: Annotated[
        StyleLoss,
        Doc("`moments`: Wasserstein distance of the features' mean and covariance. `gram`: Gatys' Gram matrices."),
        LOOK,
    ] = "moments"
    tv_weight: Annotated[float, Doc("Weight of the total variation: higher is smoother."), Range(0, 1e6), LOOK] = 1.0
    style_weights: Annotated[
        tuple[float, ...], Doc("Shares of several styles, in their order; equal if not given."), Range(0, 1e6), LOOK
    ] = ()
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
    style_scale: Annotated[
        float, Doc("Size of the brush strokes: the style's size as a multiple of the painting's."), Range(0.1, 8), LOOK
    ] = 1.0
    iterations: Annotated[
        int | None,
        INT,
        Doc("Iterations in all scales together; the quality sets them if not given."),
        Range(1, 1_000_000),
        OPTIMISER,
    ] = None
    coarsest: Annotated[
        int, Doc("Most that the coarsest scale's long side may be."), Range(LEAST_SIZE, LARGEST_SIZE, "px"), OPTIMISER
    ] = 128
    optimizer: Annotated[Literal["adam", "lbfgs"], Doc("The optimiser of the pixels."), OPTIMISER] = "adam"
    rate: Annotated[
        float | None,
        NUMBER,
        Doc("Learning rate; if not given 0.03 for Adam, 1 for L-BFGS (gatys: 0.0003)."),
        Range(1e-6, 10),
        OPTIMISER,
    ] = None
    start: Annotated[
        str, Doc("What the painting starts from: `content`, `noise`, `grey`, or a picture's path."), OPTIMISER
    ] = "content"
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
        if self.content_weight == 0 and self.style_weight == 0:
            raise OptionError("--content-weight and --style-weight are both 0; one must be positive")

    @property
    def settings(self) -> Settings:
        """The numbers that these options come to."""
        if self.preset == "gatys":
            default = Settings(1.0, 1e6, 5000, 0.0003)
        else:
            rate = 0.03 if self.optimizer == "adam" else 1.0
            default = Settings(0.05, 1.0, ITERATIONS[self.quality], rate)
        given = {f.name: getattr(self, f.name) for f in fields(Settings) if getattr(self, f.name) is not None}
        return replace(default, **given)

    def to_dict(self) -> dict[str, Any]:
        """As plain values, for the run record."""
        return {f.name: getattr(self, f.name) for f in fields(self)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "OptimizeOptions":
        """The inverse of `to_dict`, also after a trip through JSON; OptionError for a field of another version."""
        unknown = set(values) - {f.name for f in fields(cls)}
        if unknown:
            raise OptionError(f"this version has no option {', '.join(sorted(unknown))}")
        arguments: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        return cls(**arguments)


@dataclass(frozen=True)
class OutputOptions:
    """How a picture is read and written."""

    bits: Annotated[Literal[8, 16] | None, BITS, Doc("Bits a channel of the output; the photo's own if not given.")] = (
        None
    )
    jpeg_quality: Annotated[int, Doc("Quality of JPEG, WebP, AVIF and HEIC output."), Range(1, 100)] = 95
    keep_gps: Annotated[bool, Doc("Keep the photo's GPS position in the output.")] = False
    max_megapixels: Annotated[float, Doc("Refuse larger pictures, before they are decoded."), Range(0.001, 1e6)] = 200.0

    def __post_init__(self) -> None:
        check_ranges(self)


@dataclass(frozen=True)
class TrainEncoderOptions:
    """How the compact encoder is trained: by distillation from a teacher network."""

    teacher: Annotated[Path, Doc("The teacher's weights (.safetensors).")]
    photos: Annotated[tuple[Path, ...], Doc("Folders with photographs, searched to any depth.")]
    paintings: Annotated[tuple[Path, ...], Doc("Folders with paintings, searched to any depth.")]
    out: Annotated[Path, Doc("Where the trained encoder is written; its checkpoint stands beside it.")]
    exclude: Annotated[
        Path | None, FILE, Doc("A text file of picture paths, one a line, that training never reads.")
    ] = None
    steps: Annotated[int, Doc("Steps in all."), Range(1)] = 30_000
    batch_norm_steps: Annotated[int, Doc("Of these, steps with batch norm, which is then folded away."), Range(0)] = (
        12_000
    )
    batch: Annotated[int, Doc("Crops a step."), Range(1)] = 8
    crop: Annotated[int, Doc("Side of a crop."), Range(32, unit="px")] = 160
    rate: Annotated[float, Doc("Learning rate of the convolutions (Muon)."), Range(0)] = 1e-2
    head_rate: Annotated[float, Doc("Learning rate of heads, norms and biases (Adam)."), Range(0)] = 3e-3
    fold_rate: Annotated[float, Doc("Both rates' factor after the batch norm is folded."), Range(0)] = 0.2
    painted: Annotated[
        float, Doc("Share of crops taken from pictures optimised on the network itself."), Range(0, 1)
    ] = 0.4
    paint_every: Annotated[int, Doc("Steps between two fresh batches of such pictures."), Range(1)] = 60
    paint_from: Annotated[int, Doc("First step at which such pictures are made."), Range(0)] = 2_000
    pool: Annotated[int, Doc("How many of them are kept."), Range(1)] = 400
    checkpoint_every: Annotated[int, Doc("Steps between checkpoints."), Range(1)] = 500
    validate_every: Annotated[
        int, Doc("Steps between validations: pictures optimised here, judged by the teacher."), Range(1)
    ] = 2_000
    fit_batches: Annotated[
        int, Doc("Batches that the heads are fitted on, by least squares, whenever the encoder is written."), Range(1)
    ] = 100
    resume: Annotated[bool, Doc("Go on from the checkpoint beside the output.")] = False
    seed: Annotated[int, Doc("Seed of every random choice."), Range(0)] = 0

    def __post_init__(self) -> None:
        check_ranges(self)
