"""Every task's options: one frozen dataclass each, the only home of defaults.

Each field carries its help text, unit and range, so that the command line, the web page, the run record and a model
file's metadata all derive from here. Nothing in this package imports torch.
"""

from .encoder import TrainEncoderOptions
from .kinds import LARGEST_SIZE, LEAST_SIZE, named_weights
from .learn import LearnOptions
from .optimize import (
    CONTENT_LAYERS,
    ITERATIONS,
    LONG_SIDE,
    STARTS,
    STYLE_LAYER_WEIGHTS,
    ColourSpace,
    OptimizeOptions,
    PaletteMatch,
    Precision,
    Quality,
    Settings,
)
from .output import OutputOptions
from .serve import ServeOptions
from .stylize import Method, StylizeOptions
from .texture import TextureOptions, TextureOutputOptions
from .train import TrainNetworkOptions, TrainOptions, TrainPackOptions

__all__ = [
    "CONTENT_LAYERS",
    "ITERATIONS",
    "LARGEST_SIZE",
    "LEAST_SIZE",
    "LONG_SIDE",
    "STARTS",
    "STYLE_LAYER_WEIGHTS",
    "ColourSpace",
    "LearnOptions",
    "Method",
    "OptimizeOptions",
    "OutputOptions",
    "PaletteMatch",
    "Precision",
    "Quality",
    "ServeOptions",
    "Settings",
    "StylizeOptions",
    "TextureOptions",
    "TextureOutputOptions",
    "TrainEncoderOptions",
    "TrainNetworkOptions",
    "TrainOptions",
    "TrainPackOptions",
    "named_weights",
]
