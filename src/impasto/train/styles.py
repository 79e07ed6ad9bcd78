"""The styles that a network learns: targets from names, pictures, style files and folders of these."""

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from ..device import Compute
from ..errors import TrainingError
from ..models.vgg import VGG
from ..style.target import STYLE_SIZES, SUFFIX, StyleTarget, builtin_names
from ..stylizers.sources import resolve_style
from .pictures import find_pictures

ALL = "all"
"""Stands for all built-in styles."""


def find_styles(sources: Sequence[str]) -> dict[str, str]:
    """Return name -> source for all styles in the sources. The name of a file is its name without the suffix.

    Parameters
    ----------
    sources : sequence of str
        Built-in names, `all`, pictures, style files, or folders with pictures and style files.

    Raises
    ------
    TrainingError
        If there is no style, or two have the same name.
    """
    found: dict[str, str] = {}
    for source in sources:
        path = Path(source)
        if path.is_dir():
            here = [str(p) for p in [*find_pictures(path), *sorted(path.rglob("*" + SUFFIX))]]
            if not here:
                raise TrainingError(f"{source} has no pictures or style files; give another folder")
        else:
            here = builtin_names() if source == ALL and not path.exists() else [source]
        for one in here:
            name = Path(one).name.removesuffix(SUFFIX) if one.endswith(SUFFIX) else Path(one).stem
            if name in found:
                raise TrainingError(f"two styles are called {name}: {found[name]} and {one}; rename one")
            found[name] = one
    if not found:
        raise TrainingError("no style to learn; give --styles a painting, a folder of them, or `all`")
    return found


def measure_styles(sources: Sequence[str], encoder: VGG, compute: Compute) -> dict[str, StyleTarget]:
    """Return name -> target for all styles in the sources.

    Raises
    ------
    TrainingError, StyleError, PictureError, WeightsError
        If a style cannot be read, or was measured with another encoder.
    """
    styles: dict[str, StyleTarget] = {}
    for name, source in find_styles(sources).items():
        style = resolve_style(source, long_side=STYLE_SIZES[-1])
        if isinstance(style, Tensor):
            style = StyleTarget.of(style, encoder, compute)
        else:
            style.check(encoder)
        styles[name] = style
    return styles
