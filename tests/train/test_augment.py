"""Changes to training pictures depend only on their source of randomness."""

import numpy as np
import torch

from impasto.train.augment import jitter, recolour


def test_jitter_depends_on_the_generator_alone() -> None:
    x = torch.rand(3, 40, 40, generator=torch.Generator().manual_seed(0))
    results = []
    for seed in range(20):
        first, second = (jitter(x, np.random.default_rng(seed)) for _ in "ab")
        assert first.shape == x.shape
        assert first.dtype == torch.float32
        assert -0.1 <= first.min() <= first.max() <= 1.1
        assert torch.equal(first, second)
        results.append(first)
    assert sum(torch.equal(r, x) for r in results) < 10


def test_recolouring_moves_channels_and_keeps_their_order_of_brightness() -> None:
    x = torch.rand(3, 8, 8, generator=torch.Generator().manual_seed(0))
    for seed in range(6):
        y = recolour(x, np.random.default_rng(seed))
        assert torch.equal(y, recolour(x, np.random.default_rng(seed)))
        order = np.random.default_rng(seed).permutation(3)
        assert torch.equal(y.flatten(1).argsort(), x[order].flatten(1).argsort())
