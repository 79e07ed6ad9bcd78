"""Speed and memory of the network, compared with the classic fast-neural-style network in the same run.

    python benchmarks/network_speed.py
    python benchmarks/network_speed.py --sizes 512 1024 2048 --repeats 5

Passes are interleaved, and the median is reported. The classic network (see `classic`) is float32 and eager. Ours is
timed in four ways: the network alone, a painting whose style is measured already, one with an underpainting, and a
painting whose style is not measured.
Memory is measured in a fresh process that paints one photograph: the peak resident size minus that after loading.
"""

import shlex
import statistics
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

import torch
import tyro
from classic import classic
from memory import resident
from speed import interleaved
from torch import Tensor
from typing_extensions import Doc

from impasto.device import choose_compute
from impasto.errors import ImpastoError
from impasto.options import Precision
from impasto.stylizers.choose import load_stylizer
from impasto.stylizers.network import NetworkStylizer
from impasto.tools.metrics import markdown_table

CLASSIC = "classic, w = 32, float32"


@dataclass(frozen=True)
class NetworkSpeed:
    """Time passes, and measure the memory of a painting."""

    sizes: Annotated[tuple[int, ...], Doc("Sides of the square pictures to time, in pixels.")] = (512, 1024)
    repeats: Annotated[int, Doc("Timed passes of each; the median is reported.")] = 9
    megapixels: Annotated[float, Doc("Size of the 4:3 photograph for measuring memory; 0 to skip it.")] = 12.0
    model: Annotated[str | None, Doc("A model file instead of the bundled network.")] = None
    memory_of: Annotated[Precision | None, Doc("Measure the memory in this process, with this precision.")] = None

    def __call__(self) -> None:
        """Print the tables."""
        if self.memory_of is not None:
            print(*self.memory(self.memory_of))
            return
        print(f"`{shlex.join(['python', *sys.argv])}`: torch {torch.__version__}, {torch.get_num_threads()} threads\n")
        able = (
            choose_compute("cpu").autocast_dtype is not None
        )  # without hardware support, bfloat16 is emulated and takes minutes
        precisions: tuple[Precision, ...] = ("float32", "bfloat16") if able else ("float32",)
        rows: list[tuple[object, ...]] = []
        for size in self.sizes:
            runs = self.runs(size, precisions)
            times = interleaved(list(runs.values()), self.repeats)
            median = {name: statistics.median(t) for name, t in zip(runs, times, strict=True)}
            rows += [(name, f"{size}", 1e3 * t, t / median[CLASSIC]) for name, t in median.items()]
        print(markdown_table(("network", "side", "ms", "over classic"), rows))
        if self.megapixels:
            found = []
            for precision in precisions:
                command = [sys.executable, *sys.argv, "--memory-of", precision]
                answer = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
                found.append((f"ours, {precision}", self.megapixels, *(int(n) / 1e9 for n in answer)))
            header = ("network", "megapixels", "peak, GB", "estimated before, GB")
            print("\n" + markdown_table(header, found))

    def runs(self, size: int, precisions: tuple[Precision, ...]) -> dict[str, Callable[[], Tensor]]:
        """Return name -> function to time, at a size."""
        x, style = random_picture(size, size), random_picture(size, size)
        plain = classic()
        runs: dict[str, Callable[[], Tensor]] = {CLASSIC: torch.inference_mode()(lambda: plain(x))}
        for precision in precisions:
            stylizer = self.stylizer(style, precision, size)
            affine, _ = stylizer.affine(stylizer.styles, stylizer.shares, stylizer.scales(size), size)

            @torch.inference_mode()
            def alone(stylizer: NetworkStylizer = stylizer, affine: Tensor = affine) -> Tensor:
                with stylizer.compute.autocast():
                    return stylizer.net(stylizer.compute.picture(x), affine)

            def measuring(stylizer: NetworkStylizer = stylizer) -> Tensor:
                stylizer.styles[0].known.clear()
                return stylizer(x)

            runs[f"ours, {precision}, the network alone"] = alone
            runs[f"ours, {precision}, a painting"] = lambda stylizer=stylizer: stylizer(x)
            under = self.stylizer(style, precision, size, underpainting=1.0)
            runs[f"ours, {precision}, with an underpainting"] = lambda stylizer=under: stylizer(x)
            runs[f"ours, {precision}, and the style's measurement"] = measuring
        return runs

    def memory(self, precision: Precision) -> tuple[int, int]:
        """Return the peak bytes of a painting minus those after loading, and the stylizer's estimate."""
        width = round((self.megapixels * 1e6 * 4 / 3) ** 0.5)
        photo = random_picture(width * 3 // 4, width)
        stylizer = self.stylizer(random_picture(512, 512), precision, width)
        before = resident()
        stylizer(photo)
        return resident("VmHWM") - before, stylizer.memory_need((width * 3 // 4, width))

    def stylizer(self, style: Tensor, precision: Precision, size: int, underpainting: float = 0.0) -> NetworkStylizer:
        """Return the stylizer for a long side."""
        found = load_stylizer(
            style,
            quality="instant",
            model=self.model,
            size=size,
            precision=precision,
            device="cpu",
            strict_size=True,
            underpainting=underpainting,
        )
        assert isinstance(found, NetworkStylizer)
        return found


def random_picture(height: int, width: int) -> Tensor:
    """Return a picture (1, 3, H, W) of noise; its content does not affect the time."""
    return torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(0))


if __name__ == "__main__":
    try:
        tyro.cli(NetworkSpeed)()
    except ImpastoError as error:
        sys.exit(f"network_speed: {error}")
