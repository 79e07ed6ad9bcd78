import math

import pytest
import torch
from torch import Tensor

from impasto.models.norm import EPSILON, ConditionalNorm, Conditions, Places, _Norm


def norm_of(channels: int, styles: int = 3, relu: bool = False) -> ConditionalNorm:
    norm = ConditionalNorm(channels, styles, relu)
    generator = torch.Generator().manual_seed(0)
    for p in norm.parameters():
        p.data.normal_(generator=generator)
    norm.plain_mean.normal_(generator=generator)
    norm.plain_deviation.uniform_(0.5, 2, generator=generator)
    return norm


def numbers(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1)).contiguous(memory_format=torch.channels_last)


def by_definition(norm: ConditionalNorm, x: Tensor, style: int, strength: float) -> Tensor:
    """One picture, (1, C, H, W)."""
    mean, variance = x.mean((2, 3), keepdim=True), x.var((2, 3), keepdim=True, correction=0)
    scale, shift, plain, base = (
        p[:, None, None] for p in (norm.scale[style], norm.shift[style], norm.plain_scale, norm.plain_shift)
    )
    styled = scale * (x - mean) / (variance + EPSILON).sqrt() + shift
    usual, deviation = norm.plain_mean[:, None, None], norm.plain_deviation[:, None, None]
    return strength * styled + (1 - strength) * (plain * (x - usual) / deviation + base)


@pytest.mark.parametrize("strength", [0.0, 0.4, 1.0, 1.5])
@pytest.mark.parametrize("relu", [False, True])
def test_it_is_its_definition(strength: float, relu: bool) -> None:
    norm, x = norm_of(5, relu=relu), numbers(2, 5, 6, 7)
    found = norm(x, Conditions.of(torch.tensor([2, 0]), 3, strength))
    for i, style in enumerate((2, 0)):
        wanted = by_definition(norm, x[i : i + 1], style, strength)
        torch.testing.assert_close(found[i : i + 1], wanted.relu() if relu else wanted, rtol=1e-4, atol=1e-5)


def test_each_picture_has_its_own_strength() -> None:
    norm, x = norm_of(4), numbers(3, 4, 5, 6)
    conditions = Conditions(torch.eye(3), (0.0, 1.0, 0.5))
    found = norm(x, conditions)
    for i, s in enumerate(conditions.strength):
        torch.testing.assert_close(found[i : i + 1], by_definition(norm, x[i : i + 1], i, s), rtol=1e-4, atol=1e-5)


def test_styles_blend_by_their_shares() -> None:
    norm, x = norm_of(4), numbers(1, 4, 5, 6)
    one, other = (norm(x, Conditions.of(torch.tensor([i]), 3)) for i in (0, 2))
    found = norm(x, Conditions(torch.tensor([[0.3, 0.0, 0.7]]), (1.0,)))
    torch.testing.assert_close(found, 0.3 * one + 0.7 * other)


@pytest.mark.parametrize("stroke", [0.5, 1.0, 2.0])
def test_the_maps_follow_the_logarithm_of_the_stroke(stroke: float) -> None:
    norm, x = norm_of(4), numbers(1, 4, 5, 6)
    found = norm(x, Conditions.of(torch.tensor([1]), 3, stroke=stroke))
    norm.scale.data += math.log2(stroke) * norm.stroke_scale
    norm.shift.data += math.log2(stroke) * norm.stroke_shift
    torch.testing.assert_close(found, by_definition(norm, x, 1, 1.0), rtol=1e-4, atol=1e-5)


def test_the_statistics_of_strength_0_follow_what_is_seen() -> None:
    """Of pictures of that strength alone, and in training alone."""
    norm, x = norm_of(4), numbers(3, 4, 5, 6)
    conditions = Conditions(torch.eye(3), (0.0, 1.0, 0.0))
    norm.eval()(x, conditions)
    assert norm.seen is None
    norm.train()(x, conditions)
    assert norm.seen is not None
    mean, deviation = norm.plain_mean.clone(), norm.plain_deviation.clone()
    norm.follow(norm.seen, 0.25)
    plain = x[[0, 2]]
    torch.testing.assert_close(norm.plain_mean, 0.75 * mean + 0.25 * plain.mean((0, 2, 3)))
    spread = plain.var((0, 2, 3), correction=0).add(EPSILON).sqrt()
    torch.testing.assert_close(norm.plain_deviation, 0.75 * deviation + 0.25 * spread)
    norm.follow(torch.zeros(3, 4), 0.25)  # nothing was
    torch.testing.assert_close(norm.plain_mean, 0.75 * mean + 0.25 * plain.mean((0, 2, 3)))


def test_places_have_styles_of_their_own() -> None:
    """Each half is as if it were a picture of its own; where a mask is half, half of both."""
    norm, x = norm_of(4, relu=True), numbers(1, 4, 6, 8)
    masks = torch.zeros(2, 1, 12, 16)
    masks[0, :, :, :8] = 1
    masks[1] = 1 - masks[0]
    both = tuple(Conditions.of(torch.tensor([i]), 3, s) for i, s in ((0, 1.0), (2, 0.5)))
    found = norm(x, Places(masks, both))
    for part, condition in ((slice(0, 4), both[0]), (slice(4, 8), both[1])):
        torch.testing.assert_close(found[..., part], norm(x[..., part], condition), rtol=1e-4, atol=1e-5)
    evenly = norm(x, Places(torch.full((2, 1, 12, 16), 0.5), both))
    torch.testing.assert_close(evenly, (norm(x, both[0]) + norm(x, both[1])) / 2, rtol=1e-4, atol=1e-5)


def test_places_have_phases() -> None:
    norm, x = norm_of(4), numbers(1, 16, 3, 4)
    condition, mask = Conditions.of(torch.tensor([1]), 3), torch.ones(1, 1, 6, 8)
    torch.testing.assert_close(
        norm(x, Places(mask, (condition,)), phases=4), norm(x, condition, phases=4), rtol=1e-4, atol=1e-5
    )


def test_phases_share_their_statistics() -> None:
    """The four phases of a picture, norm and put back: the norm of the picture."""
    norm, whole = norm_of(4), numbers(2, 4, 6, 8)
    phases = whole.view(2, 4, 3, 2, 4, 2).permute(0, 3, 5, 1, 2, 4).reshape(2, 16, 3, 4)
    phases = phases.contiguous(memory_format=torch.channels_last)
    conditions = Conditions.of(torch.tensor([1, 2]), 3, 0.7)
    found = norm(phases, conditions, phases=4).view(2, 2, 2, 4, 3, 4).permute(0, 3, 4, 1, 5, 2).reshape(2, 4, 6, 8)
    torch.testing.assert_close(found, norm(whole, conditions), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("plain", [False, True])
def test_gradients_are_those_of_finite_differences(relu: bool, plain: bool) -> None:
    generator = torch.Generator().manual_seed(2)

    def drawn(*shape: int) -> Tensor:
        return torch.randn(*shape, dtype=torch.float64, generator=generator).requires_grad_(True)

    inputs = [drawn(2, 3, 4, 5), *(drawn(2, 3) for _ in range(3 if plain else 2))]
    assert torch.autograd.gradcheck(lambda *t: _Norm.apply(*t, *([] if plain else [None]), relu), inputs)


@torch.no_grad()
def test_the_statistics_are_float32_in_bfloat16() -> None:
    norm, x = norm_of(8), numbers(1, 8, 64, 64) + 3
    conditions = Conditions.of(torch.tensor([1]), 3)
    with torch.autocast("cpu", torch.bfloat16):
        found = norm(x.bfloat16(), conditions)
    assert found.dtype == torch.bfloat16
    assert (found.float() - norm(x, conditions)).abs().max() < 0.1
    assert abs(float(found.float().mean() - norm(x, conditions).mean())) < 2e-3
