"""The verb `learn`: teach the network a style in seconds."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro
from typing_extensions import Doc

from ..options import LearnOptions
from .arguments import OUT, Flat


@dataclass(frozen=True)
class Learn:
    """Learn a style in seconds and write a style file, with which the network paints the style better."""

    style: Annotated[
        str,
        tyro.conf.Positional,
        tyro.conf.arg(metavar="STYLE"),
        Doc("A picture, a style file or a built-in style."),
    ]
    out: Annotated[
        Path | None,
        OUT,
        Doc(
            "The style file to write, or a folder. An existing file is replaced. In a folder (the current one "
            "if not given) the file is NAME.style.safetensors, or NAME-2.style.safetensors and so on if that exists. "
            "The file can be given wherever a style is expected."
        ),
    ] = None
    photos: Annotated[
        tuple[Path, ...], Doc("Folders or packed files of photographs to learn on, instead of the dozen bundled ones.")
    ] = ()
    model: Annotated[
        str | None,
        tyro.conf.arg(metavar="FILE"),
        Doc("Learn for your own network: a model file from `impasto train network`."),
    ] = None
    options: Annotated[LearnOptions, Flat] = field(default_factory=LearnOptions)

    def __call__(self) -> None:
        from ..tools.learning import follow_learning

        follow_learning(self.style, self.out, self.photos, self.model, self.options)
