"""Options for evaluating paintings."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from typing_extensions import Doc

from ..errors import OptionError
from ..ranges import Range, check_ranges
from .kinds import FILE

FigureName = Literal[
    "gram",
    "cov",
    "sliced",
    "sifid",
    "palette",
    "content",
    "ssim",
    "ms_ssim",
    "palette_photo",
    "lpips",
    "noise",
    "lattice",
]


@dataclass(frozen=True, kw_only=True)
class EvaluateOptions:
    """Options for evaluating paintings: how they are judged, and how the figures are reported."""

    size: Annotated[
        int,
        Doc("Long side at which pictures are judged. Figures of different sizes cannot be compared."),
        Range(64, 4096, "px"),
    ] = 512
    encoder: Annotated[
        str,
        Doc(
            "Network that judges: `compact` (bundled), `vgg16` or `vgg19` (downloaded), or a model file. It flatters "
            "paintings that were optimised through it."
        ),
    ] = "compact"
    lpips: Annotated[
        Path | None,
        FILE,
        Doc(
            "Compute LPIPS too: the file lpips/weights/v0.1/vgg.pth from the package lpips 0.1.4. Needs `impasto "
            "models fetch vgg16`. Takes seconds per picture."
        ),
    ] = None
    sort: Annotated[FigureName, Doc("The figure by which the page sorts the paintings, worst first.")] = "gram"
    resamples: Annotated[int, Doc("Bootstrap resamples."), Range(1, 1_000_000)] = 2000
    confidence: Annotated[float, Doc("Confidence of the intervals."), Range(0.5, 0.999)] = 0.95
    seed: Annotated[int, Doc("Seed of the bootstrap."), Range(0, 2**63 - 1)] = 0
    device: Annotated[str, Doc("Device: `auto`, `cpu`, `cuda`, `cuda:1`, `mps`.")] = "auto"
    offline: Annotated[bool, Doc("Never download anything.")] = False

    def __post_init__(self) -> None:
        check_ranges(self)
        if self.sort == "lpips" and self.lpips is None:
            raise OptionError("--sort lpips needs LPIPS; add --lpips FILE")
