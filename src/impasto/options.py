"""Every task's options: one frozen dataclass each, the only home of defaults.

Each field carries its help text, unit and range, so that the command line, the web page, the run record and a model
file's metadata all derive from here. Nothing in this module imports torch.
"""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import tyro

from .errors import OptionError


@dataclass(frozen=True)
class Range:
    """The values that a numeric field may take, both ends included, and its unit."""

    low: float | None = None
    high: float | None = None
    unit: str = ""

    def __contains__(self, value: float) -> bool:
        return (self.low is None or value >= self.low) and (self.high is None or value <= self.high)

    def __str__(self) -> str:
        if self.high is None:
            return f"{self.low:g} or more"
        return f"{self.low:g} to {self.high:g}" if self.low is not None else f"at most {self.high:g}"


def check_ranges(options: Any) -> None:
    """OptionError for the first field of a dataclass whose value lies outside the `Range` of its annotation."""
    hints = get_type_hints(type(options), include_extras=True)
    for field in fields(options):
        hint = hints[field.name]
        ranges = [m for m in get_args(hint)[1:] if isinstance(m, Range)] if get_origin(hint) is Annotated else []
        value = getattr(options, field.name)
        values = value if isinstance(value, tuple) else (value,)
        for limits in ranges:
            for v in values:
                if isinstance(v, int | float) and (v != v or v not in limits):
                    raise OptionError(f"--{field.name.replace('_', '-')} is {v:g}; it must be {limits}")


def doc(text: str, group: str = "") -> Any:
    """A field's help text, and the group of controls that a page shows it in."""
    return tyro.conf.arg(help=text) if not group else tyro.conf.arg(help=text)


@dataclass(frozen=True)
class TrainEncoderOptions:
    """How the compact encoder is trained: by distillation from a teacher network."""

    teacher: Annotated[Path, doc("The teacher's weights (.safetensors).")]
    pictures: Annotated[tuple[Path, ...], doc("Folders with training pictures, searched to any depth.")]
    out: Annotated[Path, doc("Where the trained encoder is written; its checkpoint stands beside it.")]
    exclude: Annotated[Path | None, doc("A text file of picture paths, one a line, that training never reads.")] = None
    steps: Annotated[int, doc("Steps in all."), Range(1)] = 30_000
    batch_norm_steps: Annotated[int, doc("Of these, steps with batch norm, which is then folded away."), Range(0)] = (
        12_000
    )
    batch: Annotated[int, doc("Crops a step."), Range(1)] = 8
    crop: Annotated[int, doc("Side of a crop."), Range(32, unit="px")] = 160
    rate: Annotated[float, doc("Learning rate of the convolutions (Muon)."), Range(0)] = 1e-2
    head_rate: Annotated[float, doc("Learning rate of heads, norms and biases (Adam)."), Range(0)] = 3e-3
    fold_rate: Annotated[float, doc("Both rates' factor after the batch norm is folded."), Range(0)] = 0.2
    painted: Annotated[
        float, doc("Share of crops taken from pictures optimised on the network itself."), Range(0, 1)
    ] = 0.4
    paint_every: Annotated[int, doc("Steps between two fresh batches of such pictures."), Range(1)] = 60
    paint_from: Annotated[int, doc("First step at which such pictures are made."), Range(0)] = 2_000
    pool: Annotated[int, doc("How many of them are kept."), Range(1)] = 400
    checkpoint_every: Annotated[int, doc("Steps between checkpoints."), Range(1)] = 500
    validate_every: Annotated[
        int, doc("Steps between validations: pictures optimised here, judged by the teacher."), Range(1)
    ] = 2_000
    resume: Annotated[bool, doc("Go on from the checkpoint beside the output.")] = False
    seed: Annotated[int, doc("Seed of every random choice."), Range(0)] = 0

    def __post_init__(self) -> None:
        check_ranges(self)
