"""Options for training networks: those that every training shares, and those of the network that paints."""

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
    """Options that every training shares: its data, length, learning rates, machines and output."""

    photos: Annotated[tuple[Path, ...], Doc("Folders or packed files with photographs.")]
    out: Annotated[Path, Doc("Where to write the network (.safetensors); its checkpoint and log go next to it.")]
    exclude: Annotated[
        Path | None, FILE, Doc("Text file of picture paths, one per line, to leave out of training.")
    ] = None
    steps: Annotated[int, Doc("Number of training steps."), Range(1), STEPS] = 20_000
    minutes: Annotated[
        float | None,
        tyro.conf.arg(metavar="NUMBER"),
        Doc("Stop after this many minutes, with a checkpoint. --resume continues, here or on another machine."),
        Range(0),
        STEPS,
    ] = None
    batch: Annotated[int, Doc("Pictures per step, over all processes."), Range(1), STEPS] = 8
    accumulate: Annotated[
        int, Doc("Split each process's pictures of a step into this many parts, to save memory."), Range(1), STEPS
    ] = 1
    crop: Annotated[int, Doc("Side of the training crops."), Range(64, 4096, "px"), STEPS] = 256
    rate: Annotated[float, Doc("Learning rate of the convolutions (Muon)."), Range(0), STEPS] = 0.01
    small_rate: Annotated[float, Doc("Learning rate of all other weights (Adam)."), Range(0), STEPS] = 0.003
    warm_up: Annotated[int, Doc("Warm-up steps of the learning rates."), Range(0), STEPS] = 200
    clip: Annotated[float, Doc("Clip the gradient to this norm; 0 for no limit."), Range(0), STEPS] = 1.0
    average: Annotated[
        float,
        Doc("Write a moving average of the weights, with this decay; 0 writes the weights themselves."),
        Range(0, 0.99999),
        STEPS,
    ] = 0.995
    checkpoint_every: Annotated[int, Doc("Steps between checkpoints."), Range(1), STEPS] = 500
    resume: Annotated[bool, Doc("Continue from the checkpoint next to the output."), STEPS] = False
    seed: Annotated[int, Doc("Seed of every random choice."), Range(0), STEPS] = 0
    device: Annotated[Literal["auto", "cpu", "cuda", "mps"], Doc("Device to train on."), MACHINE] = "auto"
    devices: Annotated[int, Doc("Devices on each machine (processes, on the CPU)."), Range(1), MACHINE] = 1
    nodes: Annotated[int, Doc("Number of machines; start torchrun on each."), Range(1), MACHINE] = 1
    precision: Annotated[
        Literal["auto", "float32", "bfloat16"],
        Doc("Precision of the networks; `auto` uses bfloat16 if the hardware supports it."),
        MACHINE,
    ] = "auto"
    workers: Annotated[
        int, Doc("Processes that read pictures ahead; 0 reads them between steps."), Range(0, 256), MACHINE
    ] = 1

    def __post_init__(self) -> None:
        check_ranges(self)


@dataclass(frozen=True, kw_only=True)
class TrainNetworkOptions(TrainOptions):
    """Options for training a network that paints in one pass."""

    paintings: Annotated[
        tuple[Path, ...],
        Doc("Folders or packed files with paintings. With them, the network learns to paint in any style."),
    ] = ()
    styles: Annotated[
        tuple[str, ...],
        tyro.conf.arg(metavar="STYLE [STYLE ...]"),
        Doc(
            "Styles to learn individually: built-in names, pictures, style files, or folders of these; `all` is every "
            "built-in style. Without --paintings, the network learns only these."
        ),
    ] = ()
    learnt: Annotated[
        float, Doc("Share of pictures painted in one of --styles, if there are --paintings too."), Range(0, 1)
    ] = 0.25
    base: Annotated[
        str | None,
        tyro.conf.arg(name="from", metavar="FILE"),
        Doc("Network of the same shape to start from: `network` (the bundled one) or a model file."),
    ] = None
    width: Annotated[int, Doc("Channels at half resolution."), Range(4, 256), SHAPE] = 32
    blocks: Annotated[int, Doc("Residual blocks at a quarter of the resolution."), Range(0, 64), SHAPE] = 2
    fine: Annotated[int, Doc("Residual blocks at half resolution."), Range(0, 64), SHAPE] = 4
    rank: Annotated[int, Doc("Rank of the filters that the style predicts for each block."), Range(0, 64), SHAPE] = 8
    noise: Annotated[int, Doc("Noise channels, from which strokes form."), Range(0, 64), SHAPE] = 4
    hidden: Annotated[int, Doc("Width of the predictor."), Range(1, 4096), SHAPE] = 320
    encoder: Annotated[tyro.conf.Suppress[str], Doc("Styles are measured with the bundled encoder.")] = "compact"
    decay: Annotated[float, Doc("Final share of the steps over which the rates fall to 0."), Range(0, 1), STEPS] = 0.4
    style_rate: Annotated[float, Doc("Learning rate of the predictor (Adam)."), Range(0), STEPS] = 0.002
    learnt_rate: Annotated[float, Doc("Learning rate of the individual styles (Adam)."), Range(0), STEPS] = 0.0005
    content_weight: Annotated[float, Doc("Weight of the content loss."), Range(0), LOSS] = 0.045
    tone_weight: Annotated[
        float,
        Doc("Weight of the tone loss: large shapes keep the photo's light in the style's palette."),
        Range(0),
        LOSS,
    ] = 0.1
    tv_weight: Annotated[float, Doc("Weight of the total variation."), Range(0), LOSS] = 2.5
    spike_weight: Annotated[
        float,
        Doc("Weight of the loss against spikes in the features, which would show as glowing dots."),
        Range(0),
        LOSS,
    ] = 0.01
    stability: Annotated[
        float,
        Doc("Weight of the loss against flicker: a photo moved a little must give the same painting."),
        Range(0),
        LOSS,
    ] = 0.0
    identity: Annotated[
        float, Doc("Share of photos painted in their own style, which should not change them."), Range(0, 1), LOSS
    ] = 0.05
    mixed: Annotated[float, Doc("Share of pictures painted in a blend of two styles."), Range(0, 1), LOSS] = 0.15
    recoloured: Annotated[
        float,
        Doc("Share of paintings with swapped colour channels, for more variety."),
        Range(0, 1),
        LOSS,
    ] = 0.4
    sample_every: Annotated[int, Doc("Steps between sheets of sample paintings; 0 for none."), Range(0), STEPS] = 1_000
    offline: Annotated[bool, Doc("Never download weights."), MACHINE] = False


@dataclass(frozen=True, kw_only=True)
class TrainPackOptions:
    """Options for packing pictures into one file for training."""

    folders: Annotated[
        tuple[Path, ...],
        tyro.conf.Positional,
        tyro.conf.arg(metavar="FOLDER [FOLDER ...]"),
        Doc("Folders with pictures, searched recursively, or packed files."),
    ]
    out: Annotated[Path, Doc("Where to write the packed file (.zip).")]
    exclude: Annotated[Path | None, FILE, Doc("Text file of picture paths, one per line, to leave out.")] = None
    short_side: Annotated[
        int, Doc("Reduce larger pictures to this short side; must be at least `--crop`."), Range(16, 4096, "px")
    ] = 256
    quality: Annotated[int, Doc("Quality of the pictures (WebP)."), Range(1, 100)] = 85
    workers: Annotated[int, Doc("Processes that read and encode; 0 uses the main process."), Range(0)] = 2

    def __post_init__(self) -> None:
        check_ranges(self)
