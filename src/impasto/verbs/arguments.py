"""Arguments that several verbs take."""

from typing import Annotated

import tyro
from typing_extensions import Doc

Flat = tyro.conf.OmitArgPrefixes
"""Options without their group's name before them."""
OUT = tyro.conf.arg(aliases=["-o"], metavar="PATH")
"""Where to write."""
StyleNames = Annotated[
    tuple[str, ...],
    tyro.conf.Positional,
    tyro.conf.arg(metavar="STYLE [STYLE ...]", help_behavior_hint=""),
    Doc("Pictures, style files or built-in styles (see `impasto styles`). Several styles are blended."),
]
