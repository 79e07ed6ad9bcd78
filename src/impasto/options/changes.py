"""The options as keyword arguments of the library's calls, for editors and type checkers.

This module repeats only names and types, and accepts lists for tuples. Defaults, ranges and help are in the options.
"""

from typing import Literal, TypedDict

from .groups import ColourSpace, PaletteMatch, Precision, Quality
from .stylize import Method

Floats = tuple[float, ...] | list[float]
Counts = tuple[int, ...] | list[int]


class TextureChanges(TypedDict, total=False):
    """Fields of TextureOptions."""

    quality: Quality
    style_weights: Floats
    style_scale: float | Floats
    stroke_px: float | Floats
    style_loss: str
    layers: str
    tv_weight: float
    histogram_weight: float
    neighbour_weight: float
    iterations: int | Counts | None
    time: float | None
    plateau: float
    coarsest: int
    optimizer: Literal["adam", "lbfgs"]
    parameters: Literal["auto", "pixels", "laplacian"]
    carry: bool
    average: float
    rate: float | None
    encoder: str
    pooling: Literal["max", "average"]
    seed: int
    device: str
    precision: Precision
    max_memory: int | None
    offline: bool
    start: str


class StylizeChanges(TextureChanges, total=False):
    """Fields of StylizeOptions."""

    size: int | None
    scale: float | None
    strict_size: bool
    strength: float
    keep_colours: float
    colour_space: ColourSpace
    mask_feather: float
    denoise: float
    mottle: float
    content_weight: float | None
    style_weight: float | None
    plain_weight: float | None
    plain_blur: float
    rim_weight: float
    content_layers: str
    content_blur: float
    detail: float
    laplacian_weight: float
    similarity_weight: float
    match_palette: PaletteMatch
    palette_strength: float
    preset: Literal["impasto", "gatys"]
    method: Method
    model: str | None
    learn: bool
    underpainting: float | None
    statistics: Literal["exact", "sampled"]
    compile: bool


class LearnChanges(TypedDict, total=False):
    """Fields of LearnOptions."""

    seconds: float
    steps: int
    batch: int
    crop: int
    rate: float
    content_weight: float
    tone_weight: float
    tv_weight: float
    seed: int
    device: Literal["auto", "cpu", "cuda", "mps"]
    precision: Precision
