"""Comparing the paintings of the page's graphs with this package's own, in ONNX Runtime."""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...models.colours import colours_of
from ...models.network import Network
from ...models.vgg import VGG
from ...options import StylizeOptions
from ...style.target import StyleTarget, load_builtin
from ...stylizers.learn import bundled_photographs
from ...stylizers.network import NetworkStylizer
from ..check import resized
from ..styles import PLAIN

Array = NDArray[Any]
Graph = Callable[..., list[Array]]
"""Takes inputs by name and returns all outputs."""

CASES = ((64, 64, 1.0), (97, 131, 0.7), (255, 400, 1.5), (512, 511, 1.0))
"""Height, width and stroke of the paintings that are compared."""


def load_graphs(folder: Path) -> Mapping[str, Graph]:
    """Load the graphs of a page."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = torch.get_num_threads()

    def graph(name: str) -> Graph:
        path = folder / f"{name}.onnx"
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        return lambda **inputs: [np.asarray(found) for found in session.run(None, inputs)]

    return {name: graph(name) for name in ("reading", "predicting", "whole", "samples", "tile")}


def reading_at(data: bytes, entry: Mapping[str, Any], size: int, length: int) -> Array:
    """Return a built-in style's reading (1, `length`) at a size in pixels, from `styles.bin`, as the page takes it."""
    sizes, begin = entry["sizes"], entry["readings"]
    rows = np.frombuffer(data, "<f4", len(sizes) * length, begin).reshape(len(sizes), length)
    above = next((i for i, s in enumerate(sizes) if s >= size), len(sizes) - 1)
    below = max(0, above - 1) if sizes[above] > size else above
    if above == below:
        return rows[[above]]
    t = math.log(size / sizes[below]) / math.log(sizes[above] / sizes[below])
    return (rows[[below]] + np.float32(t) * (rows[[above]] - rows[[below]])).astype(np.float32)


def compare_site(folder: Path, net: Network, encoder: VGG, entries: Sequence[Mapping[str, Any]]) -> tuple[float, str]:
    """Return the largest difference of the page's paintings from this package's own, in levels of 255, and where."""
    graphs, data, photos = load_graphs(folder), (folder / "styles.bin").read_bytes(), bundled_photographs()
    length = len(graphs["reading"](picture=np.zeros((1, 3, 64, 64), np.float32))[0][0])
    worst, where = 0.0, ""
    for i, (height, width, stroke) in enumerate(CASES):
        photo = resized(photos[i], (height, width)).float() / 255
        entry = entries[7 * i % len(entries)]
        reading = reading_at(data, entry, round(stroke * max(height, width)), length)
        found = painted(graphs, photo, reading, learnt_of(data, entry, net))
        own = own_painting(net, encoder, load_builtin(entry["name"]), photo, stroke)
        difference = float(255 * np.abs(found - own.numpy()).max())
        worst, where = max((worst, where), (difference, f"{entry['name']} at {width}x{height}"))
    difference = tile_difference(graphs, net, encoder, resized(photos[0], (304, 400)).float() / 255)
    worst, where = max((worst, where), (difference, "a tile"))
    return worst, where


def tile_difference(graphs: Mapping[str, Graph], net: Network, encoder: VGG, photo: Tensor) -> float:
    """Return how far a tile in the middle of a photograph is from the painting of the whole, in levels of 255."""
    options = StylizeOptions(method="network", scale=1.0, underpainting=0.0)
    own = NetworkStylizer(net, [load_builtin("starry-night")], options, encoder, PLAIN)
    given, margin = own.statistics(photo), net.margin
    inside, top, left = (slice(None), slice(None), slice(margin, -margin), slice(margin, -margin)), 40, 60
    part = (slice(None), slice(None), slice(top, -top), slice(left, -left))
    (found,) = graphs["tile"](
        image=photo[part].contiguous().numpy(),
        affine=given.affine.numpy(),
        colours=given.colours.numpy(),
        statistics=given.norms.numpy(),
        painted=colours_of(given.moments).numpy(),
        origin=np.array([top, left]),
    )
    return float(255 * np.abs(found[inside] - own(photo, statistics=given)[part][inside].numpy()).max())


def learnt_of(data: bytes, entry: Mapping[str, Any], net: Network) -> Array:
    """Return what is added to the affine of a style that the network has learnt, (1, `layout.size`), or zeros."""
    found = np.zeros((1, net.layout.size), np.float32)
    if "learnt" in entry:
        found[0, : net.layout.predicted] = np.frombuffer(data, "<f2", net.layout.predicted, entry["learnt"])
    return found


def painted(graphs: Mapping[str, Graph], photo: Tensor, reading: Array, learnt: Array) -> Array:
    """Return the painting (1, 3, H, W) of a photograph by the graphs."""
    affine, colours = graphs["predicting"](reading=reading)
    return graphs["whole"](image=photo.numpy(), affine=affine + learnt, colours=colours)[0]


def own_painting(net: Network, encoder: VGG, style: StyleTarget | Tensor, photo: Tensor, stroke: float) -> Tensor:
    """Paint a photograph (1, 3, H, W) in [0, 1] with this package, in float32, at its own size, as the page does."""
    options = StylizeOptions(method="network", scale=1.0, style_scale=stroke, underpainting=0.0)
    return NetworkStylizer(net, [style], options, encoder, PLAIN)(photo)
