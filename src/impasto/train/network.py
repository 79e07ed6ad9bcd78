"""Training of the network that paints (`models.network`): what is sampled, the loss, and the styles that it learns.

Johnson, Alahi, Fei-Fei 2016: content, style and total variation of the paintings, seen through a frozen encoder. The
terms and their weights are those of `optimize`, so a painting of the network is a quick answer to the same question.
Every style loss is relative to its style, so it says the same of all of them.

A style is a part of a painting, as large or as small as chance has it, so few paintings are many styles. Some are
blends of two, some photographs are painted in their own style, and a share of the pictures is painted in styles that
the network learns one by one: each has a vector that is added to what is predicted for it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..device import Compute, channels_last
from ..models.colours import colour
from ..models.download import DIGEST_DIGITS, file_digest
from ..models.moments import raw_moments
from ..models.network import NOISE_SIDE, ORIGIN, STRIDE, Network, Origins, StyleSummary, save_network
from ..models.networks import network_name
from ..models.vgg import VGG
from ..options import TrainNetworkOptions
from ..style.painting import PaintingLoss
from ..style.target import SUFFIX, StyleTarget
from ..stylizers.learn import OTHER_STROKES, PICTURE, STROKES
from ..stylizers.sources import learnt_folder
from .augment import recolour
from .move import moved
from .optimisers import Optimisers
from .pictures import PictureSet

PHOTO_ZOOM, PART_ZOOM = (0.8, 2.0), (0.6, 1.25)
"""How much photographs and paintings are enlarged."""
CALIBRATION = 256
"""Parts of paintings that tell what styles differ by, and how colours are read from their moments."""
LEAST_DEVIATION, BLANK_CROPS = 0.01, 20
"""Deviation of the colours below which a crop counts as blank, and how many of these are drawn anew."""
SCALE_WEIGHT = 0.001
"""Weight of the loss that keeps paintings in the scale of their style's colours."""
STABILITY_EVERY, MOST_NOISE = 4, 0.03
"""One picture in so many is painted a second time, moved, with noise of up to that deviation."""


@dataclass(frozen=True)
class Sample:
    """A photograph and the style that it is painted in.

    Parameters
    ----------
    photo : Tensor
        (3, S, S), in [0, 1].
    parts : Tensor
        (K, 3, P, P), the parts of paintings that the style is: one, or two of a blend, or none of a learnt style.
    share : float
        Of the first part.
    learnt : int
        Which of the learnt styles it is, or -1.
    size : float
        Long side in pixels at which a learnt style is measured.
    seed : tuple of int
        Of what else is drawn for it.
    """

    photo: Tensor
    parts: Tensor
    share: float
    learnt: int
    size: float
    seed: tuple[int, ...]


class Sampler:
    """Draws samples, each from (seed, step, number in the batch) alone. It can be sent to other processes.

    Parameters
    ----------
    options : TrainNetworkOptions
        How.
    photos, paintings : PictureSet
        The pictures; no paintings if only learnt styles are trained.
    styles : int
        How many learnt styles there are.
    """

    def __init__(self, options: TrainNetworkOptions, photos: PictureSet, paintings: PictureSet | None, styles: int):
        self.options, self.photos, self.paintings, self.styles = options, photos, paintings, styles

    def __call__(self, step: int, i: int) -> Sample:
        """Return the sample number i of a step."""
        o, seed = self.options, (self.options.seed, 1, step, i)
        rng = np.random.default_rng(seed)
        photo = drawn(self.photos, rng, o.crop, PHOTO_ZOOM)
        photo = photo.flip(2) if rng.random() < 0.5 else photo
        own, mixed, learnt = (bool(rng.random() < share) for share in (o.own, o.mixed, o.learnt))
        if own:
            return Sample(photo, photo[None], 1.0, -1, 0.0, seed)
        if self.styles and (learnt or self.paintings is None):
            number = step * o.batch + i  # every style once, in an order of its own, before any comes again
            order = np.random.default_rng((o.seed, 2, number // self.styles)).permutation(self.styles)
            stroke = np.exp(rng.uniform(*np.log(STROKES))) if rng.random() < OTHER_STROKES else 1.0
            none = photo.new_zeros(0, *photo.shape)
            return Sample(photo, none, 1.0, int(order[number % self.styles]), float(PICTURE * stroke), seed)
        parts = torch.stack([self.part(rng) for _ in range(2 if mixed else 1)])
        return Sample(photo, parts, float(rng.random()) if mixed else 1.0, -1, 0.0, seed)

    def part(self, rng: np.random.Generator) -> Tensor:
        """Return a part of a painting (3, S, S), now and then mirrored or in other colours."""
        assert self.paintings is not None
        x = drawn(self.paintings, rng, self.options.crop, PART_ZOOM)
        x = x.flip(2) if rng.random() < 0.5 else x
        return recolour(x, rng) if rng.random() < self.options.recoloured else x

    def photographs(self, count: int) -> Tensor:
        """Return photographs (N, 3, S, S), the same at every step of every run with that seed."""
        rng = np.random.default_rng((self.options.seed, 4))
        return torch.stack([self.photos.crop(rng, self.options.crop, (1.0, 1.5)) for _ in range(count)])


def drawn(pictures: PictureSet, rng: np.random.Generator, size: int, zoom: tuple[float, float]) -> Tensor:
    """Return a crop (3, size, size) that is not of one colour: such a one has nothing to paint, and no style."""
    x = pictures.crop(rng, size, zoom)
    for _ in range(BLANK_CROPS):
        if float(x.std((1, 2)).max()) >= LEAST_DEVIATION:
            break
        x = pictures.crop(rng, size, zoom)
    return x


class NetworkRecipe:
    """What the training loop trains: the network, the samples, and the loss of a batch.

    Parameters
    ----------
    net : Network
        The network.
    options : TrainNetworkOptions
        How it is trained.
    sampler : Sampler
        The photographs and styles.
    styles : sequence of StyleTarget
        The learnt styles, as `net.config.styles` names them.
    encoder : VGG
        The frozen network of the loss, which also measures styles.
    compute : Compute
        Device and precision.
    calibrate : bool
        Whether to tell the network what styles differ by; one that is trained knows.
    """

    def __init__(
        self,
        net: Network,
        options: TrainNetworkOptions,
        sampler: Sampler,
        styles: Sequence[StyleTarget],
        encoder: VGG,
        compute: Compute,
        calibrate: bool = True,
    ):
        self.net, self.options, self.sample, self.styles, self.compute = net, options, sampler, styles, compute
        channels_last(net.to(compute.device))
        weights = {k: getattr(options, k) for k in ("content_weight", "tone_weight", "tv_weight")}
        self.distance = PaintingLoss(encoder, compute, **weights)
        if calibrate:
            self.calibrate()
        convolutions = net.convolutions()
        known = {id(p) for p in (*convolutions, net.learnt)}
        predictor = [*net.predictor.parameters(), *net.summaries.parameters()]
        known |= {id(p) for p in predictor}
        others = [p for p in net.parameters() if id(p) not in known]
        learnt = [net.learnt] if net.config.styles else []
        o = options
        groups = (others, o.small_rate), (predictor, o.style_rate), (learnt, o.learnt_rate)
        self.optimisers = Optimisers(convolutions, o.rate, *groups)

    @torch.no_grad()
    def calibrate(self) -> None:
        """Tell the network what styles differ by, and how colours are read from their moments."""
        rng = np.random.default_rng((self.options.seed, 5))
        first = next(iter(self.net.config.layers))
        found: list[dict[str, Tensor]] = []
        colours: list[Tensor] = []
        sampler = self.sample
        for _ in range(CALIBRATION):
            crop = sampler.part(rng) if sampler.paintings else sampler.photos.crop(rng, self.options.crop, PHOTO_ZOOM)
            part = self.compute.picture(crop[None])
            features = self.distance.features(part, tuple(self.net.config.layers))
            found.append({k: raw_moments(f) for k, f in features.items()})
            colours.append(raw_moments(torch.cat([part.float(), features[first].float()], 1)))
        for layer, summary in self.net.summaries.items():
            assert isinstance(summary, StyleSummary)
            summary.calibrate(torch.cat([m[layer] for m in found]))
        self.net.colours.calibrate(torch.cat(colours).mean(0))

    @torch.no_grad()
    def targets(self, samples: Sequence[Sample]) -> dict[str, Tensor]:
        """Return each style layer's raw moments (N, C + 1, C + 1) of the samples' styles."""
        parts = torch.cat([s.parts for s in samples])
        measured = self.distance.moments(parts) if len(parts) else {}
        found: dict[str, list[Tensor]] = {k: [] for k in self.distance.style}
        first = 0
        for s in samples:
            known = self.styles[s.learnt].at(s.size) if s.learnt >= 0 else {}
            last = first + len(s.parts) - 1
            for k, rows in found.items():
                rows.append(known[k][0] if known else torch.lerp(measured[k][last], measured[k][first], s.share))
            first = last + 1
        return {k: torch.stack([m.to(self.compute.device) for m in rows]) for k, rows in found.items()}

    def paint(
        self, photos: Tensor, targets: Mapping[str, Tensor], learnt: Sequence[int], origins: Origins = ORIGIN
    ) -> tuple[Tensor, Tensor]:
        """Return paintings (N, 3, H, W) of photographs in styles of these moments, float32, and before the colours."""
        affine = self.net.predict(targets)
        if self.net.config.styles:
            index = torch.tensor(learnt, device=affine.device)
            affine = affine + self.net.learnt[index.clamp(min=0)] * (index >= 0)[:, None]
        with torch.no_grad():
            colours = self.net.style_colours(targets)
        with self.compute.autocast():
            painted = self.net(photos, affine, origins=origins)
        return colour(painted, colours), painted

    def loss(self, samples: Sequence[Sample]) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the sum of the samples' losses, and the sums of its terms."""
        photos = self.compute.picture(torch.stack([s.photo for s in samples]))
        targets, learnt = self.targets(samples), [s.learnt for s in samples]
        origins = [noise_origin(s) for s in samples]
        paintings, raw = self.paint(photos, targets, learnt, origins)
        with torch.no_grad():
            colours = self.net.style_colours(targets)
        terms = {k: v.sum() for k, v in self.distance(paintings, photos, targets, colours).items()}
        terms["scale"] = SCALE_WEIGHT * scale_loss(raw, colours).sum()
        if self.options.stability:
            terms["stability"] = self.options.stability * self.flicker(samples, photos, paintings, targets)
        return torch.stack(list(terms.values())).sum(), terms

    def flicker(
        self, samples: Sequence[Sample], photos: Tensor, paintings: Tensor, targets: Mapping[str, Tensor]
    ) -> Tensor:
        """Return how differently photographs are painted when they move: mean squares over the paintings' variances."""
        total = paintings.new_zeros(())
        for k, sample in enumerate(samples):
            i = sample.seed[-1]  # by the number in the whole batch: the same ones, however it is divided
            if (i + i // STABILITY_EVERY) % STABILITY_EVERY:
                continue
            rng = np.random.default_rng((*sample.seed, 3))
            (before, after), inside = moved(torch.stack([photos[k], paintings[k].detach()])[:, None], rng)
            noise = torch.from_numpy(rng.standard_normal(tuple(before.shape), dtype=np.float32)).to(before)
            before = self.compute.picture(before + float(rng.uniform(0, MOST_NOISE)) * noise)
            target = {n: m[k : k + 1] for n, m in targets.items()}
            again, _ = self.paint(before, target, [sample.learnt], [noise_origin(sample)])
            difference = (again - after)[..., inside:-inside, inside:-inside]
            total = total + difference.square().mean() / after.var((2, 3)).mean().clamp(min=1e-3)
        return STABILITY_EVERY * total

    def rate_factor(self, step: int) -> float:
        """Return the factor of the learning rates in a step."""
        return rate_factor(step, self.options)

    def after(self, step: int) -> None:
        """Keep the convolutions at their length."""
        self.net.normalise()

    def state_dict(self) -> dict[str, Any]:
        """Return nothing: the weights and the optimisers are all that a training of this network changes."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take nothing over."""

    @torch.no_grad()
    def sheet(self, photos: Tensor, styles: int) -> list[Tensor]:
        """Return rows of pictures (N, 3, S, S): the photographs, then their paintings in some styles."""
        samples = [self.sample(10**9, i) for i in range(styles)]
        rows = [photos]
        for s in samples:
            targets = {k: m.expand(len(photos), -1, -1) for k, m in self.targets([s]).items()}
            rows.append(self.paint(self.compute.picture(photos), targets, [s.learnt] * len(photos))[0].cpu())
        return rows

    def write(self, net: nn.Module, path: Path, step: int) -> None:
        """Write the network as a model file."""
        assert isinstance(net, Network)
        o, paintings = self.options, self.sample.paintings
        account: dict[str, Any] = {
            "recipe": "impasto train network",
            "from": None if o.base is None else network_name(o.base),
            "steps": step,
            "batch": o.batch,
            "crop": o.crop,
            "photographs": len(self.sample.photos),
            "paintings": len(paintings) if paintings else 0,
            "content_weight": o.content_weight,
            "tone_weight": o.tone_weight,
            "tv_weight": o.tv_weight,
            "stability": o.stability,
        }
        save_network(net, path, training=account, licence="MIT")
        self.write_styles(net, path)

    def write_styles(self, net: Network, path: Path) -> None:
        """Write a style file for each learnt style that is no built-in one, where names are looked for."""
        own = {n: s for n, s in zip(net.config.styles, self.styles, strict=True) if not s.name}
        folder, digest = learnt_folder(path), file_digest(path)[:DIGEST_DIGITS]
        for name, style in own.items():
            folder.mkdir(exist_ok=True)
            replace(style, learnt=net.learnt_style(name), network=digest).save(folder / (name + SUFFIX))


def noise_origin(sample: Sample) -> tuple[int, int]:
    """Return where a sample's noise begins: another place each time, so that no part of it is learnt by heart."""
    row, column = np.random.default_rng((*sample.seed, 6)).integers(NOISE_SIDE, size=2)
    return int(row) * STRIDE, int(column) * STRIDE


def scale_loss(raw: Tensor, colours: Tensor) -> Tensor:
    """Return how far the variance of paintings whose colours are not set yet is from their styles', (N,).

    Setting the colours hides the scale, which would drift, and strengths below 1 would be of paint alone.
    """
    own = raw.var((2, 3)).mean(1)
    wanted = colours[:, :, :3].diagonal(dim1=1, dim2=2).mean(1)
    return (own.clamp(min=1e-4).log() - wanted.clamp(min=1e-4).log()).square()


def rate_factor(step: int, o: TrainNetworkOptions) -> float:
    """Return a factor that rises over the first steps, stays 1, then falls straight to 0 over the last part."""
    fall = (o.steps - step) / (o.steps * o.decay) if o.decay else 1.0
    return min(1.0, (step + 1) / (o.warm_up + 1), max(0.0, fall))
