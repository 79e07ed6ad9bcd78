"""Impasto paints a photograph in the style of another picture.

    picture = impasto.read_image("photo.jpg")
    painting = impasto.stylize(picture.tensor, "starry-night")

Names are loaded on first use, so importing the package does not load torch or other heavy modules.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .errors import (
    DivergedError,
    ImpastoError,
    MemoryNeedError,
    OptionError,
    PictureError,
    StyleError,
    TrainingError,
    WeightsError,
)

if TYPE_CHECKING:
    from .image.picture import Picture
    from .image.read import read_image
    from .image.write import write_image
    from .models.weights import load_encoder
    from .options import LearnOptions, OptimizeOptions, StylizeOptions, TextureOptions
    from .style.target import StyleTarget
    from .stylizers.api import learn, stylize, texture
    from .stylizers.choose import load_stylizer, load_texture
    from .stylizers.several import stylize_many

__version__ = "0.1.0"

__all__ = [
    "DivergedError",
    "ImpastoError",
    "LearnOptions",
    "MemoryNeedError",
    "OptimizeOptions",
    "OptionError",
    "Picture",
    "PictureError",
    "StyleError",
    "StyleTarget",
    "StylizeOptions",
    "TextureOptions",
    "TrainingError",
    "WeightsError",
    "__version__",
    "learn",
    "load_encoder",
    "load_stylizer",
    "load_texture",
    "read_image",
    "stylize",
    "stylize_many",
    "texture",
    "write_image",
]

_MODULES = {
    "LearnOptions": ".options",
    "OptimizeOptions": ".options",
    "Picture": ".image.picture",
    "StyleTarget": ".style.target",
    "StylizeOptions": ".options",
    "TextureOptions": ".options",
    "learn": ".stylizers.api",
    "load_encoder": ".models.weights",
    "load_stylizer": ".stylizers.choose",
    "load_texture": ".stylizers.choose",
    "read_image": ".image.read",
    "stylize": ".stylizers.api",
    "stylize_many": ".stylizers.several",
    "texture": ".stylizers.api",
    "write_image": ".image.write",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_MODULES[name], __name__), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
