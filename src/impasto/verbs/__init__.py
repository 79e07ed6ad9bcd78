"""The verbs of the command line. Each is a dataclass; calling an instance runs the verb.

Tyro makes the parser and the help from these dataclasses. The options are defined in `options`.
"""

import re
from collections.abc import Sequence
from contextlib import suppress
from typing import Annotated, Any

import tyro

from .batch import Batch
from .evaluating import Evaluate
from .exporting import Export
from .learning import Learn
from .live import Live
from .models import Models
from .painting import Info, Rerun, Styles, Stylize
from .serving import Serve
from .texture import Texture
from .training import Train
from .video import Video

Verb = (
    Annotated[Stylize, tyro.conf.subcommand("stylize")]
    | Annotated[Texture, tyro.conf.subcommand("texture")]
    | Annotated[Video, tyro.conf.subcommand("video")]
    | Annotated[Live, tyro.conf.subcommand("live")]
    | Annotated[Batch, tyro.conf.subcommand("batch")]
    | Annotated[Learn, tyro.conf.subcommand("learn")]
    | Annotated[Evaluate, tyro.conf.subcommand("evaluate")]
    | Annotated[Export, tyro.conf.subcommand("export")]
    | Annotated[Styles, tyro.conf.subcommand("styles")]
    | Annotated[Models, tyro.conf.subcommand("models")]
    | Annotated[Info, tyro.conf.subcommand("info")]
    | Annotated[Rerun, tyro.conf.subcommand("rerun")]
    | Annotated[Serve, tyro.conf.subcommand("serve")]
    | Annotated[Train, tyro.conf.subcommand("train")]
)

DESCRIPTION = "Paint a photograph in the style of another picture. See `impasto VERB --help` for each verb."


def parse(args: Sequence[str]) -> Any:
    """Return the verb for the arguments, ready to be called. Wrong usage raises SystemExit after a box on stderr."""
    return tyro.cli(
        Verb,
        prog="impasto",
        description=DESCRIPTION,
        args=join_key_frames(join_numbers(args)) or ["--help"],
        config=(tyro.conf.OmitSubcommandPrefixes,),
    )


NUMBER_LISTS = ("--style-weights", "--style-scale", "--stroke", "--stroke-px", "--iterations")
"""Options that take numbers separated by commas or spaces."""


def join_numbers(args: Sequence[str]) -> list[str]:
    """Return the arguments with lists like `--style-weights 2 1` joined: `--style-weights 2,1`.

    Tyro would take any following name of a picture as part of the list.
    """
    found: list[str] = []
    joining = False
    for arg in args:
        number = False
        with suppress(ValueError):
            float(arg)
            number = True
        if joining and number and found[-1] not in NUMBER_LISTS:
            found[-1] += f",{arg}"
            continue
        joining = number if joining else False
        joining = joining or arg in NUMBER_LISTS
        found.append(arg)
    return found


KEY_FRAMES = ("--strength", "--styles-at")
"""Options that take key frames separated by commas or spaces."""


def join_key_frames(args: Sequence[str]) -> list[str]:
    """Return the arguments with lists like `--strength 0s:0 4s:1` joined: `--strength 0s:0,4s:1`."""
    found: list[str] = []
    joining = False
    for arg in args:
        if joining and found[-1] not in KEY_FRAMES and re.match(r"[0-9.]+[smh]?:", arg):
            found[-1] += f",{arg}"
            continue
        joining = arg in KEY_FRAMES or (joining and found[-1] in KEY_FRAMES)
        found.append(arg)
    return found
