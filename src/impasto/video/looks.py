"""The styles and the strength of a film over time."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..device import Compute
from ..models.networks import find_network
from ..models.weights import load_encoder
from ..options import VideoOptions
from ..style.target import StyleTarget
from ..stylizers.choose import resolve_compute
from ..stylizers.network import NetworkStylizer


class Keys:
    """The key frames of the style and of the strength.

    Parameters
    ----------
    options : VideoOptions
        The options.

    Attributes
    ----------
    times : list of float
        The times of the styles, in seconds; none if the styles do not change.
    constant : bool
        Whether style and strength are the same at all times.
    """

    def __init__(self, options: VideoOptions):
        self.strengths = options.strengths
        self.times = [time for time, _ in options.style_times]
        self.constant = len(self.times) <= 1 and len(self.strengths) == 1

    def strength(self, seconds: float) -> float:
        """Return the strength at a time."""
        shares = key_shares([time for time, _ in self.strengths], seconds)
        return sum(share * self.strengths[i][1] for i, share in shares.items())

    def shares(self, seconds: float) -> dict[int, float] | None:
        """Return the shares of the styles at a time, by index; None if the styles do not change."""
        return key_shares(self.times, seconds) if self.times else None


class Looks:
    """The styles and their strength at each time.

    Parameters
    ----------
    styles : sequence of Tensor or StyleTarget
        The styles: those that are blended throughout or, with `styles_at`, one for each key frame.
    options : VideoOptions
        The options.
    compute : Compute, optional
        Device and precision. Resolved from the options by default.

    Attributes
    ----------
    stylizer : NetworkStylizer
        Paints in the styles; with `styles_at`, in the first.
    constant : bool
        Whether the look is the same at all times.

    Raises
    ------
    ImpastoError
        If options, styles and machine do not fit together.
    """

    def __init__(self, styles: Sequence[Tensor | StyleTarget], options: VideoOptions, compute: Compute | None = None):
        painting, self.keys = options.painting, Keys(options)
        net = find_network(options.model)
        shared: Compute = compute or resolve_compute(painting, net)
        encoder = load_encoder("compact")

        def bound(some: Sequence[Tensor | StyleTarget]) -> NetworkStylizer:
            return NetworkStylizer(net, some, painting, encoder, shared)

        self.stylizers = [bound([s]) for s in styles] if self.keys.times else [bound(styles)]
        self.stylizer = self.stylizers[0]
        self.constant = self.keys.constant
        self.fixed: dict[Any, tuple[Tensor, Tensor]] = {}

    def at(self, seconds: float, photo: Tensor) -> tuple[Tensor, Tensor]:
        """Return the affine (1, P) and colours (1, 3, 4) at a time, for a frame (1, 3, H, W)."""
        strength = self.keys.strength(seconds)
        shares = self.keys.shares(seconds) or {0: 1.0}
        looks = [(self._look(i, photo, strength), share) for i, share in shares.items()]
        affine = sum((share * affine for (affine, _), share in looks), torch.zeros(()))
        colours = sum((share * colours for (_, colours), share in looks), torch.zeros(()))
        return affine, colours

    def _look(self, index: int, photo: Tensor, strength: float) -> tuple[Tensor, Tensor]:
        if strength != 1:  # depends on the frame
            return self.stylizers[index].look(photo, strength)
        key = (index, photo.shape)
        if key not in self.fixed:
            self.fixed[key] = self.stylizers[index].look(photo)
        return self.fixed[key]


def key_shares(times: Sequence[float], seconds: float) -> dict[int, float]:
    """Return the shares of the key frames at a time: of the ones before and after it, weighted by their distance."""
    after = next((i for i, time in enumerate(times) if time > seconds), len(times))
    if after in (0, len(times)):
        return {max(0, after - 1): 1.0}
    share = (seconds - times[after - 1]) / (times[after] - times[after - 1])
    return {after - 1: 1 - share, after: share} if share else {after - 1: 1.0}
