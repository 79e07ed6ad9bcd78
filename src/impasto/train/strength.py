"""Training of strength alone: what of a trained network gives the photograph back, and the way from there to a style.

The norms' plain maps are all that learns; paintings of strength 1 stay what they are, bit for bit. While a network
learns its styles these maps run after its convolutions. Afterwards they can be brought to what they should be: at
strength 0 the photograph, between 0 and 1 the mean of it and the painting, weighted by the strength.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..device import Compute
from ..models.arbitrary import ArbitraryNetwork, save_arbitrary
from ..models.norm import Conditions
from ..models.transformer import Transformer, save_transformer
from ..options import TrainStrengthOptions
from .optimisers import Optimisers
from .photographs import PhotographsRecipe
from .pictures import PictureSet

LEARNT = ("plain_scale", "plain_shift")
"""The names of what learns."""
LITTLE, MOST = 0.1, 0.9
"""A third of the pictures each has strength 0, up to the first of these, and up to the second."""
MOST_WEIGHT = 0.3
"""Of a picture of the last third, which no map can meet: one that is near to both ends matters more."""
SHOWN = (0.0, 0.1, 0.25, 0.5, 0.75, 1.0)
"""Strengths on a sheet of samples."""

ConditionsOf = Callable[[Tensor, tuple[float, ...]], Conditions]
"""Style indices (N,) and their strengths -> what the network takes."""


def learnt_conditions(styles: int, compute: Compute) -> ConditionsOf:
    """Those of a network that has learnt so many styles."""
    return lambda index, strength: replace(Conditions.of(index, styles), strength=strength).to(compute.device)


def predicted_conditions(
    net: ArbitraryNetwork, styles: Sequence[Mapping[str, Tensor]], compute: Compute
) -> ConditionsOf:
    """Those of a network for any style, for some styles: each is layer -> raw moments (1, C + 1, C + 1)."""
    moments = {k: torch.cat([m[k] for m in styles]).to(compute.device) for k in net.config.layers}
    return lambda index, strength: net.conditions({k: m[index] for k, m in moments.items()}, strength)


@dataclass(frozen=True)
class Strengthened:
    """A picture of a batch.

    Parameters
    ----------
    photo : Tensor
        (3, S, S), in [0, 1].
    style : int
        Its style.
    strength : float
        How much of that.
    """

    photo: Tensor
    style: int
    strength: float


class StrengthRecipe(PhotographsRecipe[TrainStrengthOptions]):
    """A trained network, its styles, and the photographs.

    Parameters
    ----------
    net : Transformer or ArbitraryNetwork
        The network.
    options : TrainStrengthOptions
        How it is trained.
    styles : int
        How many styles there are.
    conditions : callable
        Style indices (N,) and strengths -> what the network takes, on the device.
    photos : PictureSet
        What it is trained on.
    compute : Compute
        Device and precision.
    known : dict
        How the network was trained before, as its file says.
    """

    def __init__(
        self,
        net: Transformer | ArbitraryNetwork,
        options: TrainStrengthOptions,
        styles: int,
        conditions: ConditionsOf,
        photos: PictureSet,
        compute: Compute,
        known: dict[str, Any],
    ):
        super().__init__(net, options, photos, compute)
        self.styles, self.conditions, self.known = styles, conditions, known
        for name, parameter in net.named_parameters():
            parameter.requires_grad_(name.rpartition(".")[2] in LEARNT)
        learning = [p for p in net.parameters() if p.requires_grad]
        self.optimisers = Optimisers((), 0.0, (learning, options.small_rate))

    @property
    def what(self) -> str:
        """What it learns from, in words."""
        return f"the strength of {self.styles} styles"

    def picture(self, step: int, i: int) -> Strengthened:
        """The picture number i of a step."""
        photo, rng = self.photograph(step, i)
        most = (0.0, LITTLE, MOST)[(step * self.options.batch + i) % 3]
        return Strengthened(photo, int(rng.integers(self.styles)), float(rng.uniform(0, most)))

    def loss(self, step: int, pictures: Sequence[int]) -> tuple[Tensor, dict[str, Tensor]]:
        """The sum of the pictures' losses; the sums of the squared differences where the photograph must come back."""
        drawn = [self.picture(step, i) for i in pictures]
        x = self.compute.picture(torch.stack([d.photo for d in drawn]))
        styles = torch.tensor([d.style for d in drawn])
        strength = torch.tensor([d.strength for d in drawn])
        with torch.no_grad():
            painting = self.paint(x, self.conditions(styles, (1.0,) * len(drawn)))
            wanted = torch.lerp(x, painting, strength.to(x)[:, None, None, None])
        each = (self.paint(x, self.conditions(styles, tuple(strength.tolist()))) - wanted).square().mean((1, 2, 3))
        weights = torch.where(strength > LITTLE, MOST_WEIGHT, 1.0).to(each)
        plain = (strength == 0).to(each)
        return (weights * each).sum(), {"plain": (plain * each).detach().sum(), "count": plain.sum()}

    def after(self, step: int, sums: dict[str, Tensor]) -> dict[str, float]:
        """The log shows the mean squared difference to the photograph at strength 0, in decibels."""
        error = float(sums["plain"]) / max(1.0, float(sums["count"]))
        return {"decibels": -10 * float(torch.tensor(max(error, 1e-12)).log10())}

    def state_dict(self) -> dict[str, Any]:
        """Nothing: all that learns is the network's."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The inverse."""

    def shown(self, count: int) -> list[Conditions]:
        """What a sheet of samples shows: strengths from 0 to 1, each photograph in a style of its own."""
        styles = torch.arange(count) % self.styles
        return [self.conditions(styles, (s,) * count) for s in SHOWN]

    def write(self, net: nn.Module, path: Path, step: int) -> None:
        """Write the network as a model file of its kind."""
        o = self.options
        account = {**self.known, "strength": {"steps": step, "batch": o.batch, "crop": o.crop}}
        if isinstance(net, ArbitraryNetwork):
            save_arbitrary(net, path, training=account, licence="MIT")
        else:
            assert isinstance(net, Transformer)
            save_transformer(net, path, training=account, licence="MIT")
