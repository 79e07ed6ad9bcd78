"""Options for `stylize`: the method, and the options of both methods."""

from dataclasses import dataclass, fields
from typing import Annotated, Literal

from typing_extensions import Doc

from ..errors import OptionError
from ..ranges import Range
from .groups import (
    LOOK,
    NETWORK,
    BlendOptions,
    LookOptions,
    MachineOptions,
    NetworkOptions,
    QualityOptions,
    SizeOptions,
    names_of,
)
from .optimize import OptimizeOptions

Method = Literal["auto", "optimize", "network"]


@dataclass(frozen=True)
class StylizeOptions(NetworkOptions, OptimizeOptions):
    """Options for `stylize`: painting by optimisation, or with a network in one pass."""

    method: Annotated[
        Method,
        Doc(
            "`optimize`: best quality. `network`: one fast pass of a network. Both paint in any style. `auto`: "
            "`network` for the quality `instant`, else `optimize`."
        ),
        LOOK,
    ] = "auto"
    underpainting: Annotated[
        float | None,
        Doc(
            "How strongly strokes of a smaller painting show where the photo is plain; 1 is as in that painting. Gives "
            "skies longer strokes. By default, as the style suits: 0 for one with large plain areas, up to 1.5 for "
            "one that is full of strokes."
        ),
        Range(0, 4),
        LOOK,
    ] = None
    statistics: Annotated[
        Literal["exact", "sampled"],
        Doc(
            "Where a painting too large for memory takes its statistics from. `exact`: the whole picture; gives the "
            "same painting as with more memory, but needs space for temporary files. `sampled`: parts of the picture; "
            "faster, but the painting differs a little."
        ),
        NETWORK,
    ] = "exact"
    compile: Annotated[
        bool, Doc("Compile the network with torch.compile; only worth it for many pictures."), NETWORK
    ] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.model is not None and self.method == "optimize":
            raise OptionError("--model and --method optimize cannot be combined; leave out one")
        if self.method == "network" or self.model is not None:
            others = self.only_of_optimize
            if others:
                raise OptionError(f"--{others[0]} has no effect on a network that paints in one pass; leave it out")
        elif self.quality != "instant":
            for name in ("learn", "underpainting", "statistics", "compile"):
                if getattr(self, name) not in (None, False, "exact"):
                    raise OptionError(f"--{name} is for the network that paints in one pass; add --quality instant")
        if self.method == "optimize" and self.quality == "instant":
            raise OptionError("--quality instant uses the network; choose another quality for --method optimize")

    @property
    def only_of_optimize(self) -> list[str]:
        """The options given that only apply to optimisation, as written on the command line."""
        shared = names_of(QualityOptions, SizeOptions, LookOptions, BlendOptions, NetworkOptions, MachineOptions)
        shared += ("method", "underpainting", "statistics", "compile")
        given = (f.name for f in fields(self) if getattr(self, f.name) != f.default)
        return [name.replace("_", "-") for name in given if name not in shared]
