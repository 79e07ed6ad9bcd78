"""Learning styles with a small untrained network, on the bundled photographs."""

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import impasto
from impasto.cli import main
from impasto.device import Compute
from impasto.errors import StyleError
from impasto.image.picture import Picture
from impasto.image.write import write_image
from impasto.models.colours import colour
from impasto.models.moments import raw_moments
from impasto.models.network import Network, NetworkConfig, StyleSummary, load_network, save_network
from impasto.models.vgg import VGG
from impasto.models.weights import load_encoder
from impasto.options import LearnOptions
from impasto.style.painting import PaintingLoss
from impasto.style.target import StyleTarget, builtin_names, load_builtin
from impasto.stylizers.learn import BUNDLED, BundledPhotographs, kept_styles, learn, learnt

PLAIN = Compute(torch.device("cpu"), None)
BRIEF = LearnOptions(steps=12, batch=2, crop=64, rate=0.02)
LAYERS = {"relu1_1": 16, "relu2_1": 32, "relu3_1": 80, "relu4_1": 144}


@pytest.fixture(scope="module")
def encoder() -> VGG:
    return load_encoder("compact")


@pytest.fixture(scope="module")
def model(encoder: VGG, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a network with random weights and return its file."""
    net = Network(NetworkConfig(encoder.digest, LAYERS, width=4, blocks=1, rank=2, hidden=8))
    net.initialise(torch.Generator().manual_seed(0))
    styles = [load_builtin(n).at(512) for n in builtin_names()[:4]]
    for layer, summary in net.summaries.items():
        assert isinstance(summary, StyleSummary)
        summary.calibrate(torch.cat([s[layer] for s in styles]))
    rng = np.random.default_rng(0)
    photos = torch.stack([BundledPhotographs().crop(rng, 64, (0.7, 1.4)) for _ in range(12)])
    seen = torch.cat([photos, encoder(PLAIN.picture(photos), ["relu1_1"])["relu1_1"]], 1)
    net.colours.calibrate(raw_moments(seen).mean(0))
    path = tmp_path_factory.mktemp("model") / "net.safetensors"
    save_network(net, path, training={}, licence="MIT")
    return path


@pytest.fixture(scope="module")
def net(model: Path) -> Network:
    return load_network(model)[0]


@pytest.fixture(scope="module")
def style() -> StyleTarget:
    return replace(load_builtin("starry-night"), name="")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of kept styles, empty so far, and make learning brief."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("impasto.stylizers.learn.LearnOptions", lambda: BRIEF)
    return tmp_path / "cache" / "impasto" / "styles"


def loss(net: Network, style: StyleTarget, encoder: VGG) -> float:
    """Return the loss of paintings of two fixed parts of photographs."""
    weights = {k: getattr(BRIEF, k) for k in ("content_weight", "tone_weight", "tv_weight")}
    distance = PaintingLoss(encoder, PLAIN, **weights)
    rng = np.random.default_rng(7)
    photos = torch.stack([BundledPhotographs().crop(rng, 96, (1.0, 1.0)) for _ in range(2)])
    targets = {k: style.at(512)[k].expand(2, -1, -1) for k in LAYERS}
    vector = style.learnt_for(net)
    affine = net.predict(targets) if vector is None else net.shifted(net.predict(targets), vector)
    colours = net.style_colours(targets)
    with torch.no_grad():
        terms = distance(colour(net(photos, affine), colours), photos, targets, colours)
    return sum(v.sum().item() for v in terms.values())


def test_a_dozen_photographs_are_bundled() -> None:
    files = list(BUNDLED.glob("*.webp"))
    assert len(files) == 12
    assert sum(f.stat().st_size for f in files) < 300_000
    crops = torch.stack([BundledPhotographs().crop(np.random.default_rng(i), 32, (0.7, 1.4)) for i in range(30)])
    assert crops.shape == (30, 3, 32, 32)
    assert 0 <= crops.min() < crops.max() <= 1
    assert len(torch.unique(crops.mean((1, 2, 3)))) == 30


def test_what_is_learnt_lowers_the_loss_and_leaves_the_network(net: Network, style: StyleTarget, encoder: VGG) -> None:
    before = {k: v.clone() for k, v in net.state_dict().items()}
    steps = list(learn(net, style, encoder, PLAIN, replace(BRIEF, steps=40)))
    assert [s.step for s in steps] == list(range(1, 41))
    assert steps[-1].progress == 1
    assert all(a.progress <= b.progress for a, b in pairwise(steps))
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    assert loss(net, steps[-1].style, encoder) < 0.97 * loss(net, style, encoder)


def test_it_is_the_same_every_time(net: Network, style: StyleTarget, encoder: VGG) -> None:
    first, second = (list(learn(net, style, encoder, PLAIN, replace(BRIEF, steps=3)))[-1].style for _ in range(2))
    assert first.learnt is not None
    assert second.learnt is not None
    assert torch.equal(first.learnt, second.learnt)


def test_it_stops_in_time_and_when_nothing_is_gained(net: Network, style: StyleTarget, encoder: VGG) -> None:
    assert len(list(learn(net, style, encoder, PLAIN, replace(BRIEF, steps=10_000, seconds=0.2)))) < 100
    still = list(learn(net, style, encoder, PLAIN, replace(BRIEF, steps=10_000, rate=0.0, batch=1)))
    assert len(still) < 400
    assert still[-1].progress == 1


def test_a_style_of_another_encoder_is_refused_at_once(net: Network, style: StyleTarget, encoder: VGG) -> None:
    with pytest.raises(StyleError, match="was made for the encoder"):
        learn(net, replace(style, digest="0" * 16), encoder, PLAIN, BRIEF)


def test_the_style_file_holds_it(net: Network, style: StyleTarget, encoder: VGG, tmp_path: Path) -> None:
    last = list(learn(net, style, encoder, PLAIN, replace(BRIEF, steps=3)))[-1].style
    last.save(tmp_path / "mine.style.safetensors")
    found = StyleTarget.load(tmp_path / "mine.style.safetensors")
    assert found.learnt is not None
    assert last.learnt is not None
    torch.testing.assert_close(found.learnt, last.learnt, rtol=1e-3, atol=1e-4)  # float16
    assert found.network == net.digest
    assert torch.equal(found.at(512)["relu3_1"], style.at(512)["relu3_1"])


def test_another_network_ignores_it(model: Path, style: StyleTarget, photo: Callable[[str, int], Tensor]) -> None:
    net = load_network(model)[0]
    content = photo("coffee", 64)
    vector = 0.5 * torch.randn(1, net.layout.predicted, generator=torch.Generator().manual_seed(1))
    options = {"model": str(model), "size": 64, "precision": "float32"}
    plain = impasto.stylize(content, style, **options)
    own = impasto.stylize(content, replace(style, learnt=vector, network=net.digest), **options)
    other = impasto.stylize(content, replace(style, learnt=vector, network="0" * 16), **options)
    assert torch.equal(other, plain)
    assert (own - plain).abs().mean() > 0.01


def test_what_is_learnt_on_the_fly_is_kept(net: Network, style: StyleTarget, encoder: VGG, folder: Path) -> None:
    first = learnt(net, style, encoder, PLAIN)
    assert kept_styles() == list(folder.iterdir())
    (kept,) = kept_styles()
    written = kept.stat().st_ino
    second = learnt(net, style, encoder, PLAIN)
    assert kept.stat().st_ino == written  # a second time nothing is learnt
    assert first.learnt is not None
    assert second.learnt is not None
    torch.testing.assert_close(second.learnt, first.learnt, rtol=1e-3, atol=1e-4)
    assert learnt(net, first, encoder, PLAIN) is first


def test_the_command_learns_and_the_style_file_paints(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, photo: Callable[[str, int], Tensor]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_image(Picture(photo("chelsea", 96)), Path("cat.png"))
    write_image(Picture(photo("coffee", 64)), Path("cup.png"))
    options = ["--model", str(model), "--steps", "3", "--batch", "1", "--crop", "64"]
    assert main(["learn", "cat.png", *options]) == 0
    found = StyleTarget.load(Path("cat.style.safetensors"))
    assert found.network == load_network(model)[0].digest
    painted = ["stylize", "cup.png", "cat.style.safetensors", "--model", str(model), "--size", "64", "-o", "out.png"]
    assert main(painted) == 0
    assert Path("out.png").is_file()


def test_the_library_learns_and_knows_its_options(model: Path, style: StyleTarget, net: Network) -> None:
    found = impasto.learn(style, BRIEF, model=str(model), steps=2, precision="float32")
    assert found.learnt_for(net) is not None
    with pytest.raises(impasto.OptionError, match="there is no option 'second'; did you mean seconds"):
        impasto.learn(style, model=str(model), second=3)  # pyright: ignore[reportCallIssue]


def test_the_command_learns_on_photographs_of_ones_own(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, photo: Callable[[str, int], Tensor]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("photos").mkdir()
    write_image(Picture(photo("coffee", 96)), Path("photos/cup.png"))
    options = ["--model", str(model), "--steps", "2", "--batch", "1", "--crop", "64"]
    assert main(["learn", "great-wave", "-o", "mine.style.safetensors", "--photos", "photos", *options]) == 0
    assert StyleTarget.load(Path("mine.style.safetensors")).learnt is not None


def test_the_command_overwrites_no_source(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], style: StyleTarget
) -> None:
    monkeypatch.chdir(tmp_path)
    style.save(Path("a.style.safetensors"))
    before = Path("a.style.safetensors").read_bytes()
    command = ["learn", "a.style.safetensors", "--model", str(model), "--steps", "1"]
    assert main([*command, "--out", "a.style.safetensors"]) == 1
    assert "name another file with --out" in capfd.readouterr().err
    assert main(command) == 0
    assert "a-2.style.safetensors: learnt in 1 steps" in capfd.readouterr().err
    assert Path("a.style.safetensors").read_bytes() == before


def test_kept_styles_are_listed_and_cleared(
    model: Path,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    photo: Callable[[str, int], Tensor],
) -> None:
    monkeypatch.chdir(tmp_path)
    write_image(Picture(photo("coffee", 64)), Path("cup.png"))
    command = ["stylize", "cup.png", "great-wave", "--model", str(model), "--learn", "--size", "64"]
    assert main(command) == 0
    (path,) = kept_styles()
    capfd.readouterr()
    assert main(["styles", "--learnt"]) == 0
    assert str(path) in capfd.readouterr().out
    assert main(["styles", "--clear"]) == 0
    assert f"deleted {path}" in capfd.readouterr().out
    assert kept_styles() == []
