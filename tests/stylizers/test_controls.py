"""Every control does what it says, measured on finished paintings of a photograph."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from impasto.device import Compute
from impasto.errors import OptionError
from impasto.image.resize import blur, resize
from impasto.models.prepare import prepared
from impasto.models.vgg import STYLE_LAYERS, VGG
from impasto.models.weights import load_encoder
from impasto.options import STYLE_LAYER_WEIGHTS, OptimizeOptions, named_weights
from impasto.style.target import StyleTarget
from impasto.style.terms import PerceptualLoss, RimTerm
from impasto.stylizers.loss import Problem, build_loss
from impasto.stylizers.optimize import OptimizeStylizer
from impasto.stylizers.schedule import Scale

Make = Callable[..., OptimizeStylizer]
Paint = Callable[..., Tensor]
Photo = Callable[[str, int], Tensor]
PLAIN = Compute(torch.device("cpu"), None)
LOW = Compute(torch.device("cpu"), torch.bfloat16)
BRIEF: dict[str, Any] = {"size": 96, "coarsest": 64, "iterations": 20, "style_loss": "gram", "optimizer": "lbfgs"}
MOMENTS: dict[str, Any] = {**BRIEF, "style_loss": "moments"}
AS_IT_IS: dict[str, Any] = {"denoise": 0.0, "mottle": 0.0, "plain_blur": 0.0}
"""Do not prepare the photograph, and let fine detail be painted anywhere."""


def rises(values: Iterable[float], factor: float = 1.0) -> bool:
    """Return whether each value is more than that many times the one before."""
    return all(b > factor * a for a, b in pairwise(values))


def falls(values: Iterable[float], factor: float = 1.0) -> bool:
    """Return whether each value is less than that share of the one before."""
    return all(b < factor * a for a, b in pairwise(values))


# -- the balance ------------------------------------------------------------------------------------------------------


def test_the_content_weight_keeps_the_photo(paint: Paint, content: Tensor, style: Tensor, measure: Any) -> None:
    paintings = [paint(content_weight=w) for w in (0.05, 2.0, 20.0)]
    assert falls((measure.content(p, content) for p in paintings), 0.7)
    assert rises((measure.style(p, style) for p in paintings), 1.3)
    assert falls((measure.difference(p, content) for p in paintings), 0.85)


def test_the_style_weight_brings_the_style(paint: Paint, content: Tensor, style: Tensor, measure: Any) -> None:
    paintings = [paint(style_weight=w) for w in (0.01, 0.1, 2.0)]
    assert falls((measure.style(p, style) for p in paintings), 0.8)
    assert rises((measure.content(p, content) for p in paintings), 1.15)


def test_the_total_variation_weight_smooths(paint: Paint, measure: Any) -> None:
    assert falls((measure.variation(paint(tv_weight=w)) for w in (0.0, 6.0, 40.0)), 0.9)
    assert measure.variation(paint(tv_weight=40.0)) < 0.6 * measure.variation(paint(tv_weight=0.0))


def test_a_weight_of_zero_leaves_its_term_out(make: Make, content: Tensor) -> None:
    terms = {
        n: set(next(iter(make(**{**BRIEF, n: 0.0}).steps(content))).losses) - {"total"}
        for n in ("content_weight", "style_weight", "rim_weight", "tv_weight")
    }
    assert terms == {
        "content_weight": {"style", "rim", "tv"},
        "style_weight": {"content", "rim", "tv"},
        "rim_weight": {"content", "style", "tv"},
        "tv_weight": {"content", "style", "rim"},
    }


@pytest.mark.parametrize("style_loss", ["moments", *(pytest.param(k, marks=pytest.mark.slow) for k in ("gram", "nn"))])
def test_the_strength_goes_from_the_photo_to_the_style(
    paint: Paint, content: Tensor, style: Tensor, measure: Any, style_loss: str
) -> None:
    brief: dict[str, Any] = {"style_loss": style_loss, "iterations": 15}
    paintings = [paint(strength=s, **brief) for s in (0.0, 0.25, 0.5, 0.75, 1.0)]
    assert measure.difference(paintings[0], content) < 1e-4  # a PSNR of 80 dB
    assert falls((measure.style(p, style, style_loss) for p in paintings), 0.97)
    assert rises((measure.difference(p, content) for p in paintings), 1.2)
    assert torch.equal(paintings[-1], paint(**brief))


@pytest.mark.parametrize("style_loss", ["moments", pytest.param("gram", marks=pytest.mark.slow), "nn"])
def test_more_strength_than_1_is_nearer_to_the_style(
    paint: Paint, content: Tensor, style: Tensor, measure: Any, style_loss: str
) -> None:
    """The painting is also further from the photograph, whose weight is lower."""
    paintings = [paint(strength=s, style_loss=style_loss, content_weight=0.05) for s in (1.0, 1.5)]
    assert falls((measure.style(p, style, style_loss) for p in paintings), 0.99)
    assert rises((measure.content(p, content) for p in paintings), 1.02)


@pytest.mark.parametrize("start", ["noise", pytest.param("blurred", marks=pytest.mark.slow)])
def test_without_strength_any_start_leads_to_the_photo(make: Make, content: Tensor, measure: Any, start: str) -> None:
    paintings = [make(start=start, strength=s, **BRIEF)(content) for s in (0.0, 0.5, 1.0)]
    assert measure.difference(paintings[0], content) < 1e-4
    assert rises(measure.difference(p, content) for p in paintings[1:])


def test_detail_brings_the_photos_own_back_at_each_scale(paint: Paint, content: Tensor, measure: Any) -> None:
    """If a scale is short, the detail that it begins with is in the painting."""
    paintings = [paint(detail=d, iterations=(16, 4)) for d in (0.0, 0.5, 1.0)]
    assert rises((measure.detail(p, content) for p in paintings), 1.2)
    assert measure.detail(paintings[2], content) > 2 * measure.detail(paintings[0], content)


# -- what is looked at ------------------------------------------------------------------------------------------------


def test_the_layers_decide_which_features_become_the_styles(paint: Paint, style: Tensor, measure: Any) -> None:
    def distances(**options: Any) -> dict[str, float]:
        painting = paint(style_loss="moments", **options)
        return {k: measure.style(painting, style, "moments", (k,)) for k in STYLE_LAYERS}

    equal, shallow, middle = (distances(layers=k) for k in (",".join(STYLE_LAYERS), "relu1_1", "relu3_1"))
    assert shallow["relu1_1"] < 0.6 * equal["relu1_1"]
    assert middle["relu3_1"] < 0.9 * equal["relu3_1"]
    assert all(shallow[k] > 1.3 * equal[k] for k in ("relu3_1", "relu4_1", "relu5_1"))
    assert middle["relu5_1"] > 1.1 * equal["relu5_1"]
    weighted = distances(layers="relu1_1:1,relu3_1:0.2")
    assert weighted["relu1_1"] < 0.6 * middle["relu1_1"]
    assert weighted["relu3_1"] < 0.8 * shallow["relu3_1"]


def test_weights_of_the_layers_are_those_to_each_other(paint: Paint) -> None:
    twice = ",".join(f"{k}:{2 * w}" for k, w in named_weights(STYLE_LAYER_WEIGHTS, "--layers").items())
    assert torch.equal(paint(layers=twice, iterations=2), paint(iterations=2))


def test_the_content_layers_decide_what_of_the_photo_is_kept(paint: Paint, content: Tensor, measure: Any) -> None:
    layers = ("relu2_2", "relu3_2", "relu4_2")
    found = {
        layer: {k: measure.content(paint(content_layers=layer, content_weight=2.0), content, k) for k in layers}
        for layer in layers
    }
    for layer in layers:  # nothing keeps a layer as well as asking for it
        assert found[layer][layer] < 0.94 * min(found[k][layer] for k in layers if k != layer)
    both = paint(content_layers="relu2_2:1,relu4_2:1", content_weight=2.0)
    assert found["relu2_2"]["relu2_2"] < measure.content(both, content, "relu2_2") < found["relu4_2"]["relu2_2"]


def test_a_blurred_content_leaves_the_detail_to_the_style(paint: Paint, content: Tensor, measure: Any) -> None:
    """At equal weights, less of the photo's fine detail remains, most visibly at a shallow layer that would keep it."""
    for layer, share, blurs in (("relu2_2", 0.55, (0.0, 2.0, 4.0)), ("relu4_2", 0.95, (0.0, 4.0))):
        paintings = [paint(content_blur=b, content_layers=layer, content_weight=0.5) for b in blurs]
        assert falls((measure.detail(p, content) for p in paintings), 0.95)
        assert measure.detail(paintings[-1], content) < share * measure.detail(paintings[0], content)
        # What is coarser than the blur is still the photo's.
        assert measure.difference(blur(paintings[-1], 6), blur(content, 6)) < 0.1


def test_the_blur_is_measured_at_the_paintings_size(make: Make, content: Tensor, measure: Any) -> None:
    """The painting is that of a photo blurred beforehand; a coarse scale of half the size uses half the blur."""
    options: dict[str, Any] = {"size": 96, "start": "noise", "content_weight": 1.0, "plain_weight": 1.0, **AS_IT_IS}
    one = {**options, "coarsest": 96, "iterations": 3}
    blurred = blur(content, 4.0)
    assert torch.equal(make(content_blur=4.0, **one)(content), make(**one)(blurred))
    several = {**options, "coarsest": 64, "iterations": (16, 2)}
    expected = make(**several)(blurred)
    found = {b: measure.difference(make(content_blur=b, **several)(content), expected) for b in (2.0, 4.0, 8.0)}
    assert found[4.0] < 0.6 * min(found[2.0], found[8.0])


# -- the styles -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("style_loss", [pytest.param("moments", marks=pytest.mark.slow), "nn"])
def test_the_style_weights_blend(
    make: Make, content: Tensor, style: Tensor, photo: Photo, measure: Any, style_loss: str
) -> None:
    """The painting moves from one style to the other, step by step."""
    rocket = photo("rocket", 160)
    paintings = [
        make((style, rocket), **{**BRIEF, "style_loss": style_loss}, style_weights=w)(content)
        for w in ((1.0, 0.0), (1.0, 1.0), (0.0, 1.0))
    ]
    assert rises((measure.style(p, style, style_loss) for p in paintings), 1.03)
    assert falls((measure.style(p, rocket, style_loss) for p in paintings), 0.95)


def test_the_style_scale_is_the_size_of_the_strokes(make: Make, content: Tensor, photo: Photo, measure: Any) -> None:
    """Of paintings made at four sizes of the style, each is nearest to the style at its own size."""
    large, sizes = photo("chelsea", 400), (0.5, 1.0, 2.0, 4.0)
    paintings = {s: make((large,), **MOMENTS, style_scale=s, content_weight=0.0)(content) for s in sizes}
    for looked_at in sizes:
        found = {s: measure.style(p, large, "moments", size=96 * looked_at) for s, p in paintings.items()}
        assert min(found, key=found.__getitem__) == looked_at


def test_strokes_in_pixels_are_as_large_at_any_size(make: Make, encoder: VGG, content: Tensor, photo: Photo) -> None:
    """The style is measured at the size of the painting that has such strokes: 25 times the stroke."""
    style, short = photo("chelsea", 400), {"iterations": 3, "coarsest": 4096}
    for size in (96, 192):
        measured = StyleTarget.of(style, encoder, PLAIN, (100,))
        assert torch.equal(
            make((style,), size=size, stroke_px=4.0, **short)(content), make((measured,), size=size, **short)(content)
        )


def test_each_style_has_its_own_scale(make: Make, encoder: VGG, content: Tensor, photo: Photo, measure: Any) -> None:
    """The result is as if each style had been measured at its own size.

    One of them is easy to recognise in the painting.
    """
    styles = photo("chelsea", 400), photo("rocket", 400)
    measured = [StyleTarget.of(s, encoder, PLAIN, (n,)) for s, n in zip(styles, (96, 288), strict=True)]
    short: dict[str, Any] = {"size": 96, "coarsest": 96, "iterations": 3}
    assert torch.equal(make(styles, style_scale=(1.0, 3.0), **short)(content), make(measured, **short)(content))
    small, large = (make(styles, **MOMENTS, style_scale=s)(content) for s in ((1.0, 3.0), (3.0, 1.0)))
    ratios = [
        measure.style(p, styles[0], "moments", size=288) / measure.style(p, styles[0], "moments", size=96)
        for p in (small, large)
    ]
    assert ratios[0] > 1.1 * ratios[1]


def test_each_style_loss_lowers_its_own_distance_the_most(
    paint: Paint, content: Tensor, style: Tensor, measure: Any
) -> None:
    """The exception is `gram`, which `moments` lowers as well: Gram matrices consist of covariances and means."""
    kinds = ("gram", "moments", "nn")
    paintings = {k: paint(style_loss=k) for k in kinds}
    for kind in kinds:
        found = {k: measure.style(p, style, kind) for k, p in paintings.items()}
        assert kind == "gram" or min(found, key=found.__getitem__) == kind
        assert found[kind] < 0.9 * max(found.values())
        assert found[kind] < 0.6 * measure.style(content, style, kind)


def test_a_mixture_of_style_losses_lies_between_them(paint: Paint, style: Tensor, measure: Any) -> None:
    moments, mixture, nn = (paint(style_loss=k) for k in ("moments", "moments:1,nn:0.5", "nn"))
    assert rises((measure.style(p, style, "gram") for p in (moments, mixture, nn)), 1.1)
    assert measure.style(mixture, style, "nn") < 0.95 * measure.style(moments, style, "nn")
    assert not torch.equal(mixture, paint(style_loss="moments:1,nn:0.1"))
    assert torch.equal(moments, paint(style_loss="moments:1"))


# -- further losses ---------------------------------------------------------------------------------------------------


def test_the_histogram_weight_brings_the_features_histograms(
    paint: Paint, content: Tensor, style: Tensor, measure: Any
) -> None:
    found = [measure.histogram(paint(histogram_weight=w), style) for w in (0.0, 1.0, 10.0)]
    assert falls(found, 0.97)
    assert found[2] < 0.8 * found[0] < 0.8 * measure.histogram(content, style)


def test_the_neighbour_weight_draws_places_to_those_of_the_styles_picture(
    paint: Paint, style: Tensor, measure: Any
) -> None:
    found = [measure.style(paint(neighbour_weight=w), style, "nn") for w in (0.0, 0.2, 2.0)]
    assert falls(found, 0.97)


def test_neighbours_need_the_styles_picture(make: Make, encoder: VGG, style: Tensor) -> None:
    measured = StyleTarget.of(style, encoder, PLAIN, (96,))
    with pytest.raises(OptionError, match="--neighbour-weight needs the style's picture"):
        make((measured,), size=96, neighbour_weight=0.1)


def test_the_photograph_weighs_more_beside_neighbours() -> None:
    weights = [OptimizeOptions(neighbour_weight=w).settings.content_weight for w in (0.0, 0.2)]
    assert weights == [0.0089, 0.024]
    assert OptimizeOptions(neighbour_weight=0.2, content_weight=0.5).settings.content_weight == 0.5


def test_the_laplacian_weight_keeps_the_edges(paint: Paint, content: Tensor, measure: Any) -> None:
    assert falls((measure.laplacian(paint(laplacian_weight=w), content) for w in (0.0, 2.0, 30.0)), 0.5)


def test_the_plain_weight_calms_what_is_plain(make: Make, content: Tensor, measure: Any) -> None:
    """The upper half of the photograph is one grey. The lower its weight, the calmer it is painted."""
    photo = content.clone()
    photo[..., : photo.shape[-2] // 2, :] = 0.5
    paintings = [make(**BRIEF, plain_weight=w)(photo) for w in (1.0, 0.3, 0.0)]
    assert falls((measure.variation(p[..., : p.shape[-2] // 2 - 8, :]) for p in paintings), 0.9)


def test_a_style_full_of_strokes_is_painted_into_plain_areas(
    encoder: VGG, content: Tensor, style: Tensor, measure: Any
) -> None:
    """By default, the calmness of the style decides. A style file without it counts as calm."""
    photo = content.clone()
    photo[..., : photo.shape[-2] // 2, :] = 0.5
    measured = StyleTarget.of(style, encoder, PLAIN)

    def paint(calm: float | None, **options: Any) -> Tensor:
        options = {**BRIEF, **options}
        return OptimizeStylizer([replace(measured, calm=calm)], OptimizeOptions(**options), encoder, PLAIN)(photo)

    full, calm, unknown = (paint(c) for c in (0.1, 0.9, None))
    assert falls((measure.variation(p[..., : p.shape[-2] // 2 - 8, :]) for p in (full, calm)), 0.8)
    assert torch.equal(calm, unknown)
    assert torch.equal(calm, paint(0.1, plain_weight=0.3))


def test_the_plain_weight_counts_where_all_is_plain(make: Make, content: Tensor, measure: Any) -> None:
    """The weight is not relative to the rest of the photograph."""
    photo = 0.5 + 0.03 * (content - content.mean())
    paintings = [make(**BRIEF, plain_weight=w)(photo) for w in (1.0, 0.3, 0.0)]
    assert falls((measure.variation(p) for p in paintings), 0.9)


def test_the_plain_blur_keeps_fine_detail_out_of_coarse_scales(make: Make, content: Tensor) -> None:
    """The upper half of the photograph is one grey; the lower one is painted as sharply as before."""
    photo, fine = content.clone(), []
    photo[..., : photo.shape[-2] // 2, :] = 0.5
    for deviation in (0.0, 4.0, 16.0):
        coarse = [s.image for s in make(**BRIEF, plain_blur=deviation).steps(photo) if s.scale_index == 1][-1]
        fine.append((coarse - blur(coarse, 1.0)).square().mean((0, 1, 3)))
    half = len(fine[0]) // 2
    assert falls((float(rows[: half - 6].mean()) for rows in fine), 0.6)
    assert fine[2][half + 10 :].mean() > 0.8 * fine[0][half + 10 :].mean()


def test_the_rim_weight_narrows_halos(make: Make, content: Tensor) -> None:
    photo = torch.full((1, 3, 96, 96), 0.7)
    photo[..., 30:66, 30:66] = content[..., :36, :36]
    term = RimTerm(photo)
    paintings = [make(**BRIEF, rim_weight=w)(photo) for w in (0.0, 0.5, 20.0)]
    assert falls((term.total({}, p).item() for p in paintings), 0.8)


def test_the_similarity_weight_keeps_alike_what_is_alike(paint: Paint, content: Tensor, measure: Any) -> None:
    assert falls((measure.similarity(paint(similarity_weight=w), content) for w in (0.0, 0.5, 20.0)), 0.8)


# -- the way there ----------------------------------------------------------------------------------------------------


def test_what_it_starts_from(make: Make, content: Tensor, photo: Photo, measure: Any) -> None:
    def start(size: tuple[int, int] = (64, 96), **options: Any) -> Tensor:
        stylizer = make(**options)
        o = stylizer.options
        return stylizer.start_of(Problem(stylizer.encoder, PLAIN, o, content, size, stylizer.styles))

    assert torch.equal(start(start="grey"), torch.full((1, 3, 64, 96), 0.5))
    assert start(start="content", **AS_IT_IS) is content
    assert torch.equal(start(start="content"), prepared(content, 1.0, 1.0).clamp(0, 1))
    assert torch.equal(start(start="blurred", **AS_IT_IS), blur(content, 3.0))
    noise = start(start="noise")
    assert noise.std() == pytest.approx(0.15, rel=0.1)
    assert noise.mean() == pytest.approx(0.5, abs=0.02)
    assert torch.equal(noise, start(start="noise", seed=0))
    assert not torch.equal(noise, start(start="noise", seed=1))
    rocket = photo("rocket", 96)
    height, width = rocket.shape[-2:]
    assert torch.equal(start((height, width), start="rocket.jpg", start_picture=rocket), rocket)
    assert torch.equal(start(start="r.jpg", start_picture=rocket), resize(rocket, (64, 96)))
    message = r"--start rocket\.jpg is not a picture; give content, blurred, noise, grey or a picture"
    with pytest.raises(Exception, match=message):
        start(start="rocket.jpg")


def test_the_start_shows_in_the_painting(make: Make, paint: Paint, content: Tensor, photo: Photo, measure: Any) -> None:
    """The less of the photo is in the start, the less is in the painting; whatever else the start shows remains."""
    paintings = {s: paint(start=s) for s in ("content", "blurred", "noise", "grey")}
    far = {s: measure.difference(p, content) for s, p in paintings.items()}
    assert 1.03 * far["content"] < far["blurred"] < 0.7 * min(far["noise"], far["grey"])
    rocket = photo("rocket", 96)
    from_rocket = make(start="rocket.jpg", start_picture=rocket, **BRIEF)(content)
    assert measure.difference(from_rocket, rocket) < 0.7 * measure.difference(from_rocket, content)
    assert measure.difference(from_rocket, rocket) < 0.7 * measure.difference(paintings["grey"], rocket)


def test_the_seed_changes_the_noise_and_not_how_good_it_is(
    make: Make, content: Tensor, style: Tensor, measure: Any
) -> None:
    paintings = [make(start="noise", seed=s, **BRIEF)(content) for s in (1, 2)]
    assert measure.difference(*paintings) > 0.1
    found = [measure.style(p, style) for p in paintings]
    assert max(found) < 1.25 * min(found)


@pytest.mark.parametrize(("options", "size"), [({"size": 120}, (80, 120)), ({"scale": 0.5}, (32, 48))])
def test_the_size(
    make: Make, content: Tensor, style: Tensor, measure: Any, options: Any, size: tuple[int, int]
) -> None:
    painting = make(iterations=15, coarsest=64, **options)(content)
    assert painting.shape == (1, 3, *size)
    assert measure.style(painting, style) < 0.5 * measure.style(resize(content, size), style)


def loss_of(make: Make, content: Tensor, **options: Any) -> list[float]:
    """Return the total loss of the painting after each iteration of the last scale."""
    steps = [s for s in make(**{**BRIEF, **options}).steps(content) if s.scale_index == s.scales]
    return [s.measured()["total"] for s in steps if s.measured is not None]


@pytest.mark.parametrize("parameters", [pytest.param("pixels", marks=pytest.mark.slow), "laplacian"])
def test_lbfgs_comes_further_than_adam_in_few_iterations(make: Make, content: Tensor, parameters: str) -> None:
    assert loss_of(make, content)[-1] < 0.9 * loss_of(make, content, optimizer="adam", parameters=parameters)[-1]


def test_a_laplacian_pyramid_paints_large_shapes_in_fewer_iterations(make: Make, content: Tensor) -> None:
    options: dict[str, Any] = {"optimizer": "adam", "coarsest": 96, "iterations": 12, "start": "grey"}
    pixels, laplacian = (loss_of(make, content, parameters=p, **options)[-1] for p in ("pixels", "laplacian"))
    assert laplacian < 0.8 * pixels


def test_a_higher_rate_moves_adam_faster(make: Make, content: Tensor, measure: Any) -> None:
    options: dict[str, Any] = {**BRIEF, "optimizer": "adam", "coarsest": 96, "iterations": 4, **AS_IT_IS}
    moved = [measure.difference(make(rate=r, **options)(content), content) for r in (0.003, 0.01, 0.03)]
    assert rises(moved, 2.0)


def test_more_iterations_come_nearer(make: Make, content: Tensor) -> None:
    found = [loss_of(make, content, iterations=n)[-1] for n in (8, 20, 60)]
    assert falls(found, 0.85)


def test_moments_that_are_carried_make_a_scale_begin_gently(make: Make, content: Tensor) -> None:
    """Adam's first steps change every pixel by the rate, unless it carries moments from the previous scale."""
    moved, options = [], {**BRIEF, "optimizer": "adam", "parameters": "pixels", "iterations": (10, 10), "detail": 0.0}
    options |= AS_IT_IS
    for carry in (False, True):
        steps = list(make(**options, carry=carry).steps(content))
        began = resize(steps[9].image, (64, 96))
        moved.append((steps[11].image - began).abs().mean().item())
    assert moved[1] < 0.5 * moved[0]
    plain, carried = (make(**options, carry=c)(content) for c in (False, True))
    assert not torch.equal(plain, carried)


def test_the_average_is_that_of_the_iterates(make: Make, content: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    """The average is worked out from the pictures that the loss saw, separately for each scale."""
    seen: list[Tensor] = []
    original = PerceptualLoss.__call__

    def look(self: Any, x: Tensor) -> dict[str, Tensor]:
        seen.append(x.detach().clone())
        return original(self, x)

    monkeypatch.setattr(PerceptualLoss, "__call__", look)
    options: dict[str, Any] = {**BRIEF, "optimizer": "adam", "iterations": (3, 6), "average": 0.8}
    painting = make(**options)(content)
    iterates = [x for x in seen if tuple(x.shape[-2:]) == (64, 96)][1:]  # the first is what the scale begins with
    assert len(iterates) == 6
    weights = [0.8 ** (5 - i) for i in range(6)]
    expected = sum(w * x for w, x in zip(weights, iterates, strict=True)) / sum(weights)
    torch.testing.assert_close(painting, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("optimizer", ["lbfgs", pytest.param("adam", marks=pytest.mark.slow)])
def test_an_average_costs_little(make: Make, content: Tensor, optimizer: str) -> None:
    """Its loss is near that of the best picture, because the coarse scales' pictures do not enter it."""
    best, mean = (loss_of(make, content, average=a, optimizer=optimizer, parameters="pixels")[-1] for a in (0.0, 0.5))
    assert mean < 1.2 * best


@pytest.mark.parametrize(
    ("optimizer", "plateau"), [("lbfgs", 0.02), pytest.param("adam", 0.05, marks=pytest.mark.slow)]
)
def test_a_plateau_saves_iterations_and_loses_little(
    make: Make, content: Tensor, optimizer: str, plateau: float
) -> None:
    options: dict[str, Any] = {"size": 48, "coarsest": 48, "iterations": 100, "optimizer": optimizer}
    whole, early = (loss_of(make, content, plateau=p, **options) for p in (0.0, plateau))
    assert len(whole) == 100
    assert len(early) < 91
    assert early[-1] < 1.06 * whole[-1]


def test_what_a_plateau_saves_is_known_at_once(make: Make, content: Tensor) -> None:
    """The total number of iterations falls as soon as a scale ends early, and the last iteration has that number."""
    options: dict[str, Any] = {
        "size": 64,
        "coarsest": 48,
        "iterations": (40, 40),
        "style_loss": "gram",
        "optimizer": "lbfgs",
    }
    steps = list(make(plateau=0.2, **options).steps(content))
    totals = [s.total for s in steps]
    assert totals[0] == 80
    assert totals == sorted(totals, reverse=True)
    assert len(set(totals)) >= 3  # both scales end early
    assert [s.iteration for s in steps] == list(range(1, len(steps) + 1))
    assert steps[-1].iteration == steps[-1].total < 60


# -- the network ------------------------------------------------------------------------------------------------------


def test_each_pooling_paints_its_own_style(
    make: Make, paint: Paint, content: Tensor, style: Tensor, measure: Any
) -> None:
    """A painting is nearer to the style as measured by the network that it was painted with."""
    averaging = load_encoder("compact", pooling="average")
    options = OptimizeOptions(**MOMENTS, pooling="average", content_weight=0.0)
    other = OptimizeStylizer([style], options, averaging, PLAIN)(content)
    usual = paint(style_loss="moments", content_weight=0.0)
    by_max = [measure.style(p, style, "moments") for p in (usual, other)]
    by_average = [type(measure)(averaging).style(p, style, "moments") for p in (usual, other)]
    assert by_max[0] < 0.98 * by_max[1]
    assert by_average[1] < 0.98 * by_average[0]


def final_losses(encoder: VGG, make: Make, content: Tensor, **options: Any) -> list[float]:
    """Return the float32 losses of the float32 painting and of the bfloat16 painting, in that order."""
    styles, chosen, found = make().styles, OptimizeOptions(**options), []
    for compute in (PLAIN, LOW):
        painting = OptimizeStylizer(styles, chosen, encoder, compute)(content)
        size = (painting.shape[-2], painting.shape[-1])
        loss = build_loss(Problem(encoder, PLAIN, chosen, content, size, styles), Scale(size, 1, 1.0), painting)
        found.append(loss(painting)["total"].item())
    return found


def test_bfloat16_sees_what_float32_sees(make: Make, encoder: VGG, content: Tensor, style: Tensor) -> None:
    """The loss of one picture is the same in both precisions within half a percent."""
    options = OptimizeOptions(size=96, coarsest=96, iterations=1)
    (plain,), (rounded,) = (OptimizeStylizer([style], options, encoder, c).steps(content) for c in (PLAIN, LOW))
    assert rounded.losses["total"] == pytest.approx(plain.losses["total"], rel=5e-3)


@pytest.mark.slow
def test_bfloat16_paints_as_well(make: Make, encoder: VGG, photo: Photo) -> None:
    """At the default settings, the mean over paintings is compared.

    A single small painting changes much by rounding.
    """
    ratios = []
    for name in ("coffee", "rocket", "astronaut"):
        plain, low = final_losses(encoder, make, photo(name, 96), size=96, coarsest=64)
        ratios.append(low / plain)
        assert ratios[-1] == pytest.approx(1, abs=0.04), name
    assert sum(ratios) / 3 == pytest.approx(1, abs=0.01)


@pytest.mark.slow
def test_bfloat16_paints_as_well_at_length(make: Make, encoder: VGG, photo: Photo) -> None:
    """The float32 loss, averaged over two photographs, is within a percent of that of float32 paintings."""
    ratios = []
    for name in ("coffee", "astronaut"):
        plain, low = final_losses(encoder, make, photo(name, 256), size=256, coarsest=128, iterations=300)
        ratios.append(low / plain)
    assert sum(ratios) / 2 < 1.01
