"""The options of every task: one frozen dataclass each. Defaults are defined here and nowhere else.

Each field carries its help text, unit and range. The command line, the web page, the run record and the metadata of
model files are all derived from them. Nothing in this package imports torch.
"""

from .batch import INSTANT, BatchOptions
from .encoder import TrainEncoderOptions
from .evaluate import EvaluateOptions, FigureName
from .export import ExportFormat, ExportOptions, ExportPictures, ExportPrecision
from .groups import (
    CONTENT_LAYERS,
    STROKES,
    STYLE_LAYER_WEIGHTS,
    BlendOptions,
    ColourSpace,
    MachineOptions,
    Options,
    PaletteMatch,
    Precision,
    Quality,
)
from .kinds import LARGEST_SIZE, LEAST_SIZE, named_weights
from .learn import LearnOptions
from .live import LARGEST_LIVE, LiveOptions
from .optimize import ITERATIONS, LONG_SIDE, OTHER_STARTS, STARTS, OptimizeOptions, Settings
from .output import Compression, FileOptions, OutputOptions, PhotoOptions
from .serve import ServeOptions
from .stylize import Method, StylizeOptions
from .texture import TextureOptions
from .train import TrainNetworkOptions, TrainOptions, TrainPackOptions
from .video import FilmQuality, VideoOptions

__all__ = [
    "CONTENT_LAYERS",
    "INSTANT",
    "ITERATIONS",
    "LARGEST_LIVE",
    "LARGEST_SIZE",
    "LEAST_SIZE",
    "LONG_SIDE",
    "OTHER_STARTS",
    "STARTS",
    "STROKES",
    "STYLE_LAYER_WEIGHTS",
    "BatchOptions",
    "BlendOptions",
    "ColourSpace",
    "Compression",
    "EvaluateOptions",
    "ExportFormat",
    "ExportOptions",
    "ExportPictures",
    "ExportPrecision",
    "FigureName",
    "FileOptions",
    "FilmQuality",
    "LearnOptions",
    "LiveOptions",
    "MachineOptions",
    "Method",
    "OptimizeOptions",
    "Options",
    "OutputOptions",
    "PaletteMatch",
    "PhotoOptions",
    "Precision",
    "Quality",
    "ServeOptions",
    "Settings",
    "StylizeOptions",
    "TextureOptions",
    "TrainEncoderOptions",
    "TrainNetworkOptions",
    "TrainOptions",
    "TrainPackOptions",
    "VideoOptions",
    "named_weights",
]
