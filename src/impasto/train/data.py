"""Training pictures: a folder tree held in memory, and random crops of it that depend on (seed, step) alone."""

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from ..errors import TrainingError

PICTURE_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp"}
log = logging.getLogger(__name__)


def find_pictures(roots: Iterable[Path], exclude: Iterable[str] = ()) -> list[Path]:
    """All picture files below `roots`, sorted, without those whose path ends with a line of `exclude`."""
    excluded = tuple("/" + e.strip().lstrip("/") for e in exclude if e.strip())
    found = [p for root in roots for p in sorted(root.rglob("*")) if p.suffix.lower() in PICTURE_SUFFIXES]
    return [p for p in found if not excluded or not f"/{p.as_posix()}".endswith(excluded)]


def read_exclude(path: Path) -> list[str]:
    """The lines of the file of pictures that training never reads; TrainingError if it cannot be read."""
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise TrainingError(f"cannot read --exclude {path}: {error}") from error


class PictureBank:
    """Pictures decoded once, as 8-bit tensors.

    Parameters
    ----------
    paths : sequence of Path
        The files; those that cannot be read are skipped, counted and logged.
    short_side : int
        Larger pictures are reduced to this short side.

    Raises
    ------
    TrainingError
        If none can be read.
    """

    def __init__(self, paths: Sequence[Path], short_side: int = 512):
        self.pictures: list[Tensor] = []
        self.skipped = 0
        for path in paths:
            try:
                with Image.open(path) as im:
                    rgb = im.convert("RGB")
                    if min(rgb.size) > short_side:
                        k = short_side / min(rgb.size)
                        rgb = rgb.resize((round(rgb.width * k), round(rgb.height * k)), Image.Resampling.LANCZOS)
                    self.pictures.append(torch.from_numpy(np.array(rgb)).permute(2, 0, 1).contiguous())
            except Exception as error:  # Pillow meets damaged files with nearly any exception
                self.skipped += 1
                log.warning("skipped %s: %s", path, error)
        if not self.pictures:
            raise TrainingError(
                f"none of {len(paths)} training pictures could be read; give a folder with JPEG or PNG files"
            )

    def __len__(self) -> int:
        return len(self.pictures)

    def crop(self, rng: np.random.Generator, size: int, zoom: tuple[float, float] = (0.6, 1.7)) -> Tensor:
        """A random crop of a random picture.

        Parameters
        ----------
        rng : numpy Generator
            Source of every choice.
        size : int
            Side of the crop in pixels.
        zoom : (float, float)
            Range of the log-uniform factor by which the crop is enlarged; limited by what the picture holds.

        Returns
        -------
        Tensor
            (3, size, size) in [0, 1].
        """
        picture = self.pictures[rng.integers(len(self.pictures))]
        h, w = picture.shape[-2:]
        side = round(min(size / np.exp(rng.uniform(*np.log(zoom))), h, w))
        top, left = rng.integers(h - side + 1), rng.integers(w - side + 1)
        x = picture[:, top : top + side, left : left + side].float()[None] / 255
        if side != size:
            x = F.interpolate(x, (size, size), mode="bicubic", antialias=True, align_corners=False).clamp(0, 1)
        return x[0]


def recolour(x: Tensor, rng: np.random.Generator) -> Tensor:
    """Other colours for a (3, S, S) picture in [0, 1], as strong as they were: channels change places and gamma."""
    order, gamma = rng.permutation(3), np.exp(rng.normal(0, 0.25, (3, 1, 1)))
    return x[order].clamp(0, 1) ** torch.from_numpy(gamma).float()


def jitter(x: Tensor, rng: np.random.Generator) -> Tensor:
    """Flips, quarter turns, colour jitter, blur and noise of a (3, S, S) crop; values may leave [0, 1] a little."""
    if rng.random() < 0.5:
        x = x.flip(2)
    if rng.random() < 0.25:
        x = x.rot90(int(rng.integers(1, 4)), (1, 2))
    if rng.random() < 0.5:
        gain = torch.from_numpy(rng.normal(1, 0.15, (3, 1, 1))).float() * rng.normal(1, 0.15)
        shift = torch.from_numpy(rng.normal(0, 0.05, (3, 1, 1))).float()
        grey = x.mean(0, keepdim=True)
        x = (grey + rng.uniform(0.0, 1.8) * (x - grey)) * gain + shift
    if rng.random() < 0.15:
        k = int(rng.integers(2, 5))
        small = F.interpolate(x[None], scale_factor=1 / k, mode="area")
        x = F.interpolate(small, x.shape[-2:], mode="bicubic", align_corners=False)[0]
    if rng.random() < 0.3:
        amount = float(np.exp(rng.uniform(np.log(0.005), np.log(0.15))))
        x = x + amount * torch.from_numpy(rng.standard_normal(x.shape, dtype=np.float32))
    return x.clamp(-0.1, 1.1)
