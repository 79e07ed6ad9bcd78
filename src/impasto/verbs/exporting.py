"""The verb `export`: write the network as a file that runs without Impasto."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro
from typing_extensions import Doc

from ..options import ExportOptions
from .show import say


@dataclass(frozen=True)
class Export:
    """Write the network as a file that other programs run without Impasto and without Python."""

    baked: Annotated[
        tuple[str, ...],
        tyro.conf.Positional,
        tyro.conf.arg(name="style", metavar="[STYLE ...]", help_behavior_hint=""),
        Doc(
            "The style of all paintings: a picture, a style file or a built-in style (see `impasto styles`). Several "
            "are blended. If not given, the style is an input of the file."
        ),
    ] = ()
    out: Annotated[
        Path | None,
        tyro.conf.arg(aliases=["-o"], metavar="PATH"),
        Doc(
            "The file to write, or a folder. An existing file is replaced. The default name is impasto.onnx, "
            "impasto.xml or impasto.pt2."
        ),
    ] = None
    styles: Annotated[
        tuple[str, ...],
        tyro.conf.arg(metavar="STYLE [STYLE ...]"),
        Doc(
            "Write these styles, too, each as a small file for a network that takes the style as input. `all`: the "
            "built-in ones. They are in a folder beside the file, called like it, with the suffix .styles."
        ),
    ] = ()
    options: Annotated[ExportOptions, tyro.conf.OmitArgPrefixes] = field(default_factory=ExportOptions)

    def __call__(self) -> None:
        from ..export.job import export
        from ..tools.progress import start_logging

        start_logging()
        exported = export(self.baked, self.out, self.options, self.styles)
        say(str(exported.path))
        for path in exported.styles:
            say(str(path))
