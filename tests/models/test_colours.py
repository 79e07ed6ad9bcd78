"""A style's colours are read from moments, and given to a painting."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from impasto.models import colours
from impasto.models.colours import (
    ColourReader,
    bounded,
    colour,
    gaussian_transport,
    overshoot,
    symmetric_root,
    transport,
)
from impasto.models.moments import covariance, raw_moments
from impasto.models.weights import load_encoder

ROUNDING = 5e-4
"""A painting's moments are float32, and the map divides by the root of their smallest part."""


def colours_of(x: Tensor) -> Tensor:
    """Return the covariance and mean of pictures, (N, 3, 4)."""
    pixels = x.flatten(2)
    covariances = torch.stack([torch.cov(p, correction=0) for p in pixels])
    return torch.cat([covariances, pixels.mean(2, keepdim=True)], 2)


def test_colours_of_moments(pictures: tuple[Tensor, Tensor]) -> None:
    """The colours are those of a picture, or of its parts by their masks."""
    x = torch.cat([pictures[0], pictures[0].flip(1)])
    torch.testing.assert_close(colours.colours_of(colours.colour_moments(x)), colours_of(x), rtol=1e-4, atol=1e-6)
    left = torch.zeros(1, 1, *x.shape[-2:])
    left[..., :30] = 1
    found = colours.colours_of(colours.colour_moments(x[:1], torch.cat([left, 1 - left])))
    wanted = torch.cat([colours_of(x[:1, ..., :30]), colours_of(x[:1, ..., 30:])])
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-6)


@pytest.fixture
def pictures(photo: Callable[[str, int], Tensor]) -> tuple[Tensor, Tensor]:
    """Return a photograph and the milder colours of another one, which leave room within [0, 1]."""
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


def test_the_reader_is_a_function_of_the_moments_alone() -> None:
    """The reader is linear in the features, so it maps any mean and covariance of features to those of the colours."""
    g = torch.Generator().manual_seed(0)
    reader = ColourReader(5)
    reader.weight.copy_(torch.randn(3, 5, generator=g))
    reader.bias.copy_(torch.randn(3, generator=g))
    f = torch.randn(2, 5, 7, 9, generator=g)
    pixels = torch.einsum("ck,nkhw->nchw", reader.weight, f) + reader.bias[:, None, None]
    torch.testing.assert_close(reader(raw_moments(f)), colours_of(pixels), rtol=1e-4, atol=1e-4)


def test_a_painting_gets_the_mean_and_covariance_of_the_colours(pictures: tuple[Tensor, Tensor]) -> None:
    x, style = pictures
    found = colour(x, colours_of(style))
    assert found.shape == x.shape
    assert found.dtype == torch.float32
    torch.testing.assert_close(colours_of(found), colours_of(style), rtol=0.01, atol=1e-3)
    own = colour(x, colours_of(x))
    torch.testing.assert_close(own, x, rtol=0, atol=ROUNDING)


def test_each_picture_of_a_batch_has_its_own(pictures: tuple[Tensor, Tensor]) -> None:
    x, style = pictures
    both, wanted = torch.cat([x, x.flip(1)]), torch.cat([colours_of(style), colours_of(x)])
    found = colour(both, wanted)
    for i in range(2):
        torch.testing.assert_close(found[i : i + 1], colour(both[i : i + 1], wanted[i : i + 1]), rtol=0, atol=ROUNDING)


def test_no_other_linear_map_changes_pixels_less(pictures: tuple[Tensor, Tensor]) -> None:
    """The map is the optimal transport: symmetric and positive definite. A map turned by a rotation is not."""
    x, style = pictures
    matrix, _ = transport(raw_moments(x), colours_of(style))
    torch.testing.assert_close(matrix, matrix.transpose(1, 2), rtol=1e-6, atol=1e-6)
    assert torch.linalg.eigvalsh(matrix).min() > 0
    own, wanted = covariance(raw_moments(x)).double(), colours_of(style)[:, :, :3].double()
    matrix = gaussian_transport(own, wanted)
    torch.testing.assert_close(matrix @ own @ matrix, wanted, rtol=1e-5, atol=1e-8)
    # E |T c - c|^2 over the colours c; another map that reaches them is T' = W^(1/2) R C^(-1/2), R a rotation.
    root, back = symmetric_root(wanted), torch.linalg.inv(symmetric_root(own))

    def moved(t: Tensor) -> float:
        d = t - torch.eye(3, dtype=torch.float64)
        return float((d @ own @ d.transpose(1, 2)).diagonal(dim1=1, dim2=2).sum())

    for seed in range(5):
        g = torch.Generator().manual_seed(seed)
        rotation, _ = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64, generator=g))
        other = root @ rotation @ back
        torch.testing.assert_close(other @ own @ other.transpose(1, 2), wanted, rtol=1e-5, atol=1e-8)
        assert moved(other) > moved(matrix)


def test_a_part_by_the_moments_of_the_whole(pictures: tuple[Tensor, Tensor]) -> None:
    """With the moments of the whole, a part is painted like a part of the whole; with its own, differently."""
    x, style = pictures
    wanted, part = colours_of(style), x[..., :20]
    whole = colour(x, wanted)[..., :20]
    torch.testing.assert_close(colour(part, wanted, raw_moments(x)), whole, rtol=0, atol=ROUNDING)
    assert (colour(part, wanted) - whole).abs().mean() > 0.01


def test_colours_by_place(pictures: tuple[Tensor, Tensor]) -> None:
    """Each part has the colours of its style, from its own pixels alone."""
    x, style = pictures
    left = torch.zeros(1, 1, *x.shape[-2:])
    left[..., :30] = 1
    masks, wanted = torch.cat([left, 1 - left]), torch.cat([colours_of(style), colours_of(style.flip(1))])
    found = colour(x, wanted, masks=masks)
    for i, columns in enumerate((slice(0, 30), slice(30, None))):
        torch.testing.assert_close(
            found[..., columns], colour(x[..., columns], wanted[i : i + 1]), rtol=0, atol=ROUNDING
        )
        torch.testing.assert_close(colours_of(found[..., columns]), wanted[i : i + 1], rtol=0.01, atol=1e-3)
    given = torch.cat([raw_moments(x, m[None]) for m in masks])
    torch.testing.assert_close(colour(x, wanted, given, masks), found, rtol=0, atol=ROUNDING)


def test_masks_of_one_style_everywhere(pictures: tuple[Tensor, Tensor]) -> None:
    x, style = pictures
    wanted, size = colours_of(style), x.shape[-2:]
    plain = colour(x, wanted)
    torch.testing.assert_close(colour(x, wanted, masks=torch.ones(1, 1, *size)), plain, rtol=0, atol=ROUNDING)
    halves = torch.full((2, 1, *size), 0.5)
    torch.testing.assert_close(colour(x, wanted.expand(2, -1, -1), masks=halves), plain, rtol=0, atol=ROUNDING)
    nothing = torch.cat([torch.ones(1, 1, *size), torch.zeros(1, 1, *size)])
    other = torch.cat([wanted, colours_of(x)])
    torch.testing.assert_close(colour(x, other, masks=nothing), plain, rtol=0, atol=ROUNDING)


def test_a_picture_of_one_colour_stays_finite(pictures: tuple[Tensor, Tensor]) -> None:
    """The mean of such a picture becomes the style's; a single colour cannot be spread."""
    _, style = pictures
    found = colour(torch.full((1, 3, 8, 8), 0.3), colours_of(style))
    torch.testing.assert_close(found, style.mean((2, 3), keepdim=True).expand_as(found), rtol=0, atol=ROUNDING)


def test_not_finite_in_not_finite_out() -> None:
    """The eigenvalues raise no exception, so the training can report a loss that is not finite."""
    x = torch.rand(1, 3, 8, 8).index_fill(3, torch.tensor([0]), torch.nan)
    assert colour(x, colours_of(torch.rand(1, 3, 8, 8))).isnan().any()


@pytest.mark.parametrize("plain", [False, True], ids=["colourful", "of one colour"])
def test_gradients(plain: bool) -> None:
    """The gradient passes through the map, which depends on the picture; with one colour, eigenvalues are equal."""
    g = torch.Generator().manual_seed(0)
    x = (torch.full((1, 3, 3, 4), 0.4) if plain else torch.rand(1, 3, 3, 4, generator=g)).double().requires_grad_()
    wanted = colours_of(0.3 + 0.4 * torch.rand(1, 3, 8, 8, generator=g))

    def run(x: Tensor) -> Tensor:
        flat = torch.cat([x.flatten(2), torch.ones(1, 1, 12, dtype=x.dtype)], 1)
        matrix, shift = transport(flat @ flat.transpose(1, 2) / 12, wanted)
        return matrix @ x.flatten(2) + shift[:, :, None]

    assert torch.autograd.gradcheck(run, (x,), eps=1e-7, atol=1e-3 if plain else 1e-5)


def test_a_paintings_gradient_is_that_of_the_map(pictures: tuple[Tensor, Tensor]) -> None:
    """In float32, `colour` has the gradient of the same formula written out in float64."""
    x, style = pictures
    wanted, of = colours_of(style), torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    a, b = x.clone().requires_grad_(), x.double().requires_grad_()
    (found,) = torch.autograd.grad((colour(a, wanted) * of).sum(), a)
    matrix, shift = transport(raw_moments(b), wanted)
    written = (matrix @ b.flatten(2) + shift[:, :, None]).view_as(b)
    assert written.min() > 0
    assert written.max() < 1  # nothing of it is cut off
    (expected,) = torch.autograd.grad((written * of).sum(), b)
    assert (found - expected).norm() < 0.01 * expected.norm()


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


def test_overshoot_is_what_matching_moves_out_of_range(pictures: tuple[Tensor, Tensor]) -> None:
    """In its own colours a picture does not change, so the overshoot is that of its own values."""
    mild = pictures[0]
    wild = mild.clone()
    wild[:, :, :4, :6] = 1.5
    assert overshoot(mild, colours_of(mild)).item() == pytest.approx(0, abs=1e-8)
    own = colours_of(wild)
    variance = own[0, :, :3].diagonal().mean()
    wanted = 0.25 * 4 * 6 / wild[0, 0].numel() / variance
    assert overshoot(wild, own).item() == pytest.approx(wanted.item(), rel=0.01)
    assert overshoot(3 * wild - 1, own).item() == pytest.approx(wanted.item(), rel=0.01)  # the scale does not matter


def test_overshoot_pulls_back_what_colour_cuts_off(pictures: tuple[Tensor, Tensor]) -> None:
    x = pictures[0].clone()
    x[:, :, 5, 9] = 2.0
    x.requires_grad_()
    (gradient,) = torch.autograd.grad(overshoot(x, colours_of(pictures[0])).sum(), x)
    assert (gradient[:, :, 5, 9] > 0).all()
