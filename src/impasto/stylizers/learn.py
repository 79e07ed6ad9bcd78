"""Learn one style in seconds: a correction to the affine that a network predicts for it.

The network does not change. The learnt vector is added to the style's affine (`models.network`). It is stored in the
style file, and blends and strengths work as for any style.

Styles that are learnt on the fly are kept in the user's cache folder and loaded from there the next time.
"""

import hashlib
import json
import logging
import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from ..device import Compute, freed_memory_kept, ordinary, with_gradients
from ..image.read import read_image
from ..image.resize import random_crop
from ..models.colours import colour
from ..models.network import Network
from ..models.networks import check_encoder
from ..models.vgg import VGG
from ..options import LearnOptions
from ..style.painting import PaintingLoss
from ..style.target import SUFFIX, StyleTarget

log = logging.getLogger(__name__)

BUNDLED = Path(__file__).parents[1] / "weights" / "photographs"
"""The folder of the photographs that styles are learnt on."""
PICTURE = 512
"""Long side in pixels of the pictures that the crops are taken to be parts of."""
STROKES, OTHER_STROKES = (0.5, 2.0), 0.4
"""Range of stroke sizes relative to the style's own, and the share of steps with a size other than 1."""
ZOOM = (0.7, 1.4)
"""Range of the zoom of the crops."""
WARM_UP = 5
"""Steps over which the rate rises. Then it falls with the time or the steps left."""
PATIENCE, LEAST_GAIN = 40, 0.01
"""Learning ends when this many steps have reduced the mean loss by less than this share."""
MEMORY = 0.95
"""Decay of the vector's moving average, which is the result."""


class Photographs(Protocol):
    """A source of random crops of photographs."""

    def crop(self, rng: np.random.Generator, size: int, zoom: tuple[float, float]) -> Tensor:
        """Return a random square (3, size, size) in [0, 1], as `resize.random_crop` does."""
        ...


class BundledPhotographs:
    """The bundled photographs: a dozen, short side 288 pixels, CC0 or in the public domain."""

    def crop(self, rng: np.random.Generator, size: int, zoom: tuple[float, float]) -> Tensor:
        """Return a random square (3, size, size) of a random photograph, in [0, 1]."""
        pictures = bundled_photographs()
        return random_crop(pictures[rng.integers(len(pictures))], rng, size, zoom)


@cache
def bundled_photographs() -> list[Tensor]:
    """Return the bundled photographs, (3, H, W) each, uint8."""
    return [(read_image(p).tensor[0] * 255).round().to(torch.uint8) for p in sorted(BUNDLED.glob("*.webp"))]


@dataclass(frozen=True)
class LearnStep:
    """A step of learning.

    Parameters
    ----------
    step : int
        Number of steps taken.
    loss : float
        The mean loss of the step's paintings.
    progress : float
        Progress from 0 to 1, by steps or by seconds, whichever is further.
    style : StyleTarget
        The style so far.
    """

    step: int
    loss: float
    progress: float
    style: StyleTarget


@with_gradients
def learn(
    net: Network,
    style: StyleTarget,
    encoder: VGG,
    compute: Compute,
    options: LearnOptions | None = None,
    photographs: Photographs | None = None,
) -> Iterator[LearnStep]:
    """Learn a style step by step. The last step has the result.

    Parameters
    ----------
    net : Network
        The network, frozen.
    style : StyleTarget
        The style, measured by the network's encoder.
    encoder : VGG
        The frozen network of the loss.
    compute : Compute
        Device and precision.
    options : LearnOptions, optional
        The defaults if not given.
    photographs : Photographs, optional
        The photographs to learn on; the bundled ones if not given.

    Raises
    ------
    StyleError, WeightsError
        Before the first step, if the style or the network is for another encoder.
    """
    o, style = options or LearnOptions(), ordinary(style)
    check_encoder(net, encoder)
    style.check(encoder)
    compute.network(encoder)
    compute.network(net)
    weights = {k: getattr(o, k) for k in ("content_weight", "tone_weight", "tv_weight")}
    distance = PaintingLoss(encoder, compute, **weights)
    return _steps(net, style, distance, photographs or BundledPhotographs(), o)


@with_gradients
def _steps(
    net: Network, style: StyleTarget, distance: PaintingLoss, photographs: Photographs, o: LearnOptions
) -> Iterator[LearnStep]:
    compute, begun = distance.compute, time.monotonic()
    known = style.learnt_for(net)
    vector = torch.zeros(1, net.layout.predicted) if known is None else known.clone()
    vector = vector.to(compute.device).requires_grad_(True)
    average = vector.detach().clone()
    optimiser = torch.optim.Adam([vector], o.rate, betas=(0.9, 0.99))
    losses: list[float] = []
    progress, done = 0.0, False
    while not done:
        step = len(losses) + 1
        rng = np.random.default_rng((o.seed, step))
        stroke = np.exp(rng.uniform(*np.log(STROKES))) if rng.random() < OTHER_STROKES else 1.0
        targets = {k: m.to(compute.device) for k, m in style.at(PICTURE * stroke).items() if k in distance.style}
        crops = [photographs.crop(rng, o.crop, ZOOM) for _ in range(o.batch)]
        photo = compute.picture(torch.stack([x.flip(2) if rng.random() < 0.5 else x for x in crops]))
        with torch.no_grad():
            affine, colours = net.predict(targets), net.style_colours(targets)
        with freed_memory_kept():
            loss = _loss(net, distance, photo, net.shifted(affine, vector), colours, targets)
            optimiser.zero_grad()
            loss.backward()
        optimiser.param_groups[0]["lr"] = o.rate * min(1.0, step / WARM_UP, 2 * (1 - progress))
        optimiser.step()
        average.lerp_(vector.detach(), 1 - min(MEMORY, step / (step + 10)))
        losses.append(loss.item())
        progress = min(1.0, max(step / o.steps, (time.monotonic() - begun) / o.seconds))
        done = progress == 1 or _settled(losses)
        learnt = replace(style, learnt=average.cpu().clone(), network=net.digest)
        yield LearnStep(step, losses[-1], 1.0 if done else progress, learnt)


def _loss(
    net: Network, distance: PaintingLoss, photo: Tensor, affine: Tensor, colours: Tensor, targets: dict[str, Tensor]
) -> Tensor:
    n = len(photo)
    with distance.compute.autocast():
        painted = net(photo, affine.expand(n, -1))
    colours = colours.expand(n, -1, -1)
    wanted = {k: m.expand(n, -1, -1) for k, m in targets.items()}
    with torch.no_grad():
        shown = net.prepared(photo)
    return torch.stack(list(distance(colour(painted, colours), shown, wanted, colours).values())).sum(0).mean()


def _settled(losses: list[float]) -> bool:
    """Return whether the mean loss has stopped falling."""
    if len(losses) < 2 * PATIENCE:
        return False
    before, after = np.mean(losses[-2 * PATIENCE : -PATIENCE]), np.mean(losses[-PATIENCE:])
    return bool(after > (1 - LEAST_GAIN) * before)


def styles_folder() -> Path:
    """Return the folder of styles that were learnt on the fly: `impasto/styles` in XDG_CACHE_HOME or in ~/.cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "impasto" / "styles"


def kept_styles() -> list[Path]:
    """Return the style files that were learnt on the fly, newest last."""
    return sorted(styles_folder().glob("*" + SUFFIX), key=lambda p: p.stat().st_mtime)


def learnt(net: Network, style: Tensor | StyleTarget, encoder: VGG, compute: Compute) -> StyleTarget:
    """Return a style as the network has learnt it: from the folder of kept styles, or learnt now and kept.

    Parameters
    ----------
    style : Tensor or StyleTarget
        A painting (1, 3, H, W) in [0, 1], or its measurements.

    Raises
    ------
    StyleError
        If the style is for another encoder or far too elongated.
    WeightsError
        If the style file cannot be written.
    """
    options = LearnOptions()
    if isinstance(style, Tensor):
        style = StyleTarget.of(style, encoder, compute)
    if style.learnt_for(net) is not None:
        return style
    path = styles_folder() / (_key(net, style, options) + SUFFIX)
    if path.is_file():
        return replace(StyleTarget.load(path), name=style.name)
    log.info("learning the style, which takes up to %g seconds", options.seconds)
    *_, step = learn(net, style, encoder, compute, options)
    path.parent.mkdir(parents=True, exist_ok=True)
    step.style.save(path)
    log.info("learnt in %d steps; kept in %s", step.step, path)
    return step.style


def _key(net: Network, style: StyleTarget, options: LearnOptions) -> str:
    """Return the file name of a learnt style: a hash of everything it depends on."""
    found = hashlib.sha256(json.dumps([net.digest, asdict(options)], default=str).encode())
    for size in style.sizes:
        for k, m in style.moments[size].items():
            found.update(f"{size} {k}".encode() + m.cpu().half().numpy().tobytes())
    return found.hexdigest()[:16]
