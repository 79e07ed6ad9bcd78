"""Pictures optimised on the encoder during training, for training data and for validation.

An optimiser finds every direction in which student and teacher differ, and makes pictures unlike any photograph.
Training on them closes those directions. To validate, the teacher scores pictures painted on the student.
"""

import numpy as np
import torch
from torch import Tensor

from ..device import Compute
from ..models.moments import raw_moments
from ..models.vgg import CONTENT_LAYER, STYLE_LAYERS, VGG
from ..style.losses import content_loss, gram_loss, head_metric
from .teacher import TARGETS


def paint(
    net: VGG, contents: Tensor, styles: Tensor, rng: np.random.Generator, compute: Compute, steps: int = 60
) -> list[Tensor]:
    """Optimise pictures on `net`, each with its own content and style. Return several intermediate states and the last.

    Parameters
    ----------
    net : VGG
        The encoder.
    contents, styles : Tensor
        (N, 3, S, S) in [0, 1].
    rng : numpy Generator
        Chooses the start, the rate and the content weight.
    compute : Compute
        Device and precision.
    steps : int
        Steps of the optimisation.

    Returns
    -------
    list of Tensor
        Each (N, 3, S, S), not clamped.
    """
    metrics = {k: head_metric(net, k) for k in STYLE_LAYERS}
    contents, styles = compute.picture(contents), compute.picture(styles)
    with torch.no_grad(), compute.autocast():
        target = {k: raw_moments(f) for k, f in net(styles, STYLE_LAYERS).items()}
        content = net(contents, (CONTENT_LAYER,))[CONTENT_LAYER]
    noise = torch.from_numpy(rng.standard_normal(contents.shape, dtype=np.float32)).to(contents)
    start = rng.choice(["content", "style", "noise"], p=[0.7, 0.15, 0.15])
    x = {"content": contents, "style": styles.roll(1, 0), "noise": 0.5 + 0.2 * noise}[start] + 0.02 * noise
    x = compute.picture(x).requires_grad_(True)
    optimiser = torch.optim.Adam([x], lr=float(np.exp(rng.uniform(np.log(0.01), np.log(0.1)))), betas=(0.9, 0.99))
    weight = float(np.exp(rng.uniform(np.log(0.003), np.log(0.3))))
    kept, keep = [], set(rng.choice(steps - 1, 2, replace=False)) | {steps - 1}
    for i in range(steps):
        with compute.autocast():
            features = net(x, TARGETS)
        loss = weight * content_loss(features[CONTENT_LAYER], content).sum()
        for k in STYLE_LAYERS:
            loss = loss + gram_loss(raw_moments(features[k]), target[k], metrics[k]).sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        if i in keep:
            kept.append(x.detach().clone())
    return kept


@torch.no_grad()
def style_distances(net: VGG, x: Tensor, y: Tensor) -> Tensor:
    """Return the mean over style layers of ||G(x) - G(y)|| / ||G(y)|| after the heads of `net`, (N,)."""
    fx, fy = net(x, STYLE_LAYERS), net(y, STYLE_LAYERS)
    return torch.stack(
        [gram_loss(raw_moments(fx[k]), raw_moments(fy[k]), head_metric(net, k)).sqrt() for k in STYLE_LAYERS]
    ).mean(0)


def validate(encoder: VGG, teacher: VGG, contents: Tensor, styles: Tensor, compute: Compute) -> float:
    """Paint on `encoder`. Return the teacher's Gram distance to the styles over that of the photos, geometric mean."""
    contents, styles = compute.picture(contents), compute.picture(styles)
    x = torch.cat([paint_plainly(encoder, c[None], s[None], compute) for c, s in zip(contents, styles, strict=True)])
    ratio = style_distances(teacher, x.clamp(0, 1), styles) / style_distances(teacher, contents, styles)
    return ratio.log().mean().exp().item()


def paint_plainly(net: VGG, content: Tensor, style: Tensor, compute: Compute, steps: int = 100) -> Tensor:
    """Return the result of a fixed short optimisation for the validation: Adam at 0.03, starting from the content."""
    metrics = {k: head_metric(net, k) for k in STYLE_LAYERS}
    with torch.no_grad(), compute.autocast():
        target = {k: raw_moments(f) for k, f in net(style, STYLE_LAYERS).items()}
    x = compute.picture(content.clone()).requires_grad_(True)
    optimiser = torch.optim.Adam([x], lr=0.03, betas=(0.9, 0.99))
    for _ in range(steps):
        with compute.autocast():
            features = net(x, STYLE_LAYERS)
        loss = torch.stack(
            [gram_loss(raw_moments(features[k]), target[k], metrics[k]).sum() for k in STYLE_LAYERS]
        ).sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return x.detach()
