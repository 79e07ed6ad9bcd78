"""Colour spaces match published values; what colour transfer preserves is measured on photographs."""

from collections.abc import Callable
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from impasto.errors import OptionError
from impasto.image import color
from impasto.image.color import (
    Match,
    Space,
    fit_colours,
    keep_colours,
    match_palette,
    oklab_to_srgb,
    recolour,
    srgb_to_oklab,
    srgb_to_ycbcr,
    to_linear,
    to_srgb,
    ycbcr_to_srgb,
)

Photo = Callable[[str, int], Tensor]
CONVERSIONS = ((to_linear, to_srgb), (srgb_to_oklab, oklab_to_srgb), (srgb_to_ycbcr, ycbcr_to_srgb))
SPACES: tuple[Space, ...] = ("oklab", "ycbcr")
METHODS: tuple[Match, ...] = ("covariance", "histogram")

levels = st.integers(0, 255).map(lambda v: v / 255)
colours = st.lists(st.tuples(levels, levels, levels), min_size=1, max_size=8)


def pixels(*values: tuple[float, ...]) -> Tensor:
    """Return colours as a picture one pixel high."""
    return torch.tensor(values, dtype=torch.float32).t()[None, :, None]


def noise(*size: int, seed: int = 0) -> Tensor:
    return torch.randn(*size, generator=torch.Generator().manual_seed(seed))


def chroma_error(x: Tensor, y: Tensor) -> float:
    """Return the mean distance in a and b, times 100."""
    return float((srgb_to_oklab(x) - srgb_to_oklab(y))[:, 1:].norm(dim=1).mean() * 100)


def lightness_error(x: Tensor, y: Tensor) -> Tensor:
    return (srgb_to_oklab(x) - srgb_to_oklab(y))[:, 0].abs() * 100


def sliced_distance(x: Tensor, y: Tensor) -> float:
    """Return the sliced 1-Wasserstein distance of two pictures' colours in OKLab."""
    directions = F.normalize(noise(32, 3, seed=1), dim=1)
    at = torch.linspace(0, 1, 256)
    q, r = (torch.quantile(directions @ srgb_to_oklab(p)[0].flatten(1), at, dim=1) for p in (x, y))
    return float((q - r).abs().mean())


@given(colours)
def test_round_trips(values: list[tuple[float, ...]]) -> None:
    picture = pixels(*values)
    for there, back in CONVERSIONS:
        torch.testing.assert_close(back(there(picture)), picture, rtol=0, atol=1e-4)


def test_light_of_known_levels() -> None:
    picture = pixels((0, 0.04045, 0.5), (1, 188 / 255, 0.02))
    light = pixels((0, 0.04045 / 12.92, 0.2140411), (1, 0.5028865, 0.02 / 12.92))
    torch.testing.assert_close(to_linear(picture), light, rtol=0, atol=1e-6)
    clamped = to_srgb(pixels((-0.5, 0.0, 1.5)))
    assert clamped.flatten().tolist() == pytest.approx([0, 0, 1], abs=1e-6)
    assert clamped.max() <= 1


@pytest.mark.parametrize(
    ("rgb", "lab"),
    [
        ((1, 1, 1), (1, 0, 0)),
        ((0, 0, 0), (0, 0, 0)),
        ((1, 0, 0), (0.627955, 0.224863, 0.125846)),
        ((0, 1, 0), (0.866440, -0.233888, 0.179498)),
        ((0, 0, 1), (0.452014, -0.032457, -0.311528)),
    ],
)
def test_oklab_of_known_colours(rgb: tuple[float, ...], lab: tuple[float, ...]) -> None:
    """The values are those of Ottosson's reference implementation."""
    torch.testing.assert_close(srgb_to_oklab(pixels(rgb)), pixels(lab), rtol=0, atol=2e-5)


@pytest.mark.parametrize(
    ("rgb", "ycbcr"),
    [
        ((1, 0, 0), (0.299, -0.168736, 0.5)),
        ((0, 1, 0), (0.587, -0.331264, -0.418688)),
        ((0, 0, 1), (0.114, 0.5, -0.081312)),
        ((1, 1, 1), (1, 0, 0)),
    ],
)
def test_ycbcr_of_known_colours(rgb: tuple[float, ...], ycbcr: tuple[float, ...]) -> None:
    """The coefficients are those of JFIF 1.02, which rounds BT.601's to six decimals."""
    torch.testing.assert_close(srgb_to_ycbcr(pixels(rgb)), pixels(ycbcr), rtol=0, atol=1e-6)


@given(levels)
def test_grey_stays_grey(level: float) -> None:
    grey = torch.full((1, 3, 1, 1), level)
    for there, back in CONVERSIONS[1:]:
        assert there(grey)[0, 1:].abs().max() < 1e-6
        assert float(back(there(grey)).std()) < 1e-5


@given(st.floats(0.1, 1.2), st.floats(-0.5, 0.5), st.floats(-0.5, 0.5))
def test_into_the_gamut_by_chroma_alone(lightness: float, a: float, b: float) -> None:
    lab = pixels((lightness, a, b))
    picture = oklab_to_srgb(lab)
    assert 0 <= picture.min() <= picture.max() <= 1
    there = srgb_to_oklab(picture)
    torch.testing.assert_close(there[:, :1], lab[:, :1].clamp(0, 1), rtol=0, atol=2e-3)
    before, after = lab[0, 1:].flatten(), there[0, 1:].flatten()
    assert after.norm() <= before.norm() + 1e-3
    assert abs(float(before[0] * after[1] - before[1] * after[0])) <= 1e-3 * float(before.norm()) + 1e-6  # one hue


def test_colours_that_fit_lose_nothing_and_others_only_what_they_must() -> None:
    red = srgb_to_oklab(pixels((1.0, 0.0, 0.0)))
    vivid = torch.cat([red[:, :1], red[:, 1:] * 1.5], 1)
    torch.testing.assert_close(srgb_to_oklab(oklab_to_srgb(vivid)), red, rtol=0, atol=2e-3)
    assert oklab_to_srgb(pixels((1.3, 0.1, 0.1), (-0.3, 0.1, 0.1))).round(decimals=3).unique().tolist() == [0, 1]


@pytest.mark.parametrize("name", ["astronaut", "coffee"])
def test_painting_keeps_its_light_and_takes_the_colours(photo: Photo, name: str) -> None:
    """The painting here is the photo with strokes and contrast added and another picture's colours laid over it."""
    original = photo(name, 200)
    lab = srgb_to_oklab(original)
    h, w = lab.shape[-2:]
    strokes = F.interpolate(noise(1, 1, 24, 24), (h, w), mode="bicubic", align_corners=False)
    tint = F.interpolate(srgb_to_oklab(photo("rocket", 200))[:, 1:], (h, w), mode="bilinear", align_corners=False)
    for lightness in (lab[:, :1] ** 1.6, lab[:, :1] ** 0.6, lab[:, :1] + 0.1 * strokes):
        painting = oklab_to_srgb(torch.cat([lightness, tint], 1))
        assert chroma_error(painting, original) > 3
        kept = keep_colours(painting, original)
        assert chroma_error(kept, original) <= 1.5
        difference = lightness_error(kept, painting)
        assert difference.mean() <= 3.5
        assert difference.max() <= 100 * color.MOST_SHIFT + 0.5


def test_lightness_of_another_photograph(photo: Photo) -> None:
    """The two photographs have nothing but their size in common."""
    painting = photo("chelsea", 160)
    for name in ("astronaut", "coffee", "rocket"):
        kept = keep_colours(painting, photo(name, 160))
        original = color.resize(photo(name, 160), (painting.shape[2], painting.shape[3]))
        assert chroma_error(kept, original) <= 3
        assert lightness_error(kept, painting).max() <= 100 * color.MOST_SHIFT + 0.5


def test_luma_is_kept_in_ycbcr(photo: Photo) -> None:
    painting, original = photo("chelsea", 96), photo("coffee", 96)
    difference = srgb_to_ycbcr(keep_colours(painting, original, "ycbcr"))[:, 0] - srgb_to_ycbcr(painting)[:, 0]
    assert difference.abs().max() <= color.MOST_SHIFT + 1e-4
    assert difference.abs().mean() <= 0.01


@pytest.mark.parametrize("space", SPACES)
def test_chroma_is_interpolated(space: Space) -> None:
    to = {"oklab": srgb_to_oklab, "ycbcr": srgb_to_ycbcr}[space]
    painting, original = (0.5 + 0.03 * noise(1, 3, 6, 7, seed=i) for i in range(2))
    half = to(keep_colours(painting, original, space, 0.5))
    torch.testing.assert_close(half[:, :1], to(painting)[:, :1], rtol=0, atol=1e-5)
    torch.testing.assert_close(half[:, 1:], (to(painting) + to(original))[:, 1:] / 2, rtol=0, atol=1e-5)


@pytest.mark.parametrize("space", SPACES)
def test_a_painting_of_its_own_photo_is_unchanged(photo: Photo, space: Space) -> None:
    torch.testing.assert_close(keep_colours(photo("coffee", 64), photo("coffee", 64), space), photo("coffee", 64))


def test_strips_and_batches_change_nothing(photo: Photo, monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = photo("coffee", 64), photo("chelsea", 64)
    jobs: list[Callable[[Tensor], Tensor]] = [lambda a: keep_colours(a, y)]
    jobs += [partial(match_palette, reference=y, method=m) for m in METHODS]
    whole = [job(x) for job in jobs]
    monkeypatch.setattr(color, "STRIP", 1000)
    for job, expected in zip(jobs, whole, strict=True):
        both = job(torch.cat([x, x.flip(3)]).contiguous(memory_format=torch.channels_last))
        torch.testing.assert_close(both[:1], expected, rtol=0, atol=1e-5)
        assert both.shape == (2, *x.shape[1:])


@pytest.mark.parametrize("method", METHODS)
def test_each_picture_has_its_own_reference(method: Match) -> None:
    x, y = torch.rand(2, 3, 8, 9, generator=torch.Generator().manual_seed(0)), 0.5 + 0.1 * noise(2, 3, 7, 5)
    one_by_one = torch.cat([match_palette(x[i : i + 1], y[i : i + 1], method) for i in range(2)])
    torch.testing.assert_close(match_palette(x, y, method), one_by_one)


def test_covariance_is_matched_exactly() -> None:
    mix = torch.tensor([[1.0, 0.3, 0.0], [0.0, 0.8, 0.4], [0.2, 0.0, 0.5]])
    picture = 0.5 + 0.03 * noise(1, 3, 40, 50)
    reference = 0.4 + 0.04 * torch.einsum("ij,njhw->nihw", mix, noise(1, 3, 30, 30, seed=1))
    matched, wanted = match_palette(picture, reference)[0].flatten(1), reference[0].flatten(1)
    torch.testing.assert_close(matched.mean(1), wanted.mean(1), rtol=0, atol=1e-5)
    torch.testing.assert_close(torch.cov(matched, correction=0), torch.cov(wanted, correction=0), rtol=0, atol=1e-6)


def test_the_linear_map_moves_colours_least() -> None:
    """Both maps reach the same covariance; in theory, the Monge-Kantorovich map moves colours less."""
    mix = torch.tensor([[1.0, 0.3, 0.0], [0.0, 0.8, 0.4], [0.9, 0.0, 0.5]])
    picture = 0.5 + 0.04 * torch.einsum("ij,njhw->nihw", mix.t(), noise(1, 3, 40, 50))
    reference = 0.5 + 0.04 * torch.einsum("ij,njhw->nihw", mix, noise(1, 3, 30, 30, seed=1))
    ways = [
        float(((to - picture) ** 2).mean()) for to in (match_palette(picture, reference), recolour(picture, reference))
    ]
    assert ways[0] < 0.99 * ways[1]


@pytest.mark.parametrize(("method", "left"), [("covariance", 0.5), ("histogram", 0.1)])
def test_palette_comes_near(photo: Photo, method: Match, left: float) -> None:
    for name, reference in (("coffee", "chelsea"), ("astronaut", "rocket"), ("rocket", "coffee")):
        x, y = photo(name, 128), photo(reference, 128)
        assert sliced_distance(match_palette(x, y, method), y) <= left * sliced_distance(x, y), name


@pytest.mark.parametrize("method", METHODS)
def test_palette_of_the_picture_itself_changes_little(photo: Photo, method: Match) -> None:
    x = photo("astronaut", 96)
    assert (match_palette(x, x, method) - x).abs().mean() < 0.5 / 255


def test_large_pictures_are_sampled(photo: Photo, monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = photo("coffee", 128), photo("chelsea", 128)
    whole = {m: match_palette(x, y, m) for m in METHODS}
    monkeypatch.setattr(color, "MOST_PIXELS", 4000)
    for method in METHODS:
        sampled = match_palette(x, y, method)
        assert torch.equal(sampled, match_palette(x, y, method))
        assert 0 < (sampled - whole[method]).abs().mean() < 0.02


@pytest.mark.parametrize("method", METHODS)
def test_strength_mixes(photo: Photo, method: Match) -> None:
    x, y = photo("coffee", 64), photo("chelsea", 64)
    half = match_palette(x, y, method, 0.5)
    torch.testing.assert_close(half, (x + match_palette(x, y, method)) / 2, rtol=0, atol=1e-6)


def test_strength_zero_is_the_picture(photo: Photo) -> None:
    x, y = photo("coffee", 64), photo("chelsea", 64)
    assert all(keep_colours(x, y, space, 0) is x for space in SPACES)
    assert all(match_palette(x, y, method, 0) is x for method in METHODS)


@pytest.mark.parametrize("method", METHODS)
def test_plain_areas_stay_plain(photo: Photo, method: Match) -> None:
    """Rounding noise is not stretched to a palette, at any level."""
    y = photo("coffee", 64)
    for level in (0.0, 0.3, 100.5 / 255, 1.0):
        plain = (level + 1e-6 * noise(1, 3, 20, 20)).clamp(0, 1)
        matched = match_palette(plain, y, method)
        assert matched.std((2, 3)).max() < 0.01
        if method == "covariance":
            torch.testing.assert_close(matched.mean((2, 3)), y.mean((2, 3)), rtol=0, atol=1e-3)


def test_plain_and_tiny_pictures_are_finite(photo: Photo) -> None:
    odd = [torch.full((1, 3, *size), v) for size in ((1, 1), (1, 5), (8, 8)) for v in (0.0, 0.5, 1.0)]
    for x, y in [(a, photo("coffee", 64)) for a in odd] + [(photo("coffee", 64), a) for a in odd] + [(odd[0], odd[8])]:
        results = [keep_colours(x, y, s) for s in SPACES] + [match_palette(x, y, m) for m in METHODS]
        for result in results:
            assert result.shape == x.shape
            assert 0 <= result.min() <= result.max() <= 1  # which NaN would not be


@pytest.mark.parametrize("method", METHODS)
def test_a_plain_reference_makes_a_plain_picture(photo: Photo, method: Match) -> None:
    reference = torch.tensor([0.2, 0.5, 0.7]).view(1, 3, 1, 1)
    difference = match_palette(photo("coffee", 64), reference, method) - reference
    assert difference.abs().max() < 1e-4


def test_conversions_have_gradients() -> None:
    x = torch.tensor([0.2, 0.5, 0.9]).view(1, 3, 1, 1).requires_grad_()
    for there, back in CONVERSIONS:
        (gradient,) = torch.autograd.grad(back(there(x)).sum(), x)
        torch.testing.assert_close(gradient, torch.ones_like(x), rtol=0, atol=1e-3)


@pytest.mark.parametrize("bad", [torch.zeros(3, 4, 4), torch.zeros(1, 1, 4, 4), torch.zeros(1, 3, 0, 4)])
def test_other_shapes_are_refused(bad: Tensor) -> None:
    good = torch.zeros(1, 3, 4, 4)
    for conversion in (f for pair in CONVERSIONS for f in pair):
        with pytest.raises(OptionError, match=r"\(N, 3, H, W\)"):
            conversion(bad)
    for transfer in (keep_colours, match_palette):
        for pair in ((bad, good), (good, bad)):
            with pytest.raises(OptionError, match=r"\(N, 3, H, W\)"):
                transfer(*pair)


def test_other_types_and_counts_are_refused() -> None:
    good = torch.zeros(2, 3, 4, 4)
    with pytest.raises(OptionError, match="uint8"):
        srgb_to_oklab(good.to(torch.uint8))
    with pytest.raises(OptionError, match="float64"):
        keep_colours(good.double(), good)
    with pytest.raises(OptionError, match="got 3 pictures as references for 2"):
        match_palette(good, torch.zeros(3, 3, 4, 4))


@pytest.mark.parametrize("strength", [-0.1, 1.1, float("nan")])
def test_other_strengths_are_refused(strength: float) -> None:
    x = torch.zeros(1, 3, 4, 4)
    with pytest.raises(OptionError, match="strength is"):
        keep_colours(x, x, strength=strength)
    with pytest.raises(OptionError, match="strength is"):
        match_palette(x, x, strength=strength)


def test_unknown_choices_are_refused() -> None:
    x = torch.zeros(1, 3, 4, 4)
    with pytest.raises(OptionError, match="oklab or ycbcr"):
        keep_colours(x, x, "hsv")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    with pytest.raises(OptionError, match="covariance or histogram"):
        match_palette(x, x, "mean")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def test_colours_are_fitted_where_they_count() -> None:
    """A linear map is found from the half that counts; if nothing counts, the colours stay."""
    mix = torch.tensor([[0.7, 0.2, 0.0], [0.0, 0.8, 0.1], [0.1, 0.0, 0.6]])
    picture = (0.5 + 0.2 * noise(1, 3, 20, 30)).clamp(0, 1)
    other = torch.einsum("ij,njhw->nihw", mix, picture) + 0.05
    weight = torch.ones(1, 1, 20, 30)
    weight[..., 15:] = 0
    changed = torch.where(weight > 0, other, 1 - other)
    assert (fit_colours(picture, changed, weight) - other).abs().max() < 0.02
    torch.testing.assert_close(fit_colours(picture, other, 0 * weight), picture)
