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
        self.x, self.rate, self.history = x.detach().clone(memory_format=torch.preserve_format), rate, history
        self.rows = (
            history + 1
        )  # one more than are remembered: a pair is measured before it takes the oldest one's place
        self.memory = x.new_zeros(2 * self.rows, x.numel())  # steps, then changes of the gradient
        self.products = torch.zeros(2 * self.rows, 2 * self.rows, dtype=torch.float64)
        self.order: list[int] = []  # the rows that are remembered, oldest first
        self.last: tuple[Tensor, float, Tensor] | None = None  # the best place so far: picture, value, gradient
        self.tries = 0

    def step(self, value: float, gradient: Tensor) -> bool:
        """Take the value and the gradient at `x`, and move `x` to where they are wanted next.

        Returns
        -------
        bool
            Whether the step before was kept.
        """
        x, g = self._flat(self.x), self._flat(gradient.detach())
        if self.last is not None and value > self.last[1] and self.tries < QUARTERINGS:
            place, _, _ = self.last
            self.tries += 1
            self._move(torch.lerp(place, x, 0.25))
            return False
        if self.tries >= QUARTERINGS:
            self.order = []
        elif self.last is not None:
            self._remember(x, g, self.last[0], self.last[2])
        self.last, self.tries = (x, value, g), 0
        self._move(self._direction(value, g, x).mul_(self.rate).add_(x).clamp_(0, 1))
        return True

    def _flat(self, t: Tensor) -> Tensor:
        """Return a tensor of the shape of `x` as a row of numbers, in the order of the memory of `x`."""
        if self.x.ndim == 4 and self.x.is_contiguous(memory_format=torch.channels_last):
            return t.permute(0, 2, 3, 1).reshape(-1)
        return t.reshape(-1)

    def _move(self, flat: Tensor) -> None:
        if self.x.ndim == 4 and self.x.is_contiguous(memory_format=torch.channels_last):
            n, c, h, w = self.x.shape
            self.x = flat.view(n, h, w, c).permute(0, 3, 1, 2)
        else:
            self.x = flat.view(self.x.shape)

    def _remember(self, x: Tensor, g: Tensor, last_x: Tensor, last_g: Tensor) -> None:
        i = next(i for i in range(self.rows) if i not in self.order)
        s, y = self.memory[i], self.memory[self.rows + i]
        torch.sub(x, last_x, out=s)
        torch.sub(g, last_g, out=y)
        products = torch.stack([self.memory @ s, self.memory @ y]).double().cpu()
        ss, sy, yy = float(products[0, i]), float(products[0, self.rows + i]), float(products[1, self.rows + i])
        if sy <= CURVATURE * (ss * yy) ** 0.5 or not sy > 0:
            return
        for row, index in zip(products, (i, self.rows + i), strict=True):
            self.products[index], self.products[:, index] = row, row
        self.order = [*self.order, i][-self.history :]

    def _direction(self, value: float, gradient: Tensor, x: Tensor) -> Tensor:
        """Return minus the inverse Hessian, as far as it is known, times the gradient of the pixels that may move."""
        blocked = torch.where(gradient > 0, x <= 0, x >= 1)
        g = gradient.masked_fill(blocked, 0.0)
        if not self.order:
            return g.mul_(-FIRST_STEP * value / max(float(g @ g), 1e-30))
        along = (self.memory @ g).double().cpu().tolist()
        products, rows = self.products.tolist(), self.rows
        # Coefficients of the steps, the changes and g in the direction; `of` gives its product with each stored vector.
        share, gain, alphas = [0.0] * (2 * rows), 1.0, {}

        def of(i: int) -> float:
            return sum(p * c for p, c in zip(products[i], share, strict=True) if c) + gain * along[i]

        for i in reversed(self.order):
            alphas[i] = of(i) / products[i][rows + i]
            share[rows + i] -= alphas[i]
        last = self.order[-1]
        gain = products[last][rows + last] / products[rows + last][rows + last]
        share = [c * gain for c in share]
        for i in self.order:
            share[i] += alphas[i] - of(rows + i) / products[i][rows + i]
        step = torch.addmv(g, self.memory.t(), self.memory.new_tensor(share), beta=-gain, alpha=-1)
        return step.masked_fill_(blocked, 0.0)

    def state_dict(self) -> dict[str, Any]:
        """Return all of it, as tensors and plain values."""
        return {
            "x": self.x,
            "memory": self.memory,
            "products": self.products,
            "order": self.order,
            "last": self.last,
            "tries": self.tries,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a `state_dict`."""
        device, last = self.x.device, state["last"]
        self.x, self.memory, self.products = state["x"].to(device), state["memory"].to(device), state["products"]
        self.last = None if last is None else (last[0].to(device), last[1], last[2].to(device))
        self.order, self.tries = list(state["order"]), state["tries"]
