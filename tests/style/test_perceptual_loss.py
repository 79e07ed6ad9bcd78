"""Tests of PerceptualLoss and View: the sum of the terms, measured by one encoder in every way of applying it."""

from collections.abc import Mapping
from typing import Any, Literal

import pytest
import torch
from torch import Tensor

from impasto.device import Compute
from impasto.models.moments import raw_moments
from impasto.models.vgg import CONTENT_LAYER, STYLE_LAYERS, VGG, VGGConfig
from impasto.style.losses import content_loss, gram_loss, head_metric, total_variation
from impasto.style.terms import ContentTerm, MomentsTerm, Part, PerceptualLoss, Term, VariationTerm, View, divide

PLAIN = Compute(torch.device("cpu"), None)
LOW = Compute(torch.device("cpu"), torch.bfloat16)
HEADS = {"relu1_1": 7, "relu3_1": 9, CONTENT_LAYER: 5}
LAYERS = (*STYLE_LAYERS, CONTENT_LAYER)
SHARES: dict[str, float] = dict.fromkeys(STYLE_LAYERS, 1 / 5)
REACH = 48
"""A continuation, in pixels, beyond what the tiny network's deepest layer sees."""


def network(heads: dict[str, int], padding: Literal["zeros", "reflect"] = "zeros") -> VGG:
    net = VGG(VGGConfig((3, 4, 5, 6, 4), (1, 1, 1, 2, 1), heads, padding), "tiny").eval()
    net.initialise(torch.Generator().manual_seed(0))
    for k, head in net.heads.items():
        torch.nn.init.uniform_(head.get_parameter("bias"), generator=torch.Generator().manual_seed(len(k)))
    return net


def random_picture(seed: int, *size: int) -> Tensor:
    return torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(seed))


CONTENT, STYLE, IMAGE = random_picture(0, 32, 48), random_picture(1, 40, 40), random_picture(2, 32, 48)


def moments_of(net: VGG, picture: Tensor) -> dict[str, Tensor]:
    return {k: raw_moments(f) for k, f in net(picture, STYLE_LAYERS).items()}


def terms_of(
    view: View, content: Tensor, *, kind: Literal["gram", "moments"] = "gram", mask: Tensor | None = None
) -> dict[str, Term]:
    """Return the three terms that most paintings have, with the style `STYLE` inside a mask."""
    moments = moments_of(view.encoder, STYLE.to(content))
    return {
        "content": ContentTerm(view.encoder, view.features(content, (CONTENT_LAYER,)), {CONTENT_LAYER: 1.0}),
        "style": MomentsTerm(kind, view.encoder, [(Part(1.0, mask), moments)], SHARES),
        "tv": VariationTerm(),
    }


def loss_of(
    net: VGG,
    content: Tensor = CONTENT,
    weights: Mapping[str, float] | None = None,
    compute: Compute = PLAIN,
    kind: Literal["gram", "moments"] = "gram",
    **arguments: Any,
) -> PerceptualLoss:
    view = View(net, compute, **arguments)
    weights = weights or {"content": 0.3, "style": 2.0, "tv": 0.7}
    return PerceptualLoss(view, {k: (weights.get(k, 0.0), t) for k, t in terms_of(view, content, kind=kind).items()})


def gradient_of(loss: PerceptualLoss, image: Tensor) -> Tensor:
    image = image.clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(loss(image)["total"], image)
    return gradient


# -- the sum ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("heads", [{}, HEADS], ids=["plain", "heads"])
def test_it_is_the_terms_added_up(heads: dict[str, int]) -> None:
    net = network(heads)
    found, content, style = net(IMAGE, LAYERS), net(CONTENT, LAYERS), moments_of(net, STYLE)
    head = net.heads[CONTENT_LAYER] if heads else torch.nn.Identity()
    expected = {
        "content": 0.3 * content_loss(head(found[CONTENT_LAYER]), head(content[CONTENT_LAYER])),
        "style": 2.0
        * torch.stack([gram_loss(raw_moments(found[k]), style[k], head_metric(net, k)) for k in STYLE_LAYERS]).mean(),
        "tv": 0.7 * total_variation(IMAGE),
    }
    terms = loss_of(net)(IMAGE)
    assert terms.keys() == {"total", *expected}
    for name, value in expected.items():
        assert terms[name].item() == pytest.approx(value.item(), rel=1e-5), name
        assert terms[name].shape == ()
    assert terms["total"].item() == pytest.approx(sum(v.item() for v in expected.values()), rel=1e-5)


def test_the_heads_are_the_space_of_the_style_distance() -> None:
    """With heads, the distance is that of the wide features W f + b, which are computed in full here."""
    net = network(HEADS)
    found, wanted = net(IMAGE, STYLE_LAYERS), net(STYLE, STYLE_LAYERS)
    parts = []
    for k in STYLE_LAYERS:
        wide = net.heads[k] if k in HEADS else torch.nn.Identity()
        parts.append(gram_loss(raw_moments(wide(found[k])), raw_moments(wide(wanted[k]))).item())
    narrow = [gram_loss(raw_moments(found[k]), raw_moments(wanted[k])).item() for k in STYLE_LAYERS]
    total = loss_of(net, weights={"style": 1.0})(IMAGE)["style"].item()
    assert total == pytest.approx(sum(parts) / 5, rel=1e-3)
    assert total != pytest.approx(sum(narrow) / 5, rel=1e-2)


@pytest.mark.parametrize("names", [{"style", "tv"}, {"content", "tv"}, {"content", "style"}, {"content"}, {"tv"}])
def test_a_term_of_weight_zero_is_off(names: set[str]) -> None:
    assert loss_of(network({}), weights=dict.fromkeys(names, 1.0))(IMAGE).keys() == {"total", *names}


class Never(Term):
    """A term that must not be measured."""

    def measure(self, layer: str, features: Tensor, view: View) -> Tensor:
        raise AssertionError(layer)

    def total(self, measures: Mapping[str, Tensor], image: Tensor) -> Tensor:
        raise AssertionError


def test_a_term_that_is_off_is_not_computed() -> None:
    """The encoder goes only as deep as the other terms need, and does not run at all for a term of the pixels."""
    net, terms = network({}), {"tv": (1.0, VariationTerm()), "off": (0.0, Never(["relu5_1"]))}
    for name, conv in net.convolutions():
        if name > "conv1_1":
            conv.weight = conv.bias = None  # type: ignore[assignment]
    loss = PerceptualLoss(View(net, PLAIN), {**terms, "means": (1.0, Means(2, "relu1_1"))})
    assert loss.layers == ("relu1_1",)
    assert gradient_of(loss, IMAGE).isfinite().all()
    net.features[0].weight = None  # pyright: ignore[reportArgumentType]
    pixels = PerceptualLoss(View(net, PLAIN), terms)
    assert pixels.layers == ()
    assert gradient_of(pixels, IMAGE).isfinite().all()


class Means(Term):
    """A term with several numbers per layer: the means of the first channels, minus the picture's mean."""

    def __init__(self, channels: int, *layers: str):
        super().__init__(layers)
        self.channels = channels
        self.seen: dict[str, Tensor] = {}

    def measure(self, layer: str, features: Tensor, view: View) -> Tensor:
        return features[:, : self.channels].mean((2, 3))

    def total(self, measures: Mapping[str, Tensor], image: Tensor) -> Tensor:
        self.seen = dict(measures)
        return super().total(measures, image) - image.mean()


def test_each_term_gets_what_it_measured_at_each_of_its_layers() -> None:
    """This holds for any number of measures, any order of the layers, and layers that several terms share."""
    net = network({})
    terms = {"a": (1.0, Means(1, "relu4_1", "relu1_1")), "b": (2.0, Means(3, "relu1_1"))}
    terms["c"] = (0.5, Means(2, "relu2_1", "relu4_1"))
    values = PerceptualLoss(View(net, PLAIN), {"tv": (1.0, VariationTerm()), **terms})(IMAGE)
    means = {k: f.mean((2, 3)) for k, f in net(IMAGE, STYLE_LAYERS).items()}
    for name, (weight, term) in terms.items():
        expected = {k: means[k][:, : term.channels] for k in term.layers}
        assert set(term.seen) == set(expected)
        for k, m in expected.items():
            torch.testing.assert_close(term.seen[k], m)
        total = sum(m.sum().item() for m in expected.values()) - IMAGE.mean().item()
        assert values[name].item() == pytest.approx(weight * total, rel=1e-5)


def test_the_gradient_goes_to_the_picture_alone() -> None:
    net = network(HEADS)
    content = CONTENT.clone().requires_grad_(True)
    loss = loss_of(net, content, {"content": 1.0, "style": 1.0, "tv": 1.0})
    image = IMAGE.clone().requires_grad_(True)
    terms = loss(image)
    assert [k for k, v in terms.items() if v.requires_grad] == ["total"]
    terms["total"].backward()
    assert image.grad is not None
    assert image.grad.isfinite().all()
    assert (image.grad != 0).float().mean() > 0.9
    assert content.grad is None
    assert all(p.grad is None for p in net.parameters())


@pytest.mark.parametrize("heads", [{}, HEADS], ids=["plain", "heads"])
@pytest.mark.parametrize("arguments", [{}, {"wrap": 16}, {"checkpointing": True}], ids=str)
def test_the_gradient_is_that_of_finite_differences(heads: dict[str, int], arguments: dict[str, Any]) -> None:
    """The comparison is in float64, which a network in that dtype keeps throughout."""
    net = network(heads).double()
    loss = loss_of(net, CONTENT.double(), **arguments)
    image, direction = IMAGE.double(), random_picture(3, 32, 48).double() - 0.5
    assert all(v.dtype == torch.float64 for v in loss(image).values())
    with torch.no_grad():
        ends = [loss(image + h * direction)["total"].item() for h in (1e-6, -1e-6)]
    slope = (gradient_of(loss, image) * direction).sum().item()
    assert slope == pytest.approx((ends[0] - ends[1]) / 2e-6, rel=1e-5)


@pytest.mark.parametrize("kind", ["gram", "moments"])
def test_the_style_and_the_content_themselves_cost_nothing(kind: Literal["gram", "moments"]) -> None:
    net = network(HEADS)
    assert loss_of(net, kind=kind)(CONTENT)["content"].item() == pytest.approx(0, abs=1e-10)
    assert loss_of(net, weights={"style": 1.0}, kind=kind)(STYLE)["total"].item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("kind", ["gram", "moments"])
def test_losses_are_float32_under_autocast(kind: Literal["gram", "moments"]) -> None:
    net = network(HEADS)
    weights = {"content": 1.0, "style": 1.0}
    terms = loss_of(net, weights=weights, compute=LOW, kind=kind)(IMAGE)
    exact = loss_of(net, weights=weights, kind=kind)(IMAGE)
    for name, value in terms.items():
        assert value.dtype == torch.float32
        assert value.item() == pytest.approx(exact[name].item(), rel=0.1)


def test_a_term_measures_outside_of_autocast() -> None:
    """Matrix products of statistics must not be rounded to bfloat16, in whatever dtype the network computes."""
    found: list[tuple[torch.dtype, torch.dtype]] = []

    class Product(Term):
        def measure(self, layer: str, features: Tensor, view: View) -> Tensor:
            found.append((features.dtype, (features.float()[0, 0] @ features.float()[0, 0].t()).dtype))
            return features.square().mean()

    for checkpointing in (False, True):
        found.clear()
        view = View(network({}), LOW, checkpointing=checkpointing)
        gradient_of(PerceptualLoss(view, {"product": (1.0, Product(["relu2_1"]))}), IMAGE)
        assert found == [(torch.bfloat16, torch.float32)]


class Squares(Term):
    """A term of weighted squares of the features, without a gradient of its own, so autograd differentiates it."""

    def measure(self, layer: str, features: Tensor, view: View) -> Tensor:
        return features.float().square().sum(1, keepdim=True)

    def total(self, measures: Mapping[str, Tensor], image: Tensor) -> Tensor:
        return torch.stack([(m.mean() + m.square().mean()).sqrt() for m in measures.values()]).sum()


class OwnSquares(Squares):
    """The same term with a gradient of its own."""

    def add_gradient(self, layer: str, features: Tensor, of: Tensor, gradient: Tensor, view: View) -> None:
        gradient += 2 * features * of


@pytest.mark.parametrize("arguments", [{}, {"wrap": 16}], ids=str)
def test_a_gradient_of_its_own_is_autograds(arguments: dict[str, Any]) -> None:
    """This also holds if both kinds of terms measure the same layer."""
    layers, view = ("relu1_1", "relu3_1"), View(network({}), PLAIN, **arguments)
    found = [
        gradient_of(PerceptualLoss(view, {"a": (1.0, a(layers)), "b": (0.5, b(layers[1:]))}), IMAGE)
        for a in (Squares, OwnSquares)
        for b in (Squares, OwnSquares)
    ]
    assert found[0].abs().max() > 0
    for g in found[1:]:
        torch.testing.assert_close(g, found[0])


# -- a picture over another -------------------------------------------------------------------------------------------


def test_what_is_looked_at_shows_the_other_picture_outside_of_the_mask() -> None:
    net, mask = network({}), torch.zeros(1, 1, 32, 48)
    mask[..., :20], mask[..., 20:24] = 1, 0.5
    plain = loss_of(net)
    over = PerceptualLoss(plain.view, plain.terms, (CONTENT, mask))
    mixed = CONTENT + mask * (IMAGE - CONTENT)
    assert torch.equal(over.composed(IMAGE), mixed)
    assert torch.equal(mixed[..., 24:], CONTENT[..., 24:])
    assert {k: v.item() for k, v in over(IMAGE).items()} == {k: v.item() for k, v in plain(mixed).items()}
    torch.testing.assert_close(gradient_of(over, IMAGE), mask * gradient_of(plain, mixed))


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("arguments", [{}, {"wrap": 4}], ids=str)
def test_each_pixels_gradient_is_that_of_finite_differences(arguments: dict[str, Any], checkpointing: bool) -> None:
    """The loss has everything that a painting can have: two parts after heads, content, total variation, and a mask."""
    net = VGG(VGGConfig((3, 4, 5), (1, 2, 1), {"relu1_1": 4, "relu3_1": 6}, "reflect"), "small").eval()
    net.initialise(torch.Generator().manual_seed(0))
    view = View(net.double(), PLAIN, checkpointing=checkpointing, **arguments)
    size, layers = (8, 12), {"relu1_1": 0.5, "relu2_1": 0.3, "relu3_1": 0.2}
    image, content, style, other = (random_picture(i, *size).double() for i in range(4))
    region, mask = (torch.rand(1, 1, *size, generator=torch.Generator().manual_seed(i)).double() for i in (4, 5))
    mask[..., :2] = 0
    targets = [{k: raw_moments(f) for k, f in view.features(s, tuple(layers)).items()} for s in (style, other)]
    terms: dict[str, tuple[float, Term]] = {
        "style": (1.0, MomentsTerm("moments", net, list(zip(divide([region], mask), targets, strict=True)), layers)),
        "content": (0.1, ContentTerm(net, view.features(content, ("relu3_1",)), {"relu3_1": 1.0})),
        "tv": (0.5, VariationTerm(view.wrap > 0)),
    }
    loss = PerceptualLoss(view, terms, (content, mask))
    found, h = gradient_of(loss, image).flatten(), 1e-6
    expected = torch.zeros_like(found)
    for i in range(len(found)):
        step = torch.zeros_like(found)
        step[i] = h
        ends = [loss(image + s * step.view_as(image))["total"] for s in (1, -1)]
        expected[i] = (ends[0] - ends[1]) / (2 * h)
    assert (found[:2] == 0).all()
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-8)


# -- masks ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("wrap", "size"), [(0, (32, 48)), (0, (33, 47)), (16, (33, 47)), (32, (16, 20))])
def test_a_mask_is_brought_to_the_features(wrap: int, size: tuple[int, int]) -> None:
    """At every layer and size, a mask of ones stays ones, and a ramp stays a ramp."""
    view, image = View(network({}), PLAIN, wrap=wrap), random_picture(4, *size)
    ramp = torch.linspace(0, 1, size[1]).expand(1, 1, *size)
    for layer, f in view.features(image, STYLE_LAYERS).items():
        assert torch.allclose(view.weights(torch.ones_like(ramp), f), torch.ones(1, 1, *f.shape[2:])), layer
        assert view.weights(ramp, f).shape == (1, 1, *f.shape[2:])
        assert (view.weights(ramp, f).diff(dim=3) > 0).all(), layer
        assert view.weights(ramp, f).mean().item() == pytest.approx(0.5, abs=0.01)


def test_a_mask_by_hand() -> None:
    """Each feature's weight is the mean of its pixels' weights."""
    part = torch.zeros(1, 1, 8, 8)
    part[..., :6] = 1
    found = View(network({}), PLAIN).weights(part, torch.zeros(1, 1, 2, 2))
    assert found[0, 0].tolist() == [[1.0, 0.5], [1.0, 0.5]]


# -- wrapped ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(32, 48), (16, 64), (16, 16)])
@pytest.mark.parametrize("padding", ["zeros", "reflect"])
def test_wrapped_features_are_those_in_an_endless_plane(size: tuple[int, int], padding: Any) -> None:
    """The features equal those in the middle of the repeated picture, even if it is smaller than the margin."""
    net, image = network({}, padding), random_picture(5, *size)
    found = View(net, PLAIN, wrap=REACH).features(image, LAYERS)
    plane = net(image.repeat(1, 1, 9, 9), LAYERS)
    for layer, f in found.items():
        h, w = (n // net.stride(layer) for n in size)
        assert f.shape == (1, net.width(layer), h, w), layer
        assert torch.allclose(f, plane[layer][:, :, 4 * h : 5 * h, 4 * w : 5 * w], atol=1e-5), layer


@pytest.mark.parametrize("kind", ["gram", "moments"])
def test_a_wrapped_picture_may_be_rolled(kind: Literal["gram", "moments"]) -> None:
    """A shift by a multiple of 16 pixels keeps the poolings aligned; this does not hold with reflection."""
    net, weights = network({}), {"style": 1.0}
    rolled = torch.roll(IMAGE, (16, 32), (2, 3))
    wrapped = loss_of(net, weights=weights, kind=kind, wrap=REACH)
    assert wrapped(rolled)["total"].item() == pytest.approx(wrapped(IMAGE)["total"].item(), rel=1e-5)
    turned = torch.roll(gradient_of(wrapped, IMAGE), (16, 32), (2, 3))
    assert torch.allclose(gradient_of(wrapped, rolled), turned, rtol=1e-3, atol=1e-7)
    reflected = loss_of(net, weights=weights, kind=kind)
    assert reflected(rolled)["total"].item() != pytest.approx(reflected(IMAGE)["total"].item(), rel=1e-3)


def test_a_wrapped_pixel_counts_once() -> None:
    """The content loss of a change is the same at every place, also near a border."""
    changed, found = CONTENT.clone(), []
    changed[:, :, 15, 15] = 0
    for place in ((0, 0), (16, 32)):  # rolled so far, it is the last pixel
        content, image = (torch.roll(x, place, (2, 3)) for x in (CONTENT, changed))
        loss = loss_of(network({}), content, {"content": 1.0}, wrap=REACH)
        found.append(loss(image)["total"].item())
    assert found[0] > 0
    assert found[1] == pytest.approx(found[0], rel=1e-4)


def test_a_mask_of_a_wrapped_picture_lies_where_the_features_lie() -> None:
    net = network({})
    view = View(net, PLAIN, wrap=32)
    mask = torch.zeros(1, 1, 32, 48)
    mask[..., :16] = 1
    f = view.features(IMAGE, ("relu3_1",))["relu3_1"]
    term = MomentsTerm("gram", net, [(Part(1.0, mask), {"relu3_1": raw_moments(f[..., :4])})], {"relu3_1": 1.0})
    assert PerceptualLoss(view, {"style": (1.0, term)})(IMAGE)["style"].item() == pytest.approx(0, abs=1e-9)


# -- checkpointing ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("compute", [PLAIN, LOW], ids=str)
@pytest.mark.parametrize("padding", ["zeros", "reflect"])
@pytest.mark.parametrize("kind", ["gram", "moments"])
def test_checkpointing_changes_nothing(compute: Compute, padding: Any, kind: Literal["gram", "moments"]) -> None:
    net = network(HEADS, padding)
    plain, checkpointed = (loss_of(net, compute=compute, kind=kind, checkpointing=c) for c in (False, True))
    expected, found = plain(IMAGE), checkpointed(IMAGE)
    assert expected.keys() == found.keys()
    assert all(found[k].item() == pytest.approx(v.item(), rel=1e-6) for k, v in expected.items())
    gradients = gradient_of(plain, IMAGE), gradient_of(checkpointed, IMAGE)
    assert torch.allclose(gradients[1], gradients[0], rtol=1e-4, atol=1e-7)
