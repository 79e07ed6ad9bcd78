"""Train the network on one GPU, with the whole step as one CUDA graph and all pictures in the GPU's memory.

    impasto train pack DATASETS/photos --exclude DATASETS/heldout.txt --short-side 400 --out photos.zip
    impasto train pack DATASETS/paintings --exclude DATASETS/heldout.txt --short-side 512 --out paintings.zip
    python benchmarks/network_graph.py --photos photos.zip --paintings paintings.zip --minutes 9 --out net.safetensors
    python benchmarks/network_graph.py --photos photos.zip --paintings paintings.zip --check

`impasto train network` reads pictures in worker processes and computes eigenvalues on the CPU, so a GPU waits for it.
Here, everything happens on the GPU: crops are drawn and resized there, and roots of covariances are computed by the
Newton-Schulz iteration instead of eigenvalues. The step is captured once and replayed. The loss is the same but for
rounding and `SMOOTHING`: --check compares it and its gradient with those of `impasto train network` on one batch, with
or without a GPU. The state of a training is written next to its output, and --resume continues from it.

An earlier form of this program has trained on a GPU. This one has been run on a CPU only.
"""

import io
import math
import shlex
import sys
import time
import zipfile
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import torch.nn.functional as F
import tyro
from PIL import Image
from torch import Tensor
from typing_extensions import Doc

import impasto.models.moments
import impasto.models.passes
import impasto.train.spikes
from impasto.device import Compute, channels_last, choose_compute
from impasto.errors import ImpastoError
from impasto.models import colours as colours_module
from impasto.models.colours import colour, overshoot
from impasto.models.layers import EPSILON
from impasto.models.moments import covariance, raw_moments
from impasto.models.network import RANGES, Network, NetworkConfig, StyleSummary, save_network
from impasto.models.networks import find_network
from impasto.models.passes import NOISE_SIDE, Origins
from impasto.models.vgg import VGG
from impasto.models.weights import load_encoder
from impasto.options import TrainNetworkOptions
from impasto.style.painting import PaintingLoss
from impasto.style.target import StyleTarget, builtin_names
from impasto.stylizers.learn import OTHER_STROKES, PICTURE, STROKES
from impasto.stylizers.sources import resolve_style
from impasto.train.network import (
    LEAST_DEVIATION,
    OVERSHOOT_WEIGHT,
    PART_ZOOM,
    PHOTO_ZOOM,
    SCALE_WEIGHT,
    scale_loss,
)
from impasto.train.optimisers import ITERATIONS, LEAST_NORM, MOMENTUM, NEWTON_SCHULZ
from impasto.train.spikes import LIMIT, MEAN_LIMIT, MEAN_SHARE, WatchedPass

SMOOTHING = 1e-3
"""Variance added to every channel, relative to the style's mean square per channel: ten times `losses.EPSILON`. The
iteration diverges if rounding has made an eigenvalue negative."""
EVERY = 10
"""Steps between two looks at the clock."""
LOG_EVERY = 500
CALIBRATION = 8
"""Batches of 64 parts of paintings for calibrating the network."""
ORDERS = ((0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0))
SUMMED = 1024
"""Pixels that are summed in float32 at a time."""


def square_roots(matrices: Tensor, least: float, steps: int) -> tuple[Tensor, Tensor]:
    """Return the square roots and inverse square roots of symmetric positive definite matrices (N, C, C).

    The coupled Newton-Schulz iteration, scaled in every step to the range in which the singular values still lie (Chen,
    Chow, "A Stable Scaling of Newton-Schulz for Improving the Sign Function Computation of a Hermitian Matrix", 2014).

    Parameters
    ----------
    least : float
        The square root of the smallest eigenvalue, relative to the Frobenius norm. Smaller ones get an inverse root
        that is too small.
    steps : int
        Number of iterations.
    """
    norm = matrices.square().sum((1, 2), keepdim=True).sqrt().clamp(min=1e-30)
    eye = torch.eye(matrices.shape[-1], dtype=matrices.dtype, device=matrices.device).expand_as(matrices)
    root, inverse = matrices / norm, eye
    for _ in range(steps):
        a = math.sqrt(3 / (1 + least + least * least))
        factor = torch.baddbmm(eye, inverse, root, beta=1.5 * a, alpha=-0.5 * a**3)
        root, inverse = root @ factor, factor @ inverse
        least = a * least * (3 - a * a * least * least) / 2
    return root * norm.sqrt(), inverse / norm.sqrt()


def transport(moments: Tensor, colours: Tensor) -> tuple[Tensor, Tensor]:
    """Return the result of `models.colours.transport`, on the tensors' device."""
    moments, colours = moments.double(), colours.double()
    eye = colours_module.EPSILON * torch.eye(3, dtype=torch.float64, device=moments.device)
    root = square_roots(colours[:, :, :3] + eye, 1e-2, 10)[0]
    inverse = square_roots(root @ (covariance(moments) + eye) @ root, 1e-4, 16)[1]
    matrix = root @ inverse @ root
    return matrix, (colours[:, :, 3:] - matrix @ moments[:, :-1, -1:])[:, :, 0]


class _MomentsLoss(torch.autograd.Function):
    """`style.losses.moments_loss` on the tensors' device. A style whose iteration diverges has no loss."""

    @staticmethod
    def forward(ctx: Any, moments: Tensor, target: Tensor, metric: Tensor) -> Tensor:
        wanted, found = target.double(), moments.detach().double()
        channels = metric.shape[0]
        squared = metric @ metric
        k = metric @ covariance(wanted) @ metric
        trace = k.diagonal(dim1=1, dim2=2).sum(1)
        scale = (trace + (wanted[:, :-1, -1] @ metric).square().sum(1)).clamp(min=1e-12)
        added = SMOOTHING * scale / channels
        smooth = k + added[:, None, None] * torch.eye(channels, dtype=k.dtype, device=k.device)
        root = square_roots(smooth, 1e-3, 11)[0] @ metric
        mean, c = found[:, :-1, -1], covariance(found)
        difference = mean - wanted[:, :-1, -1]
        moved = difference @ squared
        both, inverse = square_roots(root @ c @ root.transpose(1, 2) + added[:, None, None] * smooth, 1e-5, 16)
        traces = (c * squared).sum((1, 2)) + trace + 2 * channels * added
        loss = ((difference * moved).sum(1) + traces - 2 * both.diagonal(dim1=1, dim2=2).sum(1)) / scale
        by_covariance = (squared - root.transpose(1, 2) @ inverse @ root) / scale[:, None, None]
        by_mean = 2 * (moved / scale[:, None] - (by_covariance @ mean[:, :, None])[:, :, 0])
        good = loss.isfinite() & (loss.abs() < 100)
        by_covariance = torch.where(good[:, None, None], by_covariance, 0)
        ctx.save_for_backward(by_covariance.float(), torch.where(good[:, None], by_mean, 0).float())
        return torch.where(good, loss, 0).float()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        by_covariance, by_mean = ctx.saved_tensors
        n, c = by_mean.shape
        g = by_mean.new_zeros(n, c + 1, c + 1)
        g[:, :-1, :-1] = by_covariance
        g[:, :-1, -1] = by_mean
        return g * grads[0][:, None, None], None, None


def moment_sums(features: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return the result of `models.moments.moment_sums`: many short sums, which a GPU computes side by side."""
    n, c, h, w = features.shape
    f = features.permute(0, 2, 3, 1).reshape(n, h * w, c).float()
    each_weight = f.new_ones(1, h * w, 1) if weights is None else weights.float().flatten(1)[:, :, None]
    weighted = f if weights is None else f * each_weight
    parts = next(p for p in range(max(1, h * w // SUMMED), 0, -1) if h * w % p == 0)
    left, right = (x.reshape(n * parts, h * w // parts, c) for x in (weighted, f))
    sums = f.new_empty(n, c + 1, c + 1)
    sums[:, :-1, :-1] = (left.transpose(1, 2) @ right).view(n, parts, c, c).sum(1)
    sums[:, :-1, -1] = sums[:, -1, :-1] = weighted.sum(1)
    sums[:, -1, -1] = each_weight.sum((1, 2))
    return sums


def reflection_pad(x: Tensor, pad: int = 1) -> Tensor:
    """Return the result of `models.layers.reflection_pad`, by PyTorch's own operation, which the compiler fuses."""
    return F.pad(x, (pad,) * 4, mode="reflect")


def instance_norm(
    x: Tensor, scale: Tensor, shift: Tensor, *, relu: bool = False, statistics: Tensor | None = None
) -> Tensor:
    """Return the result of `models.layers.instance_norm`, by PyTorch's own operations, which the compiler fuses."""
    assert statistics is None
    variance, mean = torch.var_mean(x.float(), (2, 3), correction=0)
    slope = scale * (variance + EPSILON).rsqrt()
    y = x.float() * slope[:, :, None, None] + (shift - slope * mean)[:, :, None, None]
    return (y.relu() if relu else y).to(x.dtype)


def excess(x: Tensor) -> Tensor:
    """Return the result of `train.spikes.excess`, by PyTorch's own operations, which the compiler fuses."""
    variance, mean = torch.var_mean(x.detach().float(), (2, 3), correction=0, keepdim=True)
    factor = (variance + EPSILON).rsqrt()
    z = (x.float() - mean) * factor
    far = x.float().mean((2, 3), keepdim=True) * factor
    of_means = (far - far.clamp(-MEAN_LIMIT, MEAN_LIMIT)).square().sum((1, 2, 3))
    return (z - z.clamp(-LIMIT, LIMIT)).square().mean((2, 3)).sum(1) + MEAN_SHARE * of_means


class FastLoss(PaintingLoss):
    """The loss on one device, with features by a compiled function."""

    def __init__(self, encoder: VGG, compute: Compute, encode: Callable[[Tensor], dict[str, Tensor]], **weights: float):
        super().__init__(encoder, compute, **weights)
        self.encode = encode
        self.metrics = {k: m.to(compute.device) for k, m in self.metrics.items() if m is not None}
        self.doubled = {k: m.double() for k, m in self.metrics.items()}

    def features(self, pictures: Tensor, layers: Any) -> dict[str, Tensor]:
        """Return the features of pictures (N, 3, H, W) at the layers."""
        return {k: v for k, v in self.encode(self.compute.picture(pictures)).items() if k in layers}

    def style_loss(self, layer: str, moments: Tensor, target: Tensor) -> Tensor:
        """Return a layer's style loss, (N,)."""
        return _MomentsLoss.apply(moments, target, self.doubled[layer])  # type: ignore[no-any-return]


class GraphPass(WatchedPass):
    """A pass whose origins of the noise are a tensor (2, N), in features of the lowest resolution."""

    places: Tensor

    def with_noise(self, x: Tensor, level: int, origins: Origins, masks: Tensor | None) -> Tensor:
        """Add the noise of one resolution to features (N, C, H, W)."""
        height, width = x.shape[-2:]
        rows, columns = (
            (torch.arange(side, device=x.device)[None] + (place << level)[:, None]) % NOISE_SIDE
            for side, place in zip((height, width), self.places, strict=True)
        )
        noise = self.net.noise[level].permute(1, 2, 0)[rows[:, :, None], columns[:, None, :]].to(x.dtype)
        each = self.parts["noise"][:, self.layout.noise[level], None] * self.net.noises[level]
        mixed = noise.flatten(1, 2) @ each.to(x.dtype)
        return x + mixed.view(-1, height, width, x.shape[1]).permute(0, 3, 1, 2)


class Bank:
    """The pictures of a packed file on the device.

    Parameters
    ----------
    path : Path
        A file that `impasto train pack` has written.
    device : torch.device
        Where to store the pictures.
    most : int
        The largest side of a crop before it is resized.
    """

    def __init__(self, path: Path, device: torch.device, most: int):
        with zipfile.ZipFile(path) as archive:
            data = [archive.read(n) for n in sorted(archive.namelist())]
        with ThreadPoolExecutor() as pool:
            pictures = list(pool.map(lambda b: np.asarray(Image.open(io.BytesIO(b)).convert("RGB")), data))
        sizes = [p.shape[0] * p.shape[1] for p in pictures]
        self.height = torch.tensor([p.shape[0] for p in pictures], device=device)
        self.width = torch.tensor([p.shape[1] for p in pictures], device=device)
        self.start = torch.tensor(np.cumsum([0, *sizes[:-1]]), device=device)
        self.pixels = torch.from_numpy(np.concatenate([p.reshape(-1, 3) for p in pictures])).to(device)
        self.most, self.device = most, device

    def crops(self, count: int, size: int, zoom: tuple[float, float]) -> Tensor:
        """Return random crops (N, 3, size, size) of random pictures, as `random_crop` draws them.

        Half of them are mirrored. A blank crop is replaced by another one.
        """
        r = torch.rand(5, count, device=self.device)
        i = (r[0] * len(self.height)).long().clamp(max=len(self.height) - 1)
        h, w = self.height[i], self.width[i]
        factor = torch.exp(math.log(zoom[0]) + r[1] * math.log(zoom[1] / zoom[0]))
        side = torch.minimum(torch.minimum((size / factor).round().long(), h), w).clamp(max=self.most)
        top, left = (r[2] * (h - side + 1)).long(), (r[3] * (w - side + 1)).long()
        x = resized(self.window(i, top, left), side, size)
        x = torch.where((r[4] < 0.5)[:, None, None, None], x.flip(3), x)
        for shift in (1, 2):
            blank = x.std((2, 3)).max(1).values < LEAST_DEVIATION
            x = torch.where(blank[:, None, None, None], x.roll(shift, 0), x)
        return x

    def window(self, i: Tensor, top: Tensor, left: Tensor) -> Tensor:
        """Return windows (N, 3, most, most), float32, in [0, 1], of the pictures `i`, from their top left corners."""
        k = torch.arange(self.most, device=self.device)
        rows = torch.minimum(top[:, None] + k, self.height[i][:, None] - 1)
        columns = torch.minimum(left[:, None] + k, self.width[i][:, None] - 1)
        at = self.start[i][:, None, None] + rows[:, :, None] * self.width[i][:, None, None] + columns[:, None, :]
        return self.pixels[at].permute(0, 3, 1, 2).float() / 255


def resized(windows: Tensor, side: Tensor, size: int) -> Tensor:
    """Resize the first `side` (N,) rows and columns of windows to (N, 3, size, size): bicubic, antialiased."""
    scale = side.float() / size
    k = torch.arange(windows.shape[-1], device=windows.device)
    centre = (torch.arange(size, device=windows.device) + 0.5) * scale[:, None] - 0.5
    d = (k[None, None].float() - centre[:, :, None]).abs() / scale.clamp(min=1)[:, None, None]
    outer = torch.where(d < 2, ((-0.5 * d + 2.5) * d - 4) * d + 2, 0)
    weights = torch.where(d <= 1, (1.5 * d - 2.5) * d * d + 1, outer) * (k[None, None] < side[:, None, None])
    weights = (weights / weights.sum(2, keepdim=True))[:, None]
    return (weights @ windows @ weights.transpose(2, 3)).clamp(0, 1)


@cache
def orders_on(device: torch.device) -> Tensor:
    """Return `ORDERS` on a device, copied once: a graph must not copy from the CPU."""
    return torch.tensor(ORDERS, device=device)


def recolour(x: Tensor, share: float) -> Tensor:
    """Recolour a share of pictures (N, 3, S, S), as `train.augment.recolour` does."""
    orders = orders_on(x.device)[(torch.rand(len(x), device=x.device) * 6).long().clamp(max=5)]
    gamma = torch.exp(0.25 * torch.randn(len(x), 3, 1, 1, device=x.device))
    changed = x.gather(1, orders[:, :, None, None].expand_as(x)).clamp(min=1e-6) ** gamma
    return torch.where((torch.rand(len(x), device=x.device) < share)[:, None, None, None], changed, x)


@dataclass(frozen=True, kw_only=True)
class NetworkGraph:
    """Train the network on one GPU."""

    photos: Annotated[Path, Doc("Packed photographs.")]
    paintings: Annotated[Path, Doc("Packed paintings.")]
    out: Annotated[Path, Doc("Where to write the network; its state is written next to it.")] = Path(
        "out/network/graph.safetensors"
    )
    minutes: Annotated[float, Doc("Minutes of training; the rates fall from the first to the last.")] = 9.0
    begin: Annotated[float, Doc("Factor on the rates at the start.")] = 1.0
    end: Annotated[float, Doc("Factor on the rates at the end.")] = 0.0
    resume: Annotated[bool, Doc("Continue from the state next to the output.")] = False
    base: Annotated[str | None, Doc("Network to start from: `network` (the bundled one) or a file.")] = None
    batch: Annotated[int, Doc("Pictures per step.")] = 48
    crop: Annotated[int, Doc("Side of the pictures, in pixels.")] = 256
    rates: Annotated[
        tuple[float, float, float, float], Doc("Rates of convolutions, small weights, predictor and learnt styles.")
    ] = (0.008, 0.003, 0.002, 0.0005)
    warm_up: Annotated[int, Doc("Steps over which the rates rise.")] = 100
    average: Annotated[float, Doc("Decay of the moving average of the weights.")] = 0.998
    shares: Annotated[
        tuple[float, float, float], Doc("Shares of photographs in their own style, learnt styles, and blends.")
    ] = (0.05, 0.2, 0.15)
    weights: Annotated[tuple[float, float, float], Doc("Weights of content, tone and total variation.")] = (
        TrainNetworkOptions.content_weight,
        TrainNetworkOptions.tone_weight,
        TrainNetworkOptions.tv_weight,
    )
    spike_weight: Annotated[float, Doc("Weight of the loss against spikes in the features.")] = (
        TrainNetworkOptions.spike_weight
    )
    width: Annotated[int, Doc("As for `impasto train network`; so are the next ones.")] = TrainNetworkOptions.width
    blocks: int = TrainNetworkOptions.blocks
    fine: int = TrainNetworkOptions.fine
    rank: int = TrainNetworkOptions.rank
    noise: int = TrainNetworkOptions.noise
    hidden: int = TrainNetworkOptions.hidden
    compiled: Annotated[bool, Doc("Compile the networks; takes a minute at the start.")] = True
    graph: Annotated[bool, Doc("Capture the step as a CUDA graph.")] = True
    check: Annotated[bool, Doc("Only compare one batch's loss and gradient with those of `impasto train network`.")] = (
        False
    )
    device: Annotated[str, Doc("`auto`, `cpu` or `cuda`.")] = "auto"

    def __call__(self) -> None:
        """Train and write the network, or check the loss."""
        if not self.check:
            print(f"`{shlex.join(['python', *sys.argv])}`")
            GraphTraining(self).run()
            return
        found = GraphTraining(replace(self, batch=4, crop=128, base="network", compiled=False)).compared()
        for name, (ours, theirs) in found.items():
            print(f"{name}: {ours:.5f}, `impasto train network` {theirs:.5f}")


class GraphTraining:
    """The network, its optimisers, the loss and the pictures, all on one device.

    Parameters
    ----------
    options : NetworkGraph
        The options.
    """

    def __init__(self, options: NetworkGraph):
        self.options = o = options
        self.compute = choose_compute(o.device)
        self.device = device = self.compute.device
        encoder = load_encoder("compact", offline=True)
        self.compute.network(encoder)
        self.encoder = encoder
        content, tone, variation = o.weights
        weights = {"content_weight": content, "tone_weight": tone, "tv_weight": variation}
        self.plain = PaintingLoss(encoder, self.compute, **weights)
        self.loss = FastLoss(encoder, self.compute, self.prepared(encoding(encoder, self.compute)), **weights)
        self.photos = Bank(o.photos, device, math.ceil(o.crop / PHOTO_ZOOM[0]))
        self.paintings = Bank(o.paintings, device, math.ceil(o.crop / PART_ZOOM[0]))
        names = builtin_names()
        styles = [s for s in map(resolve_style, names) if isinstance(s, StyleTarget)]
        self.sizes = styles[0].sizes
        self.learnt = {k: learnt_moments(styles, k).to(device) for k in self.loss.style}
        layers = {k: encoder.width(k) for k in self.loss.style}
        config = NetworkConfig(encoder.digest, layers, **{k: getattr(o, k) for k in RANGES}, styles=tuple(names))
        net = Network(config)
        net.initialise(torch.Generator().manual_seed(0))
        if o.base is not None:
            net.begin_as(find_network(o.base))
        net.requires_grad_(True)
        self.net = channels_last(net.to(device))
        self.forward = self.prepared(self.painted)
        counts = [round(o.batch * share) for share in o.shares]
        self.own, self.known, self.mixed = counts
        self.rest = o.batch - sum(counts)
        self.start_optimisers()
        self.average = {k: v.detach().clone() for k, v in net.state_dict().items()}
        self.names: list[str] = []
        self.sums = torch.zeros(8, device=device)  # of the terms' values, and the number of steps
        self.steps = 0
        if device.type == "cuda":
            self.replace_functions()
        if o.base is None and not o.resume:
            self.calibrate()

    def prepared(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function, compiled if the options say so."""
        return torch.compile(function, dynamic=False, fullgraph=True) if self.options.compiled else function

    def replace_functions(self) -> None:
        """Replace functions of the package by those above, which leave everything on the device."""
        colours_module.transport = transport
        impasto.models.moments.moment_sums = moment_sums
        impasto.models.passes.instance_norm = instance_norm
        impasto.models.passes.reflection_pad = reflection_pad
        impasto.train.spikes.excess = excess
        impasto.models.passes.PHASES = impasto.models.passes.PHASES.to(self.device)

    @torch.no_grad()
    def calibrate(self) -> None:
        """Calibrate the network, as `NetworkRecipe.calibrate` does."""
        found: list[dict[str, Tensor]] = []
        colours: list[Tensor] = []
        first = next(iter(self.net.config.layers))
        for _ in range(CALIBRATION):
            x = self.compute.picture(self.parts(64))
            features = self.loss.features(x, tuple(self.net.config.layers))
            found.append({k: raw_moments(f) for k, f in features.items()})
            colours.append(raw_moments(torch.cat([x, features[first].float()], 1)))
        for layer, summary in self.net.summaries.items():
            assert isinstance(summary, StyleSummary)
            summary.calibrate(torch.cat([m[layer] for m in found]))
        self.net.colours.calibrate(torch.cat(colours).mean(0))

    def start_optimisers(self) -> None:
        """Group the weights for Muon, by shape, and for Adam, by rate. The rates are tensors: a graph can read them."""
        net, cuda = self.net, self.device.type == "cuda"
        groups: dict[torch.Size, list[Tensor]] = {}
        for w in net.convolutions():
            groups.setdefault(w.shape, []).append(w)
        self.groups = list(groups.values())
        self.momenta = [g[0].new_zeros(len(g), len(g[0]), g[0][0].numel()) for g in self.groups]
        predictor = [*net.predictor.parameters(), *net.summaries.parameters()]
        known = {id(p) for p in (*net.convolutions(), *predictor, net.learnt)}
        others = [p for p in net.parameters() if id(p) not in known]
        self.rates = [torch.zeros((), device=self.device) for _ in range(4)]
        each = zip((others, predictor, [net.learnt]), self.rates[1:], strict=True)
        self.adam = torch.optim.Adam(
            [{"params": p, "lr": rate} for p, rate in each], betas=(0.9, 0.99), fused=cuda, capturable=cuda
        )
        self.parameters = list(net.parameters())
        for p in self.parameters:
            p.grad = torch.zeros_like(p)

    def parts(self, count: int) -> Tensor:
        """Return parts of paintings (N, 3, S, S), some of them recoloured."""
        return recolour(self.paintings.crops(count, self.options.crop, PART_ZOOM), TrainNetworkOptions.recoloured)

    def sample(self) -> tuple[Tensor, dict[str, Tensor], Tensor, Tensor]:
        """Return photographs, raw moments of their styles, numbers of the learnt styles, and origins of the noise.

        The first photographs are painted in their own style, the next ones in learnt styles, then in blends.
        """
        o, device = self.options, self.device
        photos = self.compute.picture(self.photos.crops(o.batch, o.crop, PHOTO_ZOOM))
        with torch.no_grad():
            pictures = torch.cat([photos[: self.own], self.parts(2 * self.mixed + self.rest)])
            moments = self.loss.moments(pictures)
        styles = (torch.rand(self.known, device=device) * len(self.net.config.styles)).long()
        r = torch.rand(2, self.known, device=device)
        low, high = map(math.log, STROKES)
        stroke = torch.where(r[0] < OTHER_STROKES, torch.exp(low + r[1] * (high - low)), 1)
        place = (torch.log2(PICTURE * stroke) - math.log2(self.sizes[0])).clamp(0, len(self.sizes) - 1)
        below = place.long().clamp(max=len(self.sizes) - 2)
        share = torch.rand(self.mixed, 1, 1, device=device)
        targets: dict[str, Tensor] = {}
        for k, m in moments.items():
            own, first, second, rest = m.split([self.own, self.mixed, self.mixed, self.rest])
            known = self.learnt[k]
            known = torch.lerp(known[styles, below], known[styles, below + 1], (place - below)[:, None, None])
            targets[k] = torch.cat([own, known, torch.lerp(first, second, share), rest])
        origins = (torch.rand(2, o.batch, device=device) * NOISE_SIDE).long()
        return photos, targets, styles, origins

    def painted(self, photos: Tensor, affine: Tensor, origins: Tensor) -> tuple[Tensor, Tensor]:
        """Return the network's paintings (N, 3, H, W) before their colours are set, and their spikes (N,)."""
        step = GraphPass(self.net, affine, (), impasto.train.spikes.excess)
        step.places = origins
        with self.compute.autocast():
            painted = self.net.run(step, photos)
        return painted, torch.stack(step.spikes).sum(0)

    def terms(
        self, photos: Tensor, targets: Mapping[str, Tensor], styles: Tensor, origins: Tensor
    ) -> dict[str, Tensor]:
        """Return the means of the loss's terms over the batch."""
        own, known, others = self.net.predict(targets).split(
            [self.own, self.known, len(photos) - self.own - self.known]
        )
        affine = torch.cat([own, known + self.net.learnt[styles], others])
        with torch.no_grad():
            colours = self.net.style_colours(targets)
        raw, spikes = self.forward(photos, affine, origins)
        paintings = colour(raw, colours)
        terms = {k: v.mean() for k, v in self.loss(paintings, photos, targets, colours).items()}
        scale = SCALE_WEIGHT * scale_loss(raw, colours).mean()
        beyond = OVERSHOOT_WEIGHT * overshoot(raw, colours).mean()
        return terms | {"scale": scale, "spikes": self.options.spike_weight * spikes.mean(), "overshoot": beyond}

    @torch.no_grad()
    def update(self) -> None:
        """Take one step along the gradients, as `Optimisers.step` does. A gradient that is not finite is left out."""
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        norm = torch.stack(torch._foreach_norm(gradients)).norm()  # pyright: ignore[reportPrivateImportUsage]
        factor = torch.where(norm.isfinite(), (1 / (norm + 1e-6)).clamp(max=1), 0)
        for g in gradients:
            g.nan_to_num_(0, 0, 0)
        torch._foreach_mul_(gradients, factor)  # pyright: ignore[reportPrivateImportUsage]
        for group, momentum in zip(self.groups, self.momenta, strict=True):
            g = torch.stack([w.grad.flatten(1) for w in group if w.grad is not None])
            momentum.lerp_(g, 1 - MOMENTUM)
            update = orthogonalised(g.lerp(momentum, MOMENTUM)) * (-0.2 * math.sqrt(max(g.shape[1:])) * self.rates[0])
            for w, u in zip(group, update, strict=True):
                w.add_(u.view(w.shape))
        self.adam.step()
        self.net.normalise()
        now = self.net.state_dict()
        keys = [k for k, v in now.items() if v.is_floating_point()]
        torch._foreach_lerp_([self.average[k] for k in keys], [now[k] for k in keys], 1 - self.options.average)  # pyright: ignore[reportPrivateImportUsage]

    def step(self) -> None:
        """Take one step. Adds the terms' values to `sums`."""
        torch._foreach_zero_([p.grad for p in self.parameters if p.grad is not None])  # pyright: ignore[reportPrivateImportUsage]
        terms = self.terms(*self.sample())
        loss = torch.stack(list(terms.values())).sum()
        loss.backward()
        self.update()
        self.names = ["loss", *terms]
        self.sums += torch.stack([v.detach() for v in (loss, *terms.values(), torch.ones_like(loss))])

    def captured(self) -> Callable[[], None]:
        """Return a function that takes a step: a graph's replay on a GPU."""
        if self.device.type != "cuda" or not self.options.graph:
            return self.step
        begun, kept = time.monotonic(), {k: v.clone() for k, v in self.net.state_dict().items()}
        state = [*self.momenta, self.sums]
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):  # compiles, and makes the optimiser's state
                self.step()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self.step()
        self.net.load_state_dict(kept)
        for k, v in self.average.items():
            v.copy_(kept[k])
        for tensor in (*state, *(v for each in self.adam.state.values() for v in each.values())):
            tensor.zero_()
        print(f"captured in {time.monotonic() - begun:.0f} s", flush=True)
        return graph.replay

    def run(self) -> None:
        """Train for the given time, and write the network and the state."""
        o, took = self.options, self.captured()
        state = o.out.with_suffix(".state.pt")
        if o.resume:
            self.restore(torch.load(state, map_location=self.device, weights_only=True))
        begun, first, logged = time.monotonic(), self.steps, self.steps
        while (share := (time.monotonic() - begun) / (60 * o.minutes)) < 1:
            factor = (o.begin + (o.end - o.begin) * share) * min(1.0, (self.steps - first + 1) / (o.warm_up + 1))
            for tensor, rate in zip(self.rates, o.rates, strict=True):
                tensor.fill_(rate * factor)
            for _ in range(EVERY):
                took()
            self.steps += EVERY
            count = float(self.sums[-1])  # waits for the GPU
            if self.steps - logged >= LOG_EVERY:
                means = (self.sums / count).tolist()
                values = " ".join(f"{k} {v:.4f}" for k, v in zip(self.names, means, strict=False))
                print(f"{self.steps} steps, {time.monotonic() - begun:.0f} s: {values}", flush=True)
                self.sums.zero_()
                logged = self.steps
        rate = (self.steps - first) * o.batch / (time.monotonic() - begun)
        print(f"{self.steps} steps of {o.batch} pictures of {o.crop} pixels, {rate:.0f} pictures a second", flush=True)
        o.out.parent.mkdir(parents=True, exist_ok=True)
        torch.save(self.state(), state)
        net = Network(self.net.config)
        net.load_state_dict({k: v.cpu() for k, v in self.average.items()})
        account = {"recipe": "benchmarks/network_graph.py", "steps": self.steps, "batch": o.batch, "crop": o.crop}
        save_network(net, o.out, training=account, licence="MIT")

    def state(self) -> dict[str, Any]:
        """Return the state to save."""
        moments = [dict(self.adam.state[p]) for group in self.adam.param_groups for p in group["params"]]
        weights = self.net.state_dict()
        return {
            "net": weights,
            "average": self.average,
            "adam": moments,
            "momenta": self.momenta,
            "steps": self.steps,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Restore the result of `state`, in place: a graph keeps the tensors' addresses."""
        self.net.load_state_dict(state["net"])
        for k, v in self.average.items():
            v.copy_(state["average"][k])
        for mine, theirs in zip(self.momenta, state["momenta"], strict=True):
            mine.copy_(theirs)
        places = [p for group in self.adam.param_groups for p in group["params"]]
        for p, theirs in zip(places, state["adam"], strict=True):
            for k, v in theirs.items():
                if k in self.adam.state[p]:
                    self.adam.state[p][k].copy_(v)
                else:
                    self.adam.state[p][k] = v.clone()
        self.steps = int(state["steps"])

    def compared(self) -> dict[str, tuple[float, float]]:
        """Return name -> value here and in the package: the loss's terms, and the length of the gradient.

        "direction" is the cosine between both gradients, and 1.
        """
        batch = self.sample()
        names = "transport", "moment_sums", "instance_norm", "reflection_pad", "excess"
        modules = (
            colours_module,
            impasto.models.moments,
            impasto.models.passes,
            impasto.models.passes,
            impasto.train.spikes,
        )
        own = [getattr(m, n) for m, n in zip(modules, names, strict=True)]
        self.replace_functions()
        ours, gradient = self.gradient(batch)
        for m, n, f in zip(modules, names, own, strict=True):
            setattr(m, n, f)
        self.loss = self.plain
        theirs, reference = self.gradient(batch)
        found = {k: (ours[k], theirs[k]) for k in ours}
        found["gradient"] = float(gradient.norm()), float(reference.norm())
        found["direction"] = float(F.cosine_similarity(gradient, reference, 0)), 1.0
        return found

    def gradient(self, batch: tuple[Tensor, dict[str, Tensor], Tensor, Tensor]) -> tuple[dict[str, float], Tensor]:
        """Return the terms and the gradient of a batch."""
        for p in self.parameters:
            p.grad = torch.zeros_like(p)
        terms = self.terms(*batch)
        torch.stack(list(terms.values())).sum().backward()
        gradient = torch.cat([p.grad.flatten() for p in self.parameters if p.grad is not None])
        return {k: float(v.detach()) for k, v in terms.items()}, gradient


def encoding(encoder: VGG, compute: Compute) -> Callable[[Tensor], dict[str, Tensor]]:
    """Return the encoder up to relu4_2 as a function of PyTorch's own operations, which the compiler fuses."""
    kernels = {name: (m.weight.detach(), m.bias) for name, m in encoder.convolutions()}

    def encode(x: Tensor) -> dict[str, Tensor]:
        found: dict[str, Tensor] = {}
        with compute.autocast():
            x = (x - encoder.mean) / encoder.std
            x = x if compute.autocast_dtype is None else x.to(compute.autocast_dtype)
            block = "1"
            for name, (weight, bias) in kernels.items():
                if name[4] != block:
                    x, block = F.max_pool2d(x, 2), name[4]
                x = F.relu(F.conv2d(reflection_pad(x), weight, bias))
                found["relu" + name[4:]] = x
                if name == "conv4_2":
                    break
        return found

    return encode


def learnt_moments(styles: list[StyleTarget], layer: str) -> Tensor:
    """Return a layer's raw moments (styles, sizes, C + 1, C + 1) with covariances that have no negative eigenvalue."""
    rows = torch.stack([torch.stack([s.moments[size][layer][0].double() for size in s.sizes]) for s in styles])
    flat = rows.flatten(0, 1)
    values, vectors = torch.linalg.eigh(covariance(flat))
    mean = flat[:, :-1, -1:]
    flat[:, :-1, :-1] = (vectors * values.clamp(min=0)[:, None]) @ vectors.transpose(1, 2) + mean @ mean.transpose(1, 2)
    return flat.view_as(rows).float()


def orthogonalised(x: Tensor) -> Tensor:
    """Return the result of `train.optimisers.orthogonalised` for several matrices (N, m, n)."""
    a, b, c = NEWTON_SCHULZ
    if x.shape[1] > x.shape[2]:
        return orthogonalised(x.transpose(1, 2)).transpose(1, 2)
    x = x / x.square().sum((1, 2), keepdim=True).sqrt().clamp(min=LEAST_NORM)
    gram = x @ x.transpose(1, 2)
    eye = torch.eye(gram.shape[1], device=x.device)
    product = eye.expand_as(gram)
    for i in range(ITERATIONS):
        factor = b * gram + c * (gram @ gram) + a * eye
        product = factor @ product
        if i < ITERATIONS - 1:
            gram = factor @ gram @ factor
    return product @ x


if __name__ == "__main__":
    try:
        tyro.cli(NetworkGraph, config=(tyro.conf.OmitArgPrefixes,))()
    except ImpastoError as error:
        raise SystemExit(f"network_graph.py: {error}") from None
