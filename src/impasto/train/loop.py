"""The training loop, based on Lightning Fabric: one process, or many on several machines.

A `Recipe` defines the network, the samples and the loss. `Training` holds the state and takes one step at a time.
`train` takes all steps and writes checkpoints.

Every random choice depends on (seed, step, number in the batch). So a training that is stopped and resumed is identical
to an uninterrupted one, bit for bit, and the number of processes changes it only by rounding. The networks are small,
so the loop does not wrap them: it sums the processes' gradients as one tensor.
"""

import math
import os
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
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
    """The network to train, the samples, and the loss."""

    optimisers: Optimisers

    @property
    def net(self) -> nn.Module:
        """The network: always the same object, though `after` may replace parts of it."""
        ...

    @property
    def sample(self) -> Callable[[int, int], Any]:
        """The function (step, number in the batch) -> sample.

        The sample depends only on these two. The function is pickled and runs in other processes.
        """
        ...

    def loss(self, samples: Sequence[Any]) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the sum of the samples' losses, and the sums of the values to log."""
        ...

    def rate_factor(self, step: int) -> float:
        """Return the factor on the learning rates for a step; the first step is 0."""
        ...

    def after(self, step: int) -> None:
        """Do any work between two steps, after `step` of them.

        May replace parts of the network and the optimisers.
        """
        ...

    def state_dict(self) -> dict[str, Any]:
        """Return what to checkpoint in addition to the weights and the optimisers' state."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the result of `state_dict`, and give the network the shape of its weights."""
        ...

    def write(self, net: nn.Module, path: Path, step: int) -> None:
        """Write the network as a model file."""
        ...


@dataclass(frozen=True)
class TrainStep:
    """Progress after a step, yielded by `train`.

    Parameters
    ----------
    step, total : int
        Steps done, and total number of steps.
    figures : dict of str to float
        Means over the step's pictures.
    seconds : float
        Seconds since this process started or resumed.
    """

    step: int
    total: int
    figures: dict[str, float]
    seconds: float


def start_fabric(o: TrainOptions) -> "Fabric":
    """Start the processes that the options ask for, or join those started by torchrun.

    Raises
    ------
    TrainingError
        If Lightning Fabric is not installed.
    """
    try:
        from lightning_fabric import Fabric
    except ImportError as error:
        raise TrainingError("training needs Lightning Fabric: pip install 'impasto[train]'") from error
    fabric = Fabric(
        accelerator=choose_compute(o.device).device.type,
        devices=int(os.environ.get("LOCAL_WORLD_SIZE", o.devices)),
        num_nodes=o.nodes,
        strategy="ddp" if count_processes(o) > 1 else "auto",
    )
    fabric.launch()
    return fabric


def stop_fabric(fabric: "Fabric") -> None:
    """Wait for the other processes, and close the connections to them.

    A process that exits while others are still connected to it may make them abort.
    """
    if fabric.world_size > 1:
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()


def count_processes(o: TrainOptions) -> int:
    """Return the number of processes that the options ask for, or that torchrun has started."""
    return max(o.devices * o.nodes, int(os.environ.get("WORLD_SIZE", 1)))


def compute_on(fabric: "Fabric", o: TrainOptions) -> Compute:
    """Return the device of this process and the precision."""
    return Compute(fabric.device, choose_compute(o.device, o.precision).autocast_dtype)


def copy_weights(net: nn.Module) -> dict[str, Tensor]:
    """Return a copy of a network's weights and buffers."""
    return {k: v.detach().clone() for k, v in net.state_dict().items()}


class Training:
    """The state of a training: the steps done, the recipe with its network, and the moving average of the weights.

    Parameters
    ----------
    recipe : Recipe
        The network, samples and loss.
    options : TrainOptions
        The training options.
    fabric : Fabric
        The processes.

    Raises
    ------
    TrainingError
        If there are more processes than pictures per step.
    """

    def __init__(self, recipe: Recipe, options: TrainOptions, fabric: "Fabric"):
        self.recipe, self.options, self.fabric = recipe, options, fabric
        if options.batch < fabric.world_size:
            raise TrainingError(
                f"--batch is {options.batch} for {fabric.world_size} processes; it must be at least that"
            )
        self.step = 0
        self.average = copy_weights(recipe.net)
        share = range(fabric.global_rank, options.batch, fabric.world_size)
        size = math.ceil(len(share) / options.accumulate)
        self.parts = [share[i : i + size] for i in range(0, len(share), size)]

    def batches(self) -> Generator[list[Any], None, None]:
        """Yield the samples of every part of all remaining steps; worker processes read ahead."""
        numbers = ([(step, i) for i in part] for step in range(self.step, self.options.steps) for part in self.parts)
        return prepared(self.recipe.sample, numbers, self.options.workers)

    def advance(self, batches: Iterator[list[Any]]) -> dict[str, float]:
        """Take one step. Return its figures, means over the batch.

        Raises
        ------
        TrainingError
            If the loss is no longer finite, or no picture can be read.
        """
        o, recipe = self.options, self.recipe
        recipe.optimisers.zero_grad()
        sums: dict[str, Tensor] = {}
        for _ in self.parts:
            loss, figures = recipe.loss(next(batches))
            (loss / o.batch).backward()
            for k, v in {"loss": loss, **figures}.items():
                sums[k] = sums.get(k, torch.zeros(())) + v.detach().float().cpu()
        sums = self._sum_over_processes(sums)
        if not math.isfinite(float(sums["loss"])):
            raise TrainingError(f"the loss is no longer finite at step {self.step + 1}; lower --rate (now {o.rate:g})")
        if o.clip:
            nn.utils.clip_grad_norm_(recipe.optimisers.parameters, o.clip)
        recipe.optimisers.step(recipe.rate_factor(self.step))
        self.step += 1
        recipe.after(self.step)
        self._move_average()
        return {k: float(v) / o.batch for k, v in sums.items()}

    def _move_average(self) -> None:
        """Update the moving average of the weights. Restarts it if `after` has changed the network's shape."""
        weights = self.recipe.net.state_dict()
        if weights.keys() != self.average.keys():
            self.average = copy_weights(self.recipe.net)
        decay = min(self.options.average, self.step / (self.step + 10))  # shorter memory at the start
        for k, v in weights.items():
            if v.is_floating_point():
                self.average[k].lerp_(v, 1 - decay)
            else:  # batch norm's counter of batches
                self.average[k].copy_(v)

    def out_of_time(self, begun: float) -> bool:
        """Return whether the time limit has passed since `begun`. All processes get the same answer."""
        if self.options.minutes is None:
            return False
        over = torch.tensor(float(time.monotonic() - begun > 60 * self.options.minutes), device=self.fabric.device)
        if self.fabric.world_size > 1:
            torch.distributed.broadcast(over, 0)
        return bool(over)

    def _sum_over_processes(self, sums: dict[str, Tensor]) -> dict[str, Tensor]:
        """Sum the gradients, in place, and `sums` over all processes, as one tensor. Return the sums."""
        if self.fabric.world_size == 1:
            return sums
        gradients = [p.grad for p in self.recipe.optimisers.parameters if p.grad is not None]
        tensors = [*gradients, *(v.to(self.fabric.device) for v in sums.values())]
        flat = torch.cat([t.flatten() for t in tensors])
        torch.distributed.all_reduce(flat)
        parts = [p.view(t.shape) for p, t in zip(flat.split([t.numel() for t in tensors]), tensors, strict=True)]
        for gradient, part in zip(gradients, parts, strict=False):
            gradient.copy_(part)
        return {k: v.cpu() for k, v in zip(sums, parts[len(gradients) :], strict=True)}

    def save(self) -> None:
        """Write the checkpoint, and the network with its averaged weights. Only the first process writes."""
        if not self.fabric.is_global_zero:
            return
        recipe, o = self.recipe, self.options
        state = {
            "step": self.step,
            "net": recipe.net.state_dict(),
            "average": self.average,
            "optimisers": recipe.optimisers.state_dict(),
            "recipe": recipe.state_dict(),
        }
        save_checkpoint(checkpoint_path(o.out), state)
        with self.averaged() as net:
            recipe.write(net, o.out, self.step)

    @contextmanager
    def averaged(self) -> Iterator[nn.Module]:
        """Use the averaged weights in the network within this context."""
        net, own = self.recipe.net, copy_weights(self.recipe.net)
        net.load_state_dict(self.average)
        try:
            yield net
        finally:
            net.load_state_dict(own)

    def restore(self) -> None:
        """Continue from the checkpoint.

        Raises
        ------
        TrainingError
            If it is missing, damaged, or from another training.
        """
        recipe, path = self.recipe, checkpoint_path(self.options.out)
        state = load_checkpoint(path)
        try:
            recipe.load_state_dict(state.get("recipe", {}))
            recipe.net.load_state_dict(state["net"])
            self.average = {k: state["average"][k].to(v) for k, v in copy_weights(recipe.net).items()}
            recipe.optimisers.load_state_dict(state["optimisers"])
            self.step = int(state["step"])
        except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
            raise TrainingError(f"cannot resume from {path}: it is from another training ({error})") from error


def train(training: Training) -> Generator[TrainStep, None, None]:
    """Train to the end or to the time limit. Yields after every step, and writes checkpoints regularly.

    If the generator is closed early, it writes a last checkpoint.
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
