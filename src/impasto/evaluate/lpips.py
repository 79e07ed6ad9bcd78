"""LPIPS, the learned perceptual distance, from two files that users fetch themselves.

Zhang, Isola, Efros, Shechtman, Wang, "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric", CVPR
2018, with VGG-16. Torchvision's VGG-16 comes from `impasto models fetch vgg16`; the small file of channel weights is
part of the authors' package `lpips` (BSD-2-Clause). Both are verified by their hashes before they are read.
"""

import pickle
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from ..device import Compute
from ..errors import WeightsError
from ..models.download import file_digest
from ..models.vgg import VGG
from ..models.weights import find_model, load_encoder

LAYERS = ("relu1_2", "relu2_2", "relu3_3", "relu4_3", "relu5_3")
"""The layers whose features are compared."""
SHA256 = "a78928a0af1e5f0fcb1f3b9e8f8c3a2a5a3de244d830ad5c1feddc79b8432868"
"""Hash of lpips/weights/v0.1/vgg.pth in the package lpips 0.1.4."""
TINY = 1e-10
"""Added to the length of a pixel's features, as by the authors."""


class LPIPS:
    """Measure LPIPS.

    Parameters
    ----------
    encoder : VGG
        VGG-16, frozen.
    weights : sequence of Tensor
        The weights of the channels, (C,) for each of `LAYERS`.
    compute : Compute
        The device, in float32.
    """

    def __init__(self, encoder: VGG, weights: Sequence[Tensor], compute: Compute):
        compute.network(encoder)
        self.encoder, self.compute = encoder, compute
        self.weights = [w.to(compute.device) for w in weights]

    @torch.no_grad()
    def __call__(self, picture: Tensor, reference: Tensor) -> float:
        """Return the distance of two pictures (1, 3, H, W) of the same size, float32, sRGB, [0, 1]: 0 if equal.

        Equation 1 of the paper: squared differences of the features, each pixel's scaled to length 1, weighted by
        channel, averaged over the pixels and added over the layers.
        """
        x, y = self._directions(picture), self._directions(reference)
        layers = zip(self.weights, x, y, strict=True)
        return sum(float(((a - b).square() * w.view(1, -1, 1, 1)).sum(1).mean()) for w, a, b in layers)

    def _directions(self, picture: Tensor) -> list[Tensor]:
        features = self.encoder(self.compute.picture(picture), LAYERS)
        return [f / (f.square().sum(1, keepdim=True).sqrt() + TINY) for f in (features[k] for k in LAYERS)]


def load_lpips(path: Path, compute: Compute) -> LPIPS:
    """Return LPIPS with the authors' channel weights and torchvision's VGG-16. Downloads nothing.

    Parameters
    ----------
    path : Path
        The file lpips/weights/v0.1/vgg.pth of the package lpips.
    compute : Compute
        The device, in float32.

    Raises
    ------
    WeightsError
        If a file is missing, or not the expected one.
    """
    if file_digest(path) != SHA256:
        raise WeightsError(
            f"{path} is not the expected file; give lpips/weights/v0.1/vgg.pth from the package lpips 0.1.4"
        )
    if not find_model("vgg16").present:
        raise WeightsError("LPIPS needs torchvision's VGG-16; run `impasto models fetch vgg16` first")
    return LPIPS(load_encoder("vgg16", offline=True), _read_weights(path), compute)


def _read_weights(path: Path) -> list[Tensor]:
    """Return the weights of the channels, (C,) for each of `LAYERS`."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        return [state[f"lin{i}.model.1.weight"].float().flatten() for i in range(len(LAYERS))]
    except (RuntimeError, pickle.UnpicklingError, EOFError, KeyError, AttributeError) as error:
        raise WeightsError(f"{path} is not a state dict of LPIPS") from error
