"""The Stylizer for any style: what each control does, measured on a small network that was never trained."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import impasto
from impasto.cli import main
from impasto.errors import OptionError, StyleError, WeightsError
from impasto.image.io import read_image, read_record, write_image
from impasto.image.picture import Picture
from impasto.models.arbitrary import ArbitraryConfig, ArbitraryNetwork, StyleSummary, save_arbitrary
from impasto.models.vgg import STYLE_LAYERS
from impasto.models.weights import find_model, load_encoder
from impasto.options import StylizeOptions
from impasto.style.builtin import builtin_names, load_builtin
from impasto.stylize.arbitrary import ArbitraryStylizer


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network of random weights, in which styles make a difference."""
    encoder = load_encoder("compact")
    layers = {k: encoder.width(k) for k in STYLE_LAYERS}
    net = ArbitraryNetwork(ArbitraryConfig(encoder.digest, layers, width=4, blocks=1, hidden=8))
    net.initialise(torch.Generator().manual_seed(0))
    styles = [load_builtin(n).at(512) for n in builtin_names()]
    for layer, summary in net.summaries.items():
        assert isinstance(summary, StyleSummary)
        summary.calibrate(torch.cat([s[layer] for s in styles]))
    path = tmp_path_factory.mktemp("model") / "any.safetensors"
    save_arbitrary(net, path, training={}, licence="MIT")
    return path


@pytest.fixture(scope="module")
def content(photo: Callable[[str, int], Tensor]) -> Tensor:
    return photo("chelsea", 96)


@pytest.fixture
def paint(model: Path, content: Tensor) -> Callable[..., Tensor]:
    def run(*styles: Any, **options: Any) -> Tensor:
        return impasto.stylize(content, list(styles), model=str(model), size=96, precision="float32", **options)

    return run


def difference(a: Tensor, b: Tensor) -> float:
    return (a - b).abs().mean().item()


def test_pictures_style_files_and_names_are_styles(
    paint: Callable[..., Tensor], tmp_path: Path, photo: Callable[[str, int], Tensor]
) -> None:
    load_builtin("udnie").save(tmp_path / "u.style.safetensors")
    assert difference(paint("udnie"), paint(tmp_path / "u.style.safetensors")) < 1e-4
    assert difference(paint("udnie"), paint("great-wave")) > 1e-3
    coffee = photo("coffee", 128)
    assert difference(paint(coffee), paint("udnie")) > 1e-3


def test_controls(paint: Callable[..., Tensor], content: Tensor) -> None:
    """Strength leads away from one picture for all styles; blends lie between; strokes change the painting."""
    found = [paint("udnie", strength=s) for s in (0.0, 0.5, 1.0, 1.5)]
    assert torch.equal(found[0], paint("great-wave", strength=0.0))
    away = [difference(f, found[0]) for f in found]
    assert away == sorted(away)
    one, two = paint("udnie"), paint("great-wave")
    assert torch.equal(paint("udnie", "great-wave", style_weights=(1.0, 0.0)), one)
    near = paint("udnie", "great-wave", style_weights=(3.0, 1.0))
    assert difference(near, one) < difference(near, two)
    assert difference(paint("udnie", style_scale=4.0), one) > 1e-4
    mask = torch.zeros(1, 1, 20, 40)
    mask[..., :20] = 1
    both = paint("udnie", regions=[(mask, "great-wave")])
    assert difference(both[..., :20], two[..., :20]) < difference(both[..., :20], one[..., :20])
    assert difference(both[..., 76:], one[..., 76:]) < difference(both[..., 76:], two[..., 76:])
    assert torch.equal(paint("udnie", mask=mask, mask_feather=1.0)[..., 60:], content[..., 60:])


def test_strokes_larger_than_the_style_are_said(
    paint: Callable[..., Tensor], photo: Callable[[str, int], Tensor], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "impasto")
    coffee = photo("coffee", 128)
    paint(coffee, style_scale=1.0)
    assert not caplog.text
    largest = paint(coffee, style_scale=2.0)
    assert "strokes are 0.67 times as large as asked for at this size: the style has 128 pixels at most" in caplog.text
    assert torch.equal(largest, paint(coffee, style_scale=4.0))


def test_a_painting_is_measured_once_for_many_photographs(
    model: Path, content: Tensor, photo: Callable[[str, int], Tensor]
) -> None:
    stylizer = impasto.load_stylizer(photo("coffee", 128), model=str(model), size=96)
    assert isinstance(stylizer, ArbitraryStylizer)
    assert stylizer.method == "arbitrary"
    first = stylizer(content)
    for _, conv in stylizer.encoder.convolutions():
        conv.weight = conv.bias = None  # type: ignore[assignment] # it cannot be measured again
    assert torch.equal(stylizer(content), first)
    other = load_encoder("compact")
    other.digest = "ffff"
    with pytest.raises(StyleError, match="trained with another encoder"):
        ArbitraryStylizer(stylizer.net, [load_builtin("udnie")], StylizeOptions(size=96), other, stylizer.compute)


def test_on_the_command_line(
    tmp_path: Path, model: Path, content: Tensor, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    write_image(Picture(content), "photo.png")
    write_image(Picture(content.flip(3)), "style.png")
    assert main(["stylize", "photo.png", "style.png", "--model", str(model), "-o", "o.png"]) == 0
    assert "o.png: 96x64, one pass in " in capsys.readouterr().err
    record = read_record(Path("o.png"))
    assert record is not None
    assert record["method"] == "arbitrary"
    assert main(["rerun", "o.png", "-o", "again.png"]) == 1  # the network lies elsewhere
    (tmp_path / model.name).write_bytes(model.read_bytes())
    assert main(["rerun", "o.png", "-o", "again.png"]) == 0
    assert torch.equal(read_image("again.png").tensor, read_image("o.png").tensor)


def test_options_that_will_not_do(paint: Callable[..., Tensor], content: Tensor) -> None:
    with pytest.raises(WeightsError, match="there is no such model file"):
        impasto.stylize(content, content, model="typo.safetensors", size=96)
    with pytest.raises(WeightsError, match="holds the kind 'encoder' of network, which does not paint"):
        impasto.stylize(content, content, model=str(find_model("compact").path), size=96)
    with pytest.raises(OptionError, match="is a network of the method arbitrary, not feedforward"):
        paint("udnie", method="feedforward")
    with pytest.raises(OptionError, match="paints in one pass has no --tv-weight"):
        paint("udnie", tv_weight=2.0)


def test_an_optimisation_that_starts_from_it(photo: Callable[[str, int], Tensor]) -> None:
    """With a rate of nearly 0 the painting is the start: of the coarsest scale's size, with the regions."""
    content, sky = photo("coffee", 96), torch.zeros(1, 1, 64, 96)
    sky[..., :32, :] = 1
    options: dict[str, Any] = {"style_weights": (2.0, 1.0), "precision": "float32"}
    region = [(sky, "udnie")]
    still = {"start": "network", "rate": 1e-6, "iterations": 1, "coarsest": 256}
    styles = ["starry-night", "great-wave"]
    found = impasto.stylize(content, styles, size=96, regions=region, **options, **still)
    wanted = impasto.stylize(content, styles, size=96, regions=region, method="arbitrary", **options)
    torch.testing.assert_close(found, wanted, rtol=0, atol=0.01)
    half = impasto.stylize(content, styles, size=96, regions=region, strength=0.5, **options, **still)
    torch.testing.assert_close(half, 0.5 * (content + wanted), rtol=0, atol=0.02)
