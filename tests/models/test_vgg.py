"""Tests of the VGG encoders: names, early stop, looks, gradients, pooling, normalisation, folded batch norm."""

import json
import weakref
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from impasto.errors import OptionError
from impasto.models import layers
from impasto.models.vgg import COMPACT, CONTENT_LAYER, STYLE_LAYERS, VGG, VGG16, VGG19, VGGConfig, block_of

TINY = VGGConfig((4, 6, 8, 8, 8), (2, 2, 4, 4, 4), {"relu2_1": 5})
REFLECT = replace(TINY, padding="reflect")

Photo = Callable[[str, int], Tensor]


def tiny(config: VGGConfig = TINY, **options: str) -> VGG:
    net = VGG(config, "tiny", **options)  # type: ignore[arg-type]
    net.initialise(torch.Generator().manual_seed(0))
    return net.eval()


def picture(height: int = 40, width: int = 52, n: int = 1) -> Tensor:
    return torch.rand(n, 3, height, width, generator=torch.Generator().manual_seed(1))


def test_every_layer_has_its_shape() -> None:
    net = tiny()
    features = net(picture(n=2), net.layers)
    assert list(features) == list(net.layers)
    assert len(features) == 2 * 16 + 5
    for layer, f in features.items():
        s = net.stride(layer)
        assert f.shape == (2, net.width(layer), 40 // s, 52 // s), layer


@pytest.mark.parametrize(("layer", "block"), [("conv1_1", 1), ("relu4_2", 4), ("pool5", 5), ("relu12_10", 12)])
def test_block_of_a_layer(layer: str, block: int) -> None:
    assert block_of(layer) == block


def test_features_behind_a_head() -> None:
    net = tiny()
    features = net(picture(), ["relu2_1", "relu3_1"])
    wide = net.wide("relu2_1", features["relu2_1"].bfloat16())
    assert (wide.shape[1], wide.dtype) == (5, torch.float32)
    head = net.heads["relu2_1"]
    assert isinstance(head, nn.Conv2d)
    torch.testing.assert_close(wide, F.conv2d(features["relu2_1"].bfloat16().float(), head.weight, head.bias))
    assert net.wide("relu3_1", features["relu3_1"]) is features["relu3_1"]


@pytest.mark.parametrize("config", [TINY, REFLECT])
def test_without_onednn_it_is_the_same_network(monkeypatch: pytest.MonkeyPatch, config: VGGConfig) -> None:
    """PyTorch's convolution and an in-place ReLU are used where oneDNN is missing, or bfloat16 on the processor."""
    x = picture().requires_grad_(True)
    found = []
    for missing in (False, True):
        if missing:
            monkeypatch.setattr(layers, "_onednn_has", lambda _: False)
        features = tiny(config)(x, ["relu2_2", "conv3_1"])
        (gradient,) = torch.autograd.grad(features["relu2_2"].square().sum() + features["conv3_1"].sum(), x)
        found.append((*features.values(), gradient))
    for ours, plain in zip(*found, strict=True):
        torch.testing.assert_close(ours, plain, rtol=1e-4, atol=1e-4)


def test_names_of_the_literature() -> None:
    for config, last in ((VGG16, "conv5_3"), (VGG19, "conv5_4"), (COMPACT, "conv5_1")):
        with torch.device("meta"):
            net = VGG(config)
        assert {*STYLE_LAYERS, CONTENT_LAYER} <= set(net.layers)
        assert [n for n, _ in net.convolutions()][-1] == last
        assert all(isinstance(net.features[net.layers[n]], nn.Conv2d) for n, _ in net.convolutions())


def test_stops_at_the_deepest_layer() -> None:
    net = tiny()
    expected = net(picture(), ["relu2_1"])["relu2_1"]
    for name, conv in net.convolutions():
        if name > "conv2_1":
            conv.weight = conv.bias = None  # type: ignore[assignment]
    found = net(picture(), ["relu2_1", "conv1_1"])
    assert list(found) == ["conv1_1", "relu2_1"]
    torch.testing.assert_close(found["relu2_1"], expected)
    assert net(picture(), []) == {}


def test_order_asked_for_does_not_matter() -> None:
    net = tiny()
    one, other = net(picture(), ["relu3_1", "conv1_2"]), net(picture(), ["conv1_2", "relu3_1", "conv1_2"])
    assert one.keys() == other.keys()
    assert all(torch.equal(one[k], other[k]) for k in one)


@pytest.mark.parametrize("config", [TINY, replace(TINY, batch_norm=True)])
def test_a_convolution_and_its_relu_can_both_be_asked_for(config: VGGConfig) -> None:
    net = tiny(config)
    both = net(picture(), ["conv1_1", "relu1_1", "conv2_2", "relu2_2"])
    assert (both["conv1_1"] < 0).any()
    for name in ("1_1", "2_2"):
        assert torch.equal(both[f"relu{name}"], both[f"conv{name}"].clamp(min=0))
        for layer in (f"conv{name}", f"relu{name}"):
            torch.testing.assert_close(both[layer], net(picture(), [layer])[layer])


@pytest.mark.parametrize("config", [TINY, REFLECT])
@pytest.mark.parametrize("pooling", ["max", "average"])
def test_gradient_reaches_the_picture_only(config: VGGConfig, pooling: str) -> None:
    net = tiny(config, pooling=pooling)
    x = picture().requires_grad_(True)
    sum(f.square().mean() for f in net(x, ["conv2_1", "relu2_1", "relu5_1"]).values()).backward()  # type: ignore[union-attr]
    assert x.grad is not None
    assert x.grad.isfinite().all()
    assert (x.grad != 0).float().mean() > 0.9
    assert all(p.grad is None and not p.requires_grad for p in net.parameters())


@pytest.mark.parametrize("config", [TINY, REFLECT])
def test_gradcheck(config: VGGConfig) -> None:
    net = tiny(replace(config, widths=(2, 2, 2, 2, 2), heads={})).double()
    x = picture(5, 6).double().requires_grad_(True)
    assert torch.autograd.gradcheck(lambda x: tuple(net(x, ["conv1_2", "relu2_1"]).values()), (x,))


# What a look is tested with: every kind of layer, those beside a pooling above all.
SEEN = ("pool2", "conv1_1", "relu1_2", "conv2_2", "relu3_1", "pool4", "conv5_1", "relu5_1")


def seen(
    net: VGG, image: Tensor, layers: Sequence[str], of: dict[str, Tensor], *, checkpointing: bool = False
) -> tuple[dict[str, Tensor], Tensor]:
    """Return the features and the picture's gradient, given the gradient `of` each layer's features."""
    found: dict[str, Tensor] = {}
    look = net.look(image, layers, found.__setitem__, keep=True, checkpointing=checkpointing)
    return found, look.gradient(lambda layer, _, gradient: gradient.add_(of[layer]))


def gradients_of(net: VGG, image: Tensor, layers: Sequence[str]) -> dict[str, Tensor]:
    g = torch.Generator().manual_seed(2)
    return {k: torch.randn(f.shape, generator=g).to(f) for k, f in net(image, layers).items()}


@pytest.mark.parametrize(
    "layers", [STYLE_LAYERS, SEEN, ("pool5",), ("conv1_1",), ("conv3_4", "relu3_4", "pool3")], ids="-".join
)
@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("size", [(40, 52), (37, 51), (33, 64)], ids=str)
@pytest.mark.parametrize("pooling", ["max", "average"])
@pytest.mark.parametrize("config", [TINY, REFLECT], ids=["zeros", "reflect"])
def test_a_look_is_what_autograd_has_of_plain_modules(
    config: VGGConfig, pooling: str, size: tuple[int, int], checkpointing: bool, layers: tuple[str, ...]
) -> None:
    net = tiny(config, pooling=pooling).double()
    image = picture(*size, n=2).double()
    of = gradients_of(net, image, layers)
    found, gradient = seen(net, image, layers, of, checkpointing=checkpointing)
    x = image.clone().requires_grad_(True)
    expected = dict(zip(of, net._trained(x, list(of)), strict=True))
    torch.stack([(f * of[k]).sum() for k, f in expected.items()]).sum().backward()
    assert found.keys() == expected.keys()
    for k, f in expected.items():
        torch.testing.assert_close(found[k], f.detach(), rtol=1e-10, atol=1e-10)
    assert x.grad is not None
    torch.testing.assert_close(gradient, x.grad, rtol=1e-10, atol=1e-10 * x.grad.abs().max().item())


@pytest.mark.parametrize("pooling", ["max", "average"])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_the_features_have_the_gradient_of_plain_modules(pooling: str, layout: torch.memory_format) -> None:
    """This holds in float32, where the ReLU is fused, and in any layout; and twice, if the graph is kept."""
    net, image = tiny(REFLECT, pooling=pooling), picture(37, 51).contiguous(memory_format=layout)
    of, found = gradients_of(net, image, SEEN), []
    for features in (lambda x: net(x, SEEN), lambda x: dict(zip(of, net._trained(x, list(of)), strict=True))):
        x = image.clone(memory_format=torch.preserve_format).requires_grad_(True)
        total = torch.stack([(f * of[k]).sum() for k, f in features(x).items()]).sum()
        found.append([torch.autograd.grad(total, x, retain_graph=True)[0] for _ in range(2)])
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5 * theirs.abs().max().item())


def test_a_look_goes_by_the_layers_in_their_order() -> None:
    """Each layer is visited once with the features of `forward`, in whatever order the layers are named."""
    net, met = tiny(), []
    net.look(picture(), (*SEEN, "relu1_2"), lambda layer, features: met.append((layer, features)))
    expected = net(picture(), SEEN)
    assert [k for k, _ in met] == list(expected) == sorted(SEEN, key=lambda k: net.layers[k])
    for layer, features in met:
        assert torch.equal(features, expected[layer]), layer


def test_the_way_back_goes_by_the_deepest_layer_first() -> None:
    net, met = tiny(), []
    features = net(picture(), SEEN)

    def add(layer: str, own: Tensor, gradient: Tensor) -> None:
        assert torch.equal(own, features[layer])
        assert gradient.shape == own.shape
        met.append(layer)

    gradient = net.look(picture(), SEEN, keep=True).gradient(add)
    assert met == list(features)[::-1]
    assert torch.equal(gradient, torch.zeros_like(picture()))  # as nothing was added


def test_a_look_holds_no_features_that_nobody_keeps() -> None:
    """What one layer's visitor saw is freed before the next visit; otherwise all features would be in memory."""
    net = tiny()
    known: list[weakref.ref[Tensor]] = []

    def visit(layer: str, features: Tensor) -> None:
        assert all(f() is None for f in known), layer
        known.append(weakref.ref(features))

    net.look(picture(), ["relu1_1", "relu1_2", "pool1", "relu3_1", "relu5_1"], visit)
    assert len(known) == 5


@pytest.mark.parametrize("config", [TINY, REFLECT], ids=["zeros", "reflect"])
@pytest.mark.parametrize("pooling", ["max", "average"])
def test_checkpointing_changes_nothing_under_autocast(config: VGGConfig, pooling: str) -> None:
    """The second computation has the same dtype as the first, although it happens outside of autocast."""
    net, results = tiny(config, pooling=pooling), []
    with torch.autocast("cpu", torch.bfloat16):
        of = gradients_of(net, picture(), SEEN)
    for checkpointing in (False, True):
        found: dict[str, Tensor] = {}
        with torch.autocast("cpu", torch.bfloat16):
            look = net.look(picture(), SEEN, found.__setitem__, keep=True, checkpointing=checkpointing)
        results.append((found, look.gradient(lambda layer, _, gradient: gradient.add_(of[layer]))))
    (plain, gradient), (checkpointed, again) = results
    assert all(f.dtype == torch.bfloat16 for f in plain.values())
    assert all(torch.equal(plain[k], checkpointed[k]) for k in plain)
    assert gradient.dtype == torch.float32
    assert torch.equal(again, gradient)


def test_checkpointing_computes_each_block_again_when_its_turn_has_come() -> None:
    """Between the passes, only the features between blocks are held; in the backward pass, one block in addition."""
    net, held = tiny(), []
    look = net.look(picture(), STYLE_LAYERS, keep=True, checkpointing=True)
    blocks = {net.layers[f"pool{i}"] for i in range(1, 5)} | {-1}
    assert set(look.kept) == blocks | {net.layers["relu5_1"]}
    look.gradient(lambda layer, *_: held.append((layer, set(look.kept))))
    for layer, places in held:
        first = net.layers.get(f"pool{block_of(layer) - 1}", -1)
        assert all(i in blocks or first < i <= net.layers[f"pool{block_of(layer)}"] for i in places), layer


def test_checkpointing_keeps_less() -> None:
    """It keeps the picture, the features between blocks and the last ones; without it, every ReLU's are kept."""
    net, held = VGG(COMPACT).eval(), []
    net.initialise(torch.Generator().manual_seed(0))
    for checkpointing in (False, True):
        look = net.look(picture(64, 64), STYLE_LAYERS, keep=True, checkpointing=checkpointing)
        held.append(sum(x.nbytes for x in look.kept.values()))
    assert held[1] == 4 * 64 * 64 * (3 + 16 / 4 + 32 / 16 + 80 / 64 + 144 / 256 + 128 / 256)
    assert held[0] == held[1] + 4 * 64 * 64 * (2 * 16 + 2 * 32 / 4 + 4 * 80 / 16 + 4 * 144 / 64)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_a_look_that_cannot_be_visits_nothing(checkpointing: bool) -> None:
    def never(layer: str, features: Tensor) -> None:
        raise AssertionError(layer)

    tiny().look(picture(), [], never, keep=True, checkpointing=checkpointing)
    with pytest.raises(OptionError, match="tiny has no layer 'relu6_1'"):
        tiny().look(picture(), ["relu1_1", "relu6_1"], never, checkpointing=checkpointing)
    with pytest.raises(OptionError, match=r"a 52x12 picture is too small for tiny's relu5_1, .* 16 pixels"):
        tiny().look(picture(12), ["relu1_1", "relu5_1"], never, checkpointing=checkpointing)


def test_normalises_inside() -> None:
    plain = tiny(replace(TINY, mean=(0, 0, 0), std=(1, 1, 1)))
    normalised = (picture() - torch.tensor([0.485, 0.456, 0.406])[:, None, None]) / torch.tensor([0.229, 0.224, 0.225])[
        :, None, None
    ]
    assert torch.allclose(
        tiny()(picture(), ["relu3_1"])["relu3_1"], plain(normalised, ["relu3_1"])["relu3_1"], atol=1e-5
    )


def test_layouts_agree() -> None:
    for config in (TINY, REFLECT):
        net = tiny(config)
        expected = net(picture(), STYLE_LAYERS)
        net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        found = net(picture().contiguous(memory_format=torch.channels_last), STYLE_LAYERS)
        assert all(torch.allclose(found[k], expected[k], atol=1e-5) for k in expected)


def test_reflection_is_that_of_torch() -> None:
    net = tiny(REFLECT)
    x = (picture() - net.mean) / net.std
    for name, conv in net.convolutions()[:3]:
        x = F.conv2d(F.pad(x, (1,) * 4, mode="reflect"), conv.weight, conv.bias).relu()
        x = F.max_pool2d(x, 2) if name == "conv1_2" else x
    assert torch.allclose(net(picture(), ["relu2_1"])["relu2_1"], x, atol=1e-5)


def test_poolings() -> None:
    for pooling, pool in (
        ("max", F.max_pool2d),
        ("average", lambda x, s: VGG.AVERAGE_POOLING_GAIN * F.avg_pool2d(x, s)),
    ):
        net = tiny(pooling=pooling)
        features = net(picture(), ["relu1_2", "pool1"])
        assert torch.equal(features["pool1"], pool(features["relu1_2"], 2))


def test_average_pooling_keeps_the_features_size(photo: Photo) -> None:
    net = tiny(VGGConfig((16, 32, 64, 64, 64), (2, 2, 4, 4, 4), {}))
    ratios = []
    for name in ("astronaut", "chelsea", "coffee", "rocket"):
        size = {}
        for net.pooling in ("max", "average"):
            size[net.pooling] = torch.stack(
                [f.square().mean().sqrt() for f in net(photo(name, 160), STYLE_LAYERS).values()]
            )
        ratios.append(size["average"] / size["max"])
    ratio = torch.stack(ratios).log().mean(0).exp()
    assert (ratio > 1 / 1.4).all(), ratio
    assert (ratio < 1.4).all(), ratio


@pytest.mark.parametrize(
    ("config", "layer", "side"),
    [
        (TINY, "relu1_1", 1),
        (TINY, "relu3_1", 4),
        (TINY, "pool5", 32),
        (REFLECT, "relu1_1", 2),
        (REFLECT, "relu3_1", 8),
        (REFLECT, "relu5_1", 32),
        (REFLECT, "pool4", 16),
        (REFLECT, "pool5", 32),
    ],
)
def test_smallest_picture(config: VGGConfig, layer: str, side: int) -> None:
    net = tiny(config)
    assert min(net(picture(side, side + 3), [layer])[layer].shape) >= 1
    if side > 1:
        with pytest.raises(OptionError, match=rf"a 70x{side - 1} picture is too small for tiny's {layer}.* {side} pix"):
            net(picture(side - 1, 70), [layer])


@pytest.mark.parametrize(
    ("wrong", "near"), [("relu4-1", "relu4_1"), ("Relu1_1", "relu1_1"), ("conv9_1", "conv5_1"), ("?", "conv1_1")]
)
def test_unknown_layer(wrong: str, near: str) -> None:
    with pytest.raises(OptionError, match=f"tiny has no layer .* did you mean .*{near}"):
        tiny()(picture(), ["relu1_1", wrong])


@pytest.mark.parametrize("config", [VGG16, VGG19, COMPACT, replace(TINY, batch_norm=True, mean=(0.0, 0.5, 1.0))])
def test_config_survives_json(config: VGGConfig) -> None:
    assert VGGConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_config_with_a_padding_of_the_future() -> None:
    with pytest.raises(ValueError, match="padding is 'circular'"):
        VGGConfig.from_dict({**TINY.to_dict(), "padding": "circular"})


@pytest.mark.parametrize("config", [TINY, REFLECT])
def test_fold_batch_norm(config: VGGConfig) -> None:
    net = tiny(replace(config, batch_norm=True))
    g = torch.Generator().manual_seed(2)
    for m in net.modules():
        if isinstance(m, nn.BatchNorm2d):
            for t, low, high in (
                (m.weight.data, 0.5, 2),
                (m.bias.data, -1, 1),
                (m.running_mean, -1, 1),
                (m.running_var, 0.2, 3),
            ):
                assert t is not None
                t.uniform_(low, high, generator=g)
    folded = net.fold_batch_norm()
    assert not any(isinstance(m, nn.BatchNorm2d) for m in folded.modules())
    assert not any(p.requires_grad for p in folded.parameters())
    layers = ["conv1_1", "relu2_1", "conv3_4", "relu5_1"]
    expected, found = net(picture(), layers), folded(picture(), layers)
    for layer in layers:
        assert torch.allclose(found[layer], expected[layer], atol=1e-4, rtol=1e-4), layer
    head = folded.heads["relu2_1"], net.heads["relu2_1"]
    assert torch.equal(head[0](found["relu2_1"]), head[1](found["relu2_1"]))


def test_initialise_depends_on_the_generator_alone() -> None:
    one, other = tiny().state_dict(), tiny().state_dict()
    assert all(torch.equal(one[k], other[k]) for k in one)
