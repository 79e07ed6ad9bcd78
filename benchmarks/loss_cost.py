"""The cost of a step (loss and gradient) with each style loss, relative to `gram` in the same run."""

import shlex
import statistics
import sys
from dataclasses import dataclass
from typing import Annotated

import torch
import tyro
from speed import interleaved
from torch import Tensor
from typing_extensions import Doc

from impasto.device import choose_compute
from impasto.errors import ImpastoError
from impasto.models.weights import load_encoder
from impasto.options import OptimizeOptions, Precision
from impasto.stylizers.loss import Problem, build_loss
from impasto.stylizers.schedule import Scale
from impasto.tools.metrics import markdown_table

LOSSES: dict[str, tuple[dict[str, object], bool]] = {
    "gram": ({"style_loss": "gram"}, False),
    "moments": ({"style_loss": "moments"}, False),
    "nn, matched once a scale": ({"style_loss": "nn"}, False),
    "nn, matched before every step": ({"style_loss": "nn"}, True),
    "moments:1,nn:0.5": ({"style_loss": "moments:1,nn:0.5"}, False),
    "gram with the histogram loss": ({"style_loss": "gram", "histogram_weight": 1.0}, False),
    "gram with the Laplacian loss": ({"style_loss": "gram", "laplacian_weight": 1.0}, False),
    "gram with the self-similarity loss": ({"style_loss": "gram", "similarity_weight": 1.0}, False),
}
"""Name -> options, and whether the refinement is timed."""


@dataclass(frozen=True)
class LossCost:
    """Time a step with each style loss."""

    repeats: Annotated[int, Doc("Timed repetitions of each, interleaved; the median is reported.")] = 9
    size: Annotated[int, Doc("Side of the picture, in pixels.")] = 512
    precision: Annotated[Precision, Doc("`auto` uses bfloat16 if the processor supports it.")] = "auto"

    def __call__(self) -> None:
        """Print the table."""
        compute, net = choose_compute("cpu", self.precision), load_encoder("compact")
        compute.network(net)
        print(f"`{shlex.join(['python', *sys.argv])}`: {torch.get_num_threads()} threads, {compute}\n")
        g = torch.Generator().manual_seed(0)
        content, style = (torch.rand(1, 3, self.size, self.size, generator=g) for _ in range(2))
        steps = []
        for options, refine in LOSSES.values():
            chosen, size = OptimizeOptions(**options), (self.size, self.size)  # pyright: ignore[reportArgumentType]
            problem = Problem(net, compute, chosen, content, size, [style])
            loss = build_loss(problem, Scale(size, 1, 0.0, refine), content)
            x = compute.picture(content).clone().requires_grad_(True)

            def step(loss: object = loss, x: Tensor = x) -> Tensor:
                x.grad = None
                loss(x)["total"].backward()  # pyright: ignore[reportCallIssue]
                assert x.grad is not None
                return x.grad

            steps.append(step)
        times = interleaved(steps, self.repeats)
        rows = [
            (name, statistics.median(t), statistics.median(a / b for a, b in zip(t, times[0], strict=True)))
            for name, t in zip(LOSSES, times, strict=True)
        ]
        print(markdown_table(("style loss", "s/step", "over gram"), rows))


if __name__ == "__main__":
    try:
        tyro.cli(LossCost)()
    except ImpastoError as error:
        sys.exit(f"loss_cost: {error}")
