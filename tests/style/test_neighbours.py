"""Tests of nearest-neighbour matching: by hand, in chunks and as a whole, narrow and after the heads."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from impasto.models.vgg import VGG, VGGConfig
from impasto.style.losses import covariance_metric
from impasto.style.neighbours import (
    columns,
    grid_size,
    hypercolumns,
    match,
    nearest,
    neighbour_loss,
    rotations,
)


def features(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).double()


def distances(x: Tensor, y: Tensor) -> Tensor:
    """Return centred cosine distances (P, Q), written from the definition."""
    x, y = x - x.mean(0), y - y.mean(0)
    return 1 - (x @ y.t()) / torch.outer(x.norm(dim=1), y.norm(dim=1))


def test_nearest_by_hand() -> None:
    """Both sets are centred by their own means, so only directions count, not lengths."""
    style = torch.tensor([[3.0, 0.0], [0.0, 1.0], [-3.0, 0.0], [0.0, -1.0]])  # right, up, left, down of (0, 0)
    content = torch.tensor([[10.0, 15.0], [10.1, 10.0], [10.0, 5.0], [9.9, 10.0]])  # up, right, down, left of (10, 10)
    assert nearest(content, style).tolist() == [1, 0, 3, 2]


def test_nearest_by_definition() -> None:
    x, y = features(0, 37, 5), features(1, 53, 5) + 2
    assert torch.equal(nearest(x, y), distances(x, y).argmin(1))


def test_nearest_by_euclidean_distance_looks_at_lengths() -> None:
    """By cosine, a weak colour finds the strong one of its hue; by distance, the weak one beside it."""
    content = torch.tensor([[1.0, 0.2], [-1.0, -0.2]])
    style = torch.tensor([[30.0, 6.0], [1.0, 0.0], [-1.0, 0.0], [-30.0, -6.0]])
    assert nearest(content, style).tolist() == [0, 3]
    assert nearest(content, style, distance="euclidean").tolist() == [1, 2]
    x, y = features(0, 37, 5), features(1, 53, 5) + 2
    expected = torch.cdist(x - x.mean(0), y - y.mean(0)).argmin(1)
    assert torch.equal(nearest(x, y, 16, distance="euclidean"), expected)


@pytest.mark.parametrize("chunk", [1, 7, 36, 37, 53, 1000])
def test_chunked_is_whole(chunk: int) -> None:
    x, y = features(0, 37, 5), features(1, 53, 5)
    assert torch.equal(nearest(x, y, chunk), nearest(x, y))


@pytest.mark.parametrize("chunk", [1, 2, 3, 100])
def test_the_first_of_equals_wins(chunk: int) -> None:
    one = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    assert nearest(one, one.repeat(4, 1), chunk).tolist() == [0, 1]


def test_a_constant_content_is_matched_all_the_same() -> None:
    assert nearest(torch.ones(3, 4), features(0, 5, 4).float()).tolist() == [0, 0, 0]


def test_columns_that_are_not_numbers_are_matched_with_something() -> None:
    """The match is not checked: the optimiser reports the divergence."""
    assert nearest(torch.full((3, 4), torch.nan), features(0, 5, 4).float()).tolist() == [0, 0, 0]


def test_in_bfloat16_the_neighbours_are_nearly_as_near() -> None:
    x, y = features(0, 200, 16).float(), features(1, 300, 16).float()
    d = distances(x, y)
    exact, found = nearest(x, y), nearest(x, y, dtype=torch.bfloat16)
    rows = torch.arange(200)
    assert (d[rows, found] - d[rows, exact]).max() < 0.02
    assert d[rows, found].mean() < 1.01 * d[rows, exact].mean()


def test_match_takes_each_picture_by_itself() -> None:
    content, style = features(0, 2, 3, 4, 5), columns(features(1, 1, 3, 6, 6), features(2, 1, 3, 2, 7))
    assert style.shape == (36 + 14, 3)
    found = match(content, style)
    assert found.shape == content.shape
    for i in range(2):
        place = distances(columns(content[i : i + 1]), style).argmin(1)
        assert torch.equal(columns(found[i : i + 1]), style[place])


def test_a_picture_matches_itself() -> None:
    f = features(0, 1, 6, 5, 4)
    assert torch.equal(match(3 * f + 1, columns(f)), f)
    assert neighbour_loss(f, match(f, columns(f)), columns(f).mean(0)).item() == pytest.approx(0, abs=1e-12)


def test_neighbour_loss_by_hand() -> None:
    """Around the centre (1, 1), the same direction, a right angle and the opposite have the distances 0, 1 and 2."""
    f = torch.tensor([[[[3.0, 1.0, 0.0]], [[1.0, 5.0, 0.0]]]])  # columns (3, 1), (1, 5), (0, 0)
    matched = torch.tensor([[[[2.0, 2.0, 3.0]], [[1.0, 1.0, 3.0]]]])  # columns (2, 1), (2, 1), (3, 3)
    assert neighbour_loss(f, matched, torch.ones(2)).item() == pytest.approx((0 + 1 + 2) / 3)


def test_neighbour_loss_gradcheck() -> None:
    f, matched = features(0, 2, 3, 2, 4).requires_grad_(True), features(1, 2, 3, 2, 4)
    assert torch.autograd.gradcheck(lambda f: neighbour_loss(f, matched, matched.mean((0, 2, 3))), (f,))
    weights = features(2, 1, 1, 2, 4).abs()
    assert torch.autograd.gradcheck(lambda f: neighbour_loss(f, matched, matched.mean((0, 2, 3)), weights), (f,))


def test_neighbour_loss_with_weights_by_hand() -> None:
    """The distances 0, 1 and 2 of the places above have the weights 2, 1 and 1."""
    f = torch.tensor([[[[3.0, 1.0, 0.0]], [[1.0, 5.0, 0.0]]]])
    matched = torch.tensor([[[[2.0, 2.0, 3.0]], [[1.0, 1.0, 3.0]]]])
    weights = torch.tensor([[[[0.5, 0.25, 0.25]]]])
    assert neighbour_loss(f, matched, torch.ones(2), weights).item() == pytest.approx((0 * 2 + 1 + 2) / 4)
    assert neighbour_loss(f, matched, torch.ones(2), 3 * weights).item() == pytest.approx(3 / 4)
    assert neighbour_loss(f, matched, torch.ones(2), 0 * weights).item() == 0


@pytest.mark.parametrize("own", [False, True], ids=["one mask", "a mask each"])
def test_neighbour_loss_with_weights_looks_at_no_other_place(own: bool) -> None:
    f, matched, centre = features(0, 2, 3, 4, 5), features(1, 2, 3, 4, 5), features(2, 3)
    weights = torch.zeros(2 if own else 1, 1, 4, 5)
    weights[..., 1:3, :4] = 1
    found = neighbour_loss(f, matched, centre, weights)
    assert torch.allclose(found, neighbour_loss(f[..., 1:3, :4], matched[..., 1:3, :4], centre))
    f.requires_grad_(True)
    (gradient,) = torch.autograd.grad(neighbour_loss(f, matched, centre, weights).sum(), f)
    assert gradient[..., 0, :].abs().max() == gradient[..., 4].abs().max() == 0
    assert (gradient[..., 1:3, :4].abs().sum(1) > 0).all()


def test_neighbour_loss_where_a_column_is_the_centre_is_finite() -> None:
    f = torch.ones(1, 3, 2, 2).requires_grad_(True)
    loss = neighbour_loss(f, torch.ones(1, 3, 2, 2), torch.ones(3))
    loss.sum().backward()
    assert loss.isfinite().all()
    assert f.grad is not None
    assert f.grad.isfinite().all()


def test_hypercolumns_by_hand() -> None:
    """Finer features are averaged over a cell, coarser ones enlarged bilinearly, and each is divided by its width."""
    fine = torch.tensor([[[[0.0, 2.0, 4.0, 4.0], [2.0, 0.0, 4.0, 0.0]]]])
    coarse = torch.tensor([[[[6.0]], [[8.0]]]])
    found = hypercolumns({"a": fine, "b": coarse, "c": fine}, ("b", "a"), (1, 2))
    assert torch.equal(found, torch.tensor([[[[3.0, 3.0]], [[4.0, 4.0]], [[1.0, 3.0]]]]))
    wide = hypercolumns({"a": fine, "b": coarse}, ("b", "a"), (1, 2), widths={"b": 1, "a": 10})
    assert torch.allclose(wide, torch.tensor([[[[6.0, 6.0]], [[8.0, 8.0]], [[0.1, 0.3]]]]))


def test_hypercolumns_enlarge_between_pixel_centres() -> None:
    coarse = torch.tensor([[[[0.0, 4.0]]]])
    assert hypercolumns({"a": coarse}, ("a",), (1, 4)).flatten().tolist() == [0.0, 1.0, 3.0, 4.0]


def test_hypercolumns_in_low_precision_are_float32() -> None:
    assert hypercolumns({"a": torch.ones(1, 2, 4, 4).bfloat16()}, ("a",), (2, 2)).dtype == torch.float32


def headed() -> VGG:
    net = VGG(VGGConfig((4, 6), (1, 1), {"relu1_1": 9, "relu2_1": 11}), "headed").eval()
    g = torch.Generator().manual_seed(3)
    net.initialise(g)
    for head in net.heads.values():
        head.bias.data.normal_(0, 1, generator=g)  # type: ignore[union-attr]
    return net


def test_behind_the_heads() -> None:
    """Narrow hypercolumns with the metrics have the same neighbours and losses as explicit wide ones."""
    net, layers = headed(), ("relu1_1", "relu2_1")
    metrics = {k: covariance_metric(net, k) for k in layers}
    widths = {"relu1_1": 9, "relu2_1": 11}
    narrow, wide = [], []
    for seed in (4, 5):
        f = net(torch.rand(1, 3, 24, 32, generator=torch.Generator().manual_seed(seed)), layers)
        narrow.append(hypercolumns(f, layers, (8, 10), metrics, widths))
        wide.append(hypercolumns({k: net.heads[k](v) for k, v in f.items()}, layers, (8, 10)))
    matched, expected = (match(c, columns(s)) for c, s in (narrow, wide))
    places, found = (nearest(columns(c), columns(s)) for c, s in (wide, narrow))
    assert torch.equal(found, places)
    loss = neighbour_loss(narrow[0], matched, columns(narrow[1]).mean(0))
    assert torch.allclose(loss, neighbour_loss(wide[0], expected, columns(wide[1]).mean(0)), rtol=1e-4)


@pytest.mark.parametrize(("size", "grid"), [((512, 384), (128, 96)), ((3, 9), (1, 2)), ((400, 526), (100, 131))])
def test_grid_size(size: tuple[int, int], grid: tuple[int, int]) -> None:
    assert grid_size(size) == grid


def test_rotations() -> None:
    """[[1, 2, 3], [4, 5, 6]] is rotated counterclockwise by quarter turns."""
    picture = torch.tensor([[[[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]]])
    found = [p[0, 0].tolist() for p in rotations(picture)]
    assert found == [
        [[1, 2, 3], [4, 5, 6]],
        [[3, 6], [2, 5], [1, 4]],
        [[6, 5, 4], [3, 2, 1]],
        [[4, 1], [5, 2], [6, 3]],
    ]


def test_turned_styles_offer_nearer_neighbours(photo: Callable[[str, int], Tensor]) -> None:
    net, layers = headed(), ("relu1_1", "relu2_1")
    content, style = photo("chelsea", 64), photo("coffee", 64)

    def hyper(picture: Tensor) -> Tensor:
        return hypercolumns(net(picture, layers), layers, grid_size((picture.shape[-2], picture.shape[-1])))

    upright = columns(hyper(style))
    turned = columns(*(hyper(p) for p in rotations(style)))
    assert len(turned) == 4 * len(upright)
    assert torch.equal(turned[: len(upright)], upright)
    centre, x = upright.mean(0), columns(hyper(content))
    x = x - x.mean(0)
    # One centre for both, so that it is the same distance, over a larger set.
    least = [(1 - torch.cosine_similarity(x[:, None], (s - centre)[None], dim=2)).amin(1) for s in (upright, turned)]
    assert least[1].mean() < 0.99 * least[0].mean()


def test_gradient_descent_reaches_the_neighbours() -> None:
    f, style = features(0, 1, 5, 6, 6), columns(features(1, 1, 5, 7, 7))
    matched = match(f, style)
    losses = []
    for _ in range(40):
        f.requires_grad_(True)
        loss = neighbour_loss(f, matched, style.mean(0))
        (gradient,) = torch.autograd.grad(loss, f)
        f = (f - 36 * gradient).detach()
        losses.append(loss.item())
    assert losses[-1] < 0.1 * losses[0]
