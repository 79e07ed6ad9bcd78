"""Muon for the matrices of convolutions, Adam for all else.

Muon (Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024) makes every step of a matrix
orthogonal. These networks train in about half the steps with it.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn


class Optimisers:
    """Both optimisers on one schedule.

    Parameters
    ----------
    convolutions : iterable of Tensor
        The weights (O, I, h, w) that Muon trains, each as a matrix (O, I h w).
    rate : float
        Muon's learning rate.
    others : sequence of (iterable of Tensor, float)
        What Adam trains, each group with its learning rate.
    """

    def __init__(self, convolutions: Iterable[Tensor], rate: float, *others: tuple[Iterable[Tensor], float]):
        self.weights = list(convolutions)
        groups = [(list(tensors), r) for tensors, r in others]
        self.others = [t for tensors, _ in groups for t in tensors]
        self.rates = {"muon": [rate], "adam": [r for tensors, r in groups if tensors]}
        self.matrices = [nn.Parameter(w.data.flatten(1).clone()) for w in self.weights]  # Muon takes matrices only
        self.optimisers: dict[str, torch.optim.Optimizer] = {}
        if self.matrices:
            muon = torch.optim.Muon(self.matrices, lr=rate, weight_decay=0, adjust_lr_fn="match_rms_adamw")
            self.optimisers["muon"] = muon
        each = [{"params": tensors, "lr": r} for tensors, r in groups if tensors]
        self.optimisers["adam"] = torch.optim.Adam(each, betas=(0.9, 0.99))

    @property
    def parameters(self) -> list[Tensor]:
        """All that is trained."""
        return [*self.weights, *self.others]

    def zero_grad(self) -> None:
        """Every gradient becomes zero: a parameter that a step does not touch then takes part in it all the same."""
        for p in self.parameters:
            p.grad = torch.zeros_like(p)

    def step(self, factor: float) -> None:
        """One step along the gradients, the rates times `factor`."""
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
        """For the checkpoint; the weights themselves are the network's."""
        return {name: optimiser.state_dict() for name, optimiser in self.optimisers.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """From the checkpoint."""
        for name, optimiser in self.optimisers.items():
            optimiser.load_state_dict(state[name])
