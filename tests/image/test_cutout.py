"""Tests of cut-outs: invisible pixels do not affect visible ones."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from impasto.errors import PictureError
from impasto.image.color import match_palette
from impasto.image.picture import Picture, opaque, over_white
from impasto.image.read import to_picture
from impasto.image.resize import resize

Photo = Callable[[str, int], Tensor]


def disc(side: int) -> Tensor:
    """Return an alpha (1, 1, side, side) that is 1 in a disc with a soft edge."""
    y, x = torch.meshgrid(torch.arange(side) + 0.5, torch.arange(side) + 0.5, indexing="ij")
    return ((side / 3 - ((x - side / 2) ** 2 + (y - side / 2) ** 2).sqrt()) / 3 + 0.5).clamp(0, 1)[None, None]


def cutout(photo: Tensor, hidden: float) -> Tensor:
    """Return the photograph cut out by a disc, with arbitrary colours where it is invisible."""
    alpha = disc(photo.shape[-1])
    return torch.cat((torch.where(alpha > 0, photo, torch.tensor(hidden)), alpha), 1)


@pytest.fixture
def square(photo: Photo) -> Tensor:
    return photo("astronaut", 96)[..., :96, :96]


@pytest.mark.parametrize("size", [(40, 40), (96, 96), (150, 150)])
def test_hidden_colours_change_nothing(square: Tensor, size: tuple[int, int]) -> None:
    black, white = (resize(cutout(square, hidden), size) for hidden in (0.0, 1.0))
    assert torch.equal(black[:, 3:], white[:, 3:])
    assert torch.equal(opaque(black), opaque(white))
    torch.testing.assert_close(over_white(black), over_white(white), rtol=0, atol=1e-6)


@pytest.mark.parametrize("size", [(40, 40), (150, 150)])
def test_it_is_resized_as_it_looks(square: Tensor, size: tuple[int, int]) -> None:
    """Resizing before or after compositing over white gives the same picture, so there is no rim."""
    small = resize(cutout(square, 0.0), size)
    before = resize(over_white(cutout(square, 0.0)), size)
    assert (over_white(small) - before).abs().max() < 0.04
    # Neither is there one under it.
    filled = torch.cat((opaque(small), small[:, 3:]), 1)
    assert (over_white(filled) - before).abs().max() < 0.06


def test_hidden_places_take_the_colours_around_them() -> None:
    red = torch.zeros(1, 4, 33, 47)
    red[:, 0], red[:, 3, 10:12, 20:22] = 1, 1
    red[:, 1:3] = 1 - red[:, 3:]  # white where it is hidden
    assert torch.allclose(opaque(red), torch.tensor([1.0, 0, 0]).view(1, 3, 1, 1).expand(1, 3, 33, 47), atol=1e-5)
    glass = torch.cat((torch.rand(1, 3, 9, 9), torch.full((1, 1, 9, 9), 0.3)), 1)
    assert torch.equal(opaque(glass), glass[:, :3]), "what is half visible keeps its colour"


def test_a_palette_is_that_of_what_is_visible(square: Tensor, photo: Photo) -> None:
    other = photo("coffee", 96)
    black, white = (match_palette(other, cutout(square, hidden)) for hidden in (0.0, 1.0))
    assert torch.equal(black, white)
    one, two = (match_palette(cutout(square, hidden), other) for hidden in (0.0, 1.0))
    shown = disc(96).expand(1, 3, -1, -1) > 0
    assert torch.equal(one[:, :3][shown], two[:, :3][shown])
    assert torch.equal(one[:, 3:], disc(96))


def test_a_picture_with_another_size(square: Tensor) -> None:
    alpha = disc(96)
    picture = Picture(square, alpha)
    assert picture.pixels.shape == (1, 4, 96, 96)
    assert Picture(square, torch.ones_like(alpha)).pixels is square
    with pytest.raises(PictureError, match="is transparent everywhere"):
        _ = Picture(square, torch.zeros_like(alpha)).pixels
    assert to_picture(np.zeros((4, 4, 3), np.uint8)).pixels.shape == (1, 3, 4, 4)
