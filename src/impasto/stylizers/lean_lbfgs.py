"""L-BFGS for pictures that nearly fill the memory.

The steps and the changes of the gradient are kept in bfloat16, in memory or in files, and all sums run over pieces of
the picture. In addition, a step needs four pictures: the current and the previous one, and their gradients.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from .descent import CURVATURE, HISTORY, LBFGS
from .store import Store

PIECE = 1 << 20
"""Numbers that are processed at a time."""


class LeanLBFGS(LBFGS):
    """L-BFGS with little memory.

    Parameters
    ----------
    x, rate, history
        As for `LBFGS`.
    in_memory : int
        How many of the `history` pairs of a step and its change are kept in memory. The others are in files.
    """

    def __init__(self, x: Tensor, rate: float = 1.0, history: int = HISTORY, in_memory: int = HISTORY):
        self.in_memory = in_memory
        super().__init__(x, rate, history)

    def _reserve(self) -> None:
        self.rows = self.history
        size, device = self.x.numel(), self.x.device
        self.stores = [Store((2, size), torch.bfloat16, device, on_disk=i >= self.in_memory) for i in range(self.rows)]
        self.products: Tensor | None = None  # of steps and changes with the gradient, (2, used), once computed

    def _pieces(self) -> Iterator[slice]:
        size = self.x.numel()
        return (slice(a, min(a + PIECE, size)) for a in range(0, size, PIECE))

    def _remember(self, x: Tensor, g: Tensor, last_x: Tensor, last_g: Tensor) -> None:
        sums = torch.zeros(3, dtype=torch.float64)  # of steps and steps, steps and changes, changes and changes
        for p in self._pieces():
            s, y = x[p] - last_x[p], g[p] - last_g[p]
            sums += torch.stack([s @ s, s @ y, y @ y]).cpu().double()
        ss, sy, yy = sums.tolist()
        if not sy > CURVATURE * (ss * yy) ** 0.5:
            return
        i = self.order[0] if len(self.order) == self.rows else len(self.order)
        self.used = max(self.used, i + 1)
        for p in self._pieces():
            pair = torch.stack([x[p] - last_x[p], g[p] - last_g[p]])
            self.stores[i].open()[:, p] = pair.to(torch.bfloat16)
        self.order = [*(j for j in self.order if j != i), i]
        # From here on, use the pair as it was stored, rounded to bfloat16.
        found = self._along(g, i)
        self.mixed[i, : self.used], self.mixed[: self.used, i] = found[1, :, 0], found[0, :, 1]
        self.changes[i, : self.used] = self.changes[: self.used, i] = found[1, :, 1]
        self.products = found[:, :, 2]

    def _along(self, g: Tensor, pair: int | None = None) -> Tensor:
        """Return the products of all steps and changes with g, and with a pair's step and change if one is given.

        Returns
        -------
        Tensor
            (2, used, 1 or 3), float64, on the CPU.
        """
        found = torch.zeros(2, self.used, 1 if pair is None else 3, dtype=torch.float64)
        for p in self._pieces():
            vectors = g[p][None] if pair is None else torch.cat([self._read(pair, p), g[p][None]])
            for j in range(self.used):
                found[:, j] += (self._read(j, p) @ vectors.t()).cpu().double()
        return found

    def _read(self, i: int, piece: slice) -> Tensor:
        """Return a piece of a step and its change, (2, n), float32."""
        return self.stores[i].open()[:, piece].to(self.x.device, self.x.dtype)

    def _direction(self, value: float, g: Tensor) -> Tensor:
        if not self.order:
            return self._first(value, g)
        along, self.products = self._along(g)[:, :, 0] if self.products is None else self.products, None
        of_steps, of_changes, gain = self._coefficients(along.tolist())
        step = g * -gain
        weights = step.new_tensor([of_steps, of_changes])  # (2, used)
        for p in self._pieces():
            for j in range(self.used):
                step[p] -= weights[:, j] @ self._read(j, p)
        return step

    def state_dict(self) -> dict[str, Any]:
        """Return the whole state as tensors and plain values. Pairs in files stay there until the tensors are read."""
        return {**self._numbers(), "stores": [s.open() for s in self.stores[: self.used]]}

    def snapshot(self) -> dict[str, Any]:
        """Return the state. Write it before the next step: a copy would need as much memory again."""
        return self.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a `state_dict`."""
        self._load_numbers(state)
        found: Sequence[Tensor] = state["stores"]
        for store, tensor in zip(self.stores, found, strict=False):
            for p in self._pieces():
                store.open()[:, p] = tensor[:, p]
        self.products = None
