"""The mask at a time is the same whether or not earlier times were requested before."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("av", reason="needs the extra video")
pytest.importorskip("cv2", reason="needs the extra video")

from impasto.video.masks import MaskFilm, masked


def test_any_order_of_times(film: Callable[..., Path]) -> None:
    path = film(times=tuple(range(0, 1000, 40)), codec="ffv1", pixels="bgr0")
    times = [0.0, 0.05, 0.3, 0.31, 0.9, 5.0]
    in_order = MaskFilm(path, (48, 64))
    found = [in_order.at(t) for t in times]
    assert found[0].shape == (1, 1, 48, 64)
    assert (found[0] - found[2]).abs().max() > 0.1
    assert found[2].equal(found[3])  # the same frame
    alone = [MaskFilm(path, (48, 64)).at(t) for t in times]
    back = [in_order.at(t) for t in reversed(times)][::-1]
    for a, b, c in zip(found, alone, back, strict=True):
        assert a.equal(b)
        assert a.equal(c)


def test_a_mask_whose_last_frame_is_long_ago(film: Callable[..., Path]) -> None:
    path = film(times=(0, 40), codec="ffv1", pixels="bgr0")
    assert MaskFilm(path, (48, 64)).at(60.0).equal(MaskFilm(path, (48, 64)).at(0.05))


def test_blending(drawn: Callable[..., Any]) -> None:
    painted, photo = torch.ones(1, 3, 2, 2), torch.zeros(1, 3, 2, 2)
    mask = torch.tensor([[[[0.0, 1.0], [0.25, 0.5]]]])
    assert np.allclose(masked(painted, photo, mask)[0, 1], [[0, 1], [0.25, 0.5]])
