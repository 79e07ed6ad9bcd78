"""Time of a default optimisation step relative to its convolutions alone, and to a step of an earlier commit.

The convolutions are those of the encoder that the default losses need, forward and backward to the picture, one after
the other in the step's precision and layout, without ReLU, pooling, reflection or margin. With --baseline SRC (the
`src` folder of a worktree of another commit), the same steps and the whole call of `impasto.stylize` are timed there,
too, interleaved with ours, by the same script in a separate process.

    git worktree add ../before 5272efc && python benchmarks/step.py --baseline ../before/src
"""

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import torch.nn.functional as F
import tyro
from typing_extensions import Doc

import impasto
from impasto.options import Precision, Quality

PHOTO = Path(__file__).parent.parent / "examples" / "photo.jpg"
WARM, TIMED = 3, 10
"""Number of warm-up steps, and of timed steps, whose median is reported."""


@dataclass(frozen=True)
class StepTime:
    """Time a step relative to its convolutions and to another commit."""

    sizes: Annotated[tuple[int, ...], Doc("Long sides, in pixels.")] = (512, 256, 128)
    style: Annotated[str, Doc("A built-in style or a picture.")] = "starry-night"
    photo: Annotated[Path, Doc("The photograph.")] = PHOTO
    baseline: Annotated[Path | None, Doc("The src folder of another commit.")] = None
    repeats: Annotated[int, Doc("Number of rounds, each timing everything once; the median is reported.")] = 5
    quality: Annotated[str, Doc("Quality of the whole call.")] = "good"
    precision: Annotated[Precision, Doc("Precision of both: `auto`, `float32` or `bfloat16`.")] = "auto"
    whole: Annotated[int, Doc("Long side of the whole call, in pixels.")] = 512

    def __call__(self) -> None:
        """Print the tables."""
        ours = Worker(Path(impasto.__file__).parent.parent)
        workers = {"ours": ours} | ({"baseline": Worker(self.baseline)} if self.baseline else {})
        common: dict[str, Any] = {"photo": str(self.photo), "precision": self.precision}
        tasks = {f"step {n}": {"what": "step", "size": n, "style": self.style, **common} for n in self.sizes}
        tasks["whole call"] = {
            "what": "whole",
            "size": self.whole,
            "style": self.style,
            "quality": self.quality,
            **common,
        }
        convolutions = {n: {"what": "convolutions", "size": n, **common} for n in self.sizes}
        found: dict[tuple[str, str], list[float]] = {}
        alone: dict[int, list[float]] = {n: [] for n in self.sizes}
        for _ in range(self.repeats):
            for n, task in convolutions.items():
                alone[n].append(ours.ask(task))
            for name, task in tasks.items():
                for who, worker in workers.items():
                    found.setdefault((name, who), []).append(worker.ask(task))
        for worker in workers.values():
            worker.close()
        print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, medians of {self.repeats} rounds\n")
        print(
            "| | convolutions, ms | ours, ms | ours / convolutions |" + (" baseline / ours |" if self.baseline else "")
        )
        print("| --- | --: | --: | --: |" + (" --: |" if self.baseline else ""))
        for name in tasks:
            own = statistics.median(found[name, "ours"])
            n = int(name.split()[1]) if name.startswith("step") else self.whole
            base = statistics.median(alone[n]) if n in alone else float("nan")
            row = f"| {name} | {base * 1e3:.1f} | {own * 1e3:.1f} | {own / base:.2f} |"
            if self.baseline:
                pairs = zip(found[name, "baseline"], found[name, "ours"], strict=True)
                row += f" {statistics.median(b / o for b, o in pairs):.2f} |"
            print(row)


class Worker:
    """A process that runs this script with the package from given sources."""

    def __init__(self, src: Path):
        env = {**os.environ, "PYTHONPATH": str(src.resolve())}
        command = [sys.executable, __file__, "--worker"]
        self.process = subprocess.Popen(command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, task: dict[str, Any]) -> float:
        """Return the seconds of a task."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(task) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit("step: a worker ended early; its message is above")
        return float(line)

    def close(self) -> None:
        """End the process."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def work() -> None:
    """Time the tasks read from standard input, with the package on the path."""
    for line in sys.stdin:
        task = json.loads(line)
        kind = {"step": step_seconds, "whole": whole_seconds, "convolutions": convolution_seconds}[task.pop("what")]
        print(kind(**task), flush=True)


def step_seconds(size: int, style: str, photo: str, precision: Precision) -> float:
    """Return the median seconds of a step at one scale, after warm-up steps."""
    stylizer = impasto.load_stylizer(style, size=size, coarsest=size, iterations=WARM + TIMED, precision=precision)
    times, begun = [], time.perf_counter()
    for _ in stylizer.steps(impasto.read_image(photo).tensor):
        now = time.perf_counter()
        times.append(now - begun)
        begun = now
    return statistics.median(times[WARM:])


def whole_seconds(size: int, style: str, photo: str, quality: Quality, precision: Precision) -> float:
    """Return the seconds of a whole call, including reading the file and binding the style."""
    begun = time.perf_counter()
    impasto.stylize(photo, style, size=size, quality=quality, precision=precision)
    return time.perf_counter() - begun


def convolution_seconds(size: int, photo: str, precision: Precision) -> float:
    """Return the median seconds of only the convolutions for the layers of the default losses."""
    from impasto.device import choose_compute
    from impasto.image.resize import fit_size
    from impasto.models.weights import load_encoder
    from impasto.options import OptimizeOptions
    from impasto.stylizers.loss import content_shares, layer_shares

    net, compute, options = load_encoder("compact"), choose_compute("cpu", precision), OptimizeOptions()
    dtype = compute.autocast_dtype or torch.float32
    deepest = max(net.layers[k] for k in (*layer_shares(options, net), *content_shares(options, net)))
    h, w = impasto.read_image(photo).tensor.shape[-2:]
    height, width = fit_size((h, w), long_side=size)
    layers: list[tuple[torch.Tensor, ...]] = []
    for name, conv in net.convolutions():
        if net.layers[name] > deepest:
            break
        h, w = height // net.stride(name), width // net.stride(name)
        assert conv.bias is not None
        x, g, weight, bias = (
            t.to(dtype)
            for t in (
                torch.rand(1, conv.in_channels, h, w),
                torch.rand(1, conv.out_channels, h, w),
                conv.weight,
                conv.bias,
            )
        )
        last = torch.channels_last
        layers.append((x.to(memory_format=last), g.to(memory_format=last), weight.to(memory_format=last), bias))

    @torch.no_grad()
    def run() -> None:
        for x, _, weight, bias in layers:
            F.conv2d(x, weight, bias, padding=1)
        for x, g, weight, _ in reversed(layers):
            one, zero = [1, 1], [0, 0]
            torch.ops.aten.convolution_backward(g, x, weight, None, one, one, one, False, zero, 1, [True, False, False])

    return statistics.median(seconds_of(run) for _ in range(WARM + TIMED))


def seconds_of(run: Callable[[], None]) -> float:
    """Return the seconds of a call."""
    begun = time.perf_counter()
    run()
    return time.perf_counter() - begun


if __name__ == "__main__":
    if sys.argv[1:] == ["--worker"]:
        work()
    else:
        tyro.cli(StepTime)()
