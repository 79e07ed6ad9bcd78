"""The verb `models`: list, download and inspect networks."""

from dataclasses import dataclass, field
from typing import Annotated

import tyro
from typing_extensions import Doc

from .show import say, table


@dataclass(frozen=True)
class ModelsList:
    """List the bundled and the downloadable networks."""

    def __call__(self) -> None:
        from ..models.weights import list_models

        table(
            [(m.name, m.kind, "here" if m.present else "not fetched", m.licence, m.description) for m in list_models()]
        )


@dataclass(frozen=True)
class ModelsFetch:
    """Download a network's original weights and verify them."""

    name: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="NAME"), Doc("`vgg16` or `vgg19`.")]
    offline: Annotated[bool, Doc("Only verify an existing file.")] = False

    def __call__(self) -> None:
        from ..models.weights import fetch
        from ..tools.progress import download_bar

        with download_bar(f"fetching {self.name} (MB)") as show:
            path = fetch(self.name, offline=self.offline, progress=show)
        say(str(path))


@dataclass(frozen=True)
class ModelsWhere:
    """Print the path of a network's weights, whether or not they are downloaded."""

    name: Annotated[
        str | None, tyro.conf.Positional, tyro.conf.arg(metavar="[NAME]"), Doc("A network; all if not given.")
    ] = None

    def __call__(self) -> None:
        from ..models.weights import find_model, list_models

        for model in [find_model(self.name)] if self.name else list_models():
            say(str(model.path) if self.name else f"{model.name}\t{model.path}")


@dataclass(frozen=True)
class ModelsShow:
    """Print a network's layers with their output shapes and parameter counts."""

    name: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="NAME"), Doc("A network or a model file.")] = (
        "compact"
    )
    size: Annotated[
        tuple[int, int], Doc("Width and height of the input picture in pixels."), tyro.conf.arg(metavar="W H")
    ] = (512, 512)

    def __call__(self) -> None:
        from ..models.layer_table import layer_table, load_any

        width, height = self.size
        rows = layer_table(load_any(self.name), (height, width))
        table([(r.layer, "x".join(map(str, r.shape)), f"{r.parameters:,}") for r in rows])
        say(f"{sum(r.parameters for r in rows):,} parameters")


@dataclass(frozen=True)
class Models:
    """List, fetch, find and show networks."""

    verb: (
        Annotated[ModelsList, tyro.conf.subcommand("list")]
        | Annotated[ModelsFetch, tyro.conf.subcommand("fetch")]
        | Annotated[ModelsWhere, tyro.conf.subcommand("where")]
        | Annotated[ModelsShow, tyro.conf.subcommand("show")]
    ) = field(default_factory=ModelsList)

    def __call__(self) -> None:
        self.verb()
