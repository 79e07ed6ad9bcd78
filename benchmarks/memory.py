"""The peak memory of a step with VGG-19's shape, ours against the plain way, each in its own process.

Measures the peak resident size during the steps, minus the resident size after loading the network, the picture and the
libraries. VGG-19 has random weights, which does not affect the memory.
"""

import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import torch
import tyro
from speed import plain_step, random_vgg19
from typing_extensions import Doc

from impasto.device import choose_compute
from impasto.errors import ImpastoError
from impasto.models.vgg import VGG
from impasto.models.weights import load_encoder
from impasto.options import OptimizeOptions, Precision
from impasto.stylizers.descent import Descent
from impasto.stylizers.loss import Problem, build_loss
from impasto.stylizers.memory import memory_need
from impasto.stylizers.schedule import Scale
from impasto.tools.metrics import markdown_table

WAYS = ("plain", "ours", "ours, checkpointing")


@dataclass(frozen=True)
class Memory:
    """Measure the peak memory of a few steps."""

    size: Annotated[int, Doc("Side of the picture, in pixels.")] = 1024
    network: Annotated[Literal["vgg19", "compact"], Doc("`vgg19`: its shape.")] = "vgg19"
    precision: Annotated[Precision, Doc("Precision of ours; `auto` uses bfloat16 if the processor supports it.")] = (
        "auto"
    )
    steps: Annotated[int, Doc("Steps to take.")] = 2
    way: Annotated[str | None, Doc("Measure only this way, in this process, and print its bytes.")] = None

    def __call__(self) -> None:
        """Print the table."""
        if self.way is not None:
            print(self.measure(self.way))
            return
        print(f"`{shlex.join(['python', *sys.argv])}`\n")
        found = {}
        for way in WAYS:
            command = [sys.executable, *sys.argv, "--way", way]
            found[way] = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        compute, net = choose_compute("cpu", self.precision), self.net()
        estimates = [
            "",
            memory_need((self.size, self.size), net, compute) / 1e9,
            memory_need((self.size, self.size), net, compute, checkpointing=True) / 1e9,
        ]
        rows = [
            (way, found[way] / 1e9, found[way] / found["plain"], estimate)
            for way, estimate in zip(WAYS, estimates, strict=True)
        ]
        print(markdown_table(("way", "peak, GB", "over plain", "estimated before, GB"), rows))

    def net(self) -> VGG:
        """Return the network."""
        return random_vgg19() if self.network == "vgg19" else load_encoder("compact")

    def measure(self, way: str) -> int:
        """Return the peak bytes of a few steps, minus those after loading."""
        net, compute = self.net(), choose_compute("cpu", self.precision)
        g = torch.Generator().manual_seed(0)
        content, style = (torch.rand(1, 3, self.size, self.size, generator=g) for _ in range(2))
        if way == "plain":
            before, step = resident(), plain_step(net, content, style)
            for _ in range(self.steps):
                step()
        else:
            compute.network(net)
            before = resident()
            size = (self.size, self.size)
            options = OptimizeOptions(size=self.size)
            problem = Problem(net, compute, options, content, size, [style], checkpointing=way == "ours, checkpointing")
            scale = Scale(size, self.steps, options.settings.rate)
            descent = Descent(build_loss(problem, scale, content), compute.picture(content), scale, options)
            for _ in range(self.steps):
                descent.step()
        return resident("VmHWM") - before


def resident(which: str = "VmRSS") -> int:
    """Return the resident bytes of this process now, or their peak with `VmHWM`.

    The peak of the `resource` module includes that of the parent process.
    """
    line = next(x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith(which + ":"))
    return int(line.split()[1]) * 1024


if __name__ == "__main__":
    try:
        tyro.cli(Memory)()
    except ImpastoError as error:
        sys.exit(f"memory: {error}")
