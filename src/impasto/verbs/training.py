"""The verb `train`: train networks and make style files."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from typing_extensions import Doc

from ..options import TrainEncoderOptions, TrainNetworkOptions, TrainPackOptions
from .arguments import Flat
from .show import say


@dataclass(frozen=True)
class TrainEncoder:
    """Train the compact encoder by distillation from a teacher network."""

    options: Annotated[TrainEncoderOptions, Flat]

    def __call__(self) -> None:
        from ..tools.training import follow_encoder

        follow_encoder(self.options)


@dataclass(frozen=True)
class TrainNetwork:
    """Train a network that paints in one pass: in any style, in chosen styles, or both."""

    options: Annotated[TrainNetworkOptions, Flat]

    def __call__(self) -> None:
        from ..tools.training import follow_network

        follow_network(self.options)


@dataclass(frozen=True)
class TrainPack:
    """Reduce the pictures of folders and pack them into one file, which a training reads instead of the folders."""

    options: Annotated[TrainPackOptions, Flat]

    def __call__(self) -> None:
        from ..tools.packing import follow_packing

        follow_packing(self.options)


@dataclass(frozen=True)
class StyleFiles:
    """Measure paintings and save each as a style file, which can be used in its place."""

    paintings: Annotated[
        tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="PAINTING [PAINTING ...]"), Doc("The pictures.")
    ]
    folder: Annotated[Path, Doc("Output folder. Files are named after the paintings, existing ones replaced.")] = Path()
    attribution: Annotated[
        Path | None,
        Doc("A CSV file with the columns file, title, artist, date, licence, source, matched by file name."),
    ] = None
    encoder: Annotated[str, Doc("Perceptual encoder that measures the paintings.")] = "compact"

    def __call__(self) -> None:
        from ..tools.style_files import make_style_files

        for path in make_style_files(self.paintings, self.folder, self.attribution, self.encoder):
            say(str(path))


@dataclass(frozen=True)
class Train:
    """Train networks of your own."""

    verb: (
        Annotated[TrainNetwork, tyro.conf.subcommand("network")]
        | Annotated[TrainEncoder, tyro.conf.subcommand("encoder")]
        | Annotated[TrainPack, tyro.conf.subcommand("pack")]
        | Annotated[StyleFiles, tyro.conf.subcommand("style-files")]
    )

    def __call__(self) -> None:
        self.verb()
