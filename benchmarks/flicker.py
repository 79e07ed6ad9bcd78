"""Flicker: how otherwise a network paints a photograph that is moved by one pixel, of several networks side by side.

The mean absolute difference of f(x) and f(x moved by a pixel) moved back, over the levels 0 to 1: a panning camera
shows it as flicker. Photographs are cut, so that what is moved has the same pixels; a border of 16 pixels is left out.
"""

import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
import tyro
from typing_extensions import Doc

from impasto.device import choose_compute
from impasto.errors import ImpastoError
from impasto.image.io import read_image
from impasto.image.resize import fit
from impasto.models.networks import load_network
from impasto.models.norm import Conditions
from impasto.tools.metrics import markdown_table

BORDER = 16
"""Pixels at each side that do not count."""
SHIFTS = ((0, 1), (1, 0), (1, 1))
"""Pixels down and to the right."""


@dataclass(frozen=True)
class Flicker:
    """Measure the flicker of networks that have learnt the same styles."""

    models: Annotated[tuple[str, ...], Doc("`palette`, or model files.")]
    photos: Annotated[Path, Doc("The folder that the lines of the list are in.")]
    heldout: Annotated[Path, Doc("A list of pictures that no training has read, one a line.")]
    count: Annotated[int, Doc("How many photographs, evenly from the list.")] = 6
    size: Annotated[int, Doc("Long side of the paintings, in pixels.")] = 512

    @torch.inference_mode()
    def __call__(self) -> None:
        """Print the table."""
        print(f"`{shlex.join(['python', *sys.argv])}`\n")
        lines = [p for p in self.heldout.read_text().split() if "photos" in p and (self.photos / p).is_file()]
        lines = lines[:: max(1, len(lines) // self.count)][: self.count]
        photos = [fit(read_image(self.photos / p).tensor, self.size, enlarge=True) for p in lines]
        compute, rows = choose_compute("cpu"), []
        for model in self.models:
            net, _ = load_network(model)
            compute.network(net)
            count, found = len(net.config.styles), []
            for i in range(count):
                conditions = Conditions.of(torch.tensor([i]), count)
                for photo in photos:
                    x = compute.picture(photo)
                    with compute.autocast():
                        still = net(x[..., :-1, :-1], conditions).float()
                        for down, right in SHIFTS:
                            moved = net(x[..., down:, right:], conditions).float()
                            h, w = still.shape[2] - down, still.shape[3] - right
                            difference = (still[..., down:, right:] - moved[..., :h, :w]).abs()
                            found.append(difference[..., BORDER:-BORDER, BORDER:-BORDER].mean().item())
            rows.append((Path(model).stem, sum(found) / len(found)))
        first = rows[0][1]
        print(markdown_table(("network", "flicker", "over the first"), [(n, f"{v:.4f}", v / first) for n, v in rows]))


if __name__ == "__main__":
    try:
        tyro.cli(Flicker)()
    except ImpastoError as error:
        sys.exit(f"flicker: {error}")
