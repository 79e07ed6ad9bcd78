"""How near textures come to the surface of their paintings, by what they are optimised for and how."""

import shlex
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import torch.nn.functional as F
import tyro
from torch import Tensor
from typing_extensions import Doc

from impasto.device import choose_compute
from impasto.errors import ImpastoError
from impasto.image.io import read_image
from impasto.image.resize import fit, resize
from impasto.models.weights import load_encoder
from impasto.options import TextureOptions
from impasto.style.extra import quantiles
from impasto.style.losses import total_variation
from impasto.stylize.protocol import last_image
from impasto.stylize.texture import TextureSynthesizer
from impasto.tools.metrics import markdown_table

VARIANTS: dict[str, dict[str, Any]] = {
    "the defaults": {},
    "--parameters pixels": {"parameters": "pixels"},
    "--parameters pixels --optimizer lbfgs --iterations 300": {
        "parameters": "pixels",
        "optimizer": "lbfgs",
        "iterations": 300,
    },
    "--style-loss gram": {"style_loss": "gram"},
    "--style-loss nn": {"style_loss": "nn"},
    "--histogram-weight 0.3": {"histogram_weight": 0.3},
    "--tv-weight 0": {"tv_weight": 0.0},
    "--tv-weight 0.1": {"tv_weight": 0.1},
    "--tv-weight 1": {"tv_weight": 1.0},
    "--start grey": {"start": "grey"},
    "--coarsest 64": {"coarsest": 64},
    "--coarsest 256": {"coarsest": 256},
}
PATCH, PATCHES, CANDIDATES = 7, 1500, 20_000
"""Side of a patch in pixels; patches of a texture, and of its painting, that are drawn."""


def patch_distance(texture: Tensor, painting: Tensor, size: float = 1.0) -> float:
    """Root mean square difference, a value, of a texture's patches from the painting's nearest; both reduced first."""
    drawn = []
    for picture, count in ((texture, PATCHES), (painting, CANDIDATES)):
        small = resize(picture, (round(size * picture.shape[-2]), round(size * picture.shape[-1])))
        patches = F.unfold(small, PATCH)[0].T
        order = torch.randperm(len(patches), generator=torch.Generator().manual_seed(0))
        drawn.append(patches[order[:count]])
    return torch.cdist(*drawn).min(1).values.mean().item() / drawn[0].shape[1] ** 0.5


def seam(texture: Tensor) -> float:
    """Step across the wrap-around edges over that between the nearest lines; every second, as poolings see them."""
    found = []
    for dim in (2, 3):
        steps = (texture - texture.roll(1, dim)).abs().mean([d for d in range(4) if d != dim])
        found.append(steps[0] / torch.cat([steps[2:10:2], steps[-8::2]]).mean())
    return torch.stack(found).mean().item()


@dataclass(frozen=True)
class Textures:
    """Make seamless textures and measure them against their paintings."""

    paintings: Annotated[tuple[Path, ...], Doc("The paintings.")]
    size: Annotated[int, Doc("Side of the textures, and long side of the paintings, in pixels.")] = 256

    def __call__(self) -> None:
        """Print the table."""
        compute, net = choose_compute("cpu"), load_encoder("compact")
        print(f"`{shlex.join(['python', *sys.argv])}`: {torch.get_num_threads()} threads, {compute}\n")
        paintings = [fit(read_image(p).tensor, self.size) for p in self.paintings]
        rows = []
        for name, changes in VARIANTS.items():
            options, found, begun = TextureOptions(**changes), [], time.process_time()
            for painting in paintings:
                made = TextureSynthesizer([painting], (self.size, self.size), options, net, compute, seamless=True)
                found.append(last_image(made.steps()))
            seconds = (time.process_time() - begun) / len(paintings)
            measured = [
                (
                    patch_distance(t, p),
                    patch_distance(t, p, 0.25),
                    (quantiles(t) - quantiles(p)).abs().mean().item(),
                    (total_variation(t, wrap=True) / total_variation(p)).item(),
                    seam(t),
                )
                for t, p in zip(found, paintings, strict=True)
            ]
            rows.append((name, *torch.tensor(measured).mean(0).tolist(), seconds))
        columns = ("", "patches", "at a quarter", "colours", "variation", "seam", "CPU s")
        print(markdown_table(columns, rows))


if __name__ == "__main__":
    try:
        tyro.cli(Textures)()
    except ImpastoError as error:
        sys.exit(f"texture: {error}")
