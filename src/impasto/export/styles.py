"""Styles as the exported network takes them, and their files."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..device import Compute
from ..models.model_file import write_model_file
from ..models.network import Network
from ..models.vgg import VGG
from ..options import ExportOptions, StylizeOptions
from ..style.target import SUFFIX, StyleTarget, builtin_names
from ..stylizers.network import NetworkStylizer
from ..stylizers.sources import resolve_style

ALL = "all"
"""Stands for all built-in styles."""
KIND = "exported style"
"""The `kind` in its files."""
PLAIN = Compute(torch.device("cpu"), None)
"""Everything is measured, and compared, in float32 on the CPU."""


@dataclass(frozen=True)
class Style:
    """A style, measured for one size of paintings.

    Parameters
    ----------
    name : str
        The name of a built-in style or of a file, without suffix; several, joined by +, for a blend.
    affine : Tensor
        (1, `layout.size`), float32.
    colours : Tensor
        (1, 3, 4), float32, the covariance and mean of its colours.
    about : list of dict
        For each style of the blend: its name, and title, artist, date, licence and source as far as known.
    """

    name: str
    affine: Tensor
    colours: Tensor
    about: Sequence[dict[str, str]] = field(default_factory=list)


def measure(sources: Sequence[str], net: Network, encoder: VGG, options: ExportOptions) -> Style:
    """Return a style, or the blend of several, as the network sees it at the options' size.

    Raises
    ------
    ImpastoError
        If a source is neither a picture, a style file nor a built-in style, or does not fit the network.
    """
    found = [resolve_style(s, model=options.model) for s in sources]
    blend = StylizeOptions(
        method="network",
        style_weights=options.style_weights,
        style_scale=options.style_scale,
        stroke_px=options.stroke_px,
    )
    stylizer = NetworkStylizer(net, found, blend, encoder, PLAIN)
    affine, colours = stylizer.affine(stylizer.styles, stylizer.shares, stylizer.scales(options.size), options.size)
    names = [Path(s).name.removesuffix(SUFFIX) for s in sources]
    names = [n if n in builtin_names() else Path(n).stem for n in names]
    about = [dict(s.about) if isinstance(s, StyleTarget) else {} for s in found]
    return Style("+".join(names), affine, colours, [{"name": n, **a} for n, a in zip(names, about, strict=True)])


def named(sources: Sequence[str]) -> list[str]:
    """Return the sources, each once, with the names of all built-in styles for `all`."""
    return list(dict.fromkeys(name for s in sources for name in (builtin_names() if s == ALL else [s])))


def write_style(style: Style, path: Path, metadata: dict[str, Any]) -> None:
    """Write a style's `affine` and `colours` as safetensors, float32, with the shapes that the network takes.

    Raises
    ------
    WeightsError
        If the file cannot be written.
    """
    licence = ", ".join(dict.fromkeys(a.get("licence", "") for a in style.about))
    tensors = {"affine": style.affine, "colours": style.colours}
    config = {**metadata, "styles": list(style.about)}
    write_model_file(path, KIND, config, tensors, licence=licence, dtype=torch.float32)
