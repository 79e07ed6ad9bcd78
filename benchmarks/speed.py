"""Speed of an optimisation step: the losses and their gradient to the picture, at 400x526 by default.

Each network is run in two ways, interleaved, on the same weights: as in public code (NCHW, float32, eager, torch's
padding, features after the heads computed in full) and as we do (channels_last, bfloat16 if the processor supports it,
heads applied to the Gram matrices). VGG-19 has random weights, which does not affect the time. The machine's peak is
that of large matrix products. The share of the peak only counts the convolutions.
"""

import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

import torch
import torch.nn.functional as F
import tyro
from torch import Tensor, nn
from typing_extensions import Doc

from impasto.device import choose_compute, has_bfloat16
from impasto.errors import ImpastoError
from impasto.models.moments import raw_moments
from impasto.models.vgg import CONTENT_LAYER, STYLE_LAYERS, VGG, VGG19
from impasto.models.weights import load_encoder
from impasto.options import OptimizeOptions, Precision
from impasto.ranges import Range, check_ranges
from impasto.style.terms import ContentTerm, MomentsTerm, Part, PerceptualLoss, View
from impasto.tools.metrics import markdown_table

LAYERS = (*STYLE_LAYERS, CONTENT_LAYER)
HEADER = ("network", "plain, s/step", "ours, s/step", "plain/ours", "GFLOP/step", "plain of peak", "ours of peak")
START_RUNS = 5
SETTINGS = OptimizeOptions().settings

Step = Callable[[], Tensor]
"""One step: computes the losses and returns their gradient."""


@dataclass(frozen=True)
class Speed:
    """Time an optimisation step, ours against the plain way, in the same run."""

    repeats: Annotated[int, Doc("Timed repetitions of each; the median is reported."), Range(1)] = 7
    size: Annotated[tuple[int, int], Doc("Height and width of the picture."), Range(32, unit="px")] = (400, 526)
    networks: Annotated[tuple[str, ...], Doc("`vgg19` (its shape, random weights), `compact`, or a model file.")] = (
        "vgg19",
        "compact",
    )
    precision: Annotated[Precision, Doc("Precision of ours; `auto` uses bfloat16 if the processor supports it.")] = (
        "auto"
    )
    matrix: Annotated[int, Doc("Side of the matrices whose product measures the machine's peak."), Range(16)] = 4096

    def __call__(self) -> None:
        """Print the two tables."""
        check_ranges(self)
        compute = choose_compute("cpu", self.precision)
        print(f"`{shlex.join(['python', *sys.argv])}`: torch {torch.__version__}, ", end="")
        print(f"{torch.get_num_threads()} threads, ours in {compute}, medians of {self.repeats}\n")
        peaks = {"float32": matmul_peak(torch.float32, self.matrix, self.repeats)}
        if has_bfloat16() or compute.autocast_dtype is not None:
            peaks["bfloat16"] = matmul_peak(torch.bfloat16, self.matrix, self.repeats)
        print(markdown_table(HEADER, [self.time(name, peaks) for name in self.networks]))
        rows = [(f"{k} product of matrices of side {self.matrix}, GFLOP/s", v / 1e9) for k, v in peaks.items()]
        rows.append(("start of `impasto --version`, s", start_time(["-m", "impasto", "--version"])))
        rows.append(("start of bare Python, s", start_time(["-c", ""])))
        print("\n" + markdown_table(("this machine", "figure"), rows))

    def time(self, name: str, peaks: dict[str, float]) -> tuple[object, ...]:
        """Return a row of the table."""
        compute = choose_compute("cpu", self.precision)
        net = random_vgg19() if name == "vgg19" else load_encoder(name)
        g = torch.Generator().manual_seed(0)
        content, style = (torch.rand(1, 3, *self.size, generator=g) for _ in range(2))
        plain, ours = plain_step(net, content, style), our_step(net, content, style, self.precision)
        times = interleaved([plain, ours], self.repeats)
        ratio = statistics.median(p / o for p, o in zip(*times, strict=True))
        seconds = [statistics.median(t) for t in times]
        work = conv_flops(net, self.size)
        tops = peaks["float32"], peaks["float32" if compute.autocast_dtype is None else "bfloat16"]
        shares = [f"{work / s / top:.0%}" for s, top in zip(seconds, tops, strict=True)]
        return (name, *seconds, ratio, work / 1e9, *shares)


class PlainVGG(nn.Module):
    """The same network, layers and weights as in public code: a Sequential of torch's modules."""

    def __init__(self, net: VGG):
        super().__init__()
        self.mean, self.std = net.mean, net.std
        self.wanted = {net.layers[k]: k for k in LAYERS}
        modules: list[nn.Module] = []
        for module in list(net.features)[: max(self.wanted) + 1]:
            if isinstance(module, nn.Conv2d):
                conv = nn.Conv2d(module.in_channels, module.out_channels, 3, padding=1, padding_mode=net.config.padding)
                conv.load_state_dict(module.state_dict())
                modules.append(conv)
            else:
                modules.append(nn.ReLU() if isinstance(module, nn.ReLU) else nn.MaxPool2d(2))
        self.features = nn.Sequential(*modules)
        self.heads = nn.ModuleDict()
        for layer, head in net.heads.items():
            assert isinstance(head, nn.Conv2d)
            self.heads[layer] = nn.Conv2d(head.in_channels, head.out_channels, 1)
            self.heads[layer].load_state_dict(head.state_dict())
        self.requires_grad_(False)
        self.to(memory_format=torch.contiguous_format)  # pyright: ignore[reportCallIssue]

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        """Return layer -> features (1, C, H, W), after the layer's head if it has one."""
        x, found = (image - self.mean) / self.std, {}
        for i, module in enumerate(self.features):
            x = module(x)
            if i in self.wanted:
                layer = self.wanted[i]
                found[layer] = self.heads[layer](x) if layer in self.heads else x
        return found


def plain_gram(features: Tensor) -> Tensor:
    """Return the Gram matrix per pixel, (C, C)."""
    f = features.flatten(2)[0]
    return f @ f.t() / f.shape[1]


def plain_step(net: VGG, content: Tensor, style: Tensor) -> Step:
    """Return a plain step: NCHW, float32, mean squared errors of Gram matrices and of relu4_2."""
    plain = PlainVGG(net)
    with torch.no_grad():
        grams = {k: plain_gram(f) for k, f in plain(style).items() if k in STYLE_LAYERS}
        target = plain(content)[CONTENT_LAYER]
    x = content.clone().requires_grad_(True)

    def step() -> Tensor:
        features = plain(x)
        loss = SETTINGS.content_weight * F.mse_loss(features[CONTENT_LAYER], target)
        for k in STYLE_LAYERS:
            loss = loss + SETTINGS.style_weight / len(STYLE_LAYERS) * F.mse_loss(plain_gram(features[k]), grams[k])
        return torch.autograd.grad(loss, x)[0]

    return step


def our_step(net: VGG, content: Tensor, style: Tensor, precision: Precision) -> Step:
    """Return our step: the losses that `optimize` evaluates at each step."""
    compute = choose_compute("cpu", precision)
    compute.network(net)
    with torch.no_grad(), compute.autocast():
        moments = {k: raw_moments(f) for k, f in net(compute.picture(style), STYLE_LAYERS).items()}
    content, view = compute.picture(content), View(net, compute)
    features = view.features(content, (CONTENT_LAYER,))
    shares: dict[str, float] = dict.fromkeys(STYLE_LAYERS, 1 / len(STYLE_LAYERS))
    loss = PerceptualLoss(
        view,
        {
            "content": (SETTINGS.content_weight, ContentTerm(net, features, {CONTENT_LAYER: 1.0})),
            "style": (SETTINGS.style_weight, MomentsTerm("gram", net, [(Part(1.0, None), moments)], shares)),
        },
    )
    x = content.clone().requires_grad_(True)
    return lambda: torch.autograd.grad(loss(x)["total"], x)[0]


def random_vgg19() -> VGG:
    net = VGG(VGG19, "vgg19")
    net.initialise(torch.Generator().manual_seed(0))
    return net


def interleaved(steps: list[Step], repeats: int) -> list[list[float]]:
    """Return the seconds of each step's repetitions, interleaved, after one untimed round."""
    times: list[list[float]] = [[] for _ in steps]
    for i in range(repeats + 1):
        for step, found in zip(steps, times, strict=True):
            begun = time.perf_counter()
            step()
            if i:
                found.append(time.perf_counter() - begun)
    return times


def conv_flops(net: VGG, size: tuple[int, int]) -> float:
    """Count multiplications and additions of the 3x3 convolutions up to relu5_1, forward and backward to the input."""
    flops = 0
    for name, conv in net.convolutions():
        if net.layers[name] < net.layers["relu5_1"]:
            pixels = (size[0] // net.stride(name)) * (size[1] // net.stride(name))
            flops += 2 * 2 * conv.in_channels * conv.out_channels * 9 * pixels
    return flops


def matmul_peak(dtype: torch.dtype, side: int, repeats: int) -> float:
    """Return the operations per second of the fastest of several large matrix products."""
    a, b = (torch.randn(side, side).to(dtype) for _ in range(2))
    (times,) = interleaved([lambda: torch.mm(a, b)], repeats)
    return 2 * side**3 / min(times)


def start_time(arguments: list[str]) -> float:
    """Return the median seconds of a fresh Python process."""
    times = []
    for _ in range(START_RUNS + 1):
        begun = time.perf_counter()
        subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
        times.append(time.perf_counter() - begun)
    return statistics.median(times[1:])


if __name__ == "__main__":
    try:
        tyro.cli(Speed)()
    except ImpastoError as error:
        sys.exit(f"speed: {error}")
