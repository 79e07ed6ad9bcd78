"""Tests of the terms of the `nn` loss: which columns a style offers, what they match, and when."""

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor

from impasto.device import Compute
from impasto.models.vgg import VGG, VGGConfig
from impasto.style.losses import covariance_metric
from impasto.style.neighbours import (
    Columns,
    LayerNeighbourTerm,
    Neighbours,
    NeighbourTerm,
    columns,
    hypercolumns,
    match,
    neighbour_loss,
    rotations,
)
from impasto.style.terms import Part, PerceptualLoss, Term, View, divide

PLAIN = Compute(torch.device("cpu"), None)
LOW = Compute(torch.device("cpu"), torch.bfloat16)
LAYERS = ("relu1_1", "relu2_1", "relu3_1")
SHARES = {"relu1_1": 0.5, "relu2_1": 0.3, "relu3_1": 0.2}
HEADS = {"relu1_1": 7, "relu3_1": 9}
WHOLE = Part(1.0, None)
MOST = 10_000


def network(heads: dict[str, int]) -> VGG:
    net = VGG(VGGConfig((6, 8, 10), (1, 1, 1), heads), "tiny").eval()
    net.initialise(torch.Generator().manual_seed(0))
    for k, head in net.heads.items():
        torch.nn.init.uniform_(head.get_parameter("bias"), generator=torch.Generator().manual_seed(len(k)))
    return net


def random_picture(seed: int, *size: int) -> Tensor:
    return torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(seed))


IMAGE, CONTENT, STYLE, OTHER = (random_picture(i, 32, 48) for i in range(4))


def columns_of(heads: dict[str, int] | None = None, compute: Compute = PLAIN, **arguments: Any) -> Columns:
    return Columns(View(network(HEADS if heads is None else heads), compute, **arguments), SHARES)


def neighbours(made: Columns, style: Tensor = STYLE, part: Part = WHOLE, share: float = 1.0) -> Neighbours:
    return Neighbours(part, share, made.style(style, seed=0, most=MOST))


def together(of_layers: Mapping[str, Tensor]) -> Tensor:
    return torch.cat(list(of_layers.values()), 1)


def value(term: Term, made: Columns, image: Tensor = IMAGE) -> float:
    return PerceptualLoss(made.view, {"term": (1.0, term)})(image)["term"].item()


def left(width: int) -> Tensor:
    """Return a mask of that many columns on the left."""
    mask = torch.zeros(1, 1, 32, 48)
    mask[..., :width] = 1
    return mask


# -- columns ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "size", "grid"),
    [
        ({}, (32, 48), (8, 12)),
        ({}, (33, 47), (8, 11)),
        ({"wrap": 32}, (32, 48), (8, 12)),
    ],
)
def test_the_grid_is_that_of_the_picture_as_it_is_seen(
    arguments: dict[str, Any], size: tuple[int, int], grid: tuple[int, int]
) -> None:
    made, picture = columns_of(**arguments), random_picture(4, *size)
    assert made.grid(picture) == grid
    for k, f in made.picture(picture).items():
        assert f.shape == (1, made.view.encoder.width(k), *grid), k


@pytest.mark.parametrize("heads", [{}, HEADS], ids=["plain", "heads"])
def test_hypercolumns_of_a_picture(heads: dict[str, int]) -> None:
    """Each layer is taken after its head's metric.

    It is divided by its width, or its head's, and multiplied by its weight.
    """
    made = columns_of(heads)
    net, widths = made.view.encoder, {"relu1_1": 6.0, "relu2_1": 8.0, "relu3_1": 10.0}
    if heads:
        widths |= {"relu1_1": 7.0, "relu3_1": 9.0}
    features = net(IMAGE, LAYERS)
    found = made.picture(IMAGE)
    assert tuple(found) == LAYERS
    for k, weight in SHARES.items():
        metric = covariance_metric(net, k)
        expected = weight * hypercolumns(features, [k], (8, 12), {k: metric}, {k: widths[k]})
        assert torch.allclose(found[k], expected, rtol=1e-4, atol=1e-6), k


def test_a_style_is_seen_in_four_orientations() -> None:
    made = columns_of()
    found = made.style(STYLE, seed=0, most=MOST)
    assert tuple(found) == LAYERS
    for k, f in found.items():
        turned = [columns(made.picture(p)[k]) for p in rotations(STYLE)]
        assert torch.equal(f, torch.cat(turned)), k
        assert len(f) == 4 * 8 * 12


def test_of_many_columns_some_are_drawn_by_lot() -> None:
    """The same seed draws the same columns, none twice, at the same places in every layer."""
    made = columns_of()
    whole, drawn = together(made.style(STYLE, 0, MOST)), together(made.style(STYLE, 7, 100))
    assert len(whole) == 4 * 8 * 12
    assert len(drawn) == 100
    places = (drawn[:, None] == whole[None]).all(2)
    assert (places.sum(1) == 1).all()  # each is one of the whole, with all its layers
    chosen = places.int().argmax(1)
    assert (chosen.diff() > 0).all()
    assert chosen.max() > 3 * 96  # of the last orientation too
    assert torch.equal(drawn, together(made.style(STYLE, 7, 100)))
    assert not torch.equal(drawn, together(made.style(STYLE, 8, 100)))
    assert torch.equal(whole, together(made.style(STYLE, 7, len(whole))))


# -- matched when the scale begins ------------------------------------------------------------------------------------


def test_a_picture_of_the_styles_own_columns_costs_nothing() -> None:
    """A picture that looks the same after a quarter turn offers each column four times, and each matches itself."""
    square = random_picture(5, 32, 32)
    square = torch.stack([torch.rot90(square, i, (2, 3)) for i in range(4)]).mean(0)
    made = columns_of({})
    offered = neighbours(made, square)
    for term in (NeighbourTerm, LayerNeighbourTerm):
        assert value(term(made, [offered], square), made, square) == pytest.approx(0, abs=1e-5)
        changed = random_picture(6, 32, 32)
        assert value(term(made, [offered], changed), made, changed) > 0.01


def expected_loss(made: Columns, image: Tensor, start: Tensor, style: Tensor, **arguments: Any) -> float:
    """Return the loss of hypercolumns of all layers, computed in plain steps."""
    own, offered = together(made.picture(image)), together(made.style(style, 0, MOST))
    matched = match(together(made.picture(start)), offered)
    if "content" in arguments:
        anchor = together(made.picture(arguments["content"]))
        matched = anchor + arguments["strength"] * (matched - anchor)
    return neighbour_loss(own, matched, offered.mean(0), arguments.get("weights")).item()


@pytest.mark.parametrize("arguments", [{}, {"wrap": 16}], ids=str)
@pytest.mark.parametrize("heads", [{}, HEADS], ids=["plain", "heads"])
def test_the_matches_are_those_of_the_picture_that_the_scale_began_with(
    heads: dict[str, int], arguments: dict[str, Any]
) -> None:
    made = columns_of(heads, **arguments)
    term = NeighbourTerm(made, [neighbours(made)], IMAGE)
    for image in (IMAGE, OTHER):
        assert value(term, made, image) == pytest.approx(expected_loss(made, image, IMAGE, STYLE), rel=1e-4)
    assert value(term, made, OTHER) != pytest.approx(expected_loss(made, OTHER, OTHER, STYLE), rel=1e-2)


@pytest.mark.parametrize("kind", [NeighbourTerm, LayerNeighbourTerm])
def test_without_strength_the_content_is_the_goal(kind: type[NeighbourTerm] | type[LayerNeighbourTerm]) -> None:
    made = columns_of()
    term = kind(made, [neighbours(made)], IMAGE, CONTENT, 0.0)
    assert value(term, made, CONTENT) == pytest.approx(0, abs=1e-5)
    assert value(term, made, IMAGE) > 0.01


def test_with_half_the_strength_the_goal_is_half_way() -> None:
    made = columns_of()
    term = NeighbourTerm(made, [neighbours(made)], IMAGE, CONTENT, 0.5)
    expected = expected_loss(made, OTHER, IMAGE, STYLE, content=CONTENT, strength=0.5)
    assert value(term, made, OTHER) == pytest.approx(expected, rel=1e-4)
    full = NeighbourTerm(made, [neighbours(made)], IMAGE, CONTENT, 1.0)
    assert value(full, made, OTHER) == pytest.approx(expected_loss(made, OTHER, IMAGE, STYLE), rel=1e-4)


@pytest.mark.parametrize("kind", [NeighbourTerm, LayerNeighbourTerm])
def test_two_styles_count_by_their_shares(kind: type[NeighbourTerm] | type[LayerNeighbourTerm]) -> None:
    made = columns_of()
    alone = [value(kind(made, [neighbours(made, s)], IMAGE), made) for s in (STYLE, 0.4 * OTHER)]
    both = [neighbours(made, STYLE, share=0.3), neighbours(made, 0.4 * OTHER, share=0.7)]
    assert value(kind(made, both, IMAGE), made) == pytest.approx(0.3 * alone[0] + 0.7 * alone[1], rel=1e-4)
    none = neighbours(made, OTHER, share=0.0)
    assert value(kind(made, [neighbours(made), none], IMAGE), made) == pytest.approx(alone[0])


@pytest.mark.parametrize("kind", [NeighbourTerm, LayerNeighbourTerm])
def test_parts_count_by_their_area(kind: type[NeighbourTerm] | type[LayerNeighbourTerm]) -> None:
    """The left third has one style and the rest another, cut along the grid, so every place keeps its match."""
    made = columns_of({})
    parts, styles = divide([left(16)]), (STYLE, 0.4 * OTHER)
    term = kind(made, [neighbours(made, s, p) for s, p in zip(styles, parts, strict=True)], IMAGE)
    expected = 0.0
    layers = {k: SHARES[k] for k in LAYERS} if kind is LayerNeighbourTerm else {"all": 1.0}
    for part, style, area in zip(parts, styles, (slice(0, 4), slice(4, 12)), strict=True):
        own, offered = made.picture(IMAGE), made.style(style, 0, MOST)
        if kind is NeighbourTerm:
            own, offered = {"all": together(own)}, {"all": together(offered)}
        for k, weight in layers.items():
            matched, centre = match(own[k], offered[k]), offered[k].mean(0)
            expected += part.share * weight * neighbour_loss(own[k][..., area], matched[..., area], centre).item()
    assert value(term, made) == pytest.approx(expected, rel=1e-4)
    nowhere = neighbours(made, OTHER, Part(0.0, 0 * left(16)))
    whole = neighbours(made, STYLE, Part(1.0, torch.ones(1, 1, 32, 48)))
    plain = value(kind(made, [neighbours(made)], IMAGE), made)
    assert value(kind(made, [nowhere, whole], IMAGE), made) == pytest.approx(plain, rel=1e-4)


# -- matched anew -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [{}, {"checkpointing": True}], ids=str)
def test_each_layer_is_matched_anew(arguments: dict[str, Any]) -> None:
    """The loss of a changed picture uses its own matches, not the first ones."""
    made = columns_of(**arguments)
    term, offered = LayerNeighbourTerm(made, [neighbours(made)], IMAGE), made.style(STYLE, 0, MOST)
    first = {k: match(f, offered[k]) for k, f in made.picture(IMAGE).items()}
    for image in (IMAGE, OTHER):
        new, old = 0.0, 0.0
        for k, f in made.picture(image).items():
            centre = offered[k].mean(0)
            new += SHARES[k] * neighbour_loss(f, match(f, offered[k]), centre).item()
            old += SHARES[k] * neighbour_loss(f, first[k], centre).item()
        assert value(term, made, image) == pytest.approx(new, rel=1e-4)
        assert image is IMAGE or new < 0.9 * old


def test_layers_that_find_their_own_matches_are_nearer() -> None:
    """The best matches of each layer are at least as good as the best of all layers together."""
    made = columns_of({})
    styles = [neighbours(made)]
    alone = {k: Columns(made.view, {k: 1.0}) for k in LAYERS}
    offered = made.style(STYLE, 0, MOST)
    chosen = match(together(made.picture(IMAGE)), together(offered)).split([6, 8, 10], 1)
    jointly = 0.0
    for (k, f), matched in zip(made.picture(IMAGE).items(), chosen, strict=True):
        jointly += SHARES[k] * neighbour_loss(f, matched, offered[k].mean(0)).item()
        single = LayerNeighbourTerm(alone[k], [neighbours(alone[k])], IMAGE)
        assert value(single, alone[k]) < neighbour_loss(f, matched, offered[k].mean(0)).item(), k
    assert value(LayerNeighbourTerm(made, styles, IMAGE), made) < jointly


def test_weights_of_layers_need_not_sum_to_one() -> None:
    view = View(network(HEADS), PLAIN)
    for term in (NeighbourTerm, LayerNeighbourTerm):
        found = []
        for factor in (1.0, 5.0):
            made = Columns(view, {k: factor * w for k, w in SHARES.items()})
            found.append(value(term(made, [neighbours(made)], IMAGE), made))
        assert found[1] == pytest.approx(found[0], rel=1e-4)


# -- gradients and precision ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [NeighbourTerm, LayerNeighbourTerm])
@pytest.mark.parametrize("arguments", [{}, {"wrap": 16}], ids=str)
def test_gradients_are_those_of_finite_differences(
    kind: type[NeighbourTerm] | type[LayerNeighbourTerm], arguments: dict[str, Any]
) -> None:
    """This holds with fixed matches, and with new matches if the change is too small to alter them."""
    made = Columns(View(network({}).double(), PLAIN, **arguments), SHARES)
    parts = divide([left(20)])
    styles = [neighbours(made, s.double(), p, 0.6) for s, p in zip((STYLE, OTHER), parts, strict=True)]
    term = kind(made, styles, IMAGE.double(), CONTENT.double(), 0.7)
    image, direction = OTHER.double(), random_picture(6, 32, 48).double() - 0.5
    ends = [value(term, made, image + h * direction) for h in (1e-7, -1e-7)]
    x = image.clone().requires_grad_(True)
    loss = PerceptualLoss(made.view, {"term": (1.0, term)})
    (gradient,) = torch.autograd.grad(loss(x)["total"], x)
    assert (gradient * direction).sum().item() == pytest.approx((ends[0] - ends[1]) / 2e-7, rel=1e-4)


@pytest.mark.parametrize("kind", [NeighbourTerm, LayerNeighbourTerm])
def test_checkpointing_changes_nothing(kind: type[NeighbourTerm] | type[LayerNeighbourTerm]) -> None:
    results = []
    for checkpointing in (False, True):
        made, x = columns_of(checkpointing=checkpointing), OTHER.clone().requires_grad_(True)
        terms = PerceptualLoss(made.view, {"term": (1.0, kind(made, [neighbours(made)], IMAGE))})(x)
        terms["total"].backward()
        results.append((terms["total"].item(), x.grad))
    assert results[1][0] == pytest.approx(results[0][0], rel=1e-6)
    torch.testing.assert_close(results[1][1], results[0][1])


@pytest.mark.parametrize("kind", [NeighbourTerm, LayerNeighbourTerm])
def test_in_bfloat16_it_is_nearly_the_same(kind: type[NeighbourTerm] | type[LayerNeighbourTerm]) -> None:
    found = []
    for compute in (PLAIN, LOW):
        made = columns_of(compute=compute)
        loss = PerceptualLoss(made.view, {"term": (1.0, kind(made, [neighbours(made)], IMAGE))})(OTHER)["term"]
        assert loss.dtype == torch.float32
        found.append(loss.item())
    assert found[1] == pytest.approx(found[0], rel=0.05)


@pytest.mark.parametrize("kind", [NeighbourTerm, LayerNeighbourTerm])
def test_a_descent_brings_the_picture_to_its_matches(kind: type[NeighbourTerm] | type[LayerNeighbourTerm]) -> None:
    made, x = columns_of(), IMAGE.clone().requires_grad_(True)
    loss = PerceptualLoss(made.view, {"nn": (1.0, kind(made, [neighbours(made, 0.5 * STYLE)], IMAGE))})
    first, optimiser = loss(x)["nn"].item(), torch.optim.Adam([x], lr=0.03)
    for _ in range(30):
        optimiser.zero_grad()
        loss(x)["total"].backward()
        optimiser.step()
    assert loss(x)["nn"].item() < 0.5 * first
