"""The graphs compute what the package computes, before any exporter sees them."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from impasto.export.styles import PLAIN
from impasto.export.web.graphs import (
    SAMPLE_MARGIN,
    SAMPLE_SIDE,
    PredictingGraph,
    ReadingGraph,
    RowConvolution,
    SamplesGraph,
    TileGraph,
    WholeGraph,
)
from impasto.export.web.styles import readings_of
from impasto.models.colours import colour, colour_moments, colours_of
from impasto.models.moments import raw_moments
from impasto.models.network import Network
from impasto.models.vgg import VGG
from impasto.options import StylizeOptions
from impasto.style.target import StyleTarget, load_builtin
from impasto.stylizers.network import NetworkStylizer


@pytest.fixture(scope="module")
def reader(net: Network, encoder: VGG) -> ReadingGraph:
    return ReadingGraph(net, encoder).requires_grad_(False)


@pytest.fixture(scope="module")
def predictor(net: Network) -> PredictingGraph:
    return PredictingGraph(net).requires_grad_(False)


def stylizer(net: Network, encoder: VGG, style: StyleTarget | Tensor) -> NetworkStylizer:
    return NetworkStylizer(net, [style], StylizeOptions(method="network", scale=1.0, underpainting=0.0), encoder, PLAIN)


def test_a_pictures_style_is_read_as_the_package_reads_it(
    reader: ReadingGraph, predictor: PredictingGraph, net: Network, encoder: VGG, photo: Callable[[str, int], Tensor]
) -> None:
    picture = photo("coffee", 150)
    found = encoder(picture, tuple(net.config.layers))
    moments = {k: raw_moments(f) for k, f in found.items()}
    affine, colours = predictor(reader(picture))
    torch.testing.assert_close(affine, net.predict(moments), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(colours, net.style_colours(moments), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("size", [64, 128, 200, 700, 1024, 3000])
def test_readings_interpolate_as_styles_do(
    reader: ReadingGraph, predictor: PredictingGraph, net: Network, size: int
) -> None:
    from impasto.export.web.check import reading_at

    style = load_builtin("great-wave")
    rows = readings_of(style, reader)
    entry = {"sizes": list(style.sizes), "readings": 0}
    reading = torch.from_numpy(reading_at(rows.astype("<f4").tobytes(), entry, size, rows.shape[1]).copy())
    moments = style.at(size)
    affine, colours = predictor(reading)
    torch.testing.assert_close(affine, net.predict(moments), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(colours, net.style_colours(moments), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("size", [(16, 16), (97, 131), (200, 90)])
def test_whole_paintings_are_the_packages(
    net: Network, encoder: VGG, photo: Callable[[str, int], Tensor], size: tuple[int, int]
) -> None:
    picture = torch.nn.functional.interpolate(photo("chelsea", 200), size)
    own = stylizer(net, encoder, load_builtin("udnie"))
    affine, colours = own.look(picture)
    found = WholeGraph(net).requires_grad_(False)(picture, affine, colours)
    torch.testing.assert_close(found, own(picture), rtol=0, atol=1e-3)


def test_tiles_with_the_statistics_of_the_whole_are_parts_of_it(
    net: Network, encoder: VGG, photo: Callable[[str, int], Tensor]
) -> None:
    """This also holds at the borders, and for sides that are not multiples of 4."""
    picture = photo("coffee", 301)
    own = stylizer(net, encoder, load_builtin("udnie"))
    given = own.statistics(picture)
    expected, tile, margin = own(picture, statistics=given), TileGraph(net).requires_grad_(False), net.margin
    found, (height, width) = torch.zeros_like(expected), picture.shape[-2:]
    painted = colours_of(given.moments)
    for top in range(0, height, 80):
        for left in range(0, width, 120):
            y, x, bottom, right = max(0, top - margin), max(0, left - margin), top + 80, left + 120
            part = picture[:, :, y : bottom + margin, x : right + margin]
            done = tile(part, given.affine, given.colours, given.norms, painted, torch.tensor([y, x]))
            found[:, :, top:bottom, left:right] = done[:, :, top - y : bottom - y, left - x : right - x]
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-3)


def test_samples_measure_what_the_network_does(net: Network, photo: Callable[[str, int], Tensor]) -> None:
    """If all samples are equal, the statistics are those of one sample, except for the borders."""
    picture = torch.nn.functional.interpolate(photo("chelsea", 400), (SAMPLE_SIDE, SAMPLE_SIDE))
    affine = torch.from_numpy(np.random.default_rng(0).normal(0.5, 0.2, (1, net.layout.size)).astype(np.float32))
    both, places = torch.cat([picture, picture]), torch.zeros(2, 2, dtype=torch.int64)
    norms, colours = SamplesGraph(net).requires_grad_(False)(both, affine, places)
    own, painted = net.measured(picture, affine)
    deviation = own[:, 1].sqrt()
    assert ((norms[:, 0] - own[:, 0]).abs() < 0.5 * deviation + 1e-3).all()
    assert (norms[:, 1].sqrt() / (deviation + 1e-3)).median() == pytest.approx(1, abs=0.2)
    inside = painted[:, :, SAMPLE_MARGIN:-SAMPLE_MARGIN, SAMPLE_MARGIN:-SAMPLE_MARGIN]
    expected = colours_of(colour_moments(inside))
    assert (colours - expected).abs().max() < 0.5 * expected.abs().max()
    assert colour(painted, colours).shape == painted.shape


@pytest.mark.parametrize("size", [(1, 5), (4, 4), (7, 9), (30, 16)])
def test_convolutions_of_four_rows_at_a_time_are_convolutions(size: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(0)
    plain = torch.nn.Conv2d(5, 7, 3, bias=False).requires_grad_(False)
    plain.weight.normal_(generator=generator)
    x = torch.randn(2, 5, size[0] + 2, size[1] + 2, generator=generator)
    torch.testing.assert_close(RowConvolution(plain)(x), plain(x), rtol=1e-4, atol=1e-4)
