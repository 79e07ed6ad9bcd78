"""Fixtures for painting: a photograph, a style, stylizers, and measures of what a painting is like."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from impasto.device import Compute
from impasto.image.color import srgb_to_oklab
from impasto.image.resize import blur, resize
from impasto.models.moments import raw_moments
from impasto.models.vgg import CONTENT_LAYER, STYLE_LAYERS, VGG
from impasto.models.weights import load_encoder
from impasto.options import OptimizeOptions
from impasto.style.extra import histogram_loss, laplacian_loss, quantiles, sample_positions, self_similarity_loss
from impasto.style.losses import (
    MomentsTarget,
    content_loss,
    covariance_metric,
    gram_loss,
    head_metric,
    moments_loss,
    total_variation,
)
from impasto.style.neighbours import columns, hypercolumns, match, neighbour_loss, rotations
from impasto.style.target import fit_style
from impasto.stylizers.optimize import OptimizeStylizer

PLAIN = Compute(torch.device("cpu"), None)
BRIEF: dict[str, Any] = {"size": 96, "coarsest": 64, "iterations": 20, "style_loss": "gram", "optimizer": "lbfgs"}
"""A painting of two scales in less than half a second; with Gram matrices, which are the quickest."""
PAINTED_LAYERS = STYLE_LAYERS[:4]
"""The layers that a style is painted by unless others are asked for."""
NEIGHBOUR_LAYERS = ("relu1_1", "relu2_1", "relu3_1", "relu4_1")
SIMILARITY_LAYERS = ("relu3_1", "relu4_1")


class Measures:
    """Distances between pictures (1, 3, H, W), in float32: 0 if they are alike, whatever painted them."""

    def __init__(self, encoder: VGG):
        self.encoder = encoder

    @torch.no_grad()
    def features(self, picture: Tensor, layers: Sequence[str]) -> dict[str, Tensor]:
        return self.encoder(PLAIN.picture(picture), layers)

    def style(
        self,
        picture: Tensor,
        style: Tensor,
        kind: str = "gram",
        layers: Sequence[str] = PAINTED_LAYERS,
        size: float | None = None,
    ) -> float:
        """Return the style distance: the root of the named loss, averaged over layers.

        The style is measured at that long side, or without one at the picture's size.
        """
        style = fit_style(style, round(size or max(picture.shape[-2:])), self.encoder)
        if kind == "nn":
            return self._neighbours(picture, style)
        own, wanted = ({k: raw_moments(f) for k, f in self.features(p, layers).items()} for p in (picture, style))
        found = []
        for k in layers:
            if kind == "gram":
                loss = gram_loss(own[k], wanted[k], head_metric(self.encoder, k))
            else:
                loss = moments_loss(own[k], MomentsTarget.of(wanted[k], covariance_metric(self.encoder, k)))
            found.append(math.sqrt(loss.clamp(min=0).item()))
        return sum(found) / len(found)

    def _neighbours(self, picture: Tensor, style: Tensor) -> float:
        """Return the mean distance of hypercolumns to the style's nearest, in any of its four orientations."""
        metrics = {k: covariance_metric(self.encoder, k) for k in NEIGHBOUR_LAYERS}
        widths = {k: self.encoder.config.heads[k] for k in NEIGHBOUR_LAYERS}

        def made(p: Tensor) -> Tensor:
            grid = (p.shape[-2] // 4, p.shape[-1] // 4)
            return hypercolumns(self.features(p, NEIGHBOUR_LAYERS), NEIGHBOUR_LAYERS, grid, metrics, widths)

        own, wanted = made(picture), columns(*(made(p) for p in rotations(style)))
        return neighbour_loss(own, match(own, wanted), wanted.mean(0)).item()

    def content(self, picture: Tensor, photo: Tensor, layer: str = CONTENT_LAYER) -> float:
        """Return the content distance: the root of the content loss, after the layer's head if it has one."""
        found = [self.features(p, [layer])[layer] for p in (picture, like(photo, picture))]
        if layer in self.encoder.heads:
            found = [self.encoder.heads[layer](f) for f in found]
        return math.sqrt(content_loss(found[0], found[1]).item())

    def histogram(self, picture: Tensor, style: Tensor) -> float:
        """Return how far the features' histograms are apart, by channel, averaged over the style layers."""
        style = fit_style(style, max(picture.shape[-2:]), self.encoder)
        own, wanted = self.features(picture, STYLE_LAYERS), self.features(style, STYLE_LAYERS)
        return sum(histogram_loss(own[k], quantiles(wanted[k])).item() for k in STYLE_LAYERS) / len(STYLE_LAYERS)

    def laplacian(self, picture: Tensor, photo: Tensor) -> float:
        """Return how far the edges are apart."""
        return laplacian_loss(picture, like(photo, picture)).item()

    def similarity(self, picture: Tensor, photo: Tensor) -> float:
        """Return how much the self-similarity of the pictures differs, in the middle layers of the network."""
        own, wanted = (self.features(p, SIMILARITY_LAYERS) for p in (picture, like(photo, picture)))
        found = []
        for k in SIMILARITY_LAYERS:
            places = sample_positions((own[k].shape[2], own[k].shape[3]), 0)
            found.append(self_similarity_loss(own[k], wanted[k], places, head_metric(self.encoder, k)).item())
        return sum(found) / len(found)

    @staticmethod
    def variation(picture: Tensor) -> float:
        """Return a picture's total variation."""
        return total_variation(picture).item()

    @staticmethod
    def detail(picture: Tensor, photo: Tensor, deviation: float = 1.5) -> float:
        """Return how much of the photo's detail finer than that blur is in the picture, from 0 to 1."""
        fine = [p - blur(p, deviation) for p in (picture, like(photo, picture))]
        return ((fine[0] * fine[1]).sum() / fine[1].square().sum()).item()

    @staticmethod
    def difference(picture: Tensor, other: Tensor) -> float:
        """Return the root of the mean squared difference of the pixels."""
        return (picture - like(other, picture)).square().mean().sqrt().item()

    @staticmethod
    def chroma(picture: Tensor, photo: Tensor) -> float:
        """Return the mean distance of the colours without lightness, in OKLab times 100."""
        difference = srgb_to_oklab(picture) - srgb_to_oklab(like(photo, picture))
        return 100 * difference[:, 1:].square().sum(1).sqrt().mean().item()

    @staticmethod
    def palette(picture: Tensor, other: Tensor) -> float:
        """Return how far the colours are apart, wherever they are.

        They are sorted by OKLab channel; the mean is times 100.
        """
        found = [quantiles(srgb_to_oklab(p)) for p in (picture, other)]
        return 100 * (found[0] - found[1]).abs().mean().item()


def like(picture: Tensor, other: Tensor) -> Tensor:
    """Return a picture at another one's size."""
    return resize(picture, (other.shape[-2], other.shape[-1]))


@pytest.fixture(scope="session")
def encoder() -> VGG:
    net = load_encoder("compact")
    PLAIN.network(net)
    return net


@pytest.fixture(scope="session")
def measure(encoder: VGG) -> Measures:
    return Measures(encoder)


@pytest.fixture(scope="session")
def content(photo: Callable[[str, int], Tensor]) -> Tensor:
    """Return a photograph of a cup of coffee, 96 pixels wide."""
    return photo("coffee", 96)


@pytest.fixture(scope="session")
def style(photo: Callable[[str, int], Tensor]) -> Tensor:
    """Return a photograph of a cat's fur, 160 pixels wide."""
    return photo("chelsea", 160)


@pytest.fixture(scope="session")
def make(encoder: VGG, style: Tensor) -> Callable[..., OptimizeStylizer]:
    """Return `make(size=64, ...)`: a stylizer in float32, with a cat's fur as its style by default."""

    def build(styles: Any = (style,), start_picture: Tensor | None = None, **options: Any) -> OptimizeStylizer:
        return OptimizeStylizer(styles, OptimizeOptions(**options), encoder, PLAIN, start_picture)

    return build


@pytest.fixture(scope="session")
def paint(make: Callable[..., OptimizeStylizer], content: Tensor) -> Callable[..., Tensor]:
    """Return `paint(tv_weight=0.0, ...)`, which briefly paints the photograph with these options.

    Each painting is made once.
    """
    made: dict[tuple[tuple[str, Any], ...], Tensor] = {}

    def painted(**options: Any) -> Tensor:
        key = tuple(sorted(options.items()))
        if key not in made:
            made[key] = make(**{**BRIEF, **options})(content)
        return made[key]

    return painted
