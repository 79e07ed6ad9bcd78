"""Pictures a second that training takes in: `impasto train feedforward` against a plain loop, in turn in the same run.

The plain loop is the tutorials': the same network of torch's own modules (instance norm, resizing, reflection padding),
the bundled encoder, mean squared errors of Gram matrices behind its heads and of relu4_2, Adam, NCHW, float32. Ours is
a whole step with all that it does by default: photographs drawn, the loss against flicker, strength 0, balancing.
"""

import shlex
import statistics
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
import torch.nn.functional as F
import tyro
from feedforward_speed import classic
from speed import PlainVGG, interleaved
from torch import Tensor
from typing_extensions import Doc

from impasto.errors import ImpastoError
from impasto.models.vgg import CONTENT_LAYER, STYLE_LAYERS
from impasto.models.weights import load_encoder
from impasto.options import TrainFeedforwardOptions
from impasto.tools.metrics import markdown_table
from impasto.train.start import start_training


@dataclass(frozen=True)
class FeedforwardTraining:
    """Time steps of training."""

    photos: Annotated[Path, Doc("A folder with photographs.")]
    batch: Annotated[int, Doc("Pictures a step.")] = 8
    crop: Annotated[int, Doc("Side of the pictures, in pixels.")] = 256
    width: Annotated[int, Doc("Channels behind the first convolution.")] = 16
    repeats: Annotated[int, Doc("Timed steps of each; the median counts.")] = 7

    def __call__(self) -> None:
        """Print the table."""
        print(f"`{shlex.join(['python', *sys.argv])}`: {torch.get_num_threads()} threads\n")
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "net.safetensors"
            o = TrainFeedforwardOptions(
                styles=("all",),
                photos=(self.photos,),
                out=out,
                batch=self.batch,
                crop=self.crop,
                width=self.width,
                device="cpu",
            )
            training = start_training(o)
            steps = {"plain": self.plain(), "ours": lambda: torch.tensor(training.advance()["loss"])}
            times = interleaved(list(steps.values()), self.repeats)
        rates = [self.batch / statistics.median(t) for t in times]
        rows = [(n, r, r / rates[0]) for n, r in zip(steps, rates, strict=True)]
        print(markdown_table(("loop", "pictures/s", "over plain"), rows))

    def plain(self) -> Callable[[], Tensor]:
        """A step of the plain loop."""
        net, encoder = classic(self.width).train(), PlainVGG(load_encoder("compact"))
        adam = torch.optim.Adam(net.parameters(), lr=1e-3)
        g = torch.Generator().manual_seed(0)
        x, style = torch.rand(self.batch, 3, self.crop, self.crop, generator=g), torch.rand(1, 3, 512, 512, generator=g)
        with torch.no_grad():
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
            return loss.detach()

        return step


def gram(features: Tensor) -> Tensor:
    """Gram matrices per pixel, (N, C, C)."""
    f = features.flatten(2)
    return f @ f.transpose(1, 2) / f.shape[2]


if __name__ == "__main__":
    try:
        tyro.cli(FeedforwardTraining)()
    except ImpastoError as error:
        sys.exit(f"feedforward_training: {error}")
