"""Training of the compact encoder: distillation from a VGG-19 teacher, with pictures optimised on the student.

Through 1x1 heads, the student predicts the teacher's five head outputs (VGG-19's channels at relu1_1 ... relu5_1) and
its relu4_2. Learned 1x1 maps, discarded afterwards, give hints for the layers between. An optimiser exploits every
mismatch between the two networks, so a part of every batch is pictures that were optimised on the current student. The
validation also optimises such pictures, and the teacher scores them.

The student first trains with batch norm, which the deep layers need to learn quickly. Then batch norm is folded into
the convolutions, and training continues on the network as it will be used. Muon (Jordan et al. 2024) trains the
matrices of the convolutions, Adam everything else. After the last step, the heads are refitted by least squares.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from ..device import Compute
from ..errors import TrainingError
from ..models.vgg import COMPACT, VGG
from ..models.weights import save_encoder
from ..options import TrainEncoderOptions
from .augment import jitter
from .painted import paint, validate
from .pictures import PictureSet
from .student import Student, fit_heads, optimisers_of
from .teacher import TARGETS, Teacher

HINT_WEIGHT = 0.3
CALIBRATION = 40
"""Number of batches used to standardise the teacher's channels."""
VALIDATION = (8, 256)
"""Number and side of the pictures painted for a validation."""
PAINTED = ((4, 192), (2, 256))
"""Number and side of the pictures painted at once for training; one of these is chosen each time."""
BATCH, VALIDATED, PAINTING, OFFSET, UNITS, FIT = range(1, 7)
"""Purposes of random numbers: the second number of a seed."""


class Place(NamedTuple):
    """A crop's place in the pool of painted pictures, each number in [0, 1).

    Parameters
    ----------
    picture : float
        The picture, as a fraction of the pool.
    top, left : float
        The crop's corner, as a fraction of the range that keeps the crop inside the picture.
    """

    picture: float
    top: float
    left: float


@dataclass(frozen=True)
class Sample:
    """A sample on which the student is compared with the teacher.

    Parameters
    ----------
    crop : Tensor or Place
        (3, S, S) of a photograph or a painting, about in [0, 1], or a crop's place in the pool of painted pictures.
    offset : (int, int)
        The first feature pixel that enters the loss; the same for all samples of a step.
    """

    crop: Tensor | Place
    offset: tuple[int, int]


class Sampler:
    """Draws samples. Each depends only on (seed, step, number in the batch). Can be sent to other processes.

    Other processes do not have the painted pictures: the sampler only draws the place of a crop, and the recipe cuts
    it out.

    Parameters
    ----------
    options : TrainEncoderOptions
        The training options.
    photos, paintings : PictureSet
        The pictures.
    """

    def __init__(self, options: TrainEncoderOptions, photos: PictureSet, paintings: PictureSet):
        self.options, self.photos, self.paintings = options, photos, paintings

    def __call__(self, step: int, i: int) -> Sample:
        """Return sample number i of a step."""
        o = self.options
        top, left = np.random.default_rng((o.seed, OFFSET, step)).integers(8, size=2)
        rng = np.random.default_rng((o.seed, BATCH, step, i))
        return Sample(self.draw(rng, o.painted if step >= o.paint_from else 0.0), (int(top), int(left)))

    def draw(self, rng: np.random.Generator, painted: float = 0.0) -> Tensor | Place:
        """Return a jittered crop (3, S, S) of a photograph or painting; with probability `painted`, a pool place."""
        if rng.random() < painted:
            return Place(*rng.random(3))
        pictures = self.photos if rng.random() < 0.5 else self.paintings
        return jitter(pictures.crop(rng, self.options.crop), rng)

    def pictures(self, rng: np.random.Generator, n: int, size: int) -> tuple[Tensor, Tensor]:
        """Return contents and styles for painting, (n, 3, size, size) each."""
        contents = torch.stack([self.photos.crop(rng, size, (0.8, 1.4)) for _ in range(n)])
        styles = torch.stack([self.paintings.crop(rng, size, (0.5, 1.4)) for _ in range(n)])
        return contents, styles


class EncoderRecipe:
    """The recipe for the training loop: the student, the samples, and the distance from the teacher.

    Its state is the pool of painted pictures. The pool is float16 both in memory and in the checkpoint, so that a
    resumed training has the same pictures.

    Parameters
    ----------
    options : TrainEncoderOptions
        The training options.
    sampler : Sampler
        Draws crops of photographs and paintings.
    teacher : Teacher
        The teacher.
    compute : Compute
        Device and precision.
    """

    def __init__(self, options: TrainEncoderOptions, sampler: Sampler, teacher: Teacher, compute: Compute):
        self.options, self.sample, self.teacher, self.compute = options, sampler, teacher, compute
        self.pool: list[Tensor] = []
        teacher.calibrate(self.batch_for(UNITS, i) for i in range(CALIBRATION))
        self.net = Student(replace(COMPACT, batch_norm=options.batch_norm_steps > 0), teacher.net, options.seed)
        compute.network(self.net)
        self.optimisers = optimisers_of(self.net, options)

    def batch(self, crops: Sequence[Tensor | Place]) -> Tensor:
        """Return the crops as one batch (N, 3, S, S); cuts those of painted pictures out of the pool."""
        return self.compute.picture(torch.stack([self.cut(c) if isinstance(c, Place) else c for c in crops]))

    def batch_for(self, purpose: int, i: int, painted: float = 0.0) -> Tensor:
        """Return batch number i (N, 3, S, S) for a purpose other than training steps."""
        rngs = [np.random.default_rng((self.options.seed, purpose, i, k)) for k in range(self.options.batch)]
        return self.batch([self.sample.draw(rng, painted) for rng in rngs])

    def cut(self, place: Place) -> Tensor:
        """Return the crop (3, S, S) at a place in the pool.

        Raises
        ------
        TrainingError
            If the pool is empty.
        """
        if not self.pool:
            raise TrainingError(
                "there are no painted pictures to train on: none was finite, or the checkpoint had none; lower --rate, "
                "or resume with the same --painted and --paint-from"
            )
        picture, size = self.pool[int(place.picture * len(self.pool))], self.options.crop
        top, left = (int(u * (side - size + 1)) for u, side in zip(place[1:], picture.shape[1:], strict=True))
        return picture[:, top : top + size, left : left + size].float()

    def loss(self, samples: Sequence[Sample]) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the sum of the samples' losses, and the sums of the relative errors of each target."""
        x, offset = self.batch([s.crop for s in samples]), samples[0].offset
        errors = self.net.errors(x, self.teacher.targets(x, offset), offset, self.compute)
        terms = {k: len(samples) * (v if k in TARGETS else HINT_WEIGHT * v) for k, v in errors.items()}
        return torch.stack(list(terms.values())).sum(), {k: terms[k] for k in TARGETS}

    def rate_factor(self, step: int) -> float:
        """Return the factor on the learning rates for a step."""
        return rate_factor(step, self.options)

    def after(self, step: int) -> None:
        """Fold the batch norm and paint new pictures when they are due."""
        o = self.options
        if self.net.vgg.config.batch_norm and step >= o.batch_norm_steps:
            self.fold()
        painting = o.painted > 0 and o.paint_from <= step < o.steps
        if painting and (step == o.paint_from or step % o.paint_every == 0):
            self.paint(step)

    def fold(self) -> None:
        """Fold the batch norm into the convolutions and restart the optimisers."""
        self.net.fold()
        self.optimisers = optimisers_of(self.net, self.options)

    def paint(self, step: int) -> None:
        """Add pictures optimised on the current student to the pool, and drop the oldest."""
        o = self.options
        rng = np.random.default_rng((o.seed, PAINTING, step))
        n, size = PAINTED[rng.integers(len(PAINTED))]
        contents, styles = self.sample.pictures(rng, n, max(o.crop, size))
        painted = [x.half().cpu() for x in paint(self.encoder(), contents, styles, rng, self.compute)]
        self.pool.extend(x for batch in painted for x in batch if x.isfinite().all())
        del self.pool[: -o.pool]

    def encoder(self) -> VGG:
        """Return a frozen copy of the student, ready for use."""
        return self.net.encoder(self.teacher)

    def validation(self) -> float:
        """Paint on the student. Return the teacher's Gram distance of the paintings to the styles over the photos'."""
        contents, styles = self.sample.pictures(np.random.default_rng((self.options.seed, VALIDATED)), *VALIDATION)
        return validate(self.encoder(), self.teacher.net, contents, styles, self.compute)

    def state_dict(self) -> dict[str, Any]:
        """Return the pool, and whether the student still has batch norm."""
        return {"pool": self.pool, "batch_norm": self.net.vgg.config.batch_norm}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the pool, and fold the student's batch norm if the state says so."""
        self.pool = list(state["pool"])
        if self.net.vgg.config.batch_norm and not state["batch_norm"]:
            self.fold()

    def write(self, net: nn.Module, path: Path, step: int) -> None:
        """Write the encoder as a model file. After the last step, first fit its heads on training crops."""
        assert isinstance(net, Student)
        o, encoder = self.options, net.encoder(self.teacher)
        if step == o.steps:
            painted = o.painted if self.pool else 0.0
            batches = (self.batch_for(FIT, i, painted) for i in range(o.fit_batches))
            fit_heads(encoder, self.teacher, batches, self.compute)
        account = {
            "recipe": "impasto train encoder",
            "steps": step,
            "batch": o.batch,
            "crop": o.crop,
            "photographs": len(self.sample.photos),
            "paintings": len(self.sample.paintings),
            "teacher": "VGG-19 16x pruned, Collaborative Distillation (Wang et al., CVPR 2020), MIT",
        }
        save_encoder(encoder, path, training=account, licence="MIT")


def rate_factor(step: int, o: TrainEncoderOptions) -> float:
    """Return the rate factor: warm-up and cosine decay with batch norm, then the same again, lower, without it."""
    if step < o.batch_norm_steps:
        begin, end, top, last = 0, o.batch_norm_steps, 1.0, o.fold_rate
    else:
        begin, end, top, last = o.batch_norm_steps, o.steps, o.fold_rate, 0.0
    u = (step - begin) / max(1, end - begin)
    rise = min(1.0, (step - begin + 1) / (o.warm_up + 1))
    return rise * (last + (top - last) * 0.5 * (1 + math.cos(math.pi * u)))
