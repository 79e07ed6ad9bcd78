"""How much the content counts against each style, settled while training.

One weight for all styles paints some of them hardly at all and loses the photograph in others. Here each style has its
own, which follows until its paintings are as far from their photographs as it is allowed. Styles that are hard to
reach are allowed more than those that are near anyhow.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

FIRST_WEIGHT, LEAST_WEIGHT, MOST_WEIGHT = 0.05, 0.005, 0.5
"""Where a weight begins, and between what it settles."""
BALANCE_RATE, MOST_CHANGE, BALANCE_FROM = 0.02, 0.1, 300
"""How fast a weight follows, a picture of its style and a step at most, and from which step on, begun anew."""
MEMORY = 0.05
"""How far a style's mean distance goes towards that of a new picture."""
EASE, LEAST_SHARE, MOST_SHARE = 0.5, 0.6, 1.4
"""A style twice as far as the mean may have 2**EASE of the content distance; the least and the most share of it."""


class ContentBalance:
    """The content weight of each style.

    Parameters
    ----------
    styles : int
        How many there are.
    content : float
        The content distance that a style of mean difficulty is allowed.
    fixed : float or None
        One weight for all instead, which stays.
    first : sequence of float or None
        The weights that an earlier training ended with, to go on from; of another number of styles they are ignored.

    Attributes
    ----------
    weights : Tensor
        (styles,).
    distances : Tensor
        (styles,), the mean style distance of late; 0 of a style that was not painted yet.
    """

    def __init__(self, styles: int, content: float, fixed: float | None = None, first: Sequence[float] | None = None):
        self.content, self.fixed = content, fixed
        settled = first is not None and len(first) == styles
        self.begin = 0 if settled else BALANCE_FROM
        self.distances = torch.zeros(styles)
        if fixed is not None:
            self.weights = torch.full((styles,), float(fixed))
        elif first is not None and settled:
            self.weights = torch.tensor([float(w) for w in first]).clamp(LEAST_WEIGHT, MOST_WEIGHT)
        else:
            self.weights = torch.full((styles,), FIRST_WEIGHT)

    def allowed(self) -> Tensor:
        """(styles,), the content distance that each style may have."""
        known = self.distances > 0
        if not known.all():
            return torch.full_like(self.distances, self.content)
        share = (self.distances / self.distances.mean()) ** EASE
        return self.content * share.clamp(LEAST_SHARE, MOST_SHARE)

    def follow(self, step: int, counts: Tensor, contents: Tensor, styles: Tensor) -> None:
        """Let the weights follow.

        Parameters
        ----------
        step : int
            Steps done.
        counts, contents, styles : Tensor
            (styles,), of a step's pictures in each style: how many, and the sums of their content and style distances.
        """
        seen = counts > 0
        mean = styles / counts.clamp(min=1)
        share = 1 - (1 - MEMORY) ** counts
        followed = torch.where(self.distances > 0, self.distances.lerp(mean, share), mean)
        self.distances = torch.where(seen, followed, self.distances)
        if self.fixed is not None or step <= self.begin:
            return
        excess = contents / counts.clamp(min=1) / self.allowed() - 1
        change = (BALANCE_RATE * counts * excess.clamp(-1, 1)).clamp(-MOST_CHANGE, MOST_CHANGE)
        self.weights = (self.weights * change.exp()).clamp(LEAST_WEIGHT, MOST_WEIGHT)

    def state_dict(self) -> dict[str, Any]:
        """What has been followed."""
        return {"content_weights": self.weights, "style_distances": self.distances}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The inverse."""
        self.weights, self.distances = state["content_weights"], state["style_distances"]
