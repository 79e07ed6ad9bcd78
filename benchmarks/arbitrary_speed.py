"""How fast any style is painted in one pass, its measurement included, and in how much memory.

Against the classic network of `feedforward_speed`, which has learnt one style and measures none. Passes are timed in
turn, the median counts. Memory is that of a fresh process, which paints one picture: the highest resident size, less
that after loading.
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
from feedforward_speed import CLASSIC, classic, seconds
from memory import resident
from torch import Tensor
from typing_extensions import Doc

from impasto.device import choose_compute
from impasto.errors import ImpastoError
from impasto.stylize.choose import load_stylizer
from impasto.tools.metrics import markdown_table

PRECISIONS = ("float32", "bfloat16")


@dataclass(frozen=True)
class ArbitrarySpeed:
    """Time a painting, and measure its memory."""

    size: Annotated[int, Doc("Side of the picture and of the style, in pixels.")] = 512
    repeats: Annotated[int, Doc("Timed paintings of each.")] = 15
    megapixels: Annotated[float, Doc("Size of the photograph, 4 to 3, whose memory is measured.")] = 12.0
    model: Annotated[str, Doc("`arbitrary`, or a model file.")] = "arbitrary"
    way: Annotated[str | None, Doc("Measure the memory of this precision alone, in this process.")] = None

    def __call__(self) -> None:
        """Print the tables."""
        g = torch.Generator().manual_seed(0)
        if self.way is not None:
            width = round((self.megapixels * 1e6 * 4 / 3) ** 0.5)
            photo = torch.rand(1, 3, width * 3 // 4, width, generator=g)
            stylizer = load_stylizer(self.style(g), model=self.model, size=width, precision=self.way)
            before = resident()
            stylizer(photo)
            print(resident("VmHWM") - before)
            return
        print(f"`{shlex.join(['python', *sys.argv])}`: {torch.get_num_threads()} threads\n")
        precisions = PRECISIONS if choose_compute("cpu").low is not None else PRECISIONS[:1]
        x, style, plain = torch.rand(1, 3, self.size, self.size, generator=g), self.style(g), classic()
        runs: dict[str, Callable[[], Tensor]] = {CLASSIC: torch.inference_mode()(lambda: plain(x))}
        for precision in precisions:
            kept = load_stylizer(style, model=self.model, size=self.size, precision=precision)
            kept(x)
            runs[f"ours, {precision}, the style known"] = lambda kept=kept: kept(x)
            # A stylizer keeps what it measured of its style: each of these measures it anew.
            fresh = [
                load_stylizer(style, model=self.model, size=self.size, precision=precision)
                for _ in range(self.repeats + 1)
            ]
            runs[f"ours, {precision}, the style measured"] = lambda fresh=fresh: fresh.pop()(x)
        times: dict[str, list[float]] = {way: [] for way in runs}
        for i in range(self.repeats + 1):
            for way, run in runs.items():
                spent = seconds(run)
                times[way] += [spent] if i else []  # the first one pays for what later ones find ready
        median = {way: statistics.median(t) for way, t in times.items()}
        print(
            markdown_table(("network", "s", "over classic"), [(w, m, m / median[CLASSIC]) for w, m in median.items()])
        )
        memory = []
        for precision in precisions:
            command = [sys.executable, *sys.argv, "--way", precision]
            found = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            memory.append((f"ours, {precision}", self.megapixels, found / 1e9))
        print("\n" + markdown_table(("network", "megapixels", "memory, GB"), memory))

    def style(self, g: torch.Generator) -> Tensor:
        """A painting."""
        return torch.rand(1, 3, self.size, self.size, generator=g)


if __name__ == "__main__":
    try:
        tyro.cli(ArbitrarySpeed)()
    except ImpastoError as error:
        sys.exit(f"arbitrary_speed: {error}")
