"""Comparing the paintings of an exported file with this package's own."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..image.resize import resize
from ..models.network import Network
from ..models.vgg import VGG
from ..options import StylizeOptions
from ..stylizers.network import MeasuredStyle, NetworkStylizer
from .runtimes import Run
from .styles import PLAIN, Style

CASES: tuple[tuple[int, int, tuple[float, ...]], ...] = (
    (16, 16, (1.0,)),
    (17, 16, (0.5,)),
    (31, 57, (1.0, 0.6, 1.4)),
    (64, 64, (0.0, 1.0)),
    (97, 131, (1.0,)),
    (128, 130, (1.0, 0.6)),
    (255, 257, (1.4,)),
    (240, 320, (1.0, 1.0)),
    (511, 333, (0.3,)),
    (512, 512, (1.0,)),
    (1203, 801, (0.8,)),
    (1365, 2048, (1.0,)),
)
"""Height and width of the pictures in pixels, and the strength of each picture of a batch."""


@dataclass(frozen=True)
class Difference:
    """How far an exported file's paintings are from this package's own, in levels of 255.

    Parameters
    ----------
    largest, mean : float
        The largest difference of a value, and the mean over all of them.
    size : str
        Width and height of the picture with the largest difference.
    """

    largest: float
    mean: float
    size: str


def compare(
    run: Run,
    net: Network,
    encoder: VGG,
    styles: Sequence[Style],
    photographs: Sequence[Tensor],
    *,
    uint8: bool,
    baked: bool,
    cases: Sequence[tuple[int, int, tuple[float, ...]]] = CASES,
) -> Difference:
    """Compare paintings of twelve sizes, in several strengths and in batches.

    Parameters
    ----------
    run : callable
        Paints with the exported file.
    net, encoder
        The network and its encoder.
    styles : sequence of Style
        The styles to paint in, taken in turn.
    photographs : sequence of Tensor
        (3, H, W) each, uint8, taken in turn and resized.
    uint8, baked : bool
        As for `inputs_of`.
    cases : sequence of (int, int, tuple of float)
        Height, width and strengths.
    """
    photos, wanted, found = cycle(photographs), cycle(styles), []
    for height, width, strengths in cases:
        batch = list(islice(photos, len(strengths)))
        levels = torch.cat([resized(p, (height, width)) for p in batch])
        chosen = list(islice(wanted, len(strengths)))
        painted = run(inputs_of(levels, strengths, chosen, uint8=uint8, baked=baked))
        own = [
            paint(net, encoder, s, x[None].float() / 255, k) for x, s, k in zip(levels, chosen, strengths, strict=True)
        ]
        difference = distance(painted, torch.cat(own))
        found.append((float(difference.max()), float(difference.mean()), f"{width}x{height}"))
    largest, _, size = max(found)
    return Difference(largest, sum(mean for _, mean, _ in found) / len(found), size)


def distance(painted: NDArray[Any], own: Tensor) -> NDArray[Any]:
    """Return the difference in levels of paintings, as they leave the file, from pictures (N, 3, H, W) in [0, 1]."""
    if painted.dtype == np.uint8:
        levels = (255 * own).round().permute(0, 2, 3, 1).numpy()
        found = np.abs(painted.astype(np.float32) - levels)
    else:
        found = 255 * np.abs(painted - own.numpy())
    return np.nan_to_num(found, nan=np.inf)


def inputs_of(
    levels: Tensor, strengths: Sequence[float], styles: Sequence[Style], *, uint8: bool, baked: bool
) -> dict[str, NDArray[Any]]:
    """Return the inputs of an exported file, by name.

    Parameters
    ----------
    levels : Tensor
        (N, 3, H, W), uint8.
    strengths, styles : sequence
        One for each picture.
    uint8 : bool
        Whether the file takes pictures (N, H, W, 3), uint8. Otherwise (N, 3, H, W), float32.
    baked : bool
        Whether the style is part of the file.
    """
    image = levels.permute(0, 2, 3, 1) if uint8 else levels.float() / 255
    tensors = {"image": image.contiguous(), "strength": torch.tensor(strengths, dtype=torch.float32)}
    if not baked:
        tensors |= {"affine": torch.cat([s.affine for s in styles]), "colours": torch.cat([s.colours for s in styles])}
    return {name: t.numpy() for name, t in tensors.items()}


def paint(net: Network, encoder: VGG, style: Style, photo: Tensor, strength: float) -> Tensor:
    """Paint a photograph (1, 3, H, W) in [0, 1] with this package, in float32, at its own size."""
    return FixedStyle(net, encoder, style, strength)(photo)


class FixedStyle(NetworkStylizer):
    """A stylizer whose style was measured for one size, and which paints all sizes in it."""

    def __init__(self, net: Network, encoder: VGG, style: Style, strength: float):
        self.style = style
        options = StylizeOptions(method="network", scale=1.0, strength=strength, underpainting=0.0)
        super().__init__(net, [style.colours], options, encoder, PLAIN)

    def bind(self, style: Any) -> MeasuredStyle:
        """Return the style without measuring it."""
        return MeasuredStyle(style, self.encoder, self.compute, tuple(self.net.config.layers))

    def affine(
        self, styles: Sequence[MeasuredStyle], shares: Sequence[float], scales: Sequence[float], long: int
    ) -> tuple[Tensor, Tensor]:
        """Return the style's affine (1, P) and colours (1, 3, 4), whatever the size."""
        return self.style.affine, self.style.colours


def resized(photograph: Tensor, size: tuple[int, int]) -> Tensor:
    """Return a photograph (3, H, W), uint8, in another size, (1, 3, H', W'), uint8."""
    return (255 * resize(photograph[None].float() / 255, size)).round().to(torch.uint8)
