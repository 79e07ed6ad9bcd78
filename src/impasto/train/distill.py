"""Training the compact encoder: distillation of a VGG-19 teacher, made for being optimised through.

The student gives, through 1x1 heads, the teacher's five head outputs (VGG-19's channels at relu1_1 ... relu5_1) and its relu4_2;
learned 1x1 maps, thrown away afterwards, hint at the layers between. An optimiser exploits every mismatch between the two,
so a part of every batch comes from pictures that were optimised on the student as it is; the validation, too, is
such pictures, judged by the teacher.

The teacher is the VGG-19 of "Collaborative Distillation for Ultra-Resolution Universal Style Transfer" (Wang et al., CVPR 2020).
The convolutions' matrices are trained with Muon (Jordan et al. 2024), all else with Adam.
"""

import json
import logging
import math
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from ..errors import TrainingError
from ..models.vgg import COMPACT, CONTENT_LAYER, STYLE_LAYERS, VGG, VGGConfig
from ..options import TrainEncoderOptions
from ..style.losses import content_loss, gram_loss
from ..style.statistics import head_metric, raw_moments
from .data import PictureBank, find_pictures, jitter

log = logging.getLogger(__name__)

TARGETS = (*STYLE_LAYERS, CONTENT_LAYER)
HINTS = ("relu1_2", "relu2_2", "relu3_2", "relu3_3", "relu3_4", "relu4_3", "relu4_4")
HINT_WEIGHT = 0.3
SAMPLING = {1: 8, 2: 4, 3: 2, 4: 1, 5: 1}  # block -> one feature pixel in so many, along each side, enters the loss


def load_teacher(path: Path) -> VGG:
    """The pruned VGG-19 as a VGG of ours: its 1x1 input map is folded into the first convolution, exactly.

    Raises
    ------
    TrainingError
        If the file is missing or is not that network.
    """
    try:
        state = load_file(path)
        widths = tuple(state[f"conv{b}1.weight"].shape[0] for b in range(1, 6))
        heads = {k: state[f"conv{k[4]}1_aux.weight"].shape[0] for k in STYLE_LAYERS}
        config = VGGConfig(widths, (2, 2, 4, 4, 1), heads, padding="reflect", mean=(0, 0, 0), std=(1, 1, 1))
        net = VGG(config, "teacher")
        for name, conv in net.convolutions():
            key = f"conv{name[4]}{name[6]}"
            weight, bias = state[f"{key}.weight"], state[f"{key}.bias"]
            if name == "conv1_1":
                colours, shift = state["conv0.weight"].flatten(1), state["conv0.bias"]
                bias = bias + torch.einsum("oihw,i->o", weight, shift)
                weight = torch.einsum("oihw,ij->ojhw", weight, colours)
            conv.load_state_dict({"weight": weight, "bias": bias})
        for layer, head in net.heads.items():
            head.load_state_dict(
                {"weight": state[f"conv{layer[4]}1_aux.weight"], "bias": state[f"conv{layer[4]}1_aux.bias"]}
            )
    except (OSError, KeyError, RuntimeError, ValueError) as error:
        raise TrainingError(f"{path} is not the pruned VGG-19 teacher: {error}") from error
    return net.to(memory_format=torch.channels_last)


class Teacher:
    """The teacher's features at sampled pixels, each channel standardised over the training pictures."""

    def __init__(self, net: VGG):
        self.net = net
        self.mean: dict[str, Tensor] = {}
        self.std: dict[str, Tensor] = {}
        self.live: dict[str, Tensor] = {}

    @torch.no_grad()
    def targets(self, x: Tensor, offset: tuple[int, int]) -> dict[str, Tensor]:
        """Layer -> (N, C, h, w): head outputs at the style layers, the network's own features elsewhere."""
        with torch.autocast("cpu", torch.bfloat16):
            features = self.net(x, (*TARGETS, *HINTS))
        out = {}
        for layer, f in features.items():
            f = sample(f, layer, offset).float()
            out[layer] = self.net.heads[layer](f) if layer in self.net.heads else f
        if not self.mean:
            return out
        return {k: (v - self.mean[k]) / self.std[k] * self.live[k] for k, v in out.items()}

    def calibrate(self, batches: Iterator[Tensor]) -> None:
        """Measure each channel's mean and deviation; channels that never fire are marked as not alive."""
        sums: dict[str, list[Tensor]] = {}
        for x in batches:
            for k, v in self.targets(x, (0, 0)).items():
                sums.setdefault(k, []).append(torch.stack([v.mean((0, 2, 3)), v.square().mean((0, 2, 3))]))
        for k, values in sums.items():
            mean, square = torch.stack(values).mean(0)
            variance = square - mean.square()
            live = variance > 1e-4 * variance.mean()
            self.live[k] = live.float()[:, None, None]
            self.mean[k] = mean[:, None, None]
            self.std[k] = torch.where(live, variance, torch.ones(())).sqrt()[:, None, None]


def sample(features: Tensor, layer: str, offset: tuple[int, int]) -> Tensor:
    """Every s-th pixel of a feature map along each side, from a shifting start."""
    s = SAMPLING[int(layer[4])]
    return features[:, :, offset[0] % s :: s, offset[1] % s :: s]


class Student(nn.Module):
    """The encoder being trained, its heads in standardised units, and the maps for the hints."""

    def __init__(self, config: VGGConfig, teacher: VGG, seed: int):
        super().__init__()
        g = torch.Generator().manual_seed(seed)
        self.vgg = VGG(config, "compact")
        self.vgg.initialise(g)
        self.hints = nn.ModuleDict({k: nn.Conv2d(self.vgg.width(k), teacher.width(k), 1) for k in HINTS})
        for m in [*self.vgg.heads.values(), *self.hints.values()]:
            assert isinstance(m, nn.Conv2d) and m.bias is not None
            m.weight.data.normal_(0, math.sqrt(0.5 / m.in_channels), generator=g)
            m.bias.data.zero_()
        self.requires_grad_(True)
        self.to(memory_format=torch.channels_last)

    def errors(self, x: Tensor, targets: dict[str, Tensor], offset: tuple[int, int]) -> dict[str, Tensor]:
        """Layer -> the relative error of its head or hint: mean squared error over the channel's variance."""
        with torch.autocast("cpu", torch.bfloat16):
            features = self.vgg(x, (*TARGETS, *HINTS))
        out = {}
        for layer, f in features.items():
            m = self.vgg.heads[layer] if layer in self.vgg.heads else self.hints[layer]
            out[layer] = (m(sample(f, layer, offset).float()) - targets[layer]).square().mean()
        return out

    def encoder(self, teacher: Teacher) -> VGG:
        """A frozen copy for use: batch norm folded, heads in the teacher's own units."""
        training = self.vgg.training
        self.vgg.eval()
        net = self.vgg.fold_batch_norm() if self.vgg.config.batch_norm else VGG(self.vgg.config, "compact")
        if not self.vgg.config.batch_norm:
            net.load_state_dict(self.vgg.state_dict())
        self.vgg.train(training)
        for layer, head in net.heads.items():
            assert isinstance(head, nn.Conv2d) and head.bias is not None
            std, mean, live = (d[layer].flatten() for d in (teacher.std, teacher.mean, teacher.live))
            head.weight.data *= (std * live)[:, None, None, None]
            head.bias.data = head.bias.data * std * live + mean
        net.requires_grad_(False)
        return net.eval().to(memory_format=torch.channels_last)


def paint(net: VGG, contents: Tensor, styles: Tensor, rng: np.random.Generator, steps: int = 60) -> list[Tensor]:
    """Pictures optimised on `net`, each of the batch with its own content and style; a few on the way and the last.

    Parameters
    ----------
    contents, styles : Tensor
        (N, 3, S, S) in [0, 1].
    rng : numpy Generator
        Chooses the start, the rate and the content weight.

    Returns
    -------
    list of Tensor
        Each (N, 3, S, S), not clamped.
    """
    metrics = {k: head_metric(net, k) for k in STYLE_LAYERS}
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        target = {k: raw_moments(f) for k, f in net(styles, STYLE_LAYERS).items()}
        content = net(contents, (CONTENT_LAYER,))[CONTENT_LAYER]
    noise = torch.from_numpy(rng.standard_normal(contents.shape, dtype=np.float32))
    start = rng.choice(["content", "style", "noise"], p=[0.7, 0.15, 0.15])
    x = {"content": contents, "style": styles.roll(1, 0), "noise": 0.5 + 0.2 * noise}[start] + 0.02 * noise
    x = x.contiguous(memory_format=torch.channels_last).requires_grad_(True)
    optimiser = torch.optim.Adam([x], lr=float(np.exp(rng.uniform(np.log(0.01), np.log(0.1)))), betas=(0.9, 0.99))
    weight = float(np.exp(rng.uniform(np.log(0.003), np.log(0.3))))
    kept, keep = [], set(rng.choice(steps - 1, 2, replace=False)) | {steps - 1}
    for i in range(steps):
        with torch.autocast("cpu", torch.bfloat16):
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
    """(N,): the mean over the style layers of ||G(x) - G(y)|| / ||G(y)|| behind the heads of `net`."""
    fx, fy = net(x, STYLE_LAYERS), net(y, STYLE_LAYERS)
    return torch.stack(
        [gram_loss(raw_moments(fx[k]), raw_moments(fy[k]), head_metric(net, k)).sqrt() for k in STYLE_LAYERS]
    ).mean(0)


def validate(encoder: VGG, teacher: VGG, contents: Tensor, styles: Tensor) -> float:
    """Gram distance to the style of pictures optimised on `encoder`, over the photo's own, by the teacher: geometric mean."""
    x = torch.cat([paint_plainly(encoder, c[None], s[None]) for c, s in zip(contents, styles, strict=True)])
    ratio = style_distances(teacher, x.clamp(0, 1), styles) / style_distances(teacher, contents, styles)
    return ratio.log().mean().exp().item()


def paint_plainly(net: VGG, content: Tensor, style: Tensor, steps: int = 100) -> Tensor:
    """A fixed short optimisation for the validation: Adam at 0.03 from the content."""
    metrics = {k: head_metric(net, k) for k in STYLE_LAYERS}
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        target = {k: raw_moments(f) for k, f in net(style, STYLE_LAYERS).items()}
    x = content.clone().contiguous(memory_format=torch.channels_last).requires_grad_(True)
    optimiser = torch.optim.Adam([x], lr=0.03, betas=(0.9, 0.99))
    for _ in range(steps):
        with torch.autocast("cpu", torch.bfloat16):
            features = net(x, STYLE_LAYERS)
        loss = torch.stack(
            [gram_loss(raw_moments(features[k]), target[k], metrics[k]).sum() for k in STYLE_LAYERS]
        ).sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return x.detach()


class Optimisers:
    """Muon for the convolutions' matrices, Adam for the rest, both on one schedule."""

    def __init__(self, student: Student, options: TrainEncoderOptions):
        self.weights = [conv.weight for _, conv in student.vgg.convolutions()]
        mine = {id(w) for w in self.weights}
        rest = [p for p in student.parameters() if id(p) not in mine]
        self.matrices = [nn.Parameter(w.data.contiguous().flatten(1)) for w in self.weights]  # Muon takes matrices only
        self.muon = torch.optim.Muon(self.matrices, lr=options.rate, weight_decay=0, adjust_lr_fn="match_rms_adamw")
        self.adam = torch.optim.Adam(rest, lr=options.head_rate, betas=(0.9, 0.99))
        self.rates = (options.rate, options.head_rate)

    def step(self, loss: Tensor, factor: float) -> None:
        """One step down `loss`, the rates times `factor`."""
        self.adam.zero_grad()
        for w in self.weights:
            w.grad = None
        loss.backward()
        for optimiser, rate in zip((self.muon, self.adam), self.rates, strict=True):
            optimiser.param_groups[0]["lr"] = rate * factor
        for w, m in zip(self.weights, self.matrices, strict=True):
            assert w.grad is not None
            m.grad = w.grad.contiguous().flatten(1)
        self.muon.step()
        self.adam.step()
        with torch.no_grad():
            for w, m in zip(self.weights, self.matrices, strict=True):
                w.copy_(m.view(w.shape))

    def state_dict(self) -> dict[str, Any]:
        """For the checkpoint."""
        return {"muon": self.muon.state_dict(), "adam": self.adam.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """From the checkpoint."""
        self.muon.load_state_dict(state["muon"])
        self.adam.load_state_dict(state["adam"])


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
    """What a consumer of `train_encoder` sees after each step."""

    step: int
    total: int
    errors: dict[str, float]
    validation: float | None
    seconds: float


def train_encoder(o: TrainEncoderOptions) -> Iterator[TrainStep]:
    """Train the compact encoder; yields after every step, writes checkpoints and, at each, the encoder so far.

    Random choices depend on (seed, step) alone, so that a resumed run goes on as the uninterrupted one would, but for
    the pool of painted pictures, which is made anew.

    Raises
    ------
    TrainingError
        If the teacher, the pictures or the checkpoint cannot be used.
    """
    exclude = o.exclude.read_text().splitlines() if o.exclude else []
    paths = find_pictures(o.pictures, exclude)
    photos = PictureBank([p for p in paths if "painting" not in p.as_posix()], 400)
    paintings = PictureBank([p for p in paths if "painting" in p.as_posix()] or paths, 768)
    log.info(
        "%d photographs, %d paintings, %d files skipped",
        len(photos),
        len(paintings),
        photos.skipped + paintings.skipped,
    )
    teacher = Teacher(load_teacher(o.teacher))
    pool: list[Tensor] = []

    def crops(step: int) -> Tensor:
        rng = np.random.default_rng((o.seed, 1, step))
        rows = []
        for _ in range(o.batch):
            if pool and rng.random() < o.painted:
                x = pool[rng.integers(len(pool))]
                i, j = rng.integers(x.shape[-2] - o.crop + 1), rng.integers(x.shape[-1] - o.crop + 1)
                rows.append(x[:, i : i + o.crop, j : j + o.crop])
            else:
                rows.append(jitter((photos if rng.random() < 0.5 else paintings).crop(rng, o.crop), rng))
        return torch.stack(rows).contiguous(memory_format=torch.channels_last)

    def pictures(rng: np.random.Generator, n: int, size: int) -> tuple[Tensor, Tensor]:
        return (
            torch.stack([photos.crop(rng, size, (0.8, 1.4)) for _ in range(n)]).contiguous(
                memory_format=torch.channels_last
            ),
            torch.stack([paintings.crop(rng, size, (0.5, 1.4)) for _ in range(n)]).contiguous(
                memory_format=torch.channels_last
            ),
        )

    teacher.calibrate(crops(10**9 + i) for i in range(40))
    validation = pictures(np.random.default_rng((o.seed, 2)), 8, 256)
    config = replace(COMPACT, batch_norm=o.batch_norm_steps > 0)
    student, start = Student(config, teacher.net, o.seed), 0
    checkpoint_path = o.out.with_suffix(".checkpoint.pt")
    if o.resume:
        state = load_checkpoint(checkpoint_path)
        start = state["step"]
        if start >= o.batch_norm_steps:
            student = Student(replace(config, batch_norm=False), teacher.net, o.seed)
        student.load_state_dict(state["student"])
    optimisers = Optimisers(student, o)
    if o.resume:
        optimisers.load_state_dict(state["optimisers"])  # pyright: ignore[reportPossiblyUnboundVariable]

    begun = time.monotonic()
    for step in range(start, o.steps):
        if step == o.batch_norm_steps and student.vgg.config.batch_norm:
            folded = Student(replace(config, batch_norm=False), teacher.net, o.seed)
            folded.hints.load_state_dict(student.hints.state_dict())
            student.vgg.eval()
            folded.vgg.load_state_dict(student.vgg.fold_batch_norm().state_dict())
            student, optimisers = folded, Optimisers(folded, o)
        if step >= o.paint_from and (step % o.paint_every == 0 or not pool):
            rng = np.random.default_rng((o.seed, 3, step))
            size = int(rng.choice([192, 256]))
            painted = paint(student.encoder(teacher), *pictures(rng, 4 if size == 192 else 2, size), rng)
            pool.extend(x for batch in painted for x in batch if x.isfinite().all())
            del pool[: -o.pool]
        rng = np.random.default_rng((o.seed, 4, step))
        offset = (int(rng.integers(8)), int(rng.integers(8)))
        x = crops(step)
        student.train()
        errors = student.errors(x, teacher.targets(x, offset), offset)
        loss = torch.stack([v if k in TARGETS else HINT_WEIGHT * v for k, v in errors.items()]).sum()
        optimisers.step(loss, rate_factor(step, o))
        done = step + 1
        last = done == o.steps
        if done % o.checkpoint_every == 0 or last:
            save_checkpoint(
                checkpoint_path, {"step": done, "student": student.state_dict(), "optimisers": optimisers.state_dict()}
            )
        figure = None
        if done % o.validate_every == 0 or last:
            figure = validate(student.encoder(teacher), teacher.net, *validation)
        yield TrainStep(done, o.steps, {k: errors[k].item() for k in TARGETS}, figure, time.monotonic() - begun)


def load_checkpoint(path: Path) -> dict[str, Any]:
    """A checkpoint's tensors and numbers; nothing else in it is unpickled."""
    try:
        return torch.load(path, weights_only=True)
    except (OSError, RuntimeError, ValueError) as error:
        raise TrainingError(f"cannot resume from {path}: {error}") from error


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write beside the target, then move into place."""
    temporary = path.with_name(path.name + ".part")
    torch.save(state, temporary)
    os.replace(temporary, path)


def main() -> None:
    import sys

    values = json.loads(sys.argv[1])
    for k in ("teacher", "out", "exclude"):
        values[k] = Path(values[k])
    values["pictures"] = tuple(map(Path, values["pictures"]))
    o = TrainEncoderOptions(**values)
    torch.set_num_threads(2)
    ema: dict[str, float] = {}
    for s in train_encoder(o):
        for k, v in s.errors.items():
            ema[k] = ema.get(k, v) * 0.97 + 0.03 * v
        if s.step % 100 == 0 or s.validation:
            print(
                s.step,
                f"{s.seconds:.0f}s",
                " ".join(f"{k[4:]}:{v:.4f}" for k, v in ema.items()),
                s.validation or "",
                flush=True,
            )


if __name__ == "__main__":
    main()
