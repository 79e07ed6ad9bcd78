"""Muon for the matrices of convolutions, Adam for everything else.

Muon (Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024) orthogonalises every update of a
matrix. With it, these networks train in about half the steps.
"""

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

MOMENTUM = 0.95
NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
"""Coefficients a, b, c of the quintic a x + b x^3 + c x^5, which drives singular values towards 1."""
ITERATIONS = 5
LEAST_NORM = 1e-7


def orthogonalised(x: Tensor) -> Tensor:
    """Return approximately the nearest orthogonal matrix to a matrix (m, n): its singular values are around 1.

    Every iteration multiplies the matrix by a polynomial of its Gram matrix, X <- (a + b G + c G^2) X with G = X X^T.
    These polynomials are small and commute, so they are multiplied first and X last. This takes a third of the work.
    """
    a, b, c = NEWTON_SCHULZ
    x = x.float()
    if tall := x.shape[0] > x.shape[1]:
        x = x.T
    x = x / x.norm().clamp(min=LEAST_NORM)  # no singular value is above 1
    gram = x @ x.T
    eye = torch.eye(len(gram), device=x.device)
    product = eye
    for i in range(ITERATIONS):
        factor = torch.addmm(gram, gram, gram, beta=b, alpha=c) + a * eye
        product = factor @ product
        if i < ITERATIONS - 1:
            gram = factor @ gram @ factor
    x = product @ x
    return x.T if tall else x


class Muon(torch.optim.Optimizer):
    """Muon with Nesterov momentum, its steps scaled to the size of Adam's.

    The scale is from Liu et al., "Muon is Scalable for LLM Training", 2025, section 2.2. The state has the layout of
    `torch.optim.Muon`, which runs in bfloat16 on every device.

    Parameters
    ----------
    matrices : iterable of Tensor
        The parameters, each (m, n).
    lr : float
        The learning rate.
    """

    def __init__(self, matrices: Iterable[Tensor], lr: float):
        super().__init__(matrices, {"lr": lr})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Take one step along the gradients."""
        for group in self.param_groups:
            for p in group["params"]:
                state = self.state[p]
                if "momentum_buffer" not in state:
                    state["momentum_buffer"] = torch.zeros_like(p)
                momentum = state["momentum_buffer"].lerp_(p.grad, 1 - MOMENTUM)
                update = orthogonalised(p.grad.lerp(momentum, MOMENTUM))
                p.add_(update, alpha=-group["lr"] * 0.2 * math.sqrt(max(p.shape)))


class Optimisers:
    """Both optimisers on one schedule.

    Parameters
    ----------
    convolutions : iterable of Tensor
        The weights (O, I, h, w) for Muon, each as a matrix (O, I h w).
    rate : float
        Muon's learning rate.
    others : sequence of (iterable of Tensor, float)
        The parameter groups for Adam, each with its learning rate.
    """

    def __init__(self, convolutions: Iterable[Tensor], rate: float, *others: tuple[Iterable[Tensor], float]):
        self.weights = list(convolutions)
        groups = [(list(tensors), r) for tensors, r in others]
        self.others = [t for tensors, _ in groups for t in tensors]
        self.rates = {"muon": [rate], "adam": [r for tensors, r in groups if tensors]}
        self.matrices = [nn.Parameter(w.data.flatten(1).clone()) for w in self.weights]  # Muon only accepts matrices
        self.optimisers: dict[str, torch.optim.Optimizer] = {}
        if self.matrices:
            self.optimisers["muon"] = Muon(self.matrices, rate)
        each = [{"params": tensors, "lr": r} for tensors, r in groups if tensors]
        self.optimisers["adam"] = torch.optim.Adam(each, betas=(0.9, 0.99))

    @property
    def parameters(self) -> list[Tensor]:
        """Return all parameters."""
        return [*self.weights, *self.others]

    def zero_grad(self) -> None:
        """Set every gradient to zero, not None, so that parameters unused in a step are updated as well."""
        for p in self.parameters:
            p.grad = torch.zeros_like(p)

    def step(self, factor: float) -> None:
        """Take one step along the gradients, with the rates multiplied by `factor`."""
        for name, optimiser in self.optimisers.items():
            for group, rate in zip(optimiser.param_groups, self.rates[name], strict=True):
                group["lr"] = rate * factor
        for w, m in zip(self.weights, self.matrices, strict=True):
            assert w.grad is not None
            m.data.copy_(w.data.reshape(m.shape))
            m.grad = w.grad.contiguous().flatten(1)
        for optimiser in self.optimisers.values():
            optimiser.step()
        with torch.no_grad():
            for w, m in zip(self.weights, self.matrices, strict=True):
                w.copy_(m.view(w.shape))

    def state_dict(self) -> dict[str, Any]:
        """Return the state for the checkpoint, without the weights, which belong to the network."""
        return {name: optimiser.state_dict() for name, optimiser in self.optimisers.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state from the checkpoint."""
        for name, optimiser in self.optimisers.items():
            optimiser.load_state_dict(state[name])
