"""How closely textures match their paintings, by loss and by optimiser."""

import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import torch.nn.functional as F
import tyro
from torch import Tensor
from typing_extensions import Doc

from impasto.device import Compute, choose_compute
from impasto.errors import ImpastoError
from impasto.image.picture import Picture
from impasto.image.read import read_image
from impasto.image.resize import fit, resize
from impasto.image.write import write_image
from impasto.models.vgg import VGG
from impasto.models.weights import load_encoder
from impasto.options import TextureOptions
from impasto.style.extra import quantiles
from impasto.style.losses import total_variation
from impasto.stylizers.loss import Problem, build_loss
from impasto.stylizers.protocol import last_image
from impasto.stylizers.schedule import Scale
from impasto.stylizers.texture import TextureSynthesizer, painting_options
from impasto.tools.metrics import markdown_table

DEFAULTS = "the defaults"
HEADER = ("", "loss", "worst", "patches", "at a quarter", "colours", "variation", "seam", "CPU s")
VARIANTS: dict[str, dict[str, Any]] = {
    DEFAULTS: {},
    "200 iterations": {"iterations": 200},
    "Adam": {"optimizer": "adam"},
    "Adam, pixels": {"optimizer": "adam", "parameters": "pixels"},
    "gram": {"style_loss": "gram"},
    "nn": {"style_loss": "nn"},
    "histogram 0.3": {"histogram_weight": 0.3},
    "tv 0": {"tv_weight": 0.0},
    "tv 0.1": {"tv_weight": 0.1},
    "tv 1": {"tv_weight": 1.0},
    "start grey": {"start": "grey"},
    "coarsest 64": {"coarsest": 64},
    "coarsest 256": {"coarsest": 256},
}
"""Name -> differences from the defaults."""
PATCH, PATCHES, CANDIDATES = 7, 1500, 20_000
"""Side of a patch in pixels, and numbers of patches sampled from a texture and from its painting."""
CELL, GAP, QUALITY = 240, 6, 80
"""The sheet: side of a picture and gap between pictures, in pixels, and JPEG quality."""
FULL = Compute(torch.device("cpu"), None)


def full_loss(net: VGG, painting: Tensor, texture: Tensor) -> float:
    """Return the defaults' loss of a seamless texture (1, 3, H, W), at its full size in float32."""
    size = (texture.shape[2], texture.shape[3])
    options = painting_options([painting], size, TextureOptions())
    problem = Problem(net, FULL, options, torch.zeros_like(texture), size, [painting], wrap=True)
    with torch.no_grad():
        return float(build_loss(problem, Scale(size, 1, 0.0), texture)(texture)["total"])


def patch_distance(texture: Tensor, painting: Tensor, size: float = 1.0) -> float:
    """Return the root mean square difference per value of a texture's patches to the painting's nearest patches.

    Both pictures are first reduced to `size`, a fraction.
    """
    drawn = []
    for picture, count in ((texture, PATCHES), (painting, CANDIDATES)):
        small = resize(picture, (round(size * picture.shape[-2]), round(size * picture.shape[-1])))
        patches = F.unfold(small, PATCH)[0].T
        order = torch.randperm(len(patches), generator=torch.Generator().manual_seed(0))
        drawn.append(patches[order[:count]])
    return torch.cdist(*drawn).min(1).values.mean().item() / drawn[0].shape[1] ** 0.5


def seam(texture: Tensor) -> float:
    """Return the step across the wrap-around edges relative to that between nearby lines; every second line only."""
    found = []
    for dim in (2, 3):
        steps = (texture - texture.roll(1, dim)).abs().mean([d for d in range(4) if d != dim])
        found.append(steps[0] / torch.cat([steps[2:10:2], steps[-8::2]]).mean())
    return torch.stack(found).mean().item()


def sheet(paintings: Sequence[Tensor], textures: Sequence[Tensor]) -> Tensor:
    """Return a sheet with a column for each painting: the painting, its texture, and 2 x 2 copies of the texture."""
    height = max(fit(p, CELL).shape[2] for p in paintings)
    columns = []
    for painting, texture in zip(paintings, textures, strict=True):
        small = fit(painting, CELL)
        above, left = (height - small.shape[2]) // 2, (CELL - small.shape[3]) // 2
        edges = (left, CELL - small.shape[3] - left, above, height - small.shape[2] - above + GAP)
        tiles = resize(texture.repeat(1, 1, 2, 2), (CELL, CELL))
        below = F.pad(resize(texture, (CELL, CELL)), (0, 0, 0, GAP), value=1)
        columns.append(F.pad(torch.cat([F.pad(small, edges, value=1), below, tiles], 2), (0, GAP), value=1))
    return torch.cat(columns, 3)[..., :-GAP]


@dataclass(frozen=True)
class Textures:
    """Make seamless textures and compare them with their paintings.

    The loss is that of the defaults, in float32, relative to the defaults' result.
    """

    paintings: Annotated[tuple[Path, ...], Doc("The paintings.")]
    size: Annotated[int, Doc("Side of the textures, and long side of the paintings, in pixels.")] = 256
    variants: Annotated[tuple[str, ...], Doc("The variants, in addition to the defaults; all by default.")] = ()
    out: Annotated[Path | None, Doc("Folder for the textures.")] = None
    sheet: Annotated[Path | None, Doc("Write a picture of the defaults' textures and tilings here.")] = None

    def __call__(self) -> None:
        """Print the table."""
        compute, net = choose_compute("cpu"), load_encoder("compact")
        print(f"`{shlex.join(['python', *sys.argv])}`: {torch.get_num_threads()} threads, {compute}\n")
        paintings = [fit(read_image(p).tensor, self.size) for p in self.paintings]
        names = [n for n in VARIANTS if n == DEFAULTS or not self.variants or n in self.variants]
        rows, losses = [], {}
        for name in names:
            options, found, begun = TextureOptions(**VARIANTS[name]), [], time.process_time()
            for painting in paintings:
                made = TextureSynthesizer([painting], (self.size, self.size), options, net, compute, seamless=True)
                found.append(last_image(made.steps()))
            seconds = (time.process_time() - begun) / len(paintings)
            losses[name] = torch.tensor([full_loss(net, p, t) for p, t in zip(paintings, found, strict=True)])
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
            ratios = losses[name] / losses[DEFAULTS]
            figures = torch.tensor(measured).mean(0).tolist()
            rows.append((name, ratios.mean().item(), ratios.max().item(), *figures, seconds))
            print(*rows[-1], losses[name].tolist(), sep="\t", file=sys.stderr, flush=True)
            self.keep(name, found)
            if self.sheet is not None and name == DEFAULTS:
                write_image(Picture(sheet(paintings, found)), self.sheet, quality=QUALITY)
        print(markdown_table(HEADER, rows))

    def keep(self, name: str, textures: list[Tensor]) -> None:
        """Write a variant's textures if there is an output folder."""
        if self.out is None:
            return
        self.out.mkdir(parents=True, exist_ok=True)
        for path, texture in zip(self.paintings, textures, strict=True):
            write_image(Picture(texture), self.out / f"{path.stem}-{name.replace(' ', '_')}.png")


if __name__ == "__main__":
    try:
        tyro.cli(Textures)()
    except ImpastoError as error:
        sys.exit(f"texture: {error}")
