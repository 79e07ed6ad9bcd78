"""Tests of the network's stylizer: what each control does, measured on a small untrained network."""

import logging
import math
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

import impasto
from impasto.cli import main
from impasto.device import Compute
from impasto.errors import MemoryNeedError, OptionError, StyleError, WeightsError
from impasto.image.color import srgb_to_oklab
from impasto.image.picture import Picture
from impasto.image.read import read_image, read_record
from impasto.image.resize import resize
from impasto.image.write import write_image
from impasto.models.colours import colour
from impasto.models.moments import raw_moments
from impasto.models.network import Network, NetworkConfig, StyleSummary, load_network, save_network
from impasto.models.vgg import VGG
from impasto.models.weights import find_model, load_encoder
from impasto.options import STROKES, STYLE_LAYER_WEIGHTS, OptimizeOptions, StylizeOptions, named_weights
from impasto.style.target import StyleTarget, builtin_names, load_builtin
from impasto.stylizers import memory
from impasto.stylizers.choose import choose_method
from impasto.stylizers.network import NetworkStylizer
from impasto.stylizers.protocol import Region

PLAIN = Compute(torch.device("cpu"), None)
LAYERS = tuple(named_weights(STYLE_LAYER_WEIGHTS, ""))
NONE_BELOW = {"underpainting": 0.0}  # so that a painting is what the network returns
Paint = Callable[..., Tensor]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, encoder: VGG, photo: Callable[[str, int], Tensor]) -> Path:
    """Return the file of a network with random weights that paints styles differently and has learnt one of them."""
    seen = {k: encoder.width(k) for k in LAYERS}
    net = Network(NetworkConfig(encoder.digest, seen, 4, 1, 1, 1, hidden=8, styles=("the-scream",)))
    generator = torch.Generator().manual_seed(0)
    net.initialise(generator)
    last = net.predictor[-1]
    assert isinstance(last, nn.Linear)
    net.last.weight.data *= 3
    for mixing in net.noises:
        mixing.data.normal_(0, 0.1, generator=generator)
    last.weight.data *= 5
    net.learnt.data.normal_(0, 0.3, generator=generator)
    styles = [load_builtin(n).at(512) for n in builtin_names()]
    for layer, summary in net.summaries.items():
        assert isinstance(summary, StyleSummary)
        summary.calibrate(torch.cat([s[layer] for s in styles]))
    both = []
    for name in ("coffee", "astronaut"):
        x = photo(name, 128)
        both.append(raw_moments(torch.cat([x, encoder(PLAIN.picture(x), LAYERS[:1])[LAYERS[0]]], 1)))
    net.colours.calibrate(torch.cat(both).mean(0))
    path = tmp_path_factory.mktemp("model") / "own.safetensors"
    save_network(net, path, training={}, licence="MIT")
    return path


@pytest.fixture(scope="module")
def net(model: Path) -> Network:
    return load_network(model)[0]


@pytest.fixture(scope="module")
def content(photo: Callable[[str, int], Tensor]) -> Tensor:
    return photo("chelsea", 96)


@pytest.fixture(scope="module")
def cup(photo: Callable[[str, int], Tensor]) -> Tensor:
    return photo("coffee", 128)


@pytest.fixture
def paint(model: Path, content: Tensor) -> Paint:
    """Return a function that paints the photograph: `paint("udnie", strength=0.5)`. It is 96 pixels wide by default."""

    def run(*styles: Any, **options: Any) -> Tensor:
        options = {"model": str(model), "size": 96, "precision": "float32", **NONE_BELOW, **options}
        return impasto.stylize(content, list(styles or ("udnie",)), **options)

    return run


@pytest.fixture
def stylizer(net: Network, encoder: VGG) -> Callable[..., NetworkStylizer]:
    def make(*styles: Any, **options: Any) -> NetworkStylizer:
        chosen = StylizeOptions(method="network", **{"size": 96, **NONE_BELOW, **options})
        return NetworkStylizer(net, styles or (load_builtin("udnie"),), chosen, encoder, PLAIN)

    return make


def difference(a: Tensor, b: Tensor) -> float:
    return (a - b).abs().mean().item()


def left(height: int = 20, width: int = 30) -> Tensor:
    mask = torch.zeros(1, 1, height, width)
    mask[..., : width // 2] = 1
    return mask


# -- what it paints ---------------------------------------------------------------------------------------------------


def test_it_is_the_networks_painting_in_the_styles_colours(
    net: Network, content: Tensor, stylizer: Callable[..., NetworkStylizer]
) -> None:
    """The painting depends only on the style file's moments at the painting's size."""
    moments = load_builtin("udnie").at(96)
    wanted = colour(net(content, net.predict(moments)), net.style_colours(moments))
    found = stylizer()(content)
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-4)
    assert difference(found, content) > 0.02


def test_it_has_one_step(content: Tensor, stylizer: Callable[..., NetworkStylizer]) -> None:
    painter = stylizer(size=48)
    (step,) = painter.steps(content)
    assert painter.method == "network"
    assert (step.iteration, step.total, step.losses, step.schedule) == (1, 1, {}, (1,))
    assert step.scale == (32, 48)
    assert step.image.shape == (1, 3, 32, 48)
    assert step.image.dtype == torch.float32
    assert 0 <= step.image.min() <= step.image.max() <= 1
    assert not step.image.requires_grad
    assert not step.image.is_inference()  # who gets it may do with it what they like


def test_it_paints_when_the_step_is_asked_for(
    net: Network, content: Tensor, stylizer: Callable[..., NetworkStylizer]
) -> None:
    """Otherwise progress would not show how long the painting takes."""
    painted: list[Tensor] = []

    def run(x: Tensor, *rest: Any) -> Tensor:
        painted.append(x)
        return net(x, *rest)

    painter = stylizer()
    painter.run = run
    steps = painter.steps(content)
    assert not painted
    assert len(list(steps)) == len(painted) == 1


@pytest.mark.parametrize("size", [(33, 70), (40, 41), (64, 32), (3, 200)], ids=str)
def test_any_size(stylizer: Callable[..., NetworkStylizer], size: tuple[int, int]) -> None:
    picture = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(1))
    assert stylizer(size=None, scale=1.0)(picture).shape == picture.shape


def test_what_is_enlarged_is_enlarged_before(paint: Paint, content: Tensor, model: Path) -> None:
    options: dict[str, Any] = {"model": str(model), "scale": 1.0, "precision": "float32", **NONE_BELOW}
    large = impasto.stylize(resize(content, (128, 192)), "udnie", **options)
    torch.testing.assert_close(paint(size=192), large, rtol=0, atol=1e-5)


def test_the_same_again_and_from_several_threads(content: Tensor, stylizer: Callable[..., NetworkStylizer]) -> None:
    painter = stylizer()
    first = painter(content)
    with ThreadPoolExecutor(4) as pool:
        for again in pool.map(painter, [content] * 6):
            assert torch.equal(again, first)


def test_compiled_is_the_same(
    content: Tensor, stylizer: Callable[..., NetworkStylizer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Run what torch.compile captures, without code generation, which needs a C++ compiler and takes long."""
    compiler = torch.compile
    monkeypatch.setattr(torch, "compile", lambda f, **options: compiler(f, backend="eager", **options))
    torch.compiler.reset()
    plain, compiled = (stylizer(size=64, compile=c)(content) for c in (False, True))
    torch.testing.assert_close(plain, compiled, rtol=0, atol=1e-5)


# -- styles -----------------------------------------------------------------------------------------------------------


def test_pictures_style_files_names_and_measurements_are_styles(
    paint: Paint, tmp_path: Path, cup: Tensor, encoder: VGG
) -> None:
    load_builtin("udnie").save(tmp_path / "u.style.safetensors")
    named = paint("udnie")
    assert difference(named, paint(tmp_path / "u.style.safetensors")) < 1e-4
    assert torch.equal(named, paint(load_builtin("udnie")))
    picture = paint(cup)
    assert difference(picture, paint(StyleTarget.of(cup, encoder, PLAIN, (96,)))) < 1e-4
    StyleTarget.of(cup, encoder, PLAIN, (96,)).save(tmp_path / "cup.style.safetensors")
    assert difference(picture, paint(str(tmp_path / "cup.style.safetensors"))) < 0.01  # the file is float16
    found = [named, picture, paint("great-wave"), paint("starry-night")]
    assert min(difference(a, b) for i, a in enumerate(found) for b in found[:i]) > 0.02


def test_a_painting_is_measured_once_for_many_photographs(
    model: Path, content: Tensor, cup: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    painter = impasto.load_stylizer(cup, model=str(model), size=96)
    assert isinstance(painter, NetworkStylizer)
    first = painter(content)
    monkeypatch.setattr(StyleTarget, "of", None)  # it cannot be measured again
    assert torch.equal(painter(content), first)


def test_what_the_network_learnt_of_a_style_is_heeded(
    net: Network, content: Tensor, stylizer: Callable[..., NetworkStylizer]
) -> None:
    """A learnt style is found by its name and counts by its share in a blend. Other styles are only predicted."""
    scream, learnt = load_builtin("the-scream"), net.learnt_style("the-scream")
    assert learnt is not None
    moments = scream.at(96)
    for style, more in ((scream, learnt), (replace(scream, name=""), 0 * learnt)):
        wanted = colour(net(content, net.predict(moments) + F.pad(more, (0, 2))), net.style_colours(moments))
        torch.testing.assert_close(stylizer(style)(content), wanted, rtol=0, atol=1e-4)
    painter = stylizer(scream, load_builtin("udnie"), style_weights=(1.0, 3.0))
    affine, _ = painter.affine(painter.styles, painter.shares, painter.scales(96), 96)
    plain = stylizer(replace(scream, name=""), load_builtin("udnie"), style_weights=(1.0, 3.0))
    expected, _ = plain.affine(plain.styles, plain.shares, plain.scales(96), 96)
    torch.testing.assert_close(affine, net.shifted(expected, 0.25 * learnt))


def test_a_style_files_learnt_part_is_for_its_network_alone(
    net: Network, content: Tensor, stylizer: Callable[..., NetworkStylizer], tmp_path: Path
) -> None:
    udnie = load_builtin("udnie")
    learnt = 0.3 * torch.randn(1, net.layout.predicted, generator=torch.Generator().manual_seed(5))
    own, foreign = replace(udnie, learnt=learnt, network=net.digest), replace(udnie, learnt=learnt, network="another")
    moments = udnie.at(96)
    for style, more in ((own, learnt), (foreign, 0 * learnt)):
        style.save(tmp_path / "learnt.style.safetensors")
        again = StyleTarget.load(tmp_path / "learnt.style.safetensors")
        assert again.network == style.network
        torch.testing.assert_close(again.learnt, learnt.half().float())
        wanted = colour(net(content, net.predict(moments) + F.pad(more, (0, 2))), net.style_colours(moments))
        assert difference(stylizer(again)(content), wanted) < 1e-3
    assert difference(stylizer(own)(content), stylizer(udnie)(content)) > 0.02
    assert torch.equal(stylizer(foreign)(content), stylizer(udnie)(content))
    # What the file learnt goes before what the network knows by name.
    both = replace(load_builtin("the-scream"), learnt=learnt, network=net.digest)
    assert both.learnt_for(net) is learnt


def test_a_learnt_part_that_will_not_do(net: Network, tmp_path: Path) -> None:
    udnie, path = load_builtin("udnie"), tmp_path / "learnt.style.safetensors"
    for learnt in (torch.zeros(1, 3), torch.zeros(1, net.layout.size + 1)):
        replace(udnie, learnt=learnt, network=net.digest).save(path)
        with pytest.raises(StyleError, match="the learnt part of the style file does not fit the network"):
            StyleTarget.load(path).learnt_for(net)
    replace(udnie, learnt=torch.zeros(1, 3), network="another").save(path)
    assert StyleTarget.load(path).learnt_for(net) is None


def test_another_encoder_is_refused(net: Network, encoder: VGG, cup: Tensor) -> None:
    other = load_encoder("compact")
    other.digest = "ffff"
    with pytest.raises(StyleError, match="the network was trained with another encoder than compact as it is here"):
        NetworkStylizer(net, [cup], StylizeOptions(method="network"), other, PLAIN)
    foreign = replace(load_builtin("udnie"), digest="ffff")
    with pytest.raises(StyleError, match=r"not for compact .*; give the painting itself instead"):
        NetworkStylizer(net, [foreign], StylizeOptions(method="network"), encoder, PLAIN)
    painter = NetworkStylizer(net, [cup], StylizeOptions(method="network"), encoder, PLAIN)
    with pytest.raises(StyleError, match="not for compact"):
        painter.steps(cup, [Region(left(), foreign)])


# -- controls ---------------------------------------------------------------------------------------------------------


def test_without_strength_it_is_the_photograph(paint: Paint, content: Tensor) -> None:
    """At strength 0 the painting is the photograph in its own colours, for any style and region."""
    for styles in (("udnie",), ("great-wave", "the-scream")):
        found = paint(*styles, strength=0.0)
        assert -10 * math.log10(max(1e-12, (found - content).square().mean().item())) > 50
    regions = paint(strength=0.0, regions=[(left(), "great-wave")])
    assert -10 * math.log10(max(1e-12, (regions - content).square().mean().item())) > 50


def test_the_strength_leads_away_from_the_photograph(paint: Paint, content: Tensor) -> None:
    """The distance grows with the strength, also beyond 1, and the painting is not a blend of pictures."""
    found = [paint(strength=s) for s in (0.0, 0.02, 0.25, 0.5, 1.0, 1.5)]
    away = [difference(f, content) for f in found]
    assert away == sorted(away)
    assert away[1] < 0.2 * away[4]
    assert difference(found[3], torch.lerp(content, found[4], 0.5)) > 0.05 * away[4]
    assert torch.equal(found[4], paint())


def test_styles_blend_by_their_weights(paint: Paint) -> None:
    one, two = paint("udnie"), paint("great-wave")
    assert difference(paint("udnie", "great-wave", style_weights=(1.0, 0.0)), one) < 1e-5
    near = paint("udnie", "great-wave", style_weights=(3.0, 1.0))
    assert 0.005 < difference(near, one) < difference(near, two)
    torch.testing.assert_close(near, paint("great-wave", "udnie", style_weights=(1.0, 3.0)), rtol=0, atol=1e-5)
    equal = paint("udnie", "great-wave")
    torch.testing.assert_close(equal, paint("udnie", "great-wave", style_weights=(2.0, 2.0)), rtol=0, atol=1e-5)
    torch.testing.assert_close(paint("udnie", "udnie"), one, rtol=0, atol=1e-5)


def test_the_size_of_the_strokes(paint: Paint, cup: Tensor, caplog: pytest.LogCaptureFixture) -> None:
    """Strokes larger than the style's picture allows are limited, and the log says so."""
    plain = paint("udnie")
    assert difference(paint("udnie", style_scale=4.0), plain) > 0.005
    assert difference(paint("udnie", style_scale=1.1), plain) < difference(paint("udnie", style_scale=4.0), plain)
    caplog.set_level(logging.INFO, "impasto")
    paint(cup)
    assert not caplog.text
    largest = paint(cup, style_scale=2.0)
    assert "strokes are 0.67 times as large as requested: the style's long side is only 128 pixels" in caplog.text
    assert torch.equal(largest, paint(cup, style_scale=4.0))


def test_strokes_in_pixels(paint: Paint) -> None:
    """They do not grow with the painting, and one number for each style is possible."""
    px = 96 / STROKES
    for times in (1, 2):
        found = paint("udnie", size=times * 96, stroke_px=4 * px)
        expected = paint("udnie", size=times * 96, style_scale=4 / times)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    found = paint("udnie", "great-wave", stroke_px=(px, 5 * px))
    expected = paint("udnie", "great-wave", style_scale=(1.0, 5.0))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_each_style_has_strokes_of_its_own(paint: Paint) -> None:
    found = paint("udnie", "great-wave", style_scale=(1.0, 5.0))
    assert difference(found, paint("udnie", "great-wave")) > 0.002
    again = paint("great-wave", "udnie", style_scale=(5.0, 1.0))
    torch.testing.assert_close(found, again, rtol=0, atol=1e-5)


def test_the_photographs_colours(paint: Paint, content: Tensor) -> None:
    chroma = [
        (srgb_to_oklab(paint(keep_colours=k)) - srgb_to_oklab(content))[:, 1:].square().sum(1).sqrt().mean() * 100
        for k in (0.0, 1.0)
    ]
    assert chroma[1] < 3
    assert chroma[1] < 0.5 * chroma[0]


# -- where ------------------------------------------------------------------------------------------------------------


def test_regions_have_styles_of_their_own(paint: Paint) -> None:
    """Far from the border between them, each region is in its own style. A region everywhere is that style alone."""
    both = paint("udnie", regions=[(left(), "great-wave")])
    one, two = paint("udnie"), paint("great-wave")
    for columns, own, other in ((slice(0, 24), two, one), (slice(72, 96), one, two)):
        near, far = (difference(both[..., columns], p[..., columns]) for p in (own, other))
        assert near < 0.7 * far
    everywhere = paint("udnie", regions=[(torch.ones(1, 1, 8, 12), "great-wave")])
    torch.testing.assert_close(everywhere, two, rtol=0, atol=2e-3)
    nowhere = paint("udnie", regions=[(torch.zeros(1, 1, 8, 12), "great-wave")])
    torch.testing.assert_close(nowhere, one, rtol=0, atol=2e-3)


def test_a_region_in_the_same_style_changes_little(paint: Paint) -> None:
    """If the mask is grey everywhere, both parts see the whole picture, and nothing changes."""
    grey = paint("udnie", regions=[(torch.full((1, 1, 8, 12), 0.5), "udnie")])
    torch.testing.assert_close(grey, paint("udnie"), rtol=0, atol=2e-3)


def test_a_part_with_the_wholes_statistics_is_a_part_of_the_whole(
    stylizer: Callable[..., NetworkStylizer], photo: Callable[[str, int], Tensor]
) -> None:
    """A tile matches the whole with the statistics of the whole, and does not match with its own."""
    content = resize(photo("coffee", 400), (64, 400))
    for strength in (1.0, 0.5):
        painter = stylizer(size=None, scale=1.0, strength=strength)
        whole, given = painter(content), painter.statistics(content)
        torch.testing.assert_close(painter(content, statistics=given), whole, rtol=0, atol=1e-3)
        part = painter(content[..., :280], statistics=given)[..., :120]
        torch.testing.assert_close(part, whole[..., :120], rtol=0, atol=2e-3)
        right = painter(content[..., 120:], statistics=given, origin=(0, 120))[..., 160:]
        torch.testing.assert_close(right, whole[..., 280:], rtol=0, atol=2e-3)
        assert difference(painter(content[..., :280])[..., :120], whole[..., :120]) > 5 * difference(
            part, whole[..., :120]
        )


def test_statistics_of_regions(stylizer: Callable[..., NetworkStylizer], content: Tensor) -> None:
    painter, regions = stylizer(), [Region(left(64, 96), load_builtin("great-wave"))]
    given = painter.statistics(content, regions)
    assert given.affine.shape[0] == given.norms.shape[0] == given.colours.shape[0] == 2
    found = painter(content, regions, statistics=given)
    torch.testing.assert_close(found, painter(content, regions), rtol=0, atol=1e-3)


def test_regions_and_strength(paint: Paint, content: Tensor) -> None:
    found = [paint(regions=[(left(), "great-wave")], strength=s) for s in (0.25, 0.5, 1.0)]
    away = [difference(f, content) for f in found]
    assert away == sorted(away)


def test_outside_the_mask_stays_the_photograph(paint: Paint, content: Tensor) -> None:
    mask = left(64, 96)
    found, whole = paint(mask=mask, mask_feather=2.0), paint()
    assert torch.equal(found[..., 60:], content[..., 60:])
    torch.testing.assert_close(found[..., :36], whole[..., :36], rtol=0, atol=1e-5)
    both = paint(mask=mask, mask_feather=2.0, regions=[(torch.ones(1, 1, 4, 6), "great-wave")])
    assert torch.equal(both[..., 60:], content[..., 60:])
    torch.testing.assert_close(both[..., :36], paint("great-wave")[..., :36], rtol=0, atol=2e-3)
    with pytest.raises(OptionError, match="--mask is black everywhere"):
        paint(mask=torch.zeros(1, 1, 4, 6))


# -- what cannot be ---------------------------------------------------------------------------------------------------


def test_memory(
    paint: Paint,
    stylizer: Callable[..., NetworkStylizer],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    painter = stylizer()
    caplog.set_level(logging.INFO, "impasto")
    need = painter.memory_need((1333, 2000))
    assert need - painter.memory_need((0, 0)) == pytest.approx(
        4 * (painter.memory_need((667, 1000)) - painter.memory_need((0, 0))), rel=0.01
    )
    monkeypatch.setattr(memory, "available_memory", lambda _: round(0.9 * need))
    found = paint(size=2000, strict_size=True)
    assert max(found.shape) == 2000
    assert "rows at a time" in caplog.text
    monkeypatch.setattr(memory, "available_memory", lambda _: 1000)
    with pytest.raises(MemoryNeedError, match=r"a 2000x\d+ painting needs about .* even in strips of 4 rows"):
        paint(size=2000)


def test_options_of_the_optimisation_are_refused() -> None:
    for given in ({"method": "network"}, {"model": "own.safetensors"}):
        with pytest.raises(OptionError, match="--style-loss has no effect on a network that paints in one pass"):
            StylizeOptions(**given, style_loss="gram")  # pyright: ignore[reportArgumentType]
    with pytest.raises(OptionError, match="--model and --method optimize cannot be combined"):
        StylizeOptions(method="optimize", model="own.safetensors")
    with pytest.raises(OptionError, match="--quality instant uses the network; choose another quality"):
        StylizeOptions(method="optimize", quality="instant")
    for name in ("compile", "learn"):
        with pytest.raises(OptionError, match=f"--{name} is for the network that paints in one pass; add --quality"):
            StylizeOptions(**{name: True})  # pyright: ignore[reportArgumentType]


def test_what_does_not_fit_together(paint: Paint, cup: Tensor, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="3 --style-weights for 1 styles"):
        paint(style_weights=(1.0, 2.0, 3.0))
    with pytest.raises(OptionError, match="2 --style-scale for 1 styles"):
        paint(style_scale=(1.0, 2.0))
    with pytest.raises(StyleError, match="1x9000 pixels is too elongated; crop it"):
        paint(torch.zeros(1, 3, 9000, 1))
    with pytest.raises(OptionError):
        impasto.stylize(cup, [], quality="instant")
    with pytest.raises(WeightsError, match="there is no such model file"):
        paint(model=str(tmp_path / "none.safetensors"))
    with pytest.raises(WeightsError, match="holds a network of the kind 'encoder', not 'network'"):
        paint(model=str(find_model("compact").path))


# -- which method, which network --------------------------------------------------------------------------------------


def test_the_method_by_quality_and_model() -> None:
    assert choose_method(StylizeOptions()) == "optimize"
    for quality in ("draft", "good", "best"):
        assert choose_method(StylizeOptions(quality=quality)) == "optimize"
        assert choose_method(StylizeOptions(quality=quality, method="network")) == "network"
        assert choose_method(StylizeOptions(quality=quality, model="own.safetensors")) == "network"
    assert choose_method(StylizeOptions(quality="instant")) == "network"
    assert choose_method(StylizeOptions(quality="instant", strength=1.2)) == "network"
    assert choose_method(StylizeOptions(method="network")) == "network"
    assert choose_method(OptimizeOptions()) == "optimize"
    with pytest.raises(OptionError, match="--tv-weight is for the optimisation, and --quality instant has none; give"):
        choose_method(StylizeOptions(quality="instant", tv_weight=2.0))


def test_all_ways_to_ask_for_it_are_one(content: Tensor, cup: Tensor) -> None:
    """The quality, the method, and the bundled network's name or file all select the same network."""
    asked: list[dict[str, Any]] = [
        {"quality": "instant"},
        {"method": "network"},
        {"model": "network"},
        {"model": str(find_model("network").path)},
    ]
    found = [impasto.stylize(content, cup, **a, size=64, precision="float32") for a in asked]
    assert all(torch.equal(f, found[0]) for f in found)


def test_each_quality_has_its_size(model: Path, photo: Callable[[str, int], Tensor]) -> None:
    large = resize(photo("coffee", 400), (800, 1200))
    asked: list[dict[str, Any]] = [{"quality": "instant"}, {"quality": "good"}, {"size": 600}]
    found = [max(impasto.stylize(large, "udnie", model=str(model), **a).shape) for a in asked]
    assert found == [512, 1024, 600]


def test_on_the_command_line(
    tmp_path: Path, model: Path, content: Tensor, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """Paint with a region on the command line, read the record, and rerun it."""
    monkeypatch.chdir(tmp_path)
    write_image(Picture(content), "photo.png")
    write_image(Picture(content.flip(3)), "style.png")
    Image.fromarray((left()[0, 0] * 255).byte().numpy()).save("left.png")
    command = ["stylize", "photo.png", "style.png", "--model", str(model), "--region", "left.png=udnie", "-o", "o.png"]
    assert main([*command, "--run", "run"]) == 0
    assert "o.png: 96x64, one pass in " in capsys.readouterr().err
    record = read_record(Path("o.png"))
    assert record is not None
    assert (record["method"], record["iterations"]) == ("network", 1)
    assert record["model"]["name"] == model.name
    assert main(["rerun", "o.png", "-o", "again.png"]) == 1  # the network lies elsewhere
    assert f"{model.name} is not found here" in capsys.readouterr().err
    shutil.copy(model, tmp_path)
    assert main(["rerun", "o.png", "-o", "again.png"]) == 0
    assert torch.equal(read_image("again.png").tensor, read_image("o.png").tensor)
    assert (tmp_path / "run" / "record.json").exists()
    (tmp_path / model.name).write_bytes(b"another")
    assert main(["rerun", "o.png", "-o", "again.png"]) == 1
    shutil.copy("photo.png", "own2.safetensors")
    assert main(["stylize", "photo.png", "udnie", "--model", "own2.safetensors"]) == 1
    assert "own2.safetensors is damaged or not a model file" in capsys.readouterr().err


def test_an_optimisation_that_starts_from_it(photo: Callable[[str, int], Tensor]) -> None:
    """At a rate of nearly 0, the painting is the network's, with its regions."""
    content, sky = photo("coffee", 96), torch.zeros(1, 1, 64, 96)
    sky[..., :32, :] = 1
    options: dict[str, Any] = {"style_weights": (2.0, 1.0), "precision": "float32"}
    region = [(sky, "udnie")]
    still = {"start": "network", "rate": 1e-6, "iterations": 1, "coarsest": 256}
    styles = ["starry-night", "great-wave"]
    found = impasto.stylize(content, styles, size=96, regions=region, **options, **still)
    wanted = impasto.stylize(content, styles, size=96, regions=region, method="network", **NONE_BELOW, **options)
    torch.testing.assert_close(found, wanted, rtol=0, atol=0.01)
    half = impasto.stylize(content, styles, size=96, regions=region, strength=0.5, **options, **still)
    torch.testing.assert_close(half, 0.5 * (content + wanted), rtol=0, atol=0.04)  # the photograph in it is prepared
