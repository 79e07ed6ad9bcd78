"""Random crops of pictures, for training."""

import numpy as np
import torch.nn.functional as F
from torch import Tensor


def random_crop(picture: Tensor, rng: np.random.Generator, size: int, zoom: tuple[float, float]) -> Tensor:
    """Return a random square of a picture, as if the picture had been enlarged.

    Parameters
    ----------
    picture : Tensor
        (3, H, W), uint8.
    rng : numpy Generator
        Source of every choice.
    size : int
        Side of the crop in pixels.
    zoom : (float, float)
        Range of the log-uniform factor by which the picture is enlarged; limited by what it holds.

    Returns
    -------
    Tensor
        (3, size, size), float32, in [0, 1].
    """
    h, w = picture.shape[-2:]
    side = round(min(size / np.exp(rng.uniform(*np.log(zoom))), h, w))
    top, left = rng.integers(h - side + 1), rng.integers(w - side + 1)
    x = picture[:, top : top + side, left : left + side].float()[None] / 255
    if side != size:
        x = F.interpolate(x, (size, size), mode="bicubic", antialias=True, align_corners=False).clamp(0, 1)
    return x[0]
