"""The training loop of the networks that paint, on Lightning Fabric: one process, or many on many machines.

Every random choice comes from (seed, step, number of the picture in the batch), so a training that was stopped and
resumed is the uninterrupted one bit for bit, and how many processes share the batch changes it by rounding alone. The
networks are small: instead of wrapping them, the loop adds up the processes' gradients as one tensor.
"""

import math
import os
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor, nn

from ..device import Compute, choose_compute
from ..errors import TrainingError
from ..options import TrainOptions
from .checkpoint import checkpoint_path, load_checkpoint, save_checkpoint
from .loading import prepared
from .optimisers import Optimisers

if TYPE_CHECKING:
    from lightning_fabric import Fabric


class Recipe(Protocol):
    """What is trained, on what, and by which loss."""

    optimisers: Optimisers

    @property
    def net(self) -> nn.Module:
        """The network, the same object always."""
        ...

    @property
    def sample(self) -> Callable[[int, int], Any]:
        """Return the sample (step, number in the batch), from these two alone; called in other processes too."""
        ...

    def loss(self, samples: Sequence[Any]) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the sum of the samples' losses, and the sums of what the log shows."""
        ...

    def after(self, step: int) -> None:
        """Do what is to be done once a step is taken."""
        ...

    def write(self, net: nn.Module, path: Path, step: int) -> None:
        """Write the network as a model file."""
        ...


@dataclass(frozen=True)
class TrainStep:
    """What a consumer of `train` sees after each step.

    Parameters
    ----------
    step, total : int
        Steps done, and in all.
    figures : dict of str to float
        Means over the step's pictures.
    seconds : float
        Since this process began or resumed.
    """

    step: int
    total: int
    figures: dict[str, float]
    seconds: float


def start_fabric(o: TrainOptions) -> "Fabric":
    """The processes that the options ask for, or that torchrun has started; TrainingError without the extra."""
    try:
        from lightning_fabric import Fabric
    except ImportError as error:
        raise TrainingError("training needs Lightning Fabric: pip install 'impasto[train]'") from error
    distributed = o.devices * o.nodes > 1 or int(os.environ.get("WORLD_SIZE", 1)) > 1
    fabric = Fabric(
        accelerator=choose_compute(o.device).device.type,
        devices=int(os.environ.get("LOCAL_WORLD_SIZE", o.devices)),
        num_nodes=o.nodes,
        strategy="ddp" if distributed else "auto",
    )
    fabric.launch()
    return fabric


def compute_on(fabric: "Fabric", o: TrainOptions) -> Compute:
    """The device of this process, and the precision."""
    return Compute(fabric.device, choose_compute(o.device, o.precision).low)


def rate_factor(step: int, o: TrainOptions) -> float:
    """A rise over the first steps, then 1, then over the last part a straight fall to 0."""
    fall = (o.steps - step) / (o.steps * o.decay) if o.decay else 1.0
    return min(1.0, (step + 1) / (o.warm_up + 1), max(0.0, fall))


class Training:
    """A training under way: the network, the moving average of its weights, its optimisers.

    Parameters
    ----------
    recipe : Recipe
        What is trained.
    options : TrainOptions
        How.
    fabric : Fabric
        The processes.

    Raises
    ------
    TrainingError
        If there are more processes than pictures a step.
    """

    def __init__(self, recipe: Recipe, options: TrainOptions, fabric: "Fabric"):
        self.recipe, self.options, self.fabric = recipe, options, fabric
        if options.batch < fabric.world_size:
            raise TrainingError(f"--batch is {options.batch} for {fabric.world_size} processes; give each a picture")
        self.step = 0
        self.average = {k: v.detach().clone() for k, v in recipe.net.state_dict().items()}
        share = range(fabric.global_rank, options.batch, fabric.world_size)
        size = math.ceil(len(share) / options.accumulate)
        self.parts = [share[i : i + size] for i in range(0, len(share), size)]

    def batches(self) -> Generator[list[Any], None, None]:
        """Yield the samples of each part of each step to come, read ahead by other processes."""
        numbers = ([(step, i) for i in part] for step in range(self.step, self.options.steps) for part in self.parts)
        return prepared(self.recipe.sample, numbers, self.options.workers)

    def advance(self, batches: Iterator[list[Any]]) -> dict[str, float]:
        """Take one step; return its figures, means over the batch.

        Raises
        ------
        TrainingError
            If the loss is no longer finite, or no picture can be read.
        """
        o, recipe = self.options, self.recipe
        recipe.optimisers.zero_grad()
        sums: dict[str, Tensor] = {}
        for _ in self.parts:
            loss, found = recipe.loss(next(batches))
            (loss / o.batch).backward()
            for k, v in {"loss": loss, **found}.items():
                sums[k] = sums.get(k, torch.zeros(())) + v.detach().float().cpu()
        sums = self._add_up(sums)
        if not math.isfinite(float(sums["loss"])):
            raise TrainingError(f"the loss is no longer finite at step {self.step + 1}; lower --rate (now {o.rate:g})")
        if o.clip:
            nn.utils.clip_grad_norm_(recipe.optimisers.parameters, o.clip)
        recipe.optimisers.step(rate_factor(self.step, o))
        self.step += 1
        recipe.after(self.step)
        decay = min(o.average, self.step / (self.step + 10))  # young, it forgets sooner
        with torch.no_grad():
            for k, v in recipe.net.state_dict().items():
                self.average[k].lerp_(v, 1 - decay)
        return {k: float(v) / o.batch for k, v in sums.items()}

    def out_of_time(self, begun: float) -> bool:
        """Return whether the minutes that the options give are over since `begun`; the same in every process."""
        if self.options.minutes is None:
            return False
        over = torch.tensor(float(time.monotonic() - begun > 60 * self.options.minutes), device=self.fabric.device)
        if self.fabric.world_size > 1:
            torch.distributed.broadcast(over, 0)
        return bool(over)

    def _add_up(self, sums: dict[str, Tensor]) -> dict[str, Tensor]:
        """The gradients and the sums over all processes, as one tensor; the gradients stay in their places."""
        if self.fabric.world_size == 1:
            return sums
        gradients = [p.grad for p in self.recipe.optimisers.parameters if p.grad is not None]
        tensors = [*gradients, *(sums[k].to(self.fabric.device) for k in sorted(sums))]
        flat = torch.cat([t.flatten() for t in tensors])
        torch.distributed.all_reduce(flat)
        parts = [p.view(t.shape) for p, t in zip(flat.split([t.numel() for t in tensors]), tensors, strict=True)]
        for gradient, part in zip(gradients, parts, strict=False):
            gradient.copy_(part)
        return {k: v.cpu() for k, v in zip(sorted(sums), parts[len(gradients) :], strict=True)}

    def save(self) -> None:
        """Write the checkpoint, and the network with the averaged weights; in one process of all."""
        if not self.fabric.is_global_zero:
            return
        recipe, o = self.recipe, self.options
        state = {
            "step": self.step,
            "net": recipe.net.state_dict(),
            "average": self.average,
            "optimisers": recipe.optimisers.state_dict(),
        }
        save_checkpoint(checkpoint_path(o.out), state)
        with self.averaged():
            recipe.write(recipe.net, o.out, self.step)

    def averaged(self) -> "Averaged":
        """A context in which the network has the averaged weights."""
        return Averaged(self.recipe.net, self.average)

    def restore(self) -> None:
        """Go on from the checkpoint; TrainingError if it is missing, damaged or of something else."""
        path = checkpoint_path(self.options.out)
        state = load_checkpoint(path)
        try:
            self.recipe.net.load_state_dict(state["net"])
            for k, v in self.average.items():
                v.copy_(state["average"][k])
            self.recipe.optimisers.load_state_dict(state["optimisers"])
            self.step = int(state["step"])
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise TrainingError(f"cannot resume from {path}: it is no checkpoint of this training ({error})") from error


class Averaged:
    """A context in which a network has other weights."""

    def __init__(self, net: nn.Module, weights: dict[str, Tensor]):
        self.net, self.weights = net, weights

    def __enter__(self) -> nn.Module:
        self.own = {k: v.detach().clone() for k, v in self.net.state_dict().items()}
        self.net.load_state_dict(self.weights)
        return self.net

    def __exit__(self, *_: object) -> None:
        self.net.load_state_dict(self.own)


def train(training: Training) -> Generator[TrainStep, None, None]:
    """Train to the end, a step at a time, with checkpoints on the way; closed early it writes a last one.

    It ends sooner if the options give it so many minutes.
    """
    o, begun, saved = training.options, time.monotonic(), training.step
    with closing(training.batches()) as batches:
        try:
            while training.step < o.steps and not training.out_of_time(begun):
                figures = training.advance(batches)
                if training.step % o.checkpoint_every == 0 or training.step == o.steps:
                    training.save()
                    saved = training.step
                yield TrainStep(training.step, o.steps, figures, time.monotonic() - begun)
        except GeneratorExit:
            if training.step > saved:
                training.save()
            raise
        if training.step > saved:
            training.save()
