"""What every training of a network that paints has: the network, the photographs, and what its samples show."""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from ..device import Compute, channels_last
from ..models.norm import Conditions
from ..options import TrainOptions
from .pictures import PictureSet

ZOOM = (0.8, 2.0)
"""How much photographs are enlarged."""

Options = TypeVar("Options", bound=TrainOptions)


class PhotographsRecipe(ABC, Generic[Options]):
    """A network that paints, and the photographs that it is trained on.

    Parameters
    ----------
    net : nn.Module
        The network: (picture, conditions) -> painting.
    options : TrainOptions
        How it is trained.
    photos : PictureSet
        What it is trained on.
    compute : Compute
        Device and precision.
    """

    def __init__(self, net: nn.Module, options: Options, photos: PictureSet, compute: Compute):
        self.options, self.photos, self.compute = options, photos, compute
        self.whole = channels_last(net.to(compute.device))

    @property
    def net(self) -> nn.Module:
        """The network."""
        return self.whole

    @property
    @abstractmethod
    def what(self) -> str:
        """What it learns from, in words."""

    def photograph(self, step: int, i: int) -> tuple[Tensor, np.random.Generator]:
        """The photograph number i of a step, and the source of what else is to be chosen for it."""
        rng = np.random.default_rng((self.options.seed, 1, step, i))
        photo = self.photos.crop(rng, self.options.crop, ZOOM)
        return photo.flip(2) if rng.random() < 0.5 else photo, rng

    def sample(self, count: int) -> Tensor:
        """Photographs (N, 3, S, S), the same at every step of every run with that seed."""
        rng = np.random.default_rng((self.options.seed, 4))
        return torch.stack([self.photos.crop(rng, self.options.crop, (1.0, 1.5)) for _ in range(count)])

    def paint(self, x: Tensor, conditions: Conditions) -> Tensor:
        """The network's painting, float32."""
        with self.compute.autocast():
            return self.net(x, conditions).float()

    @abstractmethod
    def shown(self, count: int) -> list[Conditions]:
        """What a sheet of samples shows, row by row, each for `count` photographs; the same at every step."""

    @abstractmethod
    def write(self, net: nn.Module, path: Path, step: int) -> None:
        """Write the network as a model file."""
