"""How networks that paint are trained."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro
from typing_extensions import Doc

from ..ranges import Range, check_ranges
from .kinds import FILE, Group

LOSS, STEPS, MACHINE = Group("loss"), Group("training"), Group("machine")
INT = tyro.conf.arg(metavar="INT")


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """What every training has in common: its length, its rate, where it runs and what it writes."""

    photos: Annotated[tuple[Path, ...], Doc("Folders with photographs, searched to any depth, or packed files.")]
    out: Annotated[Path, Doc("Where the network is written (.safetensors); checkpoint, log and samples beside it.")]
    exclude: Annotated[
        Path | None, FILE, Doc("A text file of picture paths, one a line, that training never reads.")
    ] = None
    steps: Annotated[int, Doc("Steps in all."), Range(1), STEPS] = 20_000
    batch: Annotated[int, Doc("Pictures a step, on all processes together."), Range(1), STEPS] = 8
    accumulate: Annotated[
        int, Doc("Parts that each process divides its pictures of a step into, to save memory."), Range(1), STEPS
    ] = 1
    crop: Annotated[int, Doc("Side of the pictures trained on."), Range(64, 4096, "px"), STEPS] = 256
    rate: Annotated[float, Doc("Learning rate of the convolutions (Muon)."), Range(0), STEPS] = 0.01
    small_rate: Annotated[float, Doc("Learning rate of all else (Adam)."), Range(0), STEPS] = 0.003
    warm_up: Annotated[int, Doc("Steps over which the rates rise."), Range(0), STEPS] = 200
    decay: Annotated[float, Doc("Last part of the steps, over which the rates fall to 0."), Range(0, 1), STEPS] = 0.4
    clip: Annotated[float, Doc("Largest norm of the gradient; larger ones are scaled down."), Range(0), STEPS] = 1.0
    average: Annotated[
        float, Doc("Decay of the moving average of the weights, which is what is written."), Range(0, 0.99999), STEPS
    ] = 0.995
    encoder: Annotated[str, Doc("Perceptual encoder: `compact`, `vgg16`, `vgg19`, or a model file."), LOSS] = "compact"
    checkpoint_every: Annotated[int, Doc("Steps between checkpoints."), Range(1), STEPS] = 500
    sample_every: Annotated[int, Doc("Steps between sheets of sample paintings; 0 for none."), Range(0), STEPS] = 1_000
    resume: Annotated[bool, Doc("Go on from the checkpoint beside the output, as if nothing had been."), STEPS] = False
    seed: Annotated[int, Doc("Seed of every random choice."), Range(0), STEPS] = 0
    device: Annotated[Literal["auto", "cpu", "cuda", "mps"], Doc("What it runs on."), MACHINE] = "auto"
    devices: Annotated[int, Doc("Devices (on the CPU: processes) on each machine."), Range(1), MACHINE] = 1
    nodes: Annotated[int, Doc("Machines; start each with torchrun."), Range(1), MACHINE] = 1
    precision: Annotated[
        Literal["auto", "float32", "bfloat16"], Doc("Of the networks; `auto` is bfloat16 where it is fast."), MACHINE
    ] = "auto"
    offline: Annotated[bool, Doc("Never download weights."), MACHINE] = False

    def __post_init__(self) -> None:
        check_ranges(self)


@dataclass(frozen=True, kw_only=True)
class TrainPaintersOptions(TrainOptions):
    """What a network that paints learns from: the loss of its paintings."""

    style_rate: Annotated[
        float,
        Doc("Learning rate of what styles differ by: the norms' scales and shifts, or what predicts them (Adam)."),
        Range(0),
        STEPS,
    ] = 0.01
    style_loss: Annotated[
        Literal["moments", "gram"], Doc("Distance to the style: Wasserstein of the moments, or Gatys'."), LOSS
    ] = "moments"
    content: Annotated[
        float,
        Doc("How far from the photograph the content may be; each style's content weight settles so that it is."),
        Range(0.05, 10),
        LOSS,
    ] = 1.3
    content_weight: Annotated[
        float | None,
        tyro.conf.arg(metavar="NUMBER"),
        Doc("One content weight for all styles instead, that stays as it is."),
        Range(0),
        LOSS,
    ] = None
    tv_weight: Annotated[float, Doc("Weight of the total variation."), Range(0), LOSS] = 0.3
    stability: Annotated[
        float, Doc("Weight of the loss against flicker: what is moved must be painted alike."), Range(0), LOSS
    ] = 0.12
    identity: Annotated[
        float, Doc("Share of pictures on which the network learns to give the photograph back."), Range(0, 0.9), LOSS
    ] = 0.12


@dataclass(frozen=True, kw_only=True)
class TrainLearntOptions(TrainPaintersOptions):
    """How networks learn styles one by one."""

    base: Annotated[
        str | None,
        tyro.conf.arg(name="from", metavar="FILE"),
        Doc("A network to begin with, of the same width and blocks: `palette`, or a model file of your own."),
    ] = None
    style_scale: Annotated[
        float, Doc("Size of the brush strokes: the style's size as a multiple of the picture's."), Range(0.1, 8), LOSS
    ] = 1.0
    picture: Annotated[
        int, Doc("Long side of the pictures that the network shall be best at."), Range(64, 4096, "px"), LOSS
    ] = 512
    strokes: Annotated[
        float, Doc("Share of pictures painted with strokes of another size, half to twice as large."), Range(0, 1), LOSS
    ] = 0.4


@dataclass(frozen=True, kw_only=True)
class TrainFeedforwardOptions(TrainLearntOptions):
    """How a feed-forward network is trained: one network, one or many styles."""

    styles: Annotated[
        tuple[str, ...],
        Doc("Built-in names, pictures, style files, or folders of these; `all` is every built-in style."),
    ]
    width: Annotated[int, Doc("Channels behind the first convolution; 32 is the paper's."), Range(4, 128), STEPS] = 16
    blocks: Annotated[int, Doc("Residual blocks."), Range(1, 32), STEPS] = 5
    colours: Annotated[
        bool, Doc("Give paintings the mean and covariance of their style's colours, within the network."), STEPS
    ] = True


@dataclass(frozen=True, kw_only=True)
class TrainStyleOptions(TrainLearntOptions):
    """How a network that has learnt styles learns more of them: by its norms' scales and shifts alone."""

    paintings: Annotated[
        tuple[str, ...],
        tyro.conf.Positional,
        tyro.conf.arg(metavar="PAINTING [PAINTING ...]"),
        Doc("Pictures, style files, or folders of these; each style is called as its file."),
    ]
    base: Annotated[
        str, tyro.conf.arg(name="from", metavar="FILE"), Doc("The network: `palette`, or a model file of your own.")
    ] = "palette"
    steps: Annotated[int, Doc("Steps in all."), Range(1), STEPS] = 150
    style_rate: Annotated[float, Doc("Learning rate (Adam)."), Range(0), STEPS] = 0.02
    warm_up: Annotated[int, Doc("Steps over which the rate rises."), Range(0), STEPS] = 5
    decay: Annotated[float, Doc("Last part of the steps, over which the rate falls to 0."), Range(0, 1), STEPS] = 0.5
    average: Annotated[
        float, Doc("Decay of the moving average of the weights, which is what is written."), Range(0, 0.99999), STEPS
    ] = 0.9
    checkpoint_every: Annotated[int, Doc("Steps between checkpoints."), Range(1), STEPS] = 50
    sample_every: Annotated[int, Doc("Steps between sheets of sample paintings; 0 for none."), Range(0), STEPS] = 50
    rate: Annotated[tyro.conf.Suppress[float], Doc("Of convolutions, which do not learn here.")] = 0.0
    small_rate: Annotated[tyro.conf.Suppress[float], Doc("Of the rest, which does not learn here.")] = 0.0
    identity: Annotated[tyro.conf.Suppress[float], Doc("Strength 0 is what it is in the network.")] = 0.0


@dataclass(frozen=True, kw_only=True)
class TrainStrengthOptions(TrainOptions):
    """How a trained network learns the way from the photograph to its styles: the norms' maps of strength 0 alone."""

    base: Annotated[
        str,
        tyro.conf.arg(name="from", metavar="FILE"),
        Doc("The network: `palette`, `arbitrary`, or a model file of your own."),
    ] = "palette"
    styles: Annotated[
        tuple[str, ...],
        Doc(
            "What a network for any style is shown: built-in names, pictures, style files, or folders of these; `all` "
            "is every built-in style. Of a network of learnt styles it is always its own."
        ),
    ] = ("all",)
    steps: Annotated[int, Doc("Steps in all."), Range(1), STEPS] = 600
    batch: Annotated[int, Doc("Pictures a step, on all processes together."), Range(1), STEPS] = 6
    crop: Annotated[int, Doc("Side of the pictures trained on."), Range(64, 4096, "px"), STEPS] = 192
    small_rate: Annotated[float, Doc("Learning rate (Adam)."), Range(0), STEPS] = 0.003
    warm_up: Annotated[int, Doc("Steps over which the rate rises."), Range(0), STEPS] = 5
    decay: Annotated[float, Doc("Last part of the steps, over which the rate falls to 0."), Range(0, 1), STEPS] = 0.7
    average: Annotated[
        float, Doc("Decay of the moving average of the weights, which is what is written."), Range(0, 0.99999), STEPS
    ] = 0.98
    checkpoint_every: Annotated[int, Doc("Steps between checkpoints."), Range(1), STEPS] = 100
    sample_every: Annotated[int, Doc("Steps between sheets of sample paintings; 0 for none."), Range(0), STEPS] = 200
    rate: Annotated[tyro.conf.Suppress[float], Doc("Of convolutions, which do not learn here.")] = 0.0
    encoder: Annotated[tyro.conf.Suppress[str], Doc("Measures styles where it must; no loss is taken through it.")] = (
        "compact"
    )


@dataclass(frozen=True, kw_only=True)
class TrainArbitraryOptions(TrainPaintersOptions):
    """How a network for any style is trained."""

    paintings: Annotated[
        tuple[Path, ...], Doc("Folders with paintings to learn styles from, searched to any depth, or packed files.")
    ]
    base: Annotated[
        str | None,
        tyro.conf.arg(name="from", metavar="FILE"),
        Doc(
            "A feed-forward network whose convolutions it begins with: `palette`, or a model file of your own; or a "
            "network for any style to go on with: `arbitrary`, or a model file."
        ),
    ] = None
    width: Annotated[int, Doc("Channels behind the first convolution."), Range(4, 128), STEPS] = 16
    blocks: Annotated[int, Doc("Residual blocks."), Range(1, 32), STEPS] = 5
    encoder: Annotated[tyro.conf.Suppress[str], Doc("Styles are what the bundled encoder sees.")] = "compact"
    hidden: Annotated[int, Doc("Width of the network that predicts the norms."), Range(8, 2048), STEPS] = 192
    style_rate: Annotated[
        float, Doc("Learning rate of the network that predicts the norms (Adam)."), Range(0), STEPS
    ] = 0.002
    own: Annotated[
        float,
        Doc("Share of pictures that are paintings, in their own style, which must come back."),
        Range(0, 0.9),
        LOSS,
    ] = 0.05
    mixed: Annotated[float, Doc("Share of pictures painted in a blend of two styles."), Range(0, 1), LOSS] = 0.15
    recoloured: Annotated[
        float,
        Doc("Share of paintings whose colours are exchanged, so that few paintings are many styles."),
        Range(0, 1),
        LOSS,
    ] = 0.4


@dataclass(frozen=True, kw_only=True)
class TrainPackOptions:
    """How pictures are packed into one file that trainings read."""

    folders: Annotated[
        tuple[Path, ...],
        tyro.conf.Positional,
        tyro.conf.arg(metavar="FOLDER [FOLDER ...]"),
        Doc("Folders with pictures, searched to any depth, or files packed before."),
    ]
    out: Annotated[Path, Doc("Where the packed file is written (.zip).")]
    exclude: Annotated[Path | None, FILE, Doc("A text file of picture paths, one a line, to leave out.")] = None
    short_side: Annotated[
        int, Doc("Short side that larger pictures are reduced to; no less than `--crop`."), Range(16, 4096, "px")
    ] = 256
    quality: Annotated[int, Doc("Quality of the pictures (WebP); 85 is as near as JPEG's 88."), Range(1, 100)] = 85
    workers: Annotated[int, Doc("Processes that read and encode; 0 for none besides the main one."), Range(0)] = 2

    def __post_init__(self) -> None:
        check_ranges(self)
