"""How the compact encoder is trained."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from typing_extensions import Doc

from ..ranges import Range
from .train import LOSS, MACHINE, STEPS, TrainOptions


@dataclass(frozen=True, kw_only=True)
class TrainEncoderOptions(TrainOptions):
    """How the compact encoder is trained: by distillation from a teacher network."""

    teacher: Annotated[Path, Doc("The teacher's weights (.safetensors).")]
    paintings: Annotated[tuple[Path, ...], Doc("Folders or packed files with paintings.")]
    steps: Annotated[int, Doc("Steps in all."), Range(1), STEPS] = 30_000
    batch_norm_steps: Annotated[
        int, Doc("Of these, steps with batch norm, which is then folded away."), Range(0), STEPS
    ] = 12_000
    crop: Annotated[int, Doc("Side of the pictures trained on."), Range(32, 4096, "px"), STEPS] = 160
    warm_up: Annotated[
        int, Doc("Steps over which the rates rise, at the start and after the fold."), Range(0), STEPS
    ] = 100
    fold_rate: Annotated[float, Doc("The rates' factor after the batch norm is folded."), Range(0), STEPS] = 0.2
    clip: Annotated[
        float, Doc("Largest norm of the gradient; larger ones are scaled down. 0 for no limit."), Range(0), STEPS
    ] = 0.0
    average: Annotated[
        float,
        Doc("Decay of the moving average of the weights, which is what is written; 0 writes the weights themselves."),
        Range(0, 0.99999),
        STEPS,
    ] = 0.0
    painted: Annotated[
        float, Doc("Share of crops taken from pictures optimised on the encoder itself."), Range(0, 1), LOSS
    ] = 0.4
    paint_every: Annotated[int, Doc("Steps between two fresh batches of such pictures."), Range(1), LOSS] = 60
    paint_from: Annotated[int, Doc("Steps before the first of them are made."), Range(1), LOSS] = 2_000
    pool: Annotated[int, Doc("How many of them are kept."), Range(1), LOSS] = 400
    validate_every: Annotated[
        int,
        Doc("Steps between validations: pictures are optimised on the encoder, and the teacher judges them."),
        Range(1),
        STEPS,
    ] = 2_000
    fit_batches: Annotated[
        int, Doc("Batches that the heads are fitted on by least squares, after the last step."), Range(1), STEPS
    ] = 100
    devices: Annotated[int, Doc("Must be 1: an encoder trains in one process."), Range(1), MACHINE] = 1
    nodes: Annotated[int, Doc("Must be 1."), Range(1), MACHINE] = 1
