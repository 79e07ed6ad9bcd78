"""Training of the network that paints (`models.network`): samples, loss, and learnt styles.

Johnson, Alahi, Fei-Fei 2016: content, style and total variation of the paintings, measured with a frozen encoder. The
terms and their weights are those of `optimize`, so the network quickly approximates its result. Every style loss is
relative to its style, so values are comparable between styles.

A style is a random part of a painting, of random size, so few paintings give many styles. Some styles are blends of
two. Some photographs are painted in their own style. A share of the pictures is painted in styles that the network
learns individually: each has a vector that is added to its prediction.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..device import Compute, channels_last
from ..models.colours import colour, overshoot
from ..models.download import DIGEST_DIGITS, file_digest
from ..models.moments import raw_moments
from ..models.network import Network, StyleSummary, save_network
from ..models.networks import network_name
from ..models.passes import NOISE_SIDE, ORIGIN, STRIDE, Origins, padded
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
from .spikes import WatchedPass, excess

PHOTO_ZOOM, PART_ZOOM = (0.8, 2.0), (0.6, 1.25)
"""Ranges of the enlargement of photographs and of paintings."""
CALIBRATION = 256
"""Number of parts of paintings for normalising styles and for fitting the colour reader."""
LEAST_DEVIATION, BLANK_CROPS = 0.01, 20
"""Standard deviation of the colours below which a crop counts as blank, and most blank crops drawn in a row."""
SCALE_WEIGHT = 0.001
"""Weight of the loss that keeps paintings in the scale of their style's colours."""
OVERSHOOT_WEIGHT = 0.5
"""Weight of the loss on colours outside [0, 1]. Matching the colours is the last norm: a patch far above white would
take up the variance, as a spike does in the norms before, and show as a glowing spot."""
STABILITY_EVERY, MOST_NOISE = 4, 0.03
"""One picture in this many is painted again, moved, with noise of up to this standard deviation."""


@dataclass(frozen=True)
class Sample:
    """A photograph and the style in which to paint it.

    Parameters
    ----------
    photo : Tensor
        (3, S, S), in [0, 1].
    parts : Tensor
        (K, 3, P, P), the parts of paintings that define the style: one, two for a blend, none for a learnt style.
    share : float
        Weight of the first part.
    learnt : int
        Number of the learnt style, or -1.
    size : float
        Long side in pixels at which a learnt style is measured.
    seed : tuple of int
        Seed of the sample's other random choices.
    """

    photo: Tensor
    parts: Tensor
    share: float
    learnt: int
    size: float
    seed: tuple[int, ...]


class Sampler:
    """Draws samples. Each depends only on (seed, step, number in the batch). Can be sent to other processes.

    Parameters
    ----------
    options : TrainNetworkOptions
        The training options.
    photos, paintings : PictureSet
        The pictures; no paintings if only learnt styles are trained.
    styles : int
        Number of learnt styles.
    """

    def __init__(self, options: TrainNetworkOptions, photos: PictureSet, paintings: PictureSet | None, styles: int):
        self.options, self.photos, self.paintings, self.styles = options, photos, paintings, styles

    def __call__(self, step: int, i: int) -> Sample:
        """Return sample number i of a step."""
        o, seed = self.options, (self.options.seed, 1, step, i)
        rng = np.random.default_rng(seed)
        photo = drawn(self.photos, rng, o.crop, PHOTO_ZOOM)
        photo = photo.flip(2) if rng.random() < 0.5 else photo
        identity, mixed, learnt = (bool(rng.random() < share) for share in (o.identity, o.mixed, o.learnt))
        if identity:
            return Sample(photo, photo[None], 1.0, -1, 0.0, seed)
        if self.styles and (learnt or self.paintings is None):
            number = step * o.batch + i  # every style once, in random order, before any repeats
            order = np.random.default_rng((o.seed, 2, number // self.styles)).permutation(self.styles)
            stroke = np.exp(rng.uniform(*np.log(STROKES))) if rng.random() < OTHER_STROKES else 1.0
            none = photo.new_zeros(0, *photo.shape)
            return Sample(photo, none, 1.0, int(order[number % self.styles]), float(PICTURE * stroke), seed)
        parts = torch.stack([self.part(rng) for _ in range(2 if mixed else 1)])
        return Sample(photo, parts, float(rng.random()) if mixed else 1.0, -1, 0.0, seed)

    def part(self, rng: np.random.Generator) -> Tensor:
        """Return a part of a painting (3, S, S), sometimes mirrored or recoloured."""
        assert self.paintings is not None
        x = drawn(self.paintings, rng, self.options.crop, PART_ZOOM)
        x = x.flip(2) if rng.random() < 0.5 else x
        return recolour(x, rng) if rng.random() < self.options.recoloured else x

    def photographs(self, count: int) -> Tensor:
        """Return photographs (N, 3, S, S), the same at every step and in every run with the same seed."""
        rng = np.random.default_rng((self.options.seed, 4))
        return torch.stack([self.photos.crop(rng, self.options.crop, (1.0, 1.5)) for _ in range(count)])


def drawn(pictures: PictureSet, rng: np.random.Generator, size: int, zoom: tuple[float, float]) -> Tensor:
    """Return a crop (3, size, size) that is not blank: a crop of one colour has no content and no style."""
    x = pictures.crop(rng, size, zoom)
    for _ in range(BLANK_CROPS):
        if float(x.std((1, 2)).max()) >= LEAST_DEVIATION:
            break
        x = pictures.crop(rng, size, zoom)
    return x


class NetworkRecipe:
    """The recipe for the training loop: the network, the samples, and the loss.

    Parameters
    ----------
    net : Network
        The network.
    options : TrainNetworkOptions
        The training options.
    sampler : Sampler
        Draws photographs and styles.
    styles : sequence of StyleTarget
        The learnt styles, in the order of `net.config.styles`.
    encoder : VGG
        The frozen encoder of the loss, which also measures styles.
    compute : Compute
        Device and precision.
    calibrate : bool
        Whether to calibrate the network; a trained network is calibrated already.
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
        """Set the network's normalisation of styles, and fit its colour reader."""
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
        """Return style layer -> raw moments (N, C + 1, C + 1) of the samples' styles."""
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
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return paintings (N, 3, H, W), float32, of photographs in the styles, and the same before colour matching.

        The third result is how high the spikes in the features are, (N,).
        """
        affine = self.net.predict(targets)
        if self.net.config.styles:
            index = torch.tensor(learnt, device=affine.device)
            affine = self.net.shifted(affine, self.net.learnt[index.clamp(min=0)] * (index >= 0)[:, None])
        with torch.no_grad():
            colours = self.net.style_colours(targets)
        with self.compute.autocast():
            watched = WatchedPass(self.net, affine, origins, excess)
            painted = self.net.run(watched, padded(photos))[:, :, : photos.shape[2], : photos.shape[3]]
        return colour(painted, colours), painted, torch.stack(watched.spikes).sum(0)

    def loss(self, samples: Sequence[Sample]) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the sum of the samples' losses, and the sums of its terms."""
        photos = self.compute.picture(torch.stack([s.photo for s in samples]))
        targets, learnt = self.targets(samples), [s.learnt for s in samples]
        origins = [noise_origin(s) for s in samples]
        paintings, raw, spikes = self.paint(photos, targets, learnt, origins)
        with torch.no_grad():
            colours = self.net.style_colours(targets)
            shown = self.net.prepared(photos, origins)
        terms = {k: v.sum() for k, v in self.distance(paintings, shown, targets, colours).items()}
        terms["scale"] = SCALE_WEIGHT * scale_loss(raw, colours).sum()
        terms["spikes"] = self.options.spike_weight * spikes.sum()
        terms["overshoot"] = OVERSHOOT_WEIGHT * overshoot(raw, colours).sum()
        if self.options.stability:
            terms["stability"] = self.options.stability * self.flicker(samples, photos, paintings, targets)
        return torch.stack(list(terms.values())).sum(), terms

    def flicker(
        self, samples: Sequence[Sample], photos: Tensor, paintings: Tensor, targets: Mapping[str, Tensor]
    ) -> Tensor:
        """Return how differently moved photographs are painted: mean squares divided by the paintings' variances."""
        total = paintings.new_zeros(())
        for k, sample in enumerate(samples):
            i = sample.seed[-1]  # the number in the whole batch: the same choice, however the batch is divided
            if (i + i // STABILITY_EVERY) % STABILITY_EVERY:
                continue
            rng = np.random.default_rng((*sample.seed, 3))
            (before, after), inside = moved(torch.stack([photos[k], paintings[k].detach()])[:, None], rng)
            noise = torch.from_numpy(rng.standard_normal(tuple(before.shape), dtype=np.float32)).to(before)
            before = self.compute.picture(before + float(rng.uniform(0, MOST_NOISE)) * noise)
            target = {n: m[k : k + 1] for n, m in targets.items()}
            again, *_ = self.paint(before, target, [sample.learnt], [noise_origin(sample)])
            difference = (again - after)[..., inside:-inside, inside:-inside]
            total = total + difference.square().mean() / after.var((2, 3)).mean().clamp(min=1e-3)
        return STABILITY_EVERY * total

    def rate_factor(self, step: int) -> float:
        """Return the factor on the learning rates for a step."""
        return rate_factor(step, self.options)

    def after(self, step: int) -> None:
        """Rescale the convolutions to their initial length."""
        self.net.normalise()

    def state_dict(self) -> dict[str, Any]:
        """Return nothing: only the weights and the optimisers change in a training of this network."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Do nothing: there is no state."""

    @torch.no_grad()
    def sheet(self, photos: Tensor, styles: int) -> list[Tensor]:
        """Return rows of pictures (N, 3, S, S): the photographs, then their paintings in several styles."""
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
        """Write a style file for each learnt style that is not built in, to the folder where names are looked up."""
        own = {n: s for n, s in zip(net.config.styles, self.styles, strict=True) if not s.name}
        folder, digest = learnt_folder(path), file_digest(path)[:DIGEST_DIGITS]
        for name, style in own.items():
            folder.mkdir(exist_ok=True)
            replace(style, learnt=net.learnt_style(name), network=digest).save(folder / (name + SUFFIX))


def noise_origin(sample: Sample) -> tuple[int, int]:
    """Return the origin of a sample's noise: random, so that the network does not memorise parts of the noise."""
    row, column = np.random.default_rng((*sample.seed, 6)).integers(NOISE_SIDE, size=2)
    return int(row) * STRIDE, int(column) * STRIDE


def scale_loss(raw: Tensor, colours: Tensor) -> Tensor:
    """Return how far the variance of paintings before colour matching is from their styles', (N,).

    Colour matching hides the scale. Without this loss it would drift, and strengths below 1 would show only paint.
    """
    own = raw.var((2, 3)).mean(1)
    wanted = colours[:, :, :3].diagonal(dim1=1, dim2=2).mean(1)
    return (own.clamp(min=1e-4).log() - wanted.clamp(min=1e-4).log()).square()


def rate_factor(step: int, o: TrainNetworkOptions) -> float:
    """Return the rate factor: it rises over the warm-up, stays at 1, then falls linearly to 0 over the last part."""
    fall = (o.steps - step) / (o.steps * o.decay) if o.decay else 1.0
    return min(1.0, (step + 1) / (o.warm_up + 1), max(0.0, fall))
