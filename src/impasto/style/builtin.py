"""The built-in styles: style files of paintings that anyone may use, measured with the compact encoder and shipped."""

from dataclasses import replace
from functools import cache
from pathlib import Path

from .target import StyleTarget

FOLDER = Path(__file__).parents[1] / "weights" / "styles"
SUFFIX = ".style.safetensors"


def builtin_names() -> list[str]:
    """The names of the built-in styles, sorted."""
    return sorted(p.name.removesuffix(SUFFIX) for p in FOLDER.glob("*" + SUFFIX))


@cache
def load_builtin(name: str) -> StyleTarget:
    """The style of that name.

    Raises
    ------
    WeightsError
        If its file is missing or damaged.
    """
    return replace(StyleTarget.load(FOLDER / (name + SUFFIX)), name=name)
