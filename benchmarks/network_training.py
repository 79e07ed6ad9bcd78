"""Pictures per second of `impasto train network`, the time of its parts, and a plain loop in the same run.

    python benchmarks/network_training.py --photos DATASETS/photos --paintings DATASETS/paintings

A whole step reads its pictures in separate processes, like the training. The parts are measured for a step that reads
them itself, one part after the other. The plain loop is the one from tutorials: the classic network (see `classic`) in
one style, the bundled encoder, mean squared errors of Gram matrices after its heads and of relu4_2, Adam, NCHW,
float32. Both loops keep freed memory, like the training.
"""

import shlex
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
import torch.nn.functional as F
import tyro
from classic import classic
from speed import PlainVGG, interleaved
from torch import Tensor, nn
from typing_extensions import Doc

from impasto.device import freed_memory_kept
from impasto.errors import ImpastoError
from impasto.models.vgg import CONTENT_LAYER, STYLE_LAYERS
from impasto.models.weights import load_encoder
from impasto.options import Precision, TrainNetworkOptions
from impasto.tools.metrics import markdown_table
from impasto.train.network import NetworkRecipe
from impasto.train.start import start_network_training


@dataclass(frozen=True, kw_only=True)
class NetworkTraining:
    """Time training steps and their parts."""

    photos: Annotated[tuple[Path, ...], Doc("Folders or packed files with photographs.")]
    paintings: Annotated[tuple[Path, ...], Doc("Folders or packed files with paintings.")]
    styles: Annotated[tuple[str, ...], Doc("Styles to learn individually, as for `impasto train network`.")] = ()
    batch: Annotated[int, Doc("Pictures per step.")] = TrainNetworkOptions.batch
    crop: Annotated[int, Doc("Side of the pictures, in pixels.")] = TrainNetworkOptions.crop
    workers: Annotated[int, Doc("Processes that read pictures ahead, for a whole step.")] = TrainNetworkOptions.workers
    device: Annotated[str, Doc("`auto`, `cpu`, `cuda` or `mps`.")] = "auto"
    precision: Annotated[Precision, Doc("Precision of ours; `auto` uses bfloat16 if the hardware supports it.")] = (
        "auto"
    )
    repeats: Annotated[int, Doc("Timed steps of each; the median is reported.")] = 7
    plain: Annotated[bool, Doc("Also time the plain loop.")] = True

    def __call__(self) -> None:
        """Print the tables."""
        with tempfile.TemporaryDirectory() as folder:
            options = TrainNetworkOptions(
                photos=self.photos,
                paintings=self.paintings,
                styles=self.styles,
                out=Path(folder) / "network.safetensors",
                batch=self.batch,
                crop=self.crop,
                workers=self.workers,
                device=self.device,  # type: ignore[arg-type]
                precision=self.precision,
            )
            training = start_network_training(options)
        recipe = training.recipe
        assert isinstance(recipe, NetworkRecipe)
        print(f"`{shlex.join(['python', *sys.argv])}`: {torch.get_num_threads()} threads, {recipe.compute}\n")
        with closing(training.batches()) as batches, freed_memory_kept():
            loops: dict[str, Callable[[], Tensor]] = {"plain": self.plain_step(recipe.compute.device)}
            loops = loops if self.plain else {}
            loops["ours"] = lambda: torch.tensor(training.advance(batches)["loss"])
            times = [statistics.median(t) for t in interleaved(list(loops.values()), self.repeats)]
        rows = [(n, 1e3 * t, self.batch / t, times[0] / t) for n, t in zip(loops, times, strict=True)]
        print(markdown_table(("loop", "ms a step", "pictures/s", f"over {next(iter(loops))}"), rows))
        clock = Clock(recipe.compute.device)
        with freed_memory_kept():
            for step in range(self.repeats + 1):
                take_step(recipe, step, clock)
        parts = {name: statistics.median(t[1:]) for name, t in clock.seconds.items()}
        rows = [(name, 1e3 * t, f"{t / sum(parts.values()):.0%}") for name, t in parts.items()]
        print("\n" + markdown_table(("part of a step", "ms", "share"), rows))

    def plain_step(self, device: torch.device) -> Callable[[], Tensor]:
        """Return a step of the plain loop."""
        net, encoder = classic().train().to(device), PlainVGG(load_encoder("compact")).to(device)
        adam = torch.optim.Adam(net.parameters(), lr=1e-3)
        g = torch.Generator().manual_seed(0)
        x = torch.rand(self.batch, 3, self.crop, self.crop, generator=g).to(device)
        with torch.no_grad():
            style = torch.rand(1, 3, 512, 512, generator=g).to(device)
            grams = {k: gram(f) for k, f in encoder(style).items() if k in STYLE_LAYERS}

        def step() -> Tensor:
            with torch.no_grad():
                target = encoder(x)[CONTENT_LAYER]
            y = net(x)
            features = encoder(y)
            loss = 0.05 * F.mse_loss(features[CONTENT_LAYER], target)
            for k in STYLE_LAYERS:
                loss = loss + F.mse_loss(gram(features[k]), grams[k].expand(self.batch, -1, -1))
            loss = loss + (y[..., 1:] - y[..., :-1]).square().mean() + (y[..., 1:, :] - y[..., :-1, :]).square().mean()
            adam.zero_grad()
            loss.backward()
            adam.step()
            return loss.detach().cpu()

        return step


class Clock:
    """Records the seconds of each part of a step."""

    def __init__(self, device: torch.device):
        self.device, self.seconds = device, dict[str, list[float]]()

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Time the work inside this context."""
        begun = self.now()
        yield
        self.seconds.setdefault(name, []).append(self.now() - begun)

    def now(self) -> float:
        """Wait for the device to finish, and return the time."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()


def take_step(recipe: NetworkRecipe, step: int, clock: Clock) -> None:
    """Take a training step and time its parts."""
    o = recipe.options
    recipe.optimisers.zero_grad()
    with clock.part("sampling"):
        samples = [recipe.sample(step, i) for i in range(o.batch)]
    photos, learnt = recipe.compute.picture(torch.stack([s.photo for s in samples])), [s.learnt for s in samples]
    with clock.part("styles measured"):
        targets = recipe.targets(samples)
    with clock.part("network, forward"):
        paintings, *_ = recipe.paint(photos, targets, learnt)
    with torch.no_grad():
        colours = recipe.net.style_colours(targets)
    with clock.part("loss, forward"):
        seen = paintings.detach().requires_grad_()
        terms = recipe.distance(seen, photos, targets, colours)
        loss = torch.stack([v.sum() for v in terms.values()]).sum() / o.batch
    with clock.part("loss, backward"):
        (gradient,) = torch.autograd.grad(loss, seen)
    with clock.part("network, backward"):
        paintings.backward(gradient)
    with clock.part("optimisers"):
        nn.utils.clip_grad_norm_(recipe.optimisers.parameters, o.clip)
        recipe.optimisers.step(1e-3)
        recipe.after(step)


def gram(features: Tensor) -> Tensor:
    """Return the Gram matrices per pixel, (N, C, C)."""
    f = features.flatten(2)
    return f @ f.transpose(1, 2) / f.shape[2]


if __name__ == "__main__":
    try:
        tyro.cli(NetworkTraining)()
    except ImpastoError as error:
        sys.exit(f"network_training: {error}")
