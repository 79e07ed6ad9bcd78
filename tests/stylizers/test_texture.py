"""Textures have the style's statistics and the exact size, and tile the plane with `seamless`."""

from collections.abc import Callable
from dataclasses import fields
from itertools import islice
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

import impasto
from impasto.device import Compute
from impasto.errors import MemoryNeedError, OptionError
from impasto.image.resize import interpolate_wrapped, resize
from impasto.models.vgg import VGG
from impasto.options import OTHER_STARTS, STROKES, OptimizeOptions, TextureOptions
from impasto.style.losses import total_variation
from impasto.style.target import StyleTarget
from impasto.stylizers import memory
from impasto.stylizers.descent import Pyramid
from impasto.stylizers.loss import Problem, build_loss
from impasto.stylizers.schedule import Scale
from impasto.stylizers.texture import LENGTH, TextureSynthesizer, own_size, painting_options

PLAIN = Compute(torch.device("cpu"), None)
BRIEF: dict[str, Any] = {"coarsest": 64, "iterations": 24}
Make = Callable[..., TextureSynthesizer]


@pytest.fixture(scope="module")
def synthesizer(encoder: VGG, style: Tensor) -> Make:
    """Return `synthesizer(size, seamless=True, ...)`: brief, in float32, of a cat's fur by default."""

    def build(
        size: tuple[int, int] = (64, 96),
        seamless: bool = False,
        styles: Any = (style,),
        picture: Tensor | None = None,
        **options: Any,
    ) -> TextureSynthesizer:
        made = TextureOptions(**{**BRIEF, **options})
        return TextureSynthesizer(styles, size, made, encoder, PLAIN, picture, seamless=seamless)

    return build


@pytest.fixture(scope="module")
def plain(synthesizer: Make) -> Tensor:
    return synthesizer()()


@pytest.fixture(scope="module")
def tile(synthesizer: Make) -> Tensor:
    return synthesizer((96, 96), seamless=True)()


def steps_across(picture: Tensor, dim: int) -> Tensor:
    """Return the mean absolute step from each line of pixels to the one before it; the first wraps around."""
    others = tuple(d for d in range(4) if d != dim)
    return (picture - picture.roll(1, dim)).abs().mean(others)


def seam(picture: Tensor) -> float:
    """Return the step across the wrap-around edges over that between other lines, averaged over both directions.

    Only every second line is compared: with pooling, the steps between a network's cells are larger than within them.
    """
    found = [steps_across(picture, dim)[::2] for dim in (2, 3)]
    return sum((s[0] / s[1:].mean()).item() for s in found) / 2


# -- what comes out ---------------------------------------------------------------------------------------------------


def test_a_texture_has_its_size_and_the_statistics_of_the_style(
    plain: Tensor, synthesizer: Make, style: Tensor, measure: Any
) -> None:
    noise = next(iter(synthesizer(iterations=1, coarsest=96, rate=1e-6).steps())).image
    assert plain.shape == noise.shape == (1, 3, 64, 96)
    assert plain.dtype == torch.float32
    assert 0 <= plain.min() <= plain.max() <= 1
    for kind in ("gram", "moments", "nn"):
        assert measure.style(plain, style, kind) < 0.6 * measure.style(noise, style, kind)
    assert measure.palette(plain, style) < 0.7 * measure.palette(noise, style)


@pytest.mark.parametrize("size", [(32, 32), (97, 45), (33, 120)])
@pytest.mark.parametrize("seamless", [False, True])
def test_sizes_are_exact(synthesizer: Make, size: tuple[int, int], seamless: bool) -> None:
    assert synthesizer(size, seamless, iterations=3)().shape == (1, 3, *size)


def test_the_same_seed_makes_the_same_texture(plain: Tensor, synthesizer: Make) -> None:
    assert torch.equal(synthesizer()(), plain)
    assert (synthesizer(seed=1)() - plain).abs().mean() > 0.02


def test_a_pyramid_finds_the_colours_sooner_than_pixels_do(synthesizer: Make, style: Tensor) -> None:
    made = (synthesizer(optimizer="adam", rate=0.03, parameters=p)() for p in ("laplacian", "pixels"))
    laplacian, pixels = ((p.mean((2, 3)) - style.mean((2, 3))).abs().mean() for p in made)
    assert laplacian < 0.7 * pixels


def test_steps_go_on_from_a_state(synthesizer: Make, plain: Tensor) -> None:
    step = next(islice(synthesizer().steps(), 17, None))  # one of the second scale's
    assert step.state is not None
    state = step.state()
    assert (step.scale, step.iteration, step.total) == ((64, 96), 18, 24)
    rest = list(synthesizer().steps(state))
    assert rest[0].iteration == 19
    assert torch.equal(rest[-1].image, plain)


@pytest.mark.parametrize("options", [{"start": "noise"}, {"start": "grey"}, {"start": "there.png"}])
def test_where_it_starts(synthesizer: Make, options: dict[str, str], content: Tensor) -> None:
    first = next(iter(synthesizer(picture=content, coarsest=96, iterations=1, rate=1e-6, **options).steps())).image
    expected = {
        "noise": lambda: abs(first.std().item() - 0.15) < 0.01 and abs(first.mean().item() - 0.5) < 0.01,
        "grey": lambda: torch.allclose(first, torch.full_like(first, 0.5), atol=1e-4),
        "there.png": lambda: torch.allclose(first, resize(content, (64, 96)), atol=1e-4),
    }
    assert expected[options["start"]]()


# -- styles -----------------------------------------------------------------------------------------------------------


def test_styles_blend_by_their_weights(
    synthesizer: Make, style: Tensor, content: Tensor, plain: Tensor, measure: Any
) -> None:
    alone = synthesizer(styles=(content, style), style_weights=(0.0, 1.0))()
    assert torch.allclose(alone, plain, atol=1e-5)
    both = synthesizer(styles=(content, style))()
    other = synthesizer(styles=(content,))()
    assert measure.palette(other, content) < measure.palette(both, content) < measure.palette(plain, content)
    assert measure.palette(plain, style) < measure.palette(both, style) < measure.palette(other, style)


def test_measurements_make_the_texture_that_the_picture_makes(
    synthesizer: Make, encoder: VGG, style: Tensor, plain: Tensor
) -> None:
    measured = StyleTarget.of(style, encoder, PLAIN, (48, 96))  # the sizes of the two scales
    assert torch.equal(synthesizer(styles=(measured,))(), plain)


@pytest.mark.parametrize("options", [{"histogram_weight": 1.0}, {"style_loss": "nn"}])
def test_what_needs_the_picture_says_so(synthesizer: Make, encoder: VGG, style: Tensor, options: Any) -> None:
    measured = StyleTarget.of(style, encoder, PLAIN, (64,))
    with pytest.raises(OptionError, match="needs the style's picture"):
        synthesizer(styles=(measured,), **options)


def test_a_style_counts_as_no_larger_than_it_is(encoder: VGG, style: Tensor) -> None:
    long = max(style.shape[-2:])
    assert long == 160
    small = StyleTarget.of(style, encoder, PLAIN, (64, 128, 256, 512))
    assert own_size(style) == 160
    assert own_size(small) == pytest.approx(160, abs=2)
    assert own_size(StyleTarget.of(style, encoder, PLAIN, (64, 128))) == pytest.approx(128, abs=1)

    def scales(size: tuple[int, int], *styles: Tensor | StyleTarget, **options: Any) -> Any:
        return painting_options(styles, size, TextureOptions(**options)).style_scale

    assert scales((64, 80), style) == (1.0,)
    assert scales((640, 320), style) == (0.25,)
    assert scales((640, 320), style, style_scale=0.2) == (0.2,)
    assert scales((100, 320), style, style[..., :40], style_scale=(0.3, 8.0)) == (
        0.3,
        pytest.approx(style.shape[2] / 320),
    )
    assert scales((3200, 3200), style) == (0.1,)  # the least that the option may be
    assert painting_options([style], (480, 640), TextureOptions()).size == 640
    for given, found in ((3.0, 3.0), (20.0, 160 / STROKES)):  # in pixels
        assert painting_options([style], (640, 320), TextureOptions(stroke_px=given)).stroke_px == (found,)


# -- tiles ------------------------------------------------------------------------------------------------------------


# The poolings' cells fit into the first one, not the second. Of 96x96 there is `test_no_option_brings_the_edge_back`.
@pytest.mark.parametrize("size", [pytest.param((96, 96), marks=pytest.mark.slow), (100, 88)])
def test_a_seamless_texture_has_no_edge(synthesizer: Make, size: tuple[int, int]) -> None:
    """The mean is over three seeds: each border is a line or two, which are rougher or smoother by chance."""
    found = {s: sum(seam(synthesizer(size, s, seed=i)()) for i in range(3)) / 3 for s in (True, False)}
    assert found[True] < 1.3
    assert found[False] > 2


@pytest.mark.parametrize("options", [{"parameters": "pixels"}, {"tv_weight": 2.0}, {"style_loss": "gram"}])
def test_no_option_brings_the_edge_back(synthesizer: Make, options: dict[str, Any]) -> None:
    assert seam(synthesizer((96, 96), seamless=True, **options)()) < 1.2


def test_a_tile_has_the_statistics_of_the_style_wherever_it_is_cut(tile: Tensor, style: Tensor, measure: Any) -> None:
    here, there = (measure.style(p, style) for p in (tile, tile.roll((48, 48), (2, 3))))
    assert there == pytest.approx(here, rel=0.15)


def test_the_loss_of_a_tile_does_not_depend_on_where_it_is_cut(encoder: VGG, style: Tensor, photo: Any) -> None:
    """Moves by multiples of 16 keep the loss, except for what deeper layers see beyond the margin."""
    picture = resize(photo("rocket", 128), (96, 96))  # bright at its bottom, dark at its top
    losses = {}
    for wrap in (False, True):
        options = painting_options([style], (96, 96), TextureOptions())
        made = Problem(encoder, PLAIN, options, picture, (96, 96), [style], wrap=wrap)
        loss = build_loss(made, Scale((96, 96), 1, 0.01), picture)
        losses[wrap] = [{k: v.item() for k, v in loss(picture.roll((s, s), (2, 3))).items()} for s in (0, 48)]
    assert losses[True][1]["tv"] == pytest.approx(losses[True][0]["tv"], rel=1e-5)
    assert losses[False][1]["tv"] > 1.1 * losses[False][0]["tv"]
    changes = {w: abs(after["style"] / before["style"] - 1) for w, (before, after) in losses.items()}
    assert changes[True] < 0.02
    assert changes[True] < 0.25 * changes[False]


@pytest.mark.parametrize("options", [{"histogram_weight": 1.0}, {"style_loss": "nn"}])
def test_the_style_of_a_tile_is_not_wrapped(encoder: VGG, options: Any, photo: Any) -> None:
    """The style is matched as it is: a tile of it would have an edge where top and bottom meet."""
    style, picture = photo("rocket", 96), photo("chelsea", 96)
    found = []
    for wrap in (False, True):
        painted = painting_options([style], (64, 96), TextureOptions(**options))
        made = Problem(encoder, PLAIN, painted, picture, (64, 96), [style], wrap=wrap)
        terms = build_loss(made, Scale((64, 96), 1, 0.01), picture).terms
        if "histogram" in terms:
            found.append(terms["histogram"][1].parts[0][1]["relu2_1"])  # pyright: ignore[reportAttributeAccessIssue]
        else:
            found.append(terms["style"][1].targets[0][3])  # pyright: ignore[reportAttributeAccessIssue]
    assert torch.equal(*found)


@pytest.mark.parametrize(
    ("old", "new"),
    [((8, 12), (16, 24)), ((16, 24), (8, 12)), ((9, 12), (19, 24)), ((19, 25), (9, 12)), ((7, 7), (5, 9))],
)
@pytest.mark.parametrize("antialias", [False, True])
def test_interpolation_of_a_tile_is_that_of_many_tiles(
    old: tuple[int, int], new: tuple[int, int], antialias: bool
) -> None:
    picture = torch.rand((2, 3, *old), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for mode in ("bilinear", "bicubic"):
        many = F.interpolate(picture.repeat(1, 1, 3, 3), (3 * new[0], 3 * new[1]), mode=mode, antialias=antialias)
        middle = many[:, :, new[0] : 2 * new[0], new[1] : 2 * new[1]]
        assert torch.allclose(interpolate_wrapped(picture, new, mode=mode, antialias=antialias), middle, atol=1e-12)


def test_resizing_a_tile_moves_with_it() -> None:
    picture = torch.rand((1, 3, 20, 30), generator=torch.Generator().manual_seed(1))
    small = resize(picture, (10, 15), wrap=True)
    assert torch.allclose(
        resize(picture.roll((6, 4), (2, 3)), (10, 15), wrap=True), small.roll((3, 2), (2, 3)), atol=1e-6
    )
    assert not torch.allclose(resize(picture, (10, 15)), small, atol=1e-3)
    assert resize(picture, (20, 30), wrap=True) is picture


def test_total_variation_of_a_tile_counts_every_pair_of_neighbours() -> None:
    ramp = torch.linspace(0, 1, 5).expand(1, 3, 4, 5)  # four steps of 1/4, and one of 1 back to the beginning
    assert total_variation(ramp).item() == pytest.approx(1 / 16)
    assert total_variation(ramp, wrap=True).item() == pytest.approx((4 / 16 + 1) / 5)
    assert total_variation(ramp.transpose(2, 3), wrap=True).item() == pytest.approx((4 / 16 + 1) / 5)
    x = torch.rand(1, 3, 4, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: total_variation(x, wrap=True), (x,))


@pytest.mark.parametrize("size", [(64, 96), (65, 99)])
def test_the_pyramid_of_a_tile_knows_no_border(size: tuple[int, int]) -> None:
    """A change of a coarse band at one border spreads to the opposite border as it does to the inside."""
    picture = torch.rand((1, 3, *size), generator=torch.Generator().manual_seed(2))
    changes = []
    for wrap in (False, True):
        made = Pyramid(picture, wrap=wrap)
        assert torch.allclose(made.picture(), picture, atol=1e-6)
        with torch.no_grad():
            made.tensors[-1][:, :, :, 0] += 1
        changes.append((made.picture() - picture)[0, 0, 0])
    ratio = size[1] / made.tensors[-1].shape[-1]  # pixels a column
    centre = (ratio - 1) / 2
    mirrored = changes[1].roll(-round(2 * centre) - 1).flip(0)
    assert changes[0][-1].abs() < 1e-6
    assert changes[1][-1] > 0.3
    assert torch.allclose(changes[1], mirrored, atol=0.2)


# -- options ----------------------------------------------------------------------------------------------------------


def test_options_that_need_a_photograph_are_not_there() -> None:
    photographs = {"size", "scale", "strength", "content_weight", "content_layers", "keep_colours", "mask_feather"}
    names = {f.name for f in fields(TextureOptions)}
    assert not photographs & names
    assert {"style_loss", "tv_weight", "layers", "style_scale", "time", "device", "encoder", "seed"} <= names
    with pytest.raises(OptionError, match="there is no option 'keep_colours'"):
        impasto.texture("udnie", (64, 64), keep_colours=1.0)  # pyright: ignore[reportCallIssue]
    for start in ("auto", "content", "blurred", "network"):
        with pytest.raises(OptionError, match=f"--start {start} needs a photograph"):
            TextureOptions(start=start)
    with pytest.raises(OptionError, match="--tv-weight is -1"):
        TextureOptions(tv_weight=-1.0)
    with pytest.raises(OptionError, match="--style-loss"):
        TextureOptions(style_loss="brushes")


def test_lbfgs_works_on_pixels(synthesizer: Make, plain: Tensor, style: Tensor, measure: Any) -> None:
    with pytest.raises(OptionError, match="--parameters laplacian needs --optimizer adam"):
        TextureOptions(optimizer="lbfgs", parameters="laplacian")
    found = {o: measure.style(synthesizer(optimizer=o)(), style, "moments") for o in ("lbfgs", "adam")}
    assert found["lbfgs"] < found["adam"]


def test_options_survive_a_record() -> None:
    options = TextureOptions(style_scale=(0.5, 1.0), iterations=(3, 4), tv_weight=0.1)
    found = TextureOptions.from_dict({k: list(v) if isinstance(v, tuple) else v for k, v in options.to_dict().items()})
    assert found == options
    assert type(found) is TextureOptions


@pytest.mark.parametrize(
    ("size", "message"),
    [
        ((31, 64), "--size is 64x31; each side must be 32 to 65536 px"),
        ((64, 70000), "--size is 70000x64"),
        (512, "size is 512; give a texture's \\(height, width\\) in pixels"),
        ((64.0, 64), "size is \\(64.0, 64\\)"),
    ],
)
def test_sizes_that_cannot_be(synthesizer: Make, size: Any, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        synthesizer(size)


@pytest.mark.parametrize("side", [4096, 65536])  # of the larger one not even a picture fits
def test_what_does_not_fit_is_not_made_smaller(synthesizer: Make, side: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "available_memory", lambda _: 400_000_000)
    with pytest.raises(MemoryNeedError, match=r"--size [0-9]+ fits"):
        synthesizer((side, side)).steps()


# -- the library's call -----------------------------------------------------------------------------------------------


def test_the_call_gives_a_pil_image(style: Tensor) -> None:
    brief: dict[str, Any] = {**BRIEF, "iterations": 4, "precision": "float32"}
    image = impasto.texture(style, (40, 56), **brief)
    assert isinstance(image, Image.Image)
    assert (image.mode, image.size) == ("RGB", (56, 40))
    synthesis = impasto.load_texture(style, (40, 56), options=TextureOptions(**brief))
    levels = (synthesis()[0].permute(1, 2, 0) * 255).round().to(torch.uint8)
    assert image.tobytes() == levels.numpy().tobytes()
    assert [s.iteration for s in synthesis.steps()] == [1, 2, 3, 4]
    assert impasto.texture(style, (40, 56), True, **brief).tobytes() != image.tobytes()


def test_unknown_options_are_named() -> None:
    with pytest.raises(OptionError, match="there is no option 'tvweight'; did you mean tv_weight"):
        impasto.texture("starry-night", tvweight=1.0)  # pyright: ignore[reportCallIssue]
    with pytest.raises(OptionError, match=r"impasto\.TextureOptions lists them"):
        impasto.texture("starry-night", zzz=1.0)  # pyright: ignore[reportCallIssue]


@pytest.mark.parametrize("quality", list(OTHER_STARTS))
@pytest.mark.parametrize(("size", "scales"), [((64, 64), 1), ((500, 300), 3)])
def test_from_noise_it_takes_longer(quality: Any, size: tuple[int, int], scales: int, style: Tensor) -> None:
    """More iterations are taken than for a painting with the same scales, unless iterations or a time are given."""

    def told(**options: Any) -> OptimizeOptions:
        return painting_options([style], size, TextureOptions(**options))

    assert told(quality=quality).iterations == round(LENGTH * sum(OTHER_STARTS[quality][-scales:]))
    assert LENGTH > 1
    assert told(quality=quality).plain_weight == 1
    assert told(quality=quality, iterations=7).iterations == 7
    assert told(quality=quality, time=3.0).iterations is None


def test_no_network_makes_textures() -> None:
    with pytest.raises(OptionError, match="--quality instant is not available for textures"):
        TextureOptions(quality="instant")
