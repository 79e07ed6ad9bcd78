"""How `stylize` paints: which method, and how that works."""

from dataclasses import dataclass, fields
from typing import Annotated, Literal

import tyro
from typing_extensions import Doc

from ..errors import OptionError
from .groups import LOOK, NETWORK, BlendOptions, LookOptions, MachineOptions, QualityOptions, SizeOptions, names_of
from .optimize import OptimizeOptions

Method = Literal["auto", "optimize", "network"]


@dataclass(frozen=True)
class StylizeOptions(OptimizeOptions):
    """How `stylize` paints: by optimisation, or by a network in one pass."""

    method: Annotated[
        Method,
        Doc(
            "`optimize`: best quality. `network`: one pass of a network, at once. Both paint in any style. `auto`: the "
            "network for the quality `instant`, else `optimize`."
        ),
        LOOK,
    ] = "auto"
    model: Annotated[
        str | None,
        tyro.conf.arg(metavar="FILE"),
        Doc("Paint with a network of your own: a model file that `impasto train network` wrote."),
        NETWORK,
    ] = None
    learn: Annotated[
        bool,
        Doc("Let the network learn the style first, in seconds, and keep it; `impasto styles --learnt` lists these."),
        NETWORK,
    ] = False
    compile: Annotated[
        bool, Doc("Compile a network that paints in one pass with torch.compile; pays for many pictures only."), NETWORK
    ] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.model is not None and self.method == "optimize":
            raise OptionError("--model is for the method network; leave out one of --model and --method")
        if self.method == "network" or self.model is not None:
            others = self.only_of_optimize
            if others:
                raise OptionError(f"a network that paints in one pass has no --{others[0]}; leave out one of them")
        elif self.quality != "instant":
            for name in ("learn", "compile"):
                if getattr(self, name):
                    raise OptionError(f"--{name} is for the network that paints in one pass: add --quality instant")
        if self.method == "optimize" and self.quality == "instant":
            raise OptionError("--quality instant is one pass of a network; --method optimize needs another quality")

    @property
    def only_of_optimize(self) -> list[str]:
        """The options given that only an optimisation uses, as the command line writes them."""
        shared = names_of(QualityOptions, SizeOptions, LookOptions, BlendOptions, MachineOptions)
        shared += ("method", "model", "learn", "compile")
        given = (f.name for f in fields(self) if getattr(self, f.name) != f.default)
        return [name.replace("_", "-") for name in given if name not in shared]
