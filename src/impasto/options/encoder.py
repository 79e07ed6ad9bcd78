"""Options for training the compact encoder."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from typing_extensions import Doc

from ..ranges import Range
from .train import LOSS, MACHINE, STEPS, TrainOptions


@dataclass(frozen=True, kw_only=True)
class TrainEncoderOptions(TrainOptions):
    """Options for training the compact encoder by distillation from a teacher network."""

    teacher: Annotated[Path, Doc("The teacher's weights (.safetensors).")]
    paintings: Annotated[tuple[Path, ...], Doc("Folders or packed files with paintings.")]
    steps: Annotated[int, Doc("Number of training steps."), Range(1), STEPS] = 30_000
    batch_norm_steps: Annotated[
        int, Doc("Number of steps with batch norm. After them it is folded into the weights."), Range(0), STEPS
    ] = 12_000
    crop: Annotated[int, Doc("Side of the training crops."), Range(32, 4096, "px"), STEPS] = 160
    warm_up: Annotated[
        int, Doc("Warm-up steps of the learning rates, at the start and again after the fold."), Range(0), STEPS
    ] = 100
    fold_rate: Annotated[
        float, Doc("Factor on the learning rates after the batch norm is folded."), Range(0), STEPS
    ] = 0.2
    clip: Annotated[float, Doc("Clip the gradient to this norm; 0 for no limit."), Range(0), STEPS] = 0.0
    average: Annotated[
        float,
        Doc("Write a moving average of the weights, with this decay; 0 writes the weights themselves."),
        Range(0, 0.99999),
        STEPS,
    ] = 0.0
    painted: Annotated[
        float, Doc("Share of crops that come from pictures optimised on the encoder itself."), Range(0, 1), LOSS
    ] = 0.4
    paint_every: Annotated[int, Doc("Steps between new batches of such pictures."), Range(1), LOSS] = 60
    paint_from: Annotated[int, Doc("Step at which the first such pictures are made."), Range(1), LOSS] = 2_000
    pool: Annotated[int, Doc("How many such pictures to keep."), Range(1), LOSS] = 400
    validate_every: Annotated[
        int,
        Doc("Steps between validations. Each optimises pictures on the encoder and scores them with the teacher."),
        Range(1),
        STEPS,
    ] = 2_000
    fit_batches: Annotated[
        int, Doc("Batches for fitting the heads by least squares after the last step."), Range(1), STEPS
    ] = 100
    devices: Annotated[int, Doc("Must be 1: the encoder is trained in one process."), Range(1), MACHINE] = 1
    nodes: Annotated[int, Doc("Must be 1."), Range(1), MACHINE] = 1
