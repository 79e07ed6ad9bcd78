import numpy as np
import torch

from impasto.train.move import REACH, moved


def test_whatever_is_moved_together_is_moved_alike() -> None:
    x = torch.rand(2, 3, 48, 64)
    for seed in range(12):
        found, inside = moved(torch.stack([x, 1 - x]), np.random.default_rng(seed))
        one, other = found[..., inside:-inside, inside:-inside]
        torch.testing.assert_close(other, 1 - one)


def test_half_of_the_time_no_pixel_changes_its_value() -> None:
    x = torch.rand(1, 1, 3, 40, 40)
    shifts = 0
    for seed in range(40):
        found, _ = moved(x, np.random.default_rng(seed))
        h, w = found.shape[-2:]
        if (h, w) == (40, 40):
            continue
        shifts += 1
        assert torch.equal(found, x[..., 40 - h :, 40 - w :])
        assert 1 <= 40 - h <= REACH
        assert 1 <= 40 - w <= REACH
    assert 10 <= shifts <= 30


def test_a_warp_moves_by_a_few_pixels_and_keeps_the_picture() -> None:
    """A warped smooth picture differs a little everywhere, and is as bright as before."""
    ramp = torch.linspace(0, 1, 64)[None].expand(64, 64)
    x = torch.stack([ramp, ramp.t(), ramp * ramp.t()])[None, None]
    for seed in range(20):
        found, inside = moved(x, np.random.default_rng(seed))
        if found.shape != x.shape:
            continue
        change = (found - x)[..., inside:-inside, inside:-inside].abs() * 63
        assert 0.1 < change[:, :, :2].max() < REACH + 2
        assert abs(float(found.mean() - x.mean())) < 0.05


def test_the_same_choices_move_the_same_way() -> None:
    x = torch.rand(1, 1, 3, 40, 40)
    a, b, c = (moved(x, np.random.default_rng(s))[0] for s in (5, 5, 6))
    assert torch.equal(a, b)
    assert a.shape != c.shape or not torch.equal(a, c)
