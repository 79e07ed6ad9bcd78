"""The graph paints what the package paints, at any size, before any exporter sees it."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from impasto.export.check import paint
from impasto.export.graph import PaintingGraph, enlarging, filled
from impasto.export.styles import Style
from impasto.models.network import Network
from impasto.models.passes import padded, resized_convolution
from impasto.models.vgg import VGG


@pytest.fixture(autouse=True, scope="module")
def _plain_branches() -> Iterator[None]:
    """Replace `torch.cond`, which would compile both branches every time outside of an export."""

    def cond(condition: Tensor, yes: Callable[..., Any], no: Callable[..., Any], inputs: tuple[Tensor, ...]) -> Any:
        return (yes if condition else no)(*inputs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "cond", cond)
        yield


SIZES = [(16, 16), (17, 23), (25, 24), (97, 131), (300, 290)]


def graph_of(net: Network, encoder: VGG, uint8: bool = False, style: Style | None = None) -> PaintingGraph:
    baked = None if style is None else (style.affine, style.colours)
    return PaintingGraph(net, encoder, baked, uint8, torch.float32, torch.float32).requires_grad_(False)


@pytest.fixture(scope="module")
def graph(net: Network, encoder: VGG) -> PaintingGraph:
    return graph_of(net, encoder)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("strength", [0.0, 0.5, 1.0, 1.5])
def test_graph_paints_what_the_package_paints(
    graph: PaintingGraph,
    net: Network,
    encoder: VGG,
    styles: list[Style],
    levels: Callable[..., Tensor],
    size: tuple[int, int],
    strength: float,
) -> None:
    photo = levels(*size).float() / 255
    found = graph(photo, torch.tensor([strength]), styles[0].affine, styles[0].colours)
    torch.testing.assert_close(found, paint(net, encoder, styles[0], photo, strength), rtol=0, atol=1e-3)


def test_strength_0_is_the_photograph(graph: PaintingGraph, styles: list[Style], levels: Callable[..., Tensor]) -> None:
    photo = levels(61, 77).float() / 255
    found = graph(photo, torch.tensor([0.0]), styles[0].affine, styles[0].colours)
    torch.testing.assert_close(found, photo, rtol=0, atol=1e-4)


def test_batch_is_one_by_one(graph: PaintingGraph, styles: list[Style], levels: Callable[..., Tensor]) -> None:
    photos = torch.cat([levels(45, 67, name) for name in ("coffee", "rocket")]).float() / 255
    strength = torch.tensor([1.0, 0.4])
    affine, colours = (torch.cat([getattr(s, k) for s in styles]) for k in ("affine", "colours"))
    both = graph(photos, strength, affine, colours)
    for i in range(2):
        one = graph(*(t[i : i + 1] for t in (photos, strength, affine, colours)))
        torch.testing.assert_close(both[i : i + 1], one, rtol=0, atol=1e-5)


def test_levels_are_rounded(
    graph: PaintingGraph, net: Network, encoder: VGG, styles: list[Style], levels: Callable[..., Tensor]
) -> None:
    photo = levels(33, 41)
    style = (styles[0].affine, styles[0].colours)
    found = graph_of(net, encoder, uint8=True)(photo.permute(0, 2, 3, 1), torch.ones(1), *style)
    assert found.dtype == torch.uint8
    expected = 255 * graph(photo.float() / 255, torch.ones(1), *style).permute(0, 2, 3, 1)
    assert (found - expected).abs().max() <= 0.501


def test_baked_style_is_the_style(
    graph: PaintingGraph, net: Network, encoder: VGG, styles: list[Style], levels: Callable[..., Tensor]
) -> None:
    photos = torch.cat([levels(45, 67, name) for name in ("coffee", "rocket")]).float() / 255
    strength = torch.tensor([1.0, 0.4])
    found = graph_of(net, encoder, style=styles[1])(photos, strength)
    expected = graph(photos, strength, styles[1].affine.expand(2, -1), styles[1].colours.expand(2, -1, -1))
    torch.testing.assert_close(found, expected)


def test_graph_is_a_copy(net: Network, encoder: VGG) -> None:
    before = {k: v.clone() for k, v in net.state_dict().items()}
    PaintingGraph(net, encoder, None, True, torch.float16, torch.float16)
    after = net.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(v, after[k]) for k, v in before.items())


@pytest.mark.parametrize("size", [(1, 1), (2, 5), (16, 30), (24, 24), (41, 42)])
def test_filled_is_padded(size: tuple[int, int]) -> None:
    x = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0))
    assert torch.equal(filled(x), padded(x))


def test_enlarging_is_the_resized_convolution() -> None:
    g = torch.Generator().manual_seed(0)
    convolution = torch.nn.Conv2d(6, 4, 3, bias=False)
    convolution.weight.data.normal_(generator=g)
    x = torch.randn(2, 6, 9, 8, generator=g)
    found = F.pixel_shuffle(enlarging(convolution)(x), 2)
    torch.testing.assert_close(found, resized_convolution(x, convolution))
