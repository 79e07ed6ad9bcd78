"""L-BFGS for pictures: no line search, kept within [0, 1].

Liu, Nocedal, "On the Limited Memory BFGS Method for Large Scale Optimization", Mathematical Programming 45, 1989. Two
things are different here. A line search costs several evaluations of the networks; instead every step is taken in full,
and one that made the loss larger is taken back and quartered. And a pixel at 0 or 1 that the gradient pushes further
out does not move (as in projected quasi-Newton methods: Bertsekas, SIAM J. Control and Optimization 20, 1982).

The direction is a linear combination of the stored steps, the stored changes of the gradient and the gradient, so only
their scalar products are needed to find it (Chen, Wang, Zhou, "Large-scale L-BFGS using MapReduce", NIPS 2014): two
passes over the memory instead of one for every pair and loop.
"""

from typing import Any

import torch
from torch import Tensor

HISTORY = 5
"""Steps that are remembered; 20 of them reach the same loss within 0.5 % and cost more memory and time."""
FIRST_STEP = 1.25
"""The first step over that which would make a loss with that slope zero, f / |g|^2: the least loss is near zero."""
CURVATURE = 1e-6
"""Least cosine between a step and the change of its gradient for the pair to be kept."""
QUARTERINGS = 6
"""A step is quartered at most so often; then the memory is emptied and the gradient followed."""


class LBFGS:
    """Minimise a function of one tensor in [0, 1].

    Parameters
    ----------
    x : Tensor
        Where to begin; any shape, float32.
    rate : float
        Factor on every step; 1 is Newton's.
    history : int
        How many steps are remembered.
    """

    def __init__(self, x: Tensor, rate: float = 1.0, history: int = HISTORY):
        self.x, self.rate, self.history = x.detach().clone(), rate, history
        self.pairs = x.new_zeros(2, history, x.numel())  # steps, and changes of the gradient
        self.products = torch.zeros(2 * history, 2 * history, dtype=torch.float64)
        self.count = 0
        self.last: tuple[Tensor, float, Tensor] | None = None  # the best place so far: picture, value, gradient
        self.tries = 0

    def step(self, value: float, gradient: Tensor) -> bool:
        """Take the value and gradient at `x`, and move `x` to where they are wanted next.

        Returns
        -------
        bool
            Whether the step before was kept.
        """
        gradient = gradient.detach().reshape(-1)
        x = self.x.reshape(-1)
        if self.last is not None and value > self.last[1] and self.tries < QUARTERINGS:
            place, _, _ = self.last
            self.tries += 1
            self.x = (place + (x - place) / 4).view_as(self.x)
            return False
        if self.tries >= QUARTERINGS:
            self.count = 0
        elif self.last is not None:
            self._remember(x - self.last[0], gradient - self.last[2])
        self.last, self.tries = (x, value, gradient), 0
        step = self._direction(value, gradient, x)
        self.x = (x + self.rate * step).clamp_(0, 1).view_as(self.x)
        return True

    def _remember(self, s: Tensor, y: Tensor) -> None:
        norms = float(s.norm()) * float(y.norm())
        if not norms or float(s @ y) <= CURVATURE * norms:
            return
        place = self.count % self.history
        self.pairs[0, place], self.pairs[1, place] = s, y
        self.count += 1
        rows = torch.stack([self.pairs.view(2 * self.history, -1) @ v for v in (s, y)]).double().cpu()
        for row, index in zip(rows, (place, self.history + place), strict=True):
            self.products[index], self.products[:, index] = row, row

    def _direction(self, value: float, gradient: Tensor, x: Tensor) -> Tensor:
        """Minus the inverse Hessian, as far as it is known, times the gradient of the pixels that may move."""
        free = ~(((x <= 0) & (gradient > 0)) | ((x >= 1) & (gradient < 0)))
        g = gradient * free
        if not self.count:
            return g * (-FIRST_STEP * value / max(float(g @ g), 1e-30))
        m, h = min(self.count, self.history), self.history
        order = [(self.count - m + i) % h for i in range(m)]  # oldest first
        memory = self.pairs.view(2 * h, -1)
        along = (memory @ g).double().cpu()
        # Coefficients of the steps, the changes and g in the direction; `of` gives its product with each stored vector.
        share, whole = torch.zeros(2 * h, dtype=torch.float64), self.products
        gain, alphas = 1.0, {}

        def of(i: int) -> float:
            return float(whole[i] @ share + gain * along[i])

        for i in reversed(order):
            alphas[i] = of(i) / float(whole[i, h + i])
            share[h + i] -= alphas[i]
        last = order[-1]
        scale = float(whole[last, h + last] / whole[h + last, h + last])
        share, gain = share * scale, scale
        for i in order:
            share[i] += alphas[i] - of(h + i) / float(whole[i, h + i])
        step = memory.t() @ share.to(memory) + gain * g
        return step.neg_().mul_(free)

    def state_dict(self) -> dict[str, Any]:
        """All of it, as tensors and plain values."""
        return {
            "x": self.x,
            "pairs": self.pairs,
            "products": self.products,
            "count": self.count,
            "last": self.last,
            "tries": self.tries,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a `state_dict`."""
        device, last = self.x.device, state["last"]
        self.x, self.pairs, self.products = state["x"].to(device), state["pairs"].to(device), state["products"]
        self.last = None if last is None else (last[0].to(device), last[1], last[2].to(device))
        self.count, self.tries = state["count"], state["tries"]
