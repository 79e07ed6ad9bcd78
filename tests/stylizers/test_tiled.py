"""Paintings in strips are the same as those in one piece, with any amount of memory."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import impasto
from impasto.device import Compute
from impasto.errors import MemoryNeedError, OptionError
from impasto.image.resize import resize
from impasto.image.strips import MemorySink, MemorySource
from impasto.models.moments import raw_moments
from impasto.models.network import Network, NetworkConfig, StyleSummary
from impasto.models.vgg import VGG
from impasto.options import STYLE_LAYER_WEIGHTS, StylizeOptions, named_weights
from impasto.style.target import builtin_names, load_builtin
from impasto.stylizers import memory, network_memory, tiled
from impasto.stylizers.colours import ColourKeeper
from impasto.stylizers.network import NetworkStylizer
from impasto.stylizers.optimize import OptimizeStylizer
from impasto.stylizers.protocol import Region
from impasto.stylizers.tiled import paint_tiled

PLAIN = Compute(torch.device("cpu"), None)
LAYERS = tuple(named_weights(STYLE_LAYER_WEIGHTS, ""))
SIZE = (150, 203)
"""Sides that are not multiples of the network's stride."""


@pytest.fixture(scope="module")
def net(encoder: VGG, photo: Callable[[str, int], Tensor]) -> Network:
    """Return a network with random weights that paints different styles differently."""
    net = Network(NetworkConfig(encoder.digest, {k: encoder.width(k) for k in LAYERS}, 4, 1, 1, 1, hidden=8))
    generator = torch.Generator().manual_seed(0)
    net.initialise(generator)
    last = net.predictor[-1]
    assert isinstance(last, nn.Linear)
    net.last.weight.data *= 3
    last.weight.data *= 5
    for mixing in net.noises:
        mixing.data.normal_(0, 0.1, generator=generator)
    styles = [load_builtin(n).at(512) for n in builtin_names()]
    for layer, summary in net.summaries.items():
        assert isinstance(summary, StyleSummary)
        summary.calibrate(torch.cat([s[layer] for s in styles]))
    x = photo("coffee", 128)
    net.colours.calibrate(raw_moments(torch.cat([x, encoder(PLAIN.picture(x), LAYERS[:1])[LAYERS[0]]], 1))[0])
    return net.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def content(photo: Callable[[str, int], Tensor]) -> Tensor:
    return resize(photo("coffee", 400), SIZE)


@pytest.fixture
def stylizer(net: Network, encoder: VGG) -> Callable[..., NetworkStylizer]:
    def make(*styles: Any, **options: Any) -> NetworkStylizer:
        chosen = StylizeOptions(method="network", **{"scale": 1.0, **options})
        return NetworkStylizer(net, styles or (load_builtin("udnie"),), chosen, encoder, PLAIN)

    return make


@pytest.fixture
def low(monkeypatch: pytest.MonkeyPatch, net: Network) -> Callable[..., None]:
    """Return a function that leaves memory for only a part of a painting of some height and width."""

    def set_free(size: tuple[int, int], in_file: bool = False) -> None:
        whole = network_memory.pass_memory(size, net, PLAIN) - network_memory.FIXED_BYTES
        monkeypatch.setattr(
            memory, "available_memory", lambda _: (network_memory.FIXED_BYTES + 0.9 * whole) / memory.SHARE
        )
        # What is negligible for a large painting is not for a small one.
        monkeypatch.setattr(network_memory, "PICTURE_BYTES", 0)
        monkeypatch.setattr(network_memory, "MARGIN_BYTES", {4: 0})
        monkeypatch.setattr(network_memory, "STORED_BYTES", {4: 10_000 if in_file else 0})
        monkeypatch.setattr(network_memory, "STRIP_PIXELS", 24 * size[1])

    return set_free


def left(height: int, width: int) -> Tensor:
    mask = torch.zeros(1, 1, height, width)
    mask[..., : width // 2] = 1
    return mask


def cutout(content: Tensor) -> Tensor:
    """Return an ellipse of the photograph with a soft edge, and arbitrary colours where nothing is visible."""
    height, width = content.shape[-2:]
    y, x = torch.meshgrid(torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij")
    alpha = (4 * (0.7 - x**2 - y**2)).clamp(0, 1)[None, None]
    return torch.cat([content, alpha], 1)


WAYS: dict[str, dict[str, Any]] = {
    "plain": {},
    "half strength": {"strength": 0.5},
    "strokes": {"style_scale": 2.0},
    "smaller": {"scale": 0.6},
    "larger": {"scale": 1.3, "strength": 0.7},
    "regions": {"regions": True},
    "regions, half strength": {"regions": True, "strength": 0.5},
    "mask": {"mask": True, "mask_feather": 3.0},
    "cut-out": {"alpha": True},
    "cut-out, smaller, half strength": {"alpha": True, "scale": 0.6, "strength": 0.5},
    "underpainting": {"underpainting": 1.5},
    "everything": {
        "alpha": True,
        "regions": True,
        "mask": True,
        "strength": 0.8,
        "scale": 0.9,
        "underpainting": 1.0,
    },
}


@pytest.mark.parametrize("in_file", [False, True], ids=["in memory", "in a file"])
@pytest.mark.parametrize("way", WAYS)
def test_it_is_the_painting_that_more_memory_gives(
    stylizer: Callable[..., NetworkStylizer],
    content: Tensor,
    low: Callable[..., None],
    way: str,
    in_file: bool,
) -> None:
    options = dict(WAYS[way])
    regions = [Region(left(60, 81), load_builtin("great-wave"))] if options.pop("regions", False) else []
    mask = left(30, 41).transpose(2, 3).reshape(1, 1, 30, 41) if options.pop("mask", False) else None
    photo = cutout(content) if options.pop("alpha", False) else content
    painter = stylizer(load_builtin("udnie"), load_builtin("the-scream"), **options)
    whole = painter(photo, regions, mask)
    height = whole.shape[2]
    low((height, whole.shape[3]), in_file)
    steps = list(painter.steps(photo, regions, mask))
    assert len(steps) > height // 24
    assert [s.iteration for s in steps] == sorted(s.iteration for s in steps)
    assert steps[-1].iteration == steps[-1].total
    torch.testing.assert_close(steps[-1].image, whole, rtol=0, atol=1e-4)


def test_it_is_said_in_one_line(
    stylizer: Callable[..., NetworkStylizer],
    content: Tensor,
    low: Callable[..., None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    low(SIZE)
    with caplog.at_level(logging.INFO, logger="impasto"):
        steps = stylizer().steps(content)
    (message,) = caplog.messages
    assert (
        message == "a 203x150 painting needs about 0.1 GB of memory, and 0.1 GB is free: painting it 24 rows at a time"
    )
    assert next(steps).total > 6


def test_the_steps_show_how_far_it_is(
    stylizer: Callable[..., NetworkStylizer], content: Tensor, low: Callable[..., None]
) -> None:
    """The steps show the photograph, painted from the top down; the last step shows the whole painting."""
    low(SIZE)
    *steps, last = stylizer().steps(content)
    first, late = steps[0].image, steps[-1].image
    torch.testing.assert_close(first, content)
    painted = (late - last.image).abs().amax((0, 1, 3)) < 1e-6
    assert painted[:120].all()
    assert torch.equal(late[:, :, -1], content[:, :, -1])
    assert torch.equal(steps[0].image, first)


def test_max_memory(
    stylizer: Callable[..., NetworkStylizer], content: Tensor, caplog: pytest.LogCaptureFixture
) -> None:
    """A painting uses no more than the option allows, even if more is free."""
    large = resize(content, (1000, 1353))
    whole = stylizer()(large)
    with caplog.at_level(logging.INFO, logger="impasto"):
        found = stylizer(max_memory=100_000_000)(large)
    assert "needs about 0.1 GB of memory, and --max-memory allows 0.1 GB: painting it" in caplog.text
    torch.testing.assert_close(found, whole, rtol=0, atol=5e-4)
    message = r"needs about 0.2 GB of memory even in strips of 4 rows, and --max-memory allows 0.1 GB; free or allow"
    with pytest.raises(MemoryNeedError, match=message):
        stylizer(max_memory=100_000_000, scale=3.0).steps(large)


def test_sampled_statistics_make_a_similar_painting(
    stylizer: Callable[..., NetworkStylizer],
    content: Tensor,
    low: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tiled, "SAMPLES", 20_000)
    monkeypatch.setattr(tiled, "SAMPLE_SIDE", 64)
    regions = [Region(left(60, 81), load_builtin("great-wave"))]
    for photo, places in ((content, []), (cutout(content), []), (content, regions)):
        low((9999, 9999))
        whole = stylizer(strength=0.9)(photo, places)
        low(SIZE)
        *steps, last = stylizer(strength=0.9, statistics="sampled").steps(photo, places)
        assert [s.iteration for s in steps] == sorted(s.iteration for s in steps)
        away = (last.image - whole).abs().mean()
        assert 0 < away < 0.6 * (whole - content).abs().mean()


def test_with_given_statistics(
    stylizer: Callable[..., NetworkStylizer], content: Tensor, low: Callable[..., None]
) -> None:
    painter = stylizer()
    given = painter.statistics(resize(content, (75, 101)))
    for origin in ((0, 0), (16, 40)):
        low((9999, 9999))
        whole = painter(content, statistics=given, origin=origin)
        low(SIZE)
        found = painter(content, statistics=given, origin=origin)
        torch.testing.assert_close(found, whole, rtol=0, atol=1e-4)


# -- from a source to a sink ------------------------------------------------------------------------------------------


class Recorder(MemorySource):
    """A source that records how much was read at a time."""

    def __init__(self, image: Tensor):
        super().__init__(image)
        self.most = 0

    def read(self, top: int, left: int, height: int, width: int) -> Tensor:
        self.most = max(self.most, height)
        assert top >= 0
        assert left >= 0
        assert top + height <= self.size[0]
        assert left + width <= self.size[1]
        return super().read(top, left, height, width)


@pytest.mark.parametrize("alpha", [False, True])
@pytest.mark.parametrize("keep_colours", [0.0, 0.7])
def test_from_a_source_to_a_sink(
    stylizer: Callable[..., NetworkStylizer],
    content: Tensor,
    monkeypatch: pytest.MonkeyPatch,
    alpha: bool,
    keep_colours: float,
) -> None:
    """Rows are read and written a few at a time, with the photograph's alpha."""
    photo = cutout(content) if alpha else content
    painter: Any = stylizer(mask_feather=1.0)
    if keep_colours:
        painter = ColourKeeper(painter, "oklab", keep_colours)
    mask = left(30, 41)
    whole = painter(photo, mask=mask)
    monkeypatch.setattr(network_memory, "STRIP_PIXELS", 16 * SIZE[1])
    source, sink, seen = Recorder(photo), MemorySink(), list[tuple[int, int]]()
    paint_tiled(painter, source, sink, mask=mask, progress=lambda done, total: seen.append((done, total)))
    found = sink.image()
    assert max(p.shape[2] for p in sink.parts) <= 16 + 16
    assert source.most < 300 if alpha else source.most <= 16 + 16
    assert seen == sorted(seen)
    assert seen[-1][0] == seen[-1][1]
    torch.testing.assert_close(found[:, :3], whole, rtol=0, atol=5e-4 if keep_colours else 1e-4)
    if alpha:
        assert torch.equal(found[:, 3:], photo[:, 3:])
    assert found.shape[1] == photo.shape[1]


def test_a_painting_that_is_stopped(
    stylizer: Callable[..., NetworkStylizer], content: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(network_memory, "STRIP_PIXELS", 16 * SIZE[1])

    def stop(done: int, total: int) -> None:
        if done > total // 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        paint_tiled(stylizer(), MemorySource(content), MemorySink(), progress=stop)


def test_what_cannot_be_painted_in_strips(
    stylizer: Callable[..., NetworkStylizer], content: Tensor, encoder: VGG
) -> None:
    painter = stylizer()
    with pytest.raises(OptionError, match="--mask is black everywhere"):
        paint_tiled(painter, MemorySource(content), MemorySink(), mask=torch.zeros(1, 1, 15, 20))
    with pytest.raises(OptionError, match="the mask of region 1 is 1 times as wide as high"):
        paint_tiled(painter, MemorySource(content), MemorySink(), [Region(left(8, 8), load_builtin("udnie"))])
    slow: Any = OptimizeStylizer([content], impasto.OptimizeOptions(), encoder, PLAIN)
    with pytest.raises(OptionError, match="the method optimize does not paint in strips; choose the method network"):
        paint_tiled(slow, MemorySource(content), MemorySink())


def test_a_full_disk(
    stylizer: Callable[..., NetworkStylizer],
    content: Tensor,
    low: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    low(SIZE, in_file=True)
    monkeypatch.setattr(network_memory, "STORED_BYTES", {4: 10**15})
    message = (
        r"exact statistics need about \d+.\d GB for temporary files, and .* has .* GB; free some space there, or "
        r"set TMPDIR to a folder on a larger disk, or give --statistics sampled"
    )
    with pytest.raises(MemoryNeedError, match=message):
        stylizer().steps(content)


def test_kept_colours_in_low_precision(
    net: Network, encoder: VGG, content: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the network is in bfloat16: its colours and the photograph's are set in float32."""
    options, compute = StylizeOptions(method="network", scale=1.0), Compute(torch.device("cpu"), torch.bfloat16)
    keeper = ColourKeeper(NetworkStylizer(net, [load_builtin("udnie")], options, encoder, compute), "oklab", 0.5)
    whole, sink = keeper(content), MemorySink()
    monkeypatch.setattr(network_memory, "STRIP_PIXELS", 24 * SIZE[1])
    paint_tiled(keeper, MemorySource(content), sink)
    assert (sink.image() - whole).abs().mean() < 0.02


def test_nothing_is_left_in_the_folder(
    stylizer: Callable[..., NetworkStylizer],
    content: Tensor,
    low: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    low(SIZE, in_file=True)
    steps = stylizer().steps(content)
    for _ in range(9):
        next(steps)
    assert not list(tmp_path.iterdir())


def test_the_largest_paintings_need_hardly_more(net: Network) -> None:
    """In strips, memory grows with the width; a taller picture takes no more."""
    square, tall = (network_memory.strip_memory((h, 12_000), net, PLAIN, 1, True, 64) for h in (12_000, 120_000))
    assert square == tall
