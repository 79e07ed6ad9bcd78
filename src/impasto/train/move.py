"""Small movements of pictures for the loss against flicker: by whole pixels, or by a smooth warp."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

REACH = 6
"""Largest movement in pixels."""


def moved(pictures: Tensor, rng: np.random.Generator) -> tuple[Tensor, int]:
    """Apply the same small movement to several stacks of pictures.

    Half of the time, crops them to start a few whole pixels further, which does not change any pixel's value, like a
    panning camera. Otherwise, rotates, enlarges and bends them a little.

    Parameters
    ----------
    pictures : Tensor
        (K, N, 3, H, W).
    rng : numpy Generator
        Source of randomness.

    Returns
    -------
    moved : Tensor
        (K, N, 3, H', W').
    inside : int
        Number of pixels at each border to ignore.
    """
    if rng.random() < 0.5:
        dy, dx = (int(v) for v in rng.integers(1, REACH + 1, 2))
        return pictures[..., dy:, dx:], REACH  # the network sees the border differently from the inside
    k, n, c, h, w = pictures.shape
    angle, zoom = rng.uniform(-0.03, 0.03), rng.uniform(0.97, 1.03)
    matrix = torch.tensor([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0]]).float() * zoom
    grid = F.affine_grid(matrix[None], [1, c, h, w], align_corners=False)
    bend = torch.from_numpy(rng.uniform(-1, 1, (1, 2, 4, 4))).float()
    bend = F.interpolate(bend, (h, w), mode="bicubic", align_corners=True).permute(0, 2, 3, 1)
    grid = (grid + bend * torch.tensor([4 / w, 4 / h])).to(pictures)
    flat = F.grid_sample(pictures.flatten(0, 2)[None], grid, padding_mode="reflection", align_corners=False)
    return flat.view(k, n, c, h, w), 2 * REACH
