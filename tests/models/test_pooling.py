"""Max pooling that saves memory is max pooling."""

import pytest
import torch
import torch.nn.functional as F

from impasto.models import pooling
from impasto.models.pooling import max_pool


@pytest.mark.parametrize("size", [(6, 8), (7, 9), (2, 2), (3, 2)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_values_and_gradients_are_pytorchs(
    monkeypatch: pytest.MonkeyPatch, size: tuple[int, int], dtype: torch.dtype, layout: torch.memory_format
) -> None:
    monkeypatch.setattr(pooling, "LARGE", 0)
    g = torch.Generator().manual_seed(0)
    x = torch.randint(-3, 4, (2, 3, *size), generator=g).to(dtype).contiguous(memory_format=layout)  # with many equals
    ours, theirs = (x.clone().requires_grad_(True) for _ in range(2))
    found, wanted = max_pool(ours), F.max_pool2d(theirs, 2)
    assert torch.equal(found, wanted)
    gradient = torch.randn(found.shape, generator=g).to(dtype)
    found.backward(gradient)
    wanted.backward(gradient)
    assert ours.grad is not None
    assert theirs.grad is not None
    assert torch.equal(ours.grad, theirs.grad)
    assert ours.grad.is_contiguous(memory_format=layout)


def test_it_keeps_a_byte_for_each_result(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.rand(1, 4, 16, 16).requires_grad_(True)
    kept: list[int] = []
    for large in (0, 2**25):
        monkeypatch.setattr(pooling, "LARGE", large)
        kept.append(0)

        def count(t: torch.Tensor) -> torch.Tensor:
            kept[-1] += 0 if t is x else t.nbytes
            return t

        with torch.autograd.graph.saved_tensors_hooks(count, lambda t: t):
            max_pool(x)
    assert kept[0] == 4 * 8 * 8
    assert kept[1] >= 8 * kept[0]
