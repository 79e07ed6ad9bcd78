"""PerceptualLoss: the sum of the losses that it names, and no gradient but the picture's."""

from typing import Any

import pytest
import torch
from torch import Tensor

from impasto.device import Compute
from impasto.models.vgg import CONTENT_LAYER, STYLE_LAYERS, VGG, VGGConfig
from impasto.style.losses import PerceptualLoss, content_loss, gram_loss, total_variation
from impasto.style.statistics import head_metric, raw_moments

PLAIN = Compute(torch.device("cpu"), None)
HEADS = {"relu1_1": 7, "relu3_1": 9, CONTENT_LAYER: 5}
LAYERS = (*STYLE_LAYERS, CONTENT_LAYER)


def network(heads: dict[str, int]) -> VGG:
    net = VGG(VGGConfig((3, 4, 5, 6, 4), (1, 1, 1, 2, 1), heads), "tiny").eval()
    net.initialise(torch.Generator().manual_seed(0))
    for k, head in net.heads.items():
        torch.nn.init.uniform_(head.get_parameter("bias"), generator=torch.Generator().manual_seed(len(k)))
    return net


def random_picture(seed: int, *size: int) -> Tensor:
    return torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(seed))


CONTENT, STYLE, IMAGE = random_picture(0, 32, 48), random_picture(1, 40, 40), random_picture(2, 32, 48)


def moments_of(net: VGG, picture: Tensor) -> dict[str, Tensor]:
    return {k: raw_moments(f) for k, f in net(picture, STYLE_LAYERS).items()}


def loss_of(net: VGG, content: Tensor | None = CONTENT, **arguments: Any) -> PerceptualLoss:
    weights: dict[str, Any] = {"content_weight": 0.3, "style_weight": 2.0, "tv_weight": 0.7, **arguments}
    return PerceptualLoss(net, PLAIN, content, moments_of(net, STYLE), **weights)


@pytest.mark.parametrize("heads", [{}, HEADS], ids=["plain", "heads"])
def test_it_is_the_losses_added_up(heads: dict[str, int]) -> None:
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
    """With heads the distance is that of the wide features W f + b, computed here in full."""
    net = network(HEADS)
    found, wanted = net(IMAGE, STYLE_LAYERS), net(STYLE, STYLE_LAYERS)
    parts = []
    for k in STYLE_LAYERS:
        wide = net.heads[k] if k in HEADS else torch.nn.Identity()
        parts.append(gram_loss(raw_moments(wide(found[k])), raw_moments(wide(wanted[k]))).item())
    narrow = [gram_loss(raw_moments(found[k]), raw_moments(wanted[k])).item() for k in STYLE_LAYERS]
    total = loss_of(net, None, style_weight=1.0, tv_weight=0.0)(IMAGE)["style"].item()
    assert total == pytest.approx(sum(parts) / 5, rel=1e-3)
    assert total != pytest.approx(sum(narrow) / 5, rel=1e-2)


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        ({"content_weight": 0.0}, {"style", "tv"}),
        ({"content": None}, {"style", "tv"}),
        ({"style_weight": 0.0}, {"content", "tv"}),
        ({"tv_weight": 0.0}, {"content", "style"}),
        ({"tv_weight": 0.0, "style_weight": 0.0}, {"content"}),
        ({"tv_weight": 0.0, "content_weight": 0.0}, {"style"}),
    ],
)
def test_a_term_of_weight_zero_is_off(arguments: dict[str, Any], names: set[str]) -> None:
    assert loss_of(network({}), **arguments)(IMAGE).keys() == {"total", *names}


def test_a_term_that_is_off_is_not_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    net, asked = network({}), []
    forward = VGG.forward
    monkeypatch.setattr(VGG, "forward", lambda self, x, layers: asked.append(tuple(layers)) or forward(self, x, layers))
    loss = loss_of(net, style_weight=0.0)
    asked.clear()
    loss(IMAGE)
    assert asked == [(CONTENT_LAYER,)]
    loss = loss_of(net, content_weight=0.0)
    asked.clear()
    loss(IMAGE)
    assert asked == [STYLE_LAYERS]


def test_layer_weights_are_shares() -> None:
    net = network({})
    arguments: dict[str, Any] = {"content": None, "tv_weight": 0.0, "style_weight": 1.0}
    alone = {k: loss_of(net, layer_weights={k: 4.0}, **arguments)(IMAGE)["total"].item() for k in STYLE_LAYERS}
    both = loss_of(net, layer_weights={"relu2_1": 3.0, "relu4_1": 1.0, "relu5_1": 0.0}, **arguments)
    assert set(both.shares) == {"relu2_1", "relu4_1"}
    assert both(IMAGE)["total"].item() == pytest.approx(0.75 * alone["relu2_1"] + 0.25 * alone["relu4_1"], rel=1e-5)


def test_the_gradient_goes_to_the_picture_alone() -> None:
    net = network(HEADS)
    content = CONTENT.clone().requires_grad_(True)
    style = {k: m.detach().requires_grad_(True) for k, m in moments_of(net, STYLE).items()}
    loss = PerceptualLoss(net, PLAIN, content, style, content_weight=1.0, style_weight=1.0, tv_weight=1.0)
    image = IMAGE.clone().requires_grad_(True)
    terms = loss(image)
    (gradient,) = torch.autograd.grad(terms["total"], image, retain_graph=True)
    assert gradient.isfinite().all()
    assert (gradient != 0).float().mean() > 0.9
    for name in ("content", "style", "tv"):
        (part,) = torch.autograd.grad(terms[name], image, retain_graph=True)
        assert part.abs().sum() > 0, name
    terms["total"].backward()
    assert content.grad is None
    assert all(p.grad is None for p in net.parameters())


def test_the_gradient_is_that_of_finite_differences() -> None:
    net = network({}).double()
    loss = PerceptualLoss(
        net,
        PLAIN,
        CONTENT.double(),
        {k: m.double() for k, m in moments_of(network({}), STYLE).items()},
        content_weight=1.0,
        style_weight=1.0,
        tv_weight=1.0,
    )
    image = IMAGE.double().requires_grad_(True)
    (gradient,) = torch.autograd.grad(loss(image)["total"], image)
    direction = random_picture(3, 32, 48).double() - 0.5
    with torch.no_grad():
        ends = [loss(image + h * direction)["total"].item() for h in (1e-4, -1e-4)]  # the content loss is float32
    assert (gradient * direction).sum().item() == pytest.approx((ends[0] - ends[1]) / 2e-4, rel=5e-3)


def test_the_style_and_the_content_themselves_cost_nothing() -> None:
    net = network(HEADS)
    assert loss_of(net)(CONTENT)["content"].item() == 0
    same = PerceptualLoss(net, PLAIN, None, moments_of(net, STYLE), content_weight=1.0, style_weight=1.0)
    assert same(STYLE)["total"].item() == pytest.approx(0, abs=1e-9)


def test_losses_are_float32_under_autocast() -> None:
    net = network(HEADS)
    low = Compute(torch.device("cpu"), torch.bfloat16)
    loss = PerceptualLoss(net, low, CONTENT, moments_of(net, STYLE), content_weight=1.0, style_weight=1.0)
    terms = loss(IMAGE)
    exact = loss_of(net, content_weight=1.0, style_weight=1.0, tv_weight=0.0)(IMAGE)
    for name, value in terms.items():
        assert value.dtype == torch.float32
        assert value.item() == pytest.approx(exact[name].item(), rel=0.1)


def test_a_margin_continues_the_picture() -> None:
    """With a margin the loss is that of the picture continued by reflection."""
    net = network({})
    pad = torch.nn.ReflectionPad2d(4)
    plain = loss_of(net, pad(CONTENT), tv_weight=0.0)(pad(IMAGE))
    margined = loss_of(net, CONTENT, tv_weight=0.0, margin=4)(IMAGE)
    for name, value in plain.items():
        assert margined[name].item() == pytest.approx(value.item(), rel=1e-5), name
