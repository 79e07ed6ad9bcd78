"""Learning one style in seconds: a network's own numbers for it, on top of what the network predicts.

Nothing of the network changes. What is learnt is a vector that is added to the style's affine (`models.network`), so
it becomes part of the style file, and blends and strengths work as for any style.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..device import Compute, freed_memory_kept
from ..models.colours import colour
from ..models.network import Network
from ..models.vgg import VGG
from ..options import LearnOptions
from ..style.target import StyleTarget
from .network import OTHER_STROKES, PICTURE, STROKES, PaintingLoss
from .pictures import PictureSet

BUNDLED = Path(__file__).parents[1] / "weights" / "photographs.zip"
"""The photographs that styles are learnt on."""
ZOOM = (0.7, 1.4)
"""How much they are enlarged."""
WARM_UP = 5
"""Steps over which the rate rises; then it falls, with the time or the steps that are left."""
PATIENCE, LEAST_GAIN = 40, 0.01
"""Learning ends when so many steps have lowered the mean loss by less than that share."""
MEMORY = 0.95
"""Decay of the moving average of the vector, which is what is kept."""


@dataclass(frozen=True)
class LearnStep:
    """A step of learning.

    Parameters
    ----------
    step, total : int
        Steps taken, and how many there are at most.
    loss : float
        The mean loss of the step's paintings.
    progress : float
        How much is done, 0 to 1, by steps or by seconds, whichever ends it sooner.
    style : StyleTarget
        The style so far.
    """

    step: int
    total: int
    loss: float
    progress: float
    style: StyleTarget


def learn(
    net: Network, style: StyleTarget, encoder: VGG, compute: Compute, options: LearnOptions
) -> Iterator[LearnStep]:
    """Learn a style, a step at a time; the last step has it.

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
    options : LearnOptions
        How.

    Raises
    ------
    ImpastoError
        If the style is for another encoder, or there are no photographs.
    """
    style.check(encoder)
    photos = PictureSet.open(options.photos or (BUNDLED,), None, 2 * options.crop)
    compute.network(encoder)
    compute.network(net)
    return _steps(
        net, style, PaintingLoss(encoder, options.content_weight, options.tv_weight, compute), photos, options
    )


def _steps(
    net: Network, style: StyleTarget, distance: PaintingLoss, photos: PictureSet, o: LearnOptions
) -> Iterator[LearnStep]:
    compute, begun = distance.compute, time.monotonic()
    known = style.learnt_for(net)
    vector = torch.zeros(1, net.layout.size) if known is None else known.clone()
    vector = vector.to(compute.device).requires_grad_(True)
    average = vector.detach().clone()
    optimiser = torch.optim.Adam([vector], o.rate, betas=(0.9, 0.99))
    losses: list[float] = []
    progress = 0.0
    for step in range(1, o.steps + 1):
        rng = np.random.default_rng((o.seed, step))
        stroke = np.exp(rng.uniform(*np.log(STROKES))) if rng.random() < OTHER_STROKES else 1.0
        targets = {k: m.to(compute.device) for k, m in style.at(PICTURE * stroke).items() if k in distance.style}
        crops = [photos.crop(rng, o.crop, ZOOM) for _ in range(o.batch)]
        photo = compute.picture(torch.stack([x.flip(2) if rng.random() < 0.5 else x for x in crops]))
        with torch.no_grad():
            affine, colours = net.predict(targets), net.style_colours(targets)
        with freed_memory_kept():
            loss = _loss(net, distance, photo, affine + vector, colours, targets)
            optimiser.zero_grad()
            loss.backward()
        optimiser.param_groups[0]["lr"] = o.rate * min(1.0, step / WARM_UP, 2 * (1 - progress))
        optimiser.step()
        average.lerp_(vector.detach(), 1 - min(MEMORY, step / (step + 10)))
        losses.append(loss.item())
        progress = max(step / o.steps, (time.monotonic() - begun) / o.seconds)
        done = progress >= 1 or _settled(losses)
        learnt = replace(style, learnt=average.cpu().clone(), network=net.digest)
        yield LearnStep(step, o.steps, losses[-1], 1.0 if done else progress, learnt)
        if done:
            return


def _loss(
    net: Network, distance: PaintingLoss, photo: Tensor, affine: Tensor, colours: Tensor, targets: dict[str, Tensor]
) -> Tensor:
    n = len(photo)
    with distance.compute.autocast():
        painted = net(photo, affine.expand(n, -1))
    painted = colour(painted, colours.expand(n, -1, -1))
    wanted = {k: m.expand(n, -1, -1) for k, m in targets.items()}
    return torch.stack(list(distance(painted, photo, wanted).values())).sum(0).mean()


def _settled(losses: list[float]) -> bool:
    """Return whether the last steps have gained next to nothing over those before them."""
    if len(losses) < 2 * PATIENCE:
        return False
    before, after = np.mean(losses[-2 * PATIENCE : -PATIENCE]), np.mean(losses[-PATIENCE:])
    return bool(after > (1 - LEAST_GAIN) * before)
