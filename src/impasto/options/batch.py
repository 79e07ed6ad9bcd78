"""Options for `batch`, which paints many photographs."""

import string
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro
from typing_extensions import Doc

from ..errors import OptionError
from ..ranges import Range, check_ranges
from .kinds import FILE, INT
from .stylize import StylizeOptions

INSTANT = StylizeOptions(quality="instant")
"""How `batch` paints by default."""

NAME_FIELDS = ("dir", "stem", "style", "ext")
"""What may stand in braces in `--name`."""


@dataclass(frozen=True, kw_only=True)
class BatchOptions:
    """Options for `batch`: the names of the paintings, and how the work is done."""

    name: Annotated[
        str,
        tyro.conf.arg(metavar="PATTERN"),
        Doc(
            "Names of the paintings. {dir}: the photo's folder inside the one given. {stem}: its name without suffix. "
            "{style}: the style's name. {ext}: the photo's own suffix, or png if that format is not written."
        ),
    ] = "{dir}/{stem}-{style}.{ext}"
    pairs: Annotated[bool, Doc("Paint the first photo in the first style, the second in the second, and so on.")] = (
        False
    )
    retry: Annotated[bool, Doc("Try again what failed before. What is painted stays.")] = False
    report: Annotated[
        Path | None,
        FILE,
        Doc(
            "The report: a line of JSON for each painting. Default: report.jsonl in the folder of the paintings, "
            "NAME.jsonl beside NAME.tar, or for object storage report.jsonl in the current folder."
        ),
    ] = None
    per_pass: Annotated[
        int | None,
        INT,
        Doc("Maximum number of photos of the same size in one pass of the network. Default: as many as speed it up."),
        Range(1, 1024),
    ] = None
    workers: Annotated[
        int | None,
        INT,
        Doc("Processes that read and write pictures. Default: half of the processors. 0 uses the main process."),
        Range(0, 256),
    ] = None
    on: Annotated[Literal["here", "ray"], Doc("`here`: this machine. `ray`: a Ray cluster (extra `ray`).")] = "here"
    address: Annotated[
        str | None,
        tyro.conf.arg(metavar="ADDRESS"),
        Doc("With `--on ray`: the cluster, such as ray://head:10001. Default: Ray on this machine."),
    ] = None
    actors: Annotated[
        int | None,
        INT,
        Doc("With `--on ray`: stylizers that paint at the same time. Default: one for each GPU, or 1."),
        Range(1, 10_000),
    ] = None

    def __post_init__(self) -> None:
        check_ranges(self)
        check_pattern(self.name)
        for name in ("address", "actors"):
            if getattr(self, name) is not None and self.on != "ray":
                raise OptionError(f"--{name} has no effect without --on ray; leave it out")


def check_pattern(pattern: str) -> None:
    """Raise OptionError if a pattern for names is malformed."""
    try:
        parts = list(string.Formatter().parse(pattern))
    except ValueError as error:
        raise OptionError(f"--name {pattern}: {error}; write it like {{dir}}/{{stem}}-{{style}}.{{ext}}") from error
    known = ", ".join(f"{{{name}}}" for name in NAME_FIELDS)
    for _, name, spec, conversion in parts:
        if name is not None and (name not in NAME_FIELDS or spec or conversion):
            raise OptionError(f"--name {pattern}: {{{name}}} is not one of {known}")
    if not pattern.strip("/ "):
        raise OptionError("--name is empty; write it like {dir}/{stem}-{style}.{ext}")
