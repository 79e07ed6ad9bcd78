"""A style's colours: read from moments, and given to a painting."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from impasto.models.colours import ColourReader, bounded, colour, symmetric_root, transport
from impasto.models.norm import Conditions, Places
from impasto.models.weights import load_encoder
from impasto.style.statistics import covariance, raw_moments


def colours_of(x: Tensor) -> Tensor:
    """(N, 3, 4), the covariance and mean of pictures."""
    m = raw_moments(x)
    return torch.cat([covariance(m), m[:, :-1, -1:]], 2)


def conditions(x: Tensor, *strength: float) -> Conditions:
    return Conditions(torch.zeros(len(x), 0), strength or (1.0,) * len(x), colours=colours_of(x))


@pytest.fixture
def pictures(photo: Callable[[str, int], Tensor]) -> tuple[Tensor, Tensor]:
    """A photograph, and the milder colours of another, which leave room within [0, 1]."""
    return 0.25 + 0.5 * photo("chelsea", 64), 0.35 + 0.3 * photo("coffee", 96)


def test_colours_are_read_from_the_first_layer(photo: Callable[[str, int], Tensor]) -> None:
    encoder = load_encoder("compact")
    seen = [photo(name, 96) for name in ("coffee", "chelsea", "astronaut")]
    features = [encoder(x, ["relu1_1"])["relu1_1"] for x in seen]
    reader = ColourReader(encoder.width("relu1_1"))
    both = [raw_moments(torch.cat(pair, 1)) for pair in zip(seen, features, strict=True)]
    reader.calibrate(torch.cat(both).mean(0))
    other = photo("rocket", 96)
    found = reader(raw_moments(encoder(other, ["relu1_1"])["relu1_1"]))
    torch.testing.assert_close(found, colours_of(other), rtol=0, atol=0.02)
    assert (found - colours_of(seen[0])).abs().max() > 0.05


def test_a_painting_gets_the_mean_and_covariance_of_the_colours(pictures: tuple[Tensor, Tensor]) -> None:
    x, style = pictures
    found = colour(x, conditions(style))
    assert found.shape == x.shape
    torch.testing.assert_close(colours_of(found), colours_of(style), rtol=0.01, atol=1e-3)
    own = colour(x, conditions(x))
    torch.testing.assert_close(own, x, rtol=0, atol=1e-4)


def test_no_other_linear_map_changes_pixels_less(pictures: tuple[Tensor, Tensor]) -> None:
    """It is the optimal transport: symmetric and positive definite, which a map turned by any rotation is not."""
    x, style = pictures
    matrix, _ = transport(raw_moments(x), colours_of(style), (1.0,))
    torch.testing.assert_close(matrix, matrix.transpose(1, 2), rtol=1e-6, atol=1e-6)
    assert torch.linalg.eigvalsh(matrix).min() > 0


def test_strength_goes_along_a_line(pictures: tuple[Tensor, Tensor]) -> None:
    x, style = pictures
    none, half, full = (colour(x, conditions(style, s)) for s in (0.0, 0.5, 1.0))
    torch.testing.assert_close(none, x)
    torch.testing.assert_close(half, (x + full) / 2, rtol=0, atol=1e-5)


def test_colours_by_place(pictures: tuple[Tensor, Tensor]) -> None:
    """Each part has the colours of its style, by its own pixels alone."""
    x, style = pictures
    left = torch.zeros(1, 1, *x.shape[-2:])
    left[..., :30] = 1
    found = colour(x, Places(torch.cat([left, 1 - left]), (conditions(style), conditions(x, 0.0))))
    torch.testing.assert_close(found[..., 30:], x[..., 30:])
    torch.testing.assert_close(colours_of(found[..., :30]), colours_of(style), rtol=0.01, atol=1e-3)


def test_without_colours_nothing_changes() -> None:
    x = torch.rand(2, 3, 8, 8)
    assert torch.equal(colour(x, Conditions(torch.zeros(2, 0), (1.0, 1.0))), x)


@pytest.mark.parametrize("plain", [False, True], ids=["colourful", "of one colour"])
def test_gradients(plain: bool) -> None:
    """Through the map, whose matrix depends on the picture; of one colour the covariance has equal eigenvalues."""
    g = torch.Generator().manual_seed(0)
    x = (torch.full((1, 3, 3, 4), 0.4) if plain else torch.rand(1, 3, 3, 4, generator=g)).double().requires_grad_()
    wanted = colours_of(0.3 + 0.4 * torch.rand(1, 3, 8, 8, generator=g))

    def run(x: Tensor) -> Tensor:
        flat = torch.cat([x.flatten(2), torch.ones(1, 1, 12, dtype=x.dtype)], 1)
        matrix, shift = transport(flat @ flat.transpose(1, 2) / 12, wanted, (0.8,))
        return matrix @ x.flatten(2) + shift[:, :, None]

    assert torch.autograd.gradcheck(run, (x,), eps=1e-7, atol=1e-3 if plain else 1e-5)


def test_root() -> None:
    a = torch.randn(2, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    matrix = a @ a.transpose(1, 2) + 0.1 * torch.eye(4, dtype=torch.float64)
    root = symmetric_root(matrix)
    torch.testing.assert_close(root @ root, matrix)


def test_bounded_lets_gradients_back_only() -> None:
    x = torch.tensor([-0.5, -0.5, 0.5, 1.5, 1.5], requires_grad=True)
    y = bounded(x)
    assert y.tolist() == [0, 0, 0.5, 1, 1]
    y.backward(torch.tensor([1.0, -1.0, 1.0, 1.0, -1.0]))
    assert x.grad is not None
    assert x.grad.tolist() == [0, -1, 1, 1, 0]
