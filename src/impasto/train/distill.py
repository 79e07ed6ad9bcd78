"""Training the compact encoder: distillation of a VGG-19 teacher, made for being optimised through.

The student gives, through 1x1 heads, the teacher's five head outputs (VGG-19's channels at relu1_1 ... relu5_1) and its
relu4_2; learned 1x1 maps, thrown away afterwards, hint at the layers between. An optimiser exploits every mismatch
between the two, so a part of every batch comes from pictures that were optimised on the student as it is; the
validation, too, is such pictures, judged by the teacher.

First with batch norm, which the deep layers need to learn quickly; then that is folded into the convolutions and the
network trains on as it will be used. The convolutions' matrices are trained with Muon (Jordan et al. 2024), all else
with Adam; last, the heads are fitted once more by least squares.
"""

import logging
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import TrainingError
from ..models.vgg import COMPACT, VGG, VGGConfig
from ..models.weights import save_encoder
from ..options import TrainEncoderOptions
from .augment import jitter
from .loop import checkpoint_path, load_checkpoint, save_checkpoint
from .painted import paint, validate
from .pictures import PictureSet
from .student import Student, optimisers_of
from .teacher import TARGETS, Teacher, load_teacher, sample

log = logging.getLogger(__name__)

HINT_WEIGHT = 0.3
CALIBRATION_STEP, FIT_STEP = 10**9, 2 * 10**9  # crops for the targets' units and for the last fit: no training step's
LICENCE = "MIT"
VALIDATION = (8, 256)
"""Number and side of the pictures that are painted at a validation."""
PAINTED = ((4, 192), (2, 256))
"""Number and side of the pictures that are painted at once for the training; each time one of these."""


def rate_factor(step: int, o: TrainEncoderOptions) -> float:
    """Warm-up, then falling by a cosine; once with batch norm, and again, lower, without."""
    if step < o.batch_norm_steps:
        begin, end, top, last = 0, o.batch_norm_steps, 1.0, o.fold_rate
    else:
        begin, end, top, last = o.batch_norm_steps, o.steps, o.fold_rate, 0.0
    u = (step - begin) / max(1, end - begin)
    return min(1.0, (step - begin + 1) / 100) * (last + (top - last) * 0.5 * (1 + math.cos(math.pi * u)))


@dataclass(frozen=True)
class TrainStep:
    """What a consumer of `train_encoder` sees after each step.

    Parameters
    ----------
    step, total : int
        Steps done, and in all.
    errors : dict of str to float
        Target layer -> relative error on the step's own crops.
    validation : float or None
        At validations: the teacher's Gram distance of pictures painted on the student, over the photos' own.
    seconds : float
        Since the training began or was resumed.
    """

    step: int
    total: int
    errors: dict[str, float]
    validation: float | None
    seconds: float


class Distillation:
    """The state of a training run: pictures, teacher, student, optimisers and the pool of painted pictures."""

    def __init__(self, o: TrainEncoderOptions):
        self.options = o
        self.teacher = Teacher(load_teacher(o.teacher))
        self.photos = PictureSet.open(o.photos, o.exclude, 400)
        self.paintings = PictureSet.open(o.paintings, o.exclude, 768)
        self.pool: list[Tensor] = []
        self.teacher.calibrate(self.crops(CALIBRATION_STEP + i) for i in range(40))
        self.validation = self.pictures(np.random.default_rng((o.seed, 2)), *VALIDATION)
        self.step = 0
        self._start(replace(COMPACT, batch_norm=o.batch_norm_steps > 0))

    def _start(self, config: VGGConfig) -> None:
        self.student = Student(config, self.teacher.net, self.options.seed)
        self.optimisers = optimisers_of(self.student, self.options)

    def crops(self, step: int) -> Tensor:
        """The batch of a step, (N, 3, S, S): photographs, paintings and painted pictures."""
        o, rows = self.options, []
        rng = np.random.default_rng((o.seed, 1, step))
        for _ in range(o.batch):
            if self.pool and rng.random() < o.painted:
                x = self.pool[rng.integers(len(self.pool))]
                i, j = rng.integers(x.shape[-2] - o.crop + 1), rng.integers(x.shape[-1] - o.crop + 1)
                rows.append(x[:, i : i + o.crop, j : j + o.crop])
            else:
                rows.append(jitter((self.photos if rng.random() < 0.5 else self.paintings).crop(rng, o.crop), rng))
        return torch.stack(rows).contiguous(memory_format=torch.channels_last)

    def pictures(self, rng: np.random.Generator, n: int, size: int) -> tuple[Tensor, Tensor]:
        """Contents and styles to paint with, (n, 3, size, size) each."""
        contents = torch.stack([self.photos.crop(rng, size, (0.8, 1.4)) for _ in range(n)])
        styles = torch.stack([self.paintings.crop(rng, size, (0.5, 1.4)) for _ in range(n)])
        layout = torch.channels_last
        return contents.contiguous(memory_format=layout), styles.contiguous(memory_format=layout)

    def encoder(self) -> VGG:
        """A frozen copy of the student for use."""
        return self.student.encoder(self.teacher)

    def paint(self) -> None:
        """Add pictures optimised on the student as it is to the pool; the oldest go."""
        o = self.options
        rng = np.random.default_rng((o.seed, 3, self.step))
        n, size = PAINTED[rng.integers(len(PAINTED))]
        painted = paint(self.encoder(), *self.pictures(rng, n, max(o.crop, size)), rng)
        self.pool.extend(x for batch in painted for x in batch if x.isfinite().all())
        del self.pool[: -o.pool]

    def advance(self) -> dict[str, float]:
        """One step; target layer -> relative error."""
        o = self.options
        if self.step == o.batch_norm_steps and self.student.vgg.config.batch_norm:
            self.fold()
        if o.painted and self.step >= o.paint_from and (self.step % o.paint_every == 0 or not self.pool):
            self.paint()
        rng = np.random.default_rng((o.seed, 4, self.step))
        offset = (int(rng.integers(8)), int(rng.integers(8)))
        x = self.crops(self.step)
        self.student.train()
        errors = self.student.errors(x, self.teacher.targets(x, offset), offset)
        loss = torch.stack([v if k in TARGETS else HINT_WEIGHT * v for k, v in errors.items()]).sum()
        if not torch.isfinite(loss):
            raise TrainingError(f"the loss is no longer finite at step {self.step + 1}; lower --rate (now {o.rate:g})")
        self.optimisers.zero_grad()
        loss.backward()
        self.optimisers.step(rate_factor(self.step, o))
        self.step += 1
        return {k: float(errors[k].detach()) for k in TARGETS}

    def fold(self) -> None:
        """Fold the batch norm into the convolutions and go on without."""
        old = self.student
        old.vgg.eval()
        self._start(replace(old.vgg.config, batch_norm=False))
        self.student.hints.load_state_dict(old.hints.state_dict())
        self.student.vgg.load_state_dict(old.vgg.fold_batch_norm().state_dict())
        self.optimisers = optimisers_of(self.student, self.options)

    @torch.no_grad()
    def fitted_encoder(self) -> VGG:
        """The encoder with its heads fitted by least squares, the optimum for its features on training crops."""
        net, batches = self.encoder(), self.options.fit_batches
        sums: dict[str, tuple[Tensor, Tensor]] = {}
        for i in range(batches):
            x, offset = self.crops(FIT_STEP + i), (i % 8, i // 8 % 8)
            targets = self.teacher.targets(x, offset)
            with torch.autocast("cpu", torch.bfloat16):
                features = net(x, TARGETS)
            for k in TARGETS:
                f = sample(features[k], k, offset).permute(1, 0, 2, 3).flatten(1).double()
                f = torch.cat([f, f.new_ones(1, f.shape[1])])  # (C + 1, pixels)
                y = targets[k].permute(1, 0, 2, 3).flatten(1).double()
                a, b = sums.get(k, (0.0, 0.0))
                sums[k] = (a + f @ f.t() / batches, b + y @ f.t() / batches)
        for k, (a, b) in sums.items():
            ridge = 1e-6 * torch.diag(a.diagonal().clamp(min=1e-9 * float(a.diagonal().max())))
            solution = torch.linalg.solve(a + ridge, b.t()).t().float()
            head = net.heads[k]
            assert isinstance(head, nn.Conv2d)
            assert head.bias is not None
            std, mean, live = (d[k].flatten() for d in (self.teacher.std, self.teacher.mean, self.teacher.live))
            head.weight.data = (solution[:, :-1] * (std * live)[:, None])[:, :, None, None]
            head.bias.data = solution[:, -1] * std * live + mean
        return net

    def save(self) -> None:
        """Write the checkpoint, and the encoder so far to the options' output."""
        o = self.options
        state = {"step": self.step, "student": self.student.state_dict(), "optimisers": self.optimisers.state_dict()}
        save_checkpoint(checkpoint_path(o.out), state)
        training = {
            "recipe": "impasto train encoder",
            "steps": self.step,
            "batch": o.batch,
            "crop": o.crop,
            "photographs": len(self.photos),
            "paintings": len(self.paintings),
            "teacher": "VGG-19 16x pruned, Collaborative Distillation (Wang et al., CVPR 2020), MIT",
        }
        net = self.fitted_encoder() if self.step == o.steps else self.encoder()
        save_encoder(net, o.out, training=training, licence=LICENCE)

    def restore(self) -> None:
        """Go on from the checkpoint.

        Raises
        ------
        TrainingError
            If it is missing or damaged.
        """
        path = checkpoint_path(self.options.out)
        state = load_checkpoint(path)
        try:
            self.step = state["step"]
            self._start(replace(COMPACT, batch_norm="vgg.features.1.running_mean" in state["student"]))
            self.student.load_state_dict(state["student"])
            self.optimisers = optimisers_of(self.student, self.options)
            self.optimisers.load_state_dict(state["optimisers"])
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise TrainingError(f"cannot resume from {path}: it is no checkpoint of this training ({error})") from error


def train_encoder(o: TrainEncoderOptions) -> Iterator[TrainStep]:
    """Train the compact encoder; yields after every step, writes checkpoints and, with each, the encoder so far.

    What can fail does so at the call; the training itself begins with the first step that is asked for.

    Random choices depend on (seed, step) alone, so that a resumed run goes on as the uninterrupted one would, but for
    the pool of painted pictures, which is painted anew.

    Raises
    ------
    TrainingError
        If the teacher, the pictures or the checkpoint cannot be used, or the loss leaves the finite numbers.
    """
    try:
        o.out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TrainingError(f"cannot write {o.out}: {error.strerror}; name another place with --out") from error
    run = Distillation(o)
    if o.resume:
        run.restore()
    return _train(run)


def _train(run: Distillation) -> Iterator[TrainStep]:
    o, begun = run.options, time.monotonic()
    while run.step < o.steps:
        errors = run.advance()
        last = run.step == o.steps
        if run.step % o.checkpoint_every == 0 or last:
            run.save()
        validation = None
        if run.step % o.validate_every == 0 or last:
            validation = validate(run.encoder(), run.teacher.net, *run.validation)
        yield TrainStep(run.step, o.steps, errors, validation, time.monotonic() - begun)
