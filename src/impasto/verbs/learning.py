"""`learn`: a style of one's own, for the network, in seconds."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro
from typing_extensions import Doc

from ..options import LearnOptions


@dataclass(frozen=True)
class Learn:
    """Learn a style in seconds: write a style file in which the network paints better."""

    style: Annotated[
        str,
        tyro.conf.Positional,
        tyro.conf.arg(metavar="STYLE"),
        Doc("A picture, a style file or a built-in style."),
    ]
    out: Annotated[
        Path | None,
        tyro.conf.arg(aliases=["-o"]),
        Doc(
            "The style file, a style wherever one is asked for; a file that is there is replaced. Or a folder. In a "
            "folder, and in the current one if not given, it is NAME.style.safetensors; where there is such a "
            "file, NAME-2.style.safetensors and so on."
        ),
    ] = None
    photos: Annotated[
        tuple[Path, ...], Doc("Folders or packed files with photographs to learn on; a dozen are bundled.")
    ] = ()
    model: Annotated[
        str | None,
        tyro.conf.arg(metavar="FILE"),
        Doc("Learn for a network of your own: a model file that `impasto train network` wrote."),
    ] = None
    options: Annotated[LearnOptions, tyro.conf.OmitArgPrefixes] = field(default_factory=LearnOptions)

    def __call__(self) -> None:
        from ..tools.learning import follow_learning

        follow_learning(self.style, self.out, self.photos, self.model, self.options)
