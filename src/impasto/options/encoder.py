"""How the compact encoder is trained."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from typing_extensions import Doc

from ..ranges import Range, check_ranges
from .kinds import FILE


@dataclass(frozen=True)
class TrainEncoderOptions:
    """How the compact encoder is trained: by distillation from a teacher network."""

    teacher: Annotated[Path, Doc("The teacher's weights (.safetensors).")]
    photos: Annotated[tuple[Path, ...], Doc("Folders with photographs, searched to any depth, or packed files.")]
    paintings: Annotated[tuple[Path, ...], Doc("Folders with paintings, searched to any depth, or packed files.")]
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
