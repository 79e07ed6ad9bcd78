"""A network's Stylizer: what each control does, measured on a small network that was never trained."""

import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import impasto
from impasto.cli import main
from impasto.device import Compute
from impasto.errors import MemoryNeedError, OptionError, StyleError, WeightsError
from impasto.image.color import srgb_to_oklab
from impasto.image.io import read_image, read_record, write_image
from impasto.image.picture import Picture
from impasto.image.resize import resize
from impasto.models.networks import learnt_styles, load_network
from impasto.models.transformer import Transformer, TransformerConfig, save_transformer
from impasto.options import StylizeOptions
from impasto.stylize import memory
from impasto.stylize.choose import choose_method
from impasto.stylize.feedforward import FeedforwardStylizer
from impasto.stylize.protocol import NamedStyle, Region
from impasto.stylize.sources import resolve_style

PLAIN = Compute(torch.device("cpu"), None)
STYLES = ("one", "two", "three")


@pytest.fixture(scope="module")
def net() -> Transformer:
    """Every style has norms of its own; strength 0 is nearly flat."""
    found = Transformer(TransformerConfig(STYLES, 8, 2)).eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(0)
    found.initialise(generator)
    for norm in found.norms():
        for p in (norm.scale, norm.shift, norm.stroke_scale, norm.stroke_shift):
            p.data += 0.3 * torch.randn(p.shape, generator=generator)
    return found


@pytest.fixture(scope="module")
def content(photo: Callable[[str, int], Tensor]) -> Tensor:
    return photo("chelsea", 96)


@pytest.fixture
def paint(net: Transformer, content: Tensor) -> Callable[..., Tensor]:
    def run(*names: str, regions: Any = (), mask: Tensor | None = None, **options: Any) -> Tensor:
        chosen = StylizeOptions(method="feedforward", **{"size": 96, **options})
        styles = [NamedStyle(n) for n in names or ("one",)]
        return FeedforwardStylizer(net, styles, chosen, PLAIN, picture=96)(content, regions, mask)

    return run


def difference(a: Tensor, b: Tensor) -> float:
    return (a - b).abs().mean().item()


# -- what it paints ---------------------------------------------------------------------------------------------------


def test_it_is_the_networks_own_painting(net: Transformer, content: Tensor, paint: Callable[..., Tensor]) -> None:
    from impasto.models.norm import Conditions

    for i, name in enumerate(STYLES):
        expected = net(content, Conditions.of(torch.tensor([i]), 3))
        torch.testing.assert_close(paint(name), expected, rtol=0, atol=1e-5)


def test_a_stylizer_has_one_step(net: Transformer, content: Tensor) -> None:
    options = StylizeOptions(method="feedforward", size=48)
    stylizer = FeedforwardStylizer(net, [NamedStyle("two")], options, PLAIN)
    (step,) = stylizer.steps(content)
    assert stylizer.method == "feedforward"
    assert (step.iteration, step.total, step.losses) == (1, 1, {})
    assert step.image.shape == (1, 3, 32, 48)
    assert 0 <= step.image.min() <= step.image.max() <= 1
    assert not step.image.requires_grad


def test_it_paints_when_the_step_is_asked_for(net: Transformer, content: Tensor) -> None:
    """So that who follows the steps sees how long it takes."""
    painted: list[Tensor] = []

    def run(x: Tensor, conditions: Any) -> Tensor:
        painted.append(x)
        return net(x, conditions)

    stylizer = FeedforwardStylizer(net, [NamedStyle("two")], StylizeOptions(method="feedforward", size=48), PLAIN)
    stylizer.run = run
    steps = stylizer.steps(content)
    assert not painted
    assert len(list(steps)) == len(painted) == 1


@pytest.mark.parametrize("size", [(33, 70), (40, 41), (64, 32)])
def test_any_size(net: Transformer, size: tuple[int, int]) -> None:
    picture = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(1))
    options = StylizeOptions(method="feedforward", scale=1.0)
    assert FeedforwardStylizer(net, [NamedStyle("one")], options, PLAIN)(picture).shape == picture.shape


def test_the_strength_is_a_way_through_the_networks_maps(paint: Callable[..., Tensor]) -> None:
    """From strength 0, which is the same for all styles, ever further away; it goes on beyond 1."""
    found = [paint("one", strength=s) for s in (0.0, 0.25, 0.5, 1.0, 1.5)]
    assert torch.equal(found[0], paint("two", strength=0.0))
    away = [difference(f, found[0]) for f in found]
    assert away == sorted(away)
    assert away[1] > 0.005
    blended = torch.lerp(found[0], found[3], 0.5)
    assert difference(found[2], blended) > 0.1 * away[3]  # no blend of pictures


def test_styles_blend_by_their_weights(paint: Callable[..., Tensor]) -> None:
    one, two = paint("one"), paint("two")
    assert torch.equal(paint("one", "two", style_weights=(1.0, 0.0)), one)
    near = paint("one", "two", style_weights=(3.0, 1.0))
    assert difference(near, one) < difference(near, two)
    assert difference(near, one) > 0.01
    assert torch.equal(near, paint("two", "one", style_weights=(1.0, 3.0)))


def test_the_size_of_the_strokes(
    paint: Callable[..., Tensor], net: Transformer, content: Tensor, caplog: pytest.LogCaptureFixture
) -> None:
    """It is over the painting's size: twice the size with half the stroke is what the norms call the same."""
    plain = paint()
    assert difference(paint(style_scale=2.0), plain) > 0.01
    assert difference(paint(style_scale=1.1), plain) < difference(paint(style_scale=2.0), plain)
    caplog.set_level(logging.INFO, "impasto")
    assert torch.equal(paint(style_scale=8.0), paint(style_scale=2.0))
    assert "strokes are 0.25 times as large as asked for at this size" in caplog.text
    twice = StylizeOptions(method="feedforward", size=192, style_scale=0.5)
    large = FeedforwardStylizer(net, [NamedStyle("one")], twice, PLAIN, picture=96)(content)
    own = FeedforwardStylizer(
        net, [NamedStyle("one")], StylizeOptions(method="feedforward", size=192), PLAIN, picture=192
    )(content)
    torch.testing.assert_close(large, own)


def test_each_style_has_strokes_of_its_own(paint: Callable[..., Tensor]) -> None:
    found = paint("one", "two", style_scale=(0.5, 2.0))
    assert difference(found, paint("one", "two")) > 0.005
    assert torch.equal(found, paint("two", "one", style_scale=(2.0, 0.5)))


# -- where ------------------------------------------------------------------------------------------------------------


def test_regions_have_styles_of_their_own(paint: Callable[..., Tensor]) -> None:
    """Far from the border between them the colours are those of each style alone; their statistics are the whole's."""
    mask = torch.zeros(1, 1, 20, 40)
    mask[..., :20] = 1
    both, one, two = paint("one", regions=[Region(mask, NamedStyle("two"))]), paint("one"), paint("two")
    for columns, own, other in ((slice(0, 20), two, one), (slice(76, 96), one, two)):
        assert difference(both[..., columns], own[..., columns]) < 0.3 * difference(
            both[..., columns], other[..., columns]
        )
    everywhere = paint("one", regions=[Region(torch.ones(1, 1, 8, 8), NamedStyle("two"))])
    torch.testing.assert_close(everywhere, two, rtol=0, atol=1e-5)


def test_outside_the_mask_stays_the_photograph(paint: Callable[..., Tensor], content: Tensor) -> None:
    mask = torch.zeros(1, 1, 64, 96)
    mask[..., :48] = 1
    found, whole = paint(mask=mask, mask_feather=2.0), paint()
    assert torch.equal(found[..., 60:], content[..., 60:])
    torch.testing.assert_close(found[..., :36], whole[..., :36], rtol=0, atol=1e-5)
    with pytest.raises(OptionError, match="--mask is black everywhere"):
        paint(mask=torch.zeros(1, 1, 4, 4))


def test_the_photographs_colours(tmp_path: Path, net: Transformer, content: Tensor) -> None:
    save_transformer(net, tmp_path / "own.safetensors", training={"picture": 96}, licence="MIT")
    found = impasto.load_stylizer(tmp_path / "own.safetensors", style="one", size=96, keep_colours=1.0)(content)
    chroma = (srgb_to_oklab(found) - srgb_to_oklab(content))[:, 1:].square().sum(1).sqrt().mean() * 100
    assert chroma < 3


# -- what cannot be ---------------------------------------------------------------------------------------------------


def test_a_style_that_it_has_not_learnt(paint: Callable[..., Tensor]) -> None:
    with pytest.raises(StyleError, match=r"style 'four' is none that the network has learnt \(one, two, three\)"):
        paint("four")
    with pytest.raises(StyleError, match="a style that is no built-in one"):
        paint("one", regions=[Region(torch.ones(1, 1, 4, 4), torch.rand(1, 3, 8, 8))])


def test_options_of_the_optimisation_are_refused() -> None:
    with pytest.raises(OptionError, match="paints in one pass has no --style-loss"):
        StylizeOptions(method="feedforward", style_loss="gram")
    with pytest.raises(OptionError, match="--model is for the methods of one pass"):
        StylizeOptions(method="optimize", model="own.safetensors")
    with pytest.raises(OptionError, match="--quality instant is one pass of a network; --method optimize needs"):
        StylizeOptions(method="optimize", quality="instant")
    with pytest.raises(OptionError, match="--compile is for the networks that paint in one pass: add --quality inst"):
        StylizeOptions(compile=True)


def test_what_does_not_fit_into_memory(
    paint: Callable[..., Tensor], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(memory, "available_memory", lambda _: 70_000_000)
    found = paint(size=2000)
    assert max(found.shape) < 1000
    assert "painting " in caplog.text
    with pytest.raises(MemoryNeedError, match=r"a 2000x\d+ painting needs about"):
        paint(size=2000, strict_size=True)


# -- which method -----------------------------------------------------------------------------------------------------


def test_the_method_by_quality_and_style(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("impasto.stylize.choose.learnt_styles", lambda _: ("starry-night",))
    known, unknown = resolve_style("starry-night"), resolve_style("great-wave")
    assert choose_method(StylizeOptions(), [known]) == "optimize"
    for quality in ("draft", "good", "best"):
        assert choose_method(StylizeOptions(quality=quality), [known]) == "optimize"
    assert choose_method(StylizeOptions(quality="instant"), [known]) == "feedforward"
    assert choose_method(StylizeOptions(quality="instant"), [known, unknown]) == "arbitrary"
    assert choose_method(StylizeOptions(quality="instant", strength=1.2), [unknown]) == "arbitrary"
    assert choose_method(StylizeOptions(method="feedforward"), [known]) == "feedforward"
    assert choose_method(StylizeOptions(quality="draft", strength=1.2, tv_weight=2.0), [unknown]) == "optimize"
    with pytest.raises(OptionError, match="--tv-weight is for the optimisation, and --quality instant has none; give"):
        choose_method(StylizeOptions(quality="instant", tv_weight=2.0), [known])


def test_a_network_of_ones_own(tmp_path: Path, net: Transformer, content: Tensor) -> None:
    path = tmp_path / "own.safetensors"
    save_transformer(net, path, training={"picture": 96}, licence="MIT")
    assert learnt_styles(str(path)) == STYLES
    assert load_network(str(path))[1] == 96
    painted = impasto.stylize(content, "two", model=str(path), size=96, precision="float32")
    again = impasto.load_stylizer(path, style="two", size=96, precision="float32")(content)
    assert torch.equal(painted, again)
    with pytest.raises(WeightsError, match="there is no such model file"):
        impasto.load_stylizer(tmp_path / "none.safetensors", style="two")
    with pytest.raises(StyleError, match="given by name"):
        impasto.stylize(content, content, model=str(path))


def test_on_the_command_line(
    tmp_path: Path, net: Transformer, content: Tensor, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """The painting, its record, and the same again from it; styles of the network by place."""
    monkeypatch.chdir(tmp_path)
    save_transformer(net, tmp_path / "own.safetensors", training={"picture": 96}, licence="MIT")
    write_image(Picture(content), "photo.png")
    mask = np.zeros((20, 30, 3), np.float32)
    mask[:, :15] = 1
    write_image(Picture(torch.from_numpy(mask).permute(2, 0, 1)[None]), "left.png")
    command = ["stylize", "photo.png", "one", "--model", "own.safetensors", "--region", "left.png=two", "-o", "o.png"]
    assert main([*command, "--run", "run"]) == 0
    assert "o.png: 96x64, one pass in " in capsys.readouterr().err
    record = read_record(Path("o.png"))
    assert record is not None
    assert (record["method"], record["iterations"]) == ("feedforward", 1)
    assert record["model"]["name"] == "own.safetensors"
    assert main(["rerun", "o.png"]) == 0
    assert torch.equal(read_image("o-rerun.png").tensor, read_image("o.png").tensor)
    assert (tmp_path / "run" / "record.json").exists()
    assert main(["stylize", "photo.png", "five", "--model", "own.safetensors"]) == 1
    assert "style 'five' is none that the network has learnt" in capsys.readouterr().err
    shutil.copy("photo.png", "own2.safetensors")
    assert main(["stylize", "photo.png", "one", "--model", "own2.safetensors"]) == 1
    assert "Traceback" not in capsys.readouterr().err


def test_what_is_enlarged_is_enlarged_before(paint: Callable[..., Tensor], net: Transformer, content: Tensor) -> None:
    from impasto.models.norm import Conditions

    conditions = Conditions.of(torch.tensor([0]), 3, stroke=2.0)
    torch.testing.assert_close(paint(size=192), net(resize(content, (128, 192)), conditions), rtol=0, atol=1e-5)


def test_compiled_is_the_same(net: Transformer, content: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    """torch.compile without code generation, which needs a C++ compiler and its time: what it captures is run."""
    compiler = torch.compile
    monkeypatch.setattr(torch, "compile", lambda f, **options: compiler(f, backend="eager", **options))
    torch.compiler.reset()
    styles, options = [NamedStyle("one")], {"method": "feedforward", "size": 64}
    plain, compiled = (
        FeedforwardStylizer(net, styles, StylizeOptions(**options, compile=c), PLAIN)(content) for c in (False, True)
    )
    torch.testing.assert_close(plain, compiled, rtol=0, atol=1e-5)
