"""Options for exporting the network."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro
from typing_extensions import Doc

from ..errors import OptionError
from ..ranges import Range, check_ranges
from .groups import BlendOptions
from .kinds import LARGEST_SIZE, LEAST_SIZE

ExportFormat = Literal["onnx", "openvino", "torch", "web"]
ExportPrecision = Literal["float32", "float16", "int8"]
ExportPictures = Literal["uint8", "float"]


@dataclass(frozen=True)
class ExportOptions(BlendOptions):
    """Options for exporting the network: the file's format, its numbers, its pictures, and the styles' size."""

    format: Annotated[
        ExportFormat,
        Doc(
            "`onnx`: for ONNX Runtime and others. `openvino`: an .xml and a .bin file for OpenVINO. `torch`: a .pt2 "
            "file for PyTorch. `web`: a folder with a page that paints in the browser."
        ),
    ] = "onnx"
    precision: Annotated[
        ExportPrecision,
        Doc(
            "`float32`: paints the same as Impasto. `float16`: half the file. `int8`: the convolutions in 8 bits, for "
            "speed on CPUs; not for `torch`."
        ),
    ] = "float32"
    pictures: Annotated[
        ExportPictures,
        Doc(
            "The photographs that go in and the paintings that come out. `uint8`: batch, height, width, channel, 0 to "
            "255. `float`: batch, channel, height, width, 0 to 1."
        ),
    ] = "uint8"
    size: Annotated[
        int,
        Doc("Long side of the paintings that the strokes are made for. Other sizes get strokes of the same size."),
        Range(LEAST_SIZE, LARGEST_SIZE, "px"),
    ] = 512
    model: Annotated[
        str | None,
        tyro.conf.arg(metavar="FILE"),
        Doc("Export your own network: a model file written by `impasto train network`."),
    ] = None
    photos: Annotated[
        tuple[Path, ...],
        Doc("For `int8`: folders of photographs that set the ranges of the numbers, instead of the bundled ones."),
    ] = ()
    runtime: Annotated[
        str | None,
        tyro.conf.arg(metavar="PATH"),
        Doc(
            "For `web`: the folder or the package file of npm's onnxruntime-web, or `fetch` to download it, verified. "
            "By default the one that was downloaded before."
        ),
    ] = None

    def __post_init__(self) -> None:
        check_ranges(self)
        if (self.format, self.precision) == ("torch", "int8"):
            raise OptionError("--format torch has no --precision int8; choose float16, or --format onnx or openvino")
        if self.photos and self.precision != "int8":
            raise OptionError("--photos has no effect without --precision int8; leave it out")
        if self.format == "web":
            self.check_page()
        elif self.runtime is not None:
            raise OptionError("--runtime has no effect without --format web; leave it out")

    def check_page(self) -> None:
        """Raise OptionError if an option has no meaning for a page."""
        plain = ExportOptions()
        for name in ("precision", "pictures", "style_weights", "style_scale", "stroke_px"):
            if getattr(self, name) != getattr(plain, name):
                raise OptionError(f"--{name.replace('_', '-')} has no effect with --format web; leave it out")
