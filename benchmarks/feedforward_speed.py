"""How fast a feed-forward network paints, and in how much memory, against the classic fast-neural-style network.

The classic one is Johnson's as public code runs it: 32 channels behind the first convolution, instance norm, nearest
neighbour resizing before the upper convolutions, float32, eager, NCHW. Weights change nothing of the time; the classic
network's are random. Passes are timed in turn, the median counts; the first pass of each, which is not among them,
stands beside. Memory is that of a fresh process: the highest resident size, less that after loading.
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
import tyro
from memory import resident
from torch import Tensor, nn
from typing_extensions import Doc

from impasto.device import choose_compute
from impasto.errors import ImpastoError
from impasto.models.networks import load_network
from impasto.models.norm import Conditions
from impasto.models.transformer import Transformer
from impasto.tools.metrics import markdown_table

CLASSIC = "classic, w = 32"
WAYS = (CLASSIC, "ours, float32", "ours, bfloat16")


class Block(nn.Module):
    """A convolution behind reflection padding, and perhaps resizing before, instance norm and ReLU behind."""

    def __init__(self, inputs: int, outputs: int, side: int, stride: int = 1, larger: bool = False, last: bool = False):
        super().__init__()
        layers: list[nn.Module] = [nn.Upsample(scale_factor=2)] if larger else []
        layers += [nn.ReflectionPad2d(side // 2), nn.Conv2d(inputs, outputs, side, stride)]
        layers += [] if last else [nn.InstanceNorm2d(outputs, affine=True), nn.ReLU()]
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """A pass."""
        return self.layers(x)


class Residual(nn.Module):
    """Two convolutions, added to what goes in."""

    def __init__(self, width: int):
        super().__init__()
        second = Block(width, width, 3, last=True)
        self.layers = nn.Sequential(Block(width, width, 3), second, nn.InstanceNorm2d(width, affine=True))

    def forward(self, x: Tensor) -> Tensor:
        """A pass."""
        return x + self.layers(x)


def classic(w: int = 32) -> nn.Module:
    """The classic network, with random weights."""
    down = [Block(3, w, 9), Block(w, 2 * w, 3, 2), Block(2 * w, 4 * w, 3, 2)]
    up = [Block(4 * w, 2 * w, 3, larger=True), Block(2 * w, w, 3, larger=True), Block(w, 3, 9, last=True)]
    return nn.Sequential(*down, *(Residual(4 * w) for _ in range(5)), *up).eval()


@dataclass(frozen=True)
class FeedforwardSpeed:
    """Time a pass, and measure its memory."""

    size: Annotated[int, Doc("Side of the picture, in pixels.")] = 512
    repeats: Annotated[int, Doc("Timed passes of each.")] = 15
    model: Annotated[str, Doc("`palette`, or a model file.")] = "palette"
    way: Annotated[str | None, Doc("Measure the memory of this way alone, in this process.")] = None

    def __call__(self) -> None:
        """Print the table."""
        x = torch.rand(1, 3, self.size, self.size, generator=torch.Generator().manual_seed(0))
        if self.way is not None:
            run, before = self.prepared(self.way, x), resident()
            run()
            print(resident("VmHWM") - before)
            return
        print(f"`{shlex.join(['python', *sys.argv])}`: {torch.get_num_threads()} threads\n")
        ways = WAYS if choose_compute("cpu").low is not None else WAYS[:-1]  # without bfloat16 units it takes minutes
        runs = {way: self.prepared(way, x) for way in ways}
        first = {way: seconds(run) for way, run in runs.items()}
        times: dict[str, list[float]] = {way: [] for way in ways}
        for _ in range(self.repeats):
            for way, run in runs.items():
                times[way].append(seconds(run))
        memory = {}
        for way in ways:
            command = [sys.executable, *sys.argv, "--way", way]
            memory[way] = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        median = {way: statistics.median(t) for way, t in times.items()}
        rows = [
            (w, median[w], median[w] / median[CLASSIC], first[w], memory[w] / 1e6, memory[w] / memory[CLASSIC])
            for w in ways
        ]
        header = ("network", "s", "over classic", "first pass, s", "memory, MB", "over classic")
        print(markdown_table(header, rows))

    def prepared(self, way: str, x: Tensor) -> Callable[[], Tensor]:
        """A pass."""
        if way == CLASSIC:
            plain = classic()
            return torch.inference_mode()(lambda: plain(x))
        compute = choose_compute("cpu", "float32" if "float32" in way else "bfloat16")
        net = self.net()
        compute.network(net)
        conditions = Conditions.of(torch.tensor([0]), len(net.config.styles))

        @torch.inference_mode()
        def run() -> Tensor:
            with compute.autocast():
                return net(compute.picture(x), conditions)

        return run

    def net(self) -> Transformer:
        """Ours."""
        return load_network(self.model)[0]


def seconds(run: Callable[[], object]) -> float:
    begun = time.perf_counter()
    run()
    return time.perf_counter() - begun


if __name__ == "__main__":
    try:
        tyro.cli(FeedforwardSpeed)()
    except ImpastoError as error:
        sys.exit(f"feedforward_speed: {error}")
