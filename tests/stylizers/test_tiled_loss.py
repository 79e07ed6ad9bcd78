"""The loss in tiles and its gradient are those of the whole picture, for every place of the tiles."""

from typing import Any, Literal

import pytest
import torch
from torch import Tensor

from impasto.device import Compute
from impasto.models.vgg import VGG, VGGConfig
from impasto.options import OptimizeOptions
from impasto.style.terms import (
    ContentTerm,
    LaplacianTerm,
    MomentsTerm,
    Part,
    PerceptualLoss,
    RimTerm,
    TemporalTerm,
    Term,
    VariationTerm,
    View,
)
from impasto.stylizers.loss import Problem, build_loss
from impasto.stylizers.memory import Tiling
from impasto.stylizers.protocol import Region
from impasto.stylizers.schedule import Scale
from impasto.stylizers.tiled_loss import TiledLoss, TiledView, margin_of, spans

PLAIN = Compute(torch.device("cpu"), None)
LOW = Compute(torch.device("cpu"), torch.bfloat16)
TINY = ("relu1_1", "relu3_1", "conv4_2", "pool4")


def network(padding: Literal["zeros", "reflect"], pooling: Literal["max", "average"]) -> VGG:
    """Return a network of five narrow blocks, with random weights, in float64."""
    config = VGGConfig((3, 4, 5, 6, 4), (2, 2, 2, 2, 1), {"relu1_1": 7, "relu3_1": 9}, padding)
    net = VGG(config, "tiny", pooling).eval().double()
    net.initialise(torch.Generator().manual_seed(0))
    return net


def random_picture(seed: int, *size: int, channels: int = 3) -> Tensor:
    return torch.rand(1, channels, *size, generator=torch.Generator().manual_seed(seed))


def evaluated(loss: PerceptualLoss, image: Tensor) -> tuple[dict[str, float], Tensor]:
    """Return the terms at a picture, and the gradient of their sum."""
    image = image.clone().requires_grad_(True)
    terms = loss(image)
    terms["total"].backward()
    assert image.grad is not None
    return {k: float(v.detach()) for k, v in terms.items()}, image.grad


def check_same(whole: PerceptualLoss, tiled: PerceptualLoss, image: Tensor, turn: int, tolerance: float) -> None:
    assert isinstance(tiled, TiledLoss)
    tiled.move(turn)
    (values, gradient), (found, of_tiles) = (evaluated(loss, image) for loss in (whole, tiled))
    assert found == pytest.approx(values, rel=tolerance)
    assert (of_tiles - gradient).norm() <= tolerance * gradient.norm()


@pytest.mark.parametrize("padding", ["zeros", "reflect"])
@pytest.mark.parametrize("pooling", ["max", "average"])
@pytest.mark.parametrize(
    ("side", "size"),
    [
        (16, (107, 69)),
        (50, (64, 96)),
        pytest.param(16, (64, 96), marks=pytest.mark.slow),
        pytest.param(50, (107, 69), marks=pytest.mark.slow),
    ],
)
def test_tiles_measure_what_the_whole_does(
    padding: Literal["zeros", "reflect"], pooling: Literal["max", "average"], size: tuple[int, int], side: int
) -> None:
    """Compare in float64, with layers of every kind, and sides that are not multiples of the stride."""
    net, content, image = (
        network(padding, pooling),
        random_picture(1, *size).double(),
        random_picture(2, *size).double(),
    )
    shares: dict[str, float] = dict.fromkeys(TINY, 0.25)
    region = random_picture(3, *size, channels=1).double()
    wanted = View(net, PLAIN).moments(random_picture(4, 64, 64).double(), TINY, [None])[0]
    mask, shown = (region > 0.3).double(), random_picture(5, *size, channels=1).double()

    def loss(view: View, kind: type[PerceptualLoss]) -> PerceptualLoss:
        own = view.moments(content, TINY, [region, None])
        targets = [
            (Part(share, part), {k: torch.lerp(o[k].double(), wanted[k], 0.7) for k in TINY})
            for share, part, o in zip((0.4, 0.6), (region, 1 - region), own, strict=True)
        ]
        terms: dict[str, tuple[float, Term]] = {
            "content": (0.3, view.content(content, {"conv4_2": 0.7, "relu3_1": 0.3}, shown)),
            "gram": (2.0, MomentsTerm("gram", net, targets, shares)),
            "moments": (1.0, MomentsTerm("moments", net, targets, shares)),
            "tv": (1.5, VariationTerm()),
            "laplacian": (0.5, LaplacianTerm(content)),
            "rim": (20.0, RimTerm(content, [region, None])),
            "temporal": (3.0, TemporalTerm(content.flip(3), region)),
        }
        return kind(view, terms, (content, mask))  # pyright: ignore[reportArgumentType]

    whole, tiled = loss(View(net, PLAIN), PerceptualLoss), loss(TiledView(net, PLAIN, size, TINY, side), TiledLoss)
    for turn in (0, 1):
        check_same(whole, tiled, image, turn, 1e-6)


OPTIONS: list[dict[str, Any]] = [
    {},
    {"strength": 0.6, "content_blur": 2.0},
    {"strength": 0.6, "plain_weight": 0.0},
    {"plain_weight": 1.0},
    {"laplacian_weight": 0.3, "tv_weight": 0.0, "rim_weight": 50.0},
    {"content_layers": "relu4_2,relu2_1", "layers": "relu1_1,relu5_1", "content_weight": 0.5},
    {"content_weight": 0.0},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize(
    ("parts", "on_disk"),
    [
        pytest.param(False, False, id="whole"),
        pytest.param(True, True, id="regions, mask, alpha, on disk"),
        pytest.param(False, True, id="whole, on disk", marks=pytest.mark.slow),
        pytest.param(True, False, id="regions, mask, alpha", marks=pytest.mark.slow),
    ],
)
def test_a_paintings_loss_in_tiles(
    encoder: VGG, content: Tensor, style: Tensor, options: dict[str, Any], parts: bool, on_disk: bool
) -> None:
    """Compare in float32, with everything that a painting can have: regions, a mask, an alpha."""
    chosen = OptimizeOptions(size=96, style_loss="gram", **options)
    size = (content.shape[-2], content.shape[-1])
    more: dict[str, Any] = {}
    if parts:
        half = torch.zeros(1, 1, *size)
        half[..., : size[1] // 3] = 1
        more = {"regions": [Region(half, style.flip(3))], "mask": half.flip(3).lerp(half, 0.3)}
        content = torch.cat([content, random_picture(0, *size, channels=1)], 1)
    scale, image = Scale(size, 1, 1.0), PLAIN.picture(random_picture(7, *size))
    tiling = Tiling(32, 0, on_disk, 0, 0, 0)
    whole, tiled = (
        build_loss(Problem(encoder, PLAIN, chosen, content, size, [style], tiling=t, **more), scale, image)
        for t in (None, tiling)
    )
    for turn in (0, 3):
        check_same(whole, tiled, image, turn, 1e-5)


def test_in_half_precision_only_rounding_differs(encoder: VGG, content: Tensor, style: Tensor) -> None:
    size = (content.shape[-2], content.shape[-1])
    chosen, image = OptimizeOptions(size=96, style_loss="gram"), random_picture(7, *size)
    whole, tiled = (
        build_loss(Problem(encoder, LOW, chosen, content, size, [style], tiling=t), Scale(size, 1, 1.0), image)
        for t in (None, Tiling(32, 0, False, 0, 0, 0))
    )
    check_same(whole, tiled, LOW.picture(image), 1, 1e-2)


def test_small_scales_are_painted_whole(encoder: VGG, content: Tensor, style: Tensor) -> None:
    size = (content.shape[-2], content.shape[-1])
    tiling = Tiling(32, 0, False, 0, 0, whole=48 * 48)
    problem = Problem(encoder, PLAIN, OptimizeOptions(size=96), content, size, [style], tiling=tiling)
    for scale, tiled in ((Scale((48, 48), 1, 1.0), False), (Scale(size, 1, 1.0), True)):
        assert isinstance(build_loss(problem, scale, content), TiledLoss) == tiled


def test_the_contents_features_are_those_of_the_whole(encoder: VGG, content: Tensor) -> None:
    """The content's spread is the same, too: so the content loss of a blank picture is."""
    size, shares = (content.shape[-2], content.shape[-1]), {"relu4_1": 1.0}
    whole = View(encoder, PLAIN).content(content, shares)
    tiled = TiledView(encoder, PLAIN, size, ("relu4_1",), 32, on_disk=True).content(content, shares)
    assert isinstance(whole, ContentTerm)
    assert tiled.weights == pytest.approx(whole.weights, rel=1e-5)


@pytest.mark.parametrize("length", [7, 64, 100, 333, 1000])
@pytest.mark.parametrize("place", range(4))
def test_tiles_cover_a_side_once(length: int, place: int) -> None:
    """Tiles are aligned to the stride, have their margin inside the picture, and have one size, except for the last."""
    found = spans(length, 48, 8, 32, place)
    assert [s.start for s in found] == [0, *(s.end for s in found[:-1])]
    assert found[-1].end == length
    assert all(s.start < s.end <= s.start + 48 for s in found)
    assert all(s.start % 8 == s.seen_start % 8 == 0 for s in found)
    assert all(0 <= s.seen_start <= max(0, s.start - 32) for s in found)
    assert all(min(length, s.end + 32) <= s.seen_end <= length for s in found)
    assert len({s.seen_end - s.seen_start for s in found}) <= 2


def test_no_line_is_a_border_every_time(encoder: VGG) -> None:
    view = TiledView(encoder, PLAIN, (1000, 700), ("relu4_1",), 200)
    tiles = [list(view.tiles(turn)) for turn in range(8)]
    for side in (0, 1):
        borders = [b for found in tiles for b in {t[side].start for t in found} - {0}]
        assert {borders.count(b) for b in borders} == {2}


@pytest.mark.parametrize(("layer", "reach"), [("relu1_1", 1), ("relu2_1", 4), ("relu4_1", 32), ("relu5_1", 80)])
def test_the_margin_is_what_the_layer_sees(encoder: VGG, layer: str, reach: int) -> None:
    margin, stride = margin_of(encoder, ("relu1_1", layer))
    assert (margin, stride) == (reach, encoder.stride(layer))
    image, cell = random_picture(0, 256, 256), 128 // stride
    image = image.requires_grad_(True)
    encoder(image, (layer,))[layer][0, :, cell, cell].sum().backward()
    assert image.grad is not None
    seen = image.grad.abs().sum((0, 1)).nonzero()
    assert 128 - margin <= seen.min() <= 128 - margin + stride
    assert seen.max() <= 128 + stride - 1 + margin
