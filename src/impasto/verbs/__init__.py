"""The verbs of the command line: one dataclass each; called, it does the work.

The dataclasses are what tyro makes the parser and the help from; the options themselves live in `options`.
"""

from collections.abc import Sequence
from contextlib import suppress
from typing import Annotated, Any

import tyro

from .learning import Learn
from .models import Models
from .painting import Info, Rerun, Styles, Stylize
from .serving import Serve
from .texture import Texture
from .training import Train

Verb = (
    Annotated[Stylize, tyro.conf.subcommand("stylize")]
    | Annotated[Texture, tyro.conf.subcommand("texture")]
    | Annotated[Learn, tyro.conf.subcommand("learn")]
    | Annotated[Styles, tyro.conf.subcommand("styles")]
    | Annotated[Models, tyro.conf.subcommand("models")]
    | Annotated[Info, tyro.conf.subcommand("info")]
    | Annotated[Rerun, tyro.conf.subcommand("rerun")]
    | Annotated[Serve, tyro.conf.subcommand("serve")]
    | Annotated[Train, tyro.conf.subcommand("train")]
)

DESCRIPTION = "Paint a photograph in the style of another picture. `impasto VERB --help` tells about each verb."


def parse(args: Sequence[str]) -> Any:
    """The verb that the arguments ask for, ready to be called; SystemExit, after a box on stderr, for wrong usage."""
    return tyro.cli(
        Verb,
        prog="impasto",
        description=DESCRIPTION,
        args=join_numbers(args) or ["--help"],
        config=(tyro.conf.OmitSubcommandPrefixes,),
    )


NUMBER_LISTS = ("--style-weights", "--style-scale", "--stroke", "--iterations")
"""Options that take numbers with commas between them, or, as people write too, with spaces."""


def join_numbers(args: Sequence[str]) -> list[str]:
    """The arguments with `--style-weights 2 1` as `--style-weights 2,1`, so that no picture's name is taken for one."""
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
