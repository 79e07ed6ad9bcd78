"""Tests of Muon: a known answer, agreement with torch's own within bfloat16, and checkpoints."""

import copy

import pytest
import torch
from torch import Tensor, nn

from impasto.train.optimisers import Muon, orthogonalised

needs_torch_muon = pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="torch has had Muon since 2.9")


def matrices() -> list[nn.Parameter]:
    """Return wide, tall and square matrices."""
    source = torch.Generator().manual_seed(0)
    return [nn.Parameter(torch.randn(shape, generator=source)) for shape in ((4, 36), (36, 4), (8, 8))]


def gradients(step: int) -> list[Tensor]:
    source = torch.Generator().manual_seed(1 + step)
    return [torch.randn(p.shape, generator=source) for p in matrices()]


def advance(optimiser: torch.optim.Optimizer, steps: range) -> list[Tensor]:
    """Return the matrices after those steps."""
    (group,) = optimiser.param_groups
    for step in steps:
        for p, g in zip(group["params"], gradients(step), strict=True):
            p.grad = g
        optimiser.step()
    return [p.detach().clone() for p in group["params"]]


def test_newton_schulz_by_hand() -> None:
    """For a diagonal matrix, the iteration is the quintic on each value, after division by the norm."""
    values = torch.tensor([3.0, 4.0]) / 5
    for _ in range(5):
        values = 3.4445 * values - 4.7750 * values**3 + 2.0315 * values**5
    torch.testing.assert_close(orthogonalised(torch.diag(torch.tensor([3.0, 4.0]))), torch.diag(values))


@pytest.mark.parametrize("shape", [(4, 36), (36, 4), (8, 8)])
def test_a_step_is_nearly_orthogonal(shape: tuple[int, int]) -> None:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(2))
    found = orthogonalised(x)
    assert (found.shape, found.dtype) == (x.shape, torch.float32)
    assert torch.linalg.svdvals(found).sub(1).abs().max() < 0.4
    u, _, v = torch.linalg.svd(x, full_matrices=False)
    assert (found * (u @ v)).sum() > 0.97 * found.norm() * (u @ v).norm()


def test_a_gradient_of_zero_moves_nothing() -> None:
    p = nn.Parameter(torch.ones(2, 3))
    p.grad = torch.zeros(2, 3)
    Muon([p], lr=0.1).step()
    assert torch.equal(p, torch.ones(2, 3))


@needs_torch_muon
def test_it_is_torchs_within_bfloat16() -> None:
    theirs = torch.optim.Muon(matrices(), lr=0.02, weight_decay=0, adjust_lr_fn="match_rms_adamw")
    moved = zip(advance(Muon(matrices(), 0.02), range(3)), advance(theirs, range(3)), matrices(), strict=True)
    for mine, torchs, begun in moved:
        assert (mine - torchs).norm() < 0.05 * (mine - begun).norm()


@needs_torch_muon
def test_it_goes_on_from_a_checkpoint_of_torchs() -> None:
    theirs = torch.optim.Muon(matrices(), lr=0.02, weight_decay=0, adjust_lr_fn="match_rms_adamw")
    after = advance(theirs, range(2))
    mine = Muon([nn.Parameter(p.clone()) for p in after], 0.02)
    mine.load_state_dict(copy.deepcopy(theirs.state_dict()))
    for p, torchs, begun in zip(advance(mine, range(2, 3)), advance(theirs, range(2, 3)), after, strict=True):
        assert (p - torchs).norm() < 0.05 * (p - begun).norm()


def test_resumed_is_uninterrupted() -> None:
    whole = advance(Muon(matrices(), 0.02), range(3))
    first = Muon(matrices(), 0.02)
    again = Muon([nn.Parameter(p.clone()) for p in advance(first, range(2))], 0.02)
    again.load_state_dict(first.state_dict())
    for p, wanted in zip(advance(again, range(2, 3)), whole, strict=True):
        assert torch.equal(p, wanted)
