"""Augmentation of training pictures. Each function takes a picture and a random generator."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor


def recolour(x: Tensor, rng: np.random.Generator) -> Tensor:
    """Recolour a (3, S, S) picture in [0, 1]: permute its channels and change their gamma, keeping colours strong."""
    order, gamma = rng.permutation(3), np.exp(rng.normal(0, 0.25, (3, 1, 1)))
    return x[order].clamp(0, 1) ** torch.from_numpy(gamma).float()


def jitter(x: Tensor, rng: np.random.Generator) -> Tensor:
    """Apply flips, quarter turns, colour jitter, blur and noise to a (3, S, S) crop; may exceed [0, 1] a little."""
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
