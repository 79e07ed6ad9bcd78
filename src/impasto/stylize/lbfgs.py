"""L-BFGS for pictures: no line search, kept within [0, 1].

Liu, Nocedal, "On the Limited Memory BFGS Method for Large Scale Optimization", Mathematical Programming 45, 1989. A
line search costs several evaluations of the networks; instead every step is taken in full, and one that made the loss
larger is taken back and quartered. Pixels are clamped after every step; keeping those at 0 and 1 out of the direction,
as projected methods do, made no difference to paintings.

The direction is a linear combination of the stored steps, the stored changes of the gradient and the gradient, so only
their scalar products are needed to find it (Chen, Wang, Zhou, "Large-scale L-BFGS using MapReduce", NIPS 2014).
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
        self.memory = x.new_zeros(2, self.rows, x.numel())  # steps, and changes of the gradient
        self.mixed = torch.zeros(self.rows, self.rows, dtype=torch.float64)  # products of steps (rows) and changes
        self.changes = torch.zeros(self.rows, self.rows, dtype=torch.float64)  # products of changes and changes
        self.order: list[int] = []  # the rows that are remembered, oldest first
        self.used = 0  # rows that have ever been
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
        self._move(self._direction(value, g).mul_(self.rate).add_(x).clamp_(0, 1))
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
        s, y = self.memory[0, i], self.memory[1, i]
        torch.sub(x, last_x, out=s)
        torch.sub(g, last_g, out=y)
        ss, sy, yy = float(s @ s), float(s @ y), float(y @ y)
        if not sy > CURVATURE * (ss * yy) ** 0.5:
            return
        self.used = max(self.used, i + 1)
        # The recursion needs the products of steps with changes, and of changes with changes.
        steps, changes = self.memory[0, : self.used], self.memory[1, : self.used]
        by_step, by_change, of_changes = (t.double().cpu() for t in (changes @ s, steps @ y, changes @ y))
        self.mixed[i, : self.used], self.mixed[: self.used, i] = by_step, by_change
        self.changes[i, : self.used] = self.changes[: self.used, i] = of_changes
        self.order = [*self.order, i][-self.history :]

    def _direction(self, value: float, g: Tensor) -> Tensor:
        """Return minus the inverse Hessian, as far as it is known, times the gradient."""
        if not self.order:
            return g * (-FIRST_STEP * value / max(float(g @ g), 1e-30))
        n = self.used
        along = (self.memory[:, :n] @ g).double().cpu().tolist()  # of the steps, and of the changes
        sy, yy = self.mixed.tolist(), self.changes.tolist()
        # Coefficients in the direction: of each step, of each change, and of g.
        of_steps, of_changes, gain, alphas = [0.0] * n, [0.0] * n, 1.0, {}
        for i in reversed(self.order):
            alphas[i] = (along[0][i] + sum(sy[i][j] * of_changes[j] for j in self.order)) / sy[i][i]
            of_changes[i] -= alphas[i]
        last = self.order[-1]
        gain = sy[last][last] / yy[last][last]
        of_changes = [gain * c for c in of_changes]
        for i in self.order:
            product = gain * along[1][i]
            product += sum(sy[j][i] * of_steps[j] + yy[i][j] * of_changes[j] for j in self.order)
            of_steps[i] += alphas[i] - product / sy[i][i]
        weights = self.memory.new_tensor([of_steps, of_changes])
        step = g * -gain
        for rows, w in zip(self.memory[:, :n], weights, strict=True):
            step.addmv_(rows.t(), w, alpha=-1)
        return step

    def state_dict(self) -> dict[str, Any]:
        """Return all of it, as tensors and plain values."""
        return {
            "x": self.x,
            "memory": self.memory,
            "mixed": self.mixed,
            "changes": self.changes,
            "order": self.order,
            "used": self.used,
            "last": self.last,
            "tries": self.tries,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a `state_dict`."""
        device, last = self.x.device, state["last"]
        self.x, self.memory = state["x"].to(device), state["memory"].to(device)
        self.mixed, self.changes, self.used = state["mixed"], state["changes"], state["used"]
        self.last = None if last is None else (last[0].to(device), last[1], last[2].to(device))
        self.order, self.tries = list(state["order"]), state["tries"]
