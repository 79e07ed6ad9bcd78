"""How networks are trained: what every training has in common, and the network that paints."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro
from typing_extensions import Doc

from ..ranges import Range, check_ranges
from .kinds import FILE, Group

LOSS, SHAPE, STEPS, MACHINE = Group("loss"), Group("shape"), Group("training"), Group("machine")


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """What every training has in common: its length, its rate, where it runs and what it writes."""

    photos: Annotated[tuple[Path, ...], Doc("Folders or packed files with photographs.")]
    out: Annotated[Path, Doc("Where the network is written (.safetensors); its checkpoint and log go beside it.")]
    exclude: Annotated[
        Path | None, FILE, Doc("A text file of picture paths, one a line, that training never reads.")
    ] = None
    steps: Annotated[int, Doc("Steps in all."), Range(1), STEPS] = 20_000
    minutes: Annotated[
        float | None,
        tyro.conf.arg(metavar="NUMBER"),
        Doc("Stop after so many minutes, with a checkpoint; --resume goes on, here or on another machine."),
        Range(0),
        STEPS,
    ] = None
    batch: Annotated[int, Doc("Pictures a step, on all processes together."), Range(1), STEPS] = 8
    accumulate: Annotated[
        int, Doc("Parts that each process divides its pictures of a step into, to save memory."), Range(1), STEPS
    ] = 1
    crop: Annotated[int, Doc("Side of the pictures trained on."), Range(64, 4096, "px"), STEPS] = 256
    rate: Annotated[float, Doc("Learning rate of the convolutions (Muon)."), Range(0), STEPS] = 0.01
    small_rate: Annotated[float, Doc("Learning rate of all else (Adam)."), Range(0), STEPS] = 0.003
    warm_up: Annotated[int, Doc("Steps over which the rates rise."), Range(0), STEPS] = 200
    clip: Annotated[
        float, Doc("Largest norm of the gradient; larger ones are scaled down. 0 for no limit."), Range(0), STEPS
    ] = 1.0
    average: Annotated[
        float,
        Doc("Decay of the moving average of the weights, which is what is written; 0 writes the weights themselves."),
        Range(0, 0.99999),
        STEPS,
    ] = 0.995
    checkpoint_every: Annotated[int, Doc("Steps between checkpoints."), Range(1), STEPS] = 500
    resume: Annotated[bool, Doc("Go on from the checkpoint beside the output."), STEPS] = False
    seed: Annotated[int, Doc("Seed of every random choice."), Range(0), STEPS] = 0
    device: Annotated[Literal["auto", "cpu", "cuda", "mps"], Doc("What it runs on."), MACHINE] = "auto"
    devices: Annotated[int, Doc("Devices (on the CPU: processes) on each machine."), Range(1), MACHINE] = 1
    nodes: Annotated[int, Doc("Machines; start each with torchrun."), Range(1), MACHINE] = 1
    precision: Annotated[
        Literal["auto", "float32", "bfloat16"], Doc("Of the networks; `auto` is bfloat16 where it is fast."), MACHINE
    ] = "auto"
    workers: Annotated[
        int, Doc("Processes that read pictures ahead; 0 reads them between the steps."), Range(0, 256), MACHINE
    ] = 1

    def __post_init__(self) -> None:
        check_ranges(self)


@dataclass(frozen=True, kw_only=True)
class TrainNetworkOptions(TrainOptions):
    """How a network that paints in one pass is trained."""

    paintings: Annotated[
        tuple[Path, ...],
        Doc("Folders or packed files with paintings to learn from, so that the network paints in any style."),
    ] = ()
    styles: Annotated[
        tuple[str, ...],
        tyro.conf.arg(metavar="STYLE [STYLE ...]"),
        Doc(
            "Styles that it also learns one by one: built-in names, pictures, style files, or folders of these; `all` "
            "is every built-in style. With no --paintings it learns these alone."
        ),
    ] = ()
    learnt: Annotated[
        float, Doc("Share of pictures that are painted in one of --styles, where there are paintings."), Range(0, 1)
    ] = 0.25
    base: Annotated[
        str | None,
        tyro.conf.arg(name="from", metavar="FILE"),
        Doc("A network of the same shape to begin with: `network`, the bundled one, or a model file."),
    ] = None
    width: Annotated[int, Doc("Channels at half the picture's size."), Range(4, 256), SHAPE] = 32
    blocks: Annotated[int, Doc("Residual blocks at an eighth of the size."), Range(0, 64), SHAPE] = 5
    upper: Annotated[int, Doc("Residual blocks at a quarter of the size."), Range(0, 64), SHAPE] = 2
    fine: Annotated[int, Doc("Residual blocks at half of the size."), Range(0, 64), SHAPE] = 2
    rank: Annotated[int, Doc("Rank of the filters that the style gives to each block."), Range(0, 64), SHAPE] = 4
    noise: Annotated[int, Doc("Channels of noise that strokes begin with."), Range(0, 64), SHAPE] = 4
    hidden: Annotated[int, Doc("Width of the predictor."), Range(1, 4096), SHAPE] = 68
    encoder: Annotated[tyro.conf.Suppress[str], Doc("Styles are what the bundled encoder sees.")] = "compact"
    decay: Annotated[float, Doc("Last part of the steps, over which the rates fall to 0."), Range(0, 1), STEPS] = 0.4
    style_rate: Annotated[float, Doc("Learning rate of the predictor (Adam)."), Range(0), STEPS] = 0.002
    learnt_rate: Annotated[float, Doc("Learning rate of the learnt styles (Adam)."), Range(0), STEPS] = 0.0005
    content_weight: Annotated[float, Doc("Weight of the content."), Range(0), LOSS] = 0.0125
    tone_weight: Annotated[
        float, Doc("Weight of the tone: large shapes keep the photo's light, in the style's palette."), Range(0), LOSS
    ] = 0.05
    tv_weight: Annotated[float, Doc("Weight of the total variation."), Range(0), LOSS] = 1.5
    stability: Annotated[
        float, Doc("Weight of the loss against flicker: a photo that moves a little is painted alike."), Range(0), LOSS
    ] = 0.0
    own: Annotated[
        float, Doc("Share of photos painted in their own style, to come out as they are."), Range(0, 1), LOSS
    ] = 0.05
    mixed: Annotated[float, Doc("Share of pictures painted in a blend of two styles."), Range(0, 1), LOSS] = 0.15
    recoloured: Annotated[
        float,
        Doc("Share of paintings whose colour channels are swapped, for more variety."),
        Range(0, 1),
        LOSS,
    ] = 0.4
    sample_every: Annotated[int, Doc("Steps between sheets of sample paintings; 0 for none."), Range(0), STEPS] = 1_000
    offline: Annotated[bool, Doc("Never download weights."), MACHINE] = False


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
    quality: Annotated[int, Doc("Quality of the pictures (WebP)."), Range(1, 100)] = 85
    workers: Annotated[int, Doc("Processes that read and encode; 0 for none besides the main one."), Range(0)] = 2

    def __post_init__(self) -> None:
        check_ranges(self)
