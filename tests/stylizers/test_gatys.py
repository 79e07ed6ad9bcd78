"""The preset `gatys` equals the recipe, which is written here a second time in plain operations."""

import os
from collections.abc import Callable
from dataclasses import fields, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from impasto.device import Compute
from impasto.errors import DivergedError, OptionError
from impasto.image.resize import resize
from impasto.models.vgg import CONTENT_LAYER, VGG, VGGConfig
from impasto.models.weights import find_model
from impasto.options import OptimizeOptions, StylizeOptions
from impasto.options.optimize import RECIPE
from impasto.style.target import StyleTarget
from impasto.stylizers import choose
from impasto.stylizers.gatys import GatysLoss, GatysStylizer
from impasto.stylizers.optimize import OptimizeStylizer
from impasto.stylizers.schedule import painting_size

PLAIN = Compute(torch.device("cpu"), None)
CONFIG = VGGConfig((4, 6, 8, 10, 12), (2, 2, 2, 2, 1), {})
HEADS = {"relu1_1": 9, "relu2_1": 11, "relu3_1": 13, "relu4_1": 7, "relu5_1": 5, CONTENT_LAYER: 6}
WEIGHTS = {"relu1_1": 1.0, "relu2_1": 0.75, "relu3_1": 0.2, "relu4_1": 0.2, "relu5_1": 0.2}
MEAN, STD = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])


def network(heads: dict[str, int]) -> VGG:
    net = VGG(replace(CONFIG, heads=heads), "tiny").eval()
    net.initialise(torch.Generator().manual_seed(0))
    for k, head in net.heads.items():
        torch.nn.init.uniform_(head.get_parameter("bias"), generator=torch.Generator().manual_seed(len(k)))
    return net


def random_picture(seed: int, *size: int) -> Tensor:
    return torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(seed))


CONTENT, STYLE, IMAGE = random_picture(0, 32, 48), random_picture(1, 32, 48), random_picture(2, 32, 48)


def plain_features(net: VGG, x: Tensor) -> dict[str, Tensor]:
    """Return the features of a normalised picture after each ReLU, and after the heads if there are any."""
    found: dict[str, Tensor] = {}
    heads, convolutions = dict(net.heads.items()), dict(net.convolutions())
    for block in range(1, 6):
        for i in range(1, CONFIG.depths[block - 1] + 1):
            conv = convolutions[f"conv{block}_{i}"]
            x = F.relu(F.conv2d(x, conv.weight, conv.bias, padding=1))
            name = f"relu{block}_{i}"
            found[name] = heads[name](x) if name in heads else x
        x = F.max_pool2d(x, 2)
    return found


def gram(features: Tensor) -> Tensor:
    _, d, h, w = features.shape
    flat = features.view(d, h * w)
    return torch.mm(flat, flat.t())


def notebook_loss(net: VGG, x: Tensor, content: Tensor, style: Tensor) -> Tensor:
    """Return the recipe's loss for normalised pictures."""
    target, kept, wanted = (plain_features(net, picture) for picture in (x, content, style))
    content_loss = torch.mean((target[CONTENT_LAYER] - kept[CONTENT_LAYER]) ** 2)
    style_loss = torch.zeros(())
    for layer, weight in WEIGHTS.items():
        _, d, h, w = target[layer].shape
        layer_loss = weight * torch.mean((gram(target[layer]) - gram(wanted[layer])) ** 2)
        style_loss = style_loss + layer_loss / (d * h * w)
    return content_loss + 1e6 * style_loss


def normalised(x: Tensor) -> Tensor:
    return (x - MEAN.view(1, 3, 1, 1)) / STD.view(1, 3, 1, 1)


@pytest.mark.parametrize("heads", [{}, HEADS], ids=["plain", "heads"])
def test_the_objective_is_the_notebooks(heads: dict[str, int]) -> None:
    net = network(heads)
    loss = GatysLoss(net, PLAIN, CONTENT, STYLE)
    for image in (IMAGE, CONTENT, 2 * IMAGE - 0.5):
        terms = loss(image)
        expected = notebook_loss(net, normalised(image), normalised(CONTENT), normalised(STYLE)).item()
        assert terms["total"].item() == pytest.approx(expected, rel=1e-3)
        assert terms["total"].item() == pytest.approx(terms["content"].item() + terms["style"].item())
    assert loss(CONTENT)["content"].item() == 0
    assert loss(STYLE)["style"].item() == pytest.approx(0, abs=1e-3 * loss(IMAGE)["style"].item())


@pytest.mark.parametrize("heads", [{}, HEADS], ids=["plain", "heads"])
def test_its_gradient_is_the_notebooks(heads: dict[str, int]) -> None:
    net = network(heads)
    x = normalised(IMAGE).requires_grad_(True)
    (expected,) = torch.autograd.grad(notebook_loss(net, x, normalised(CONTENT), normalised(STYLE)), x)
    image = IMAGE.clone().requires_grad_(True)
    (found,) = torch.autograd.grad(GatysLoss(net, PLAIN, CONTENT, STYLE)(image)["total"], image)
    assert (found * STD.view(1, 3, 1, 1) - expected).norm() < 1e-3 * expected.norm()


def test_a_scale_on_the_features() -> None:
    """The content loss grows by its square, the distance of Gram matrices by its fourth power."""
    net = network(HEADS)
    one, two = (GatysLoss(net, PLAIN, CONTENT, STYLE, feature_scale=s)(IMAGE) for s in (1.0, 2.0))
    assert two["content"].item() == pytest.approx(4 * one["content"].item(), rel=1e-4)
    assert two["style"].item() == pytest.approx(16 * one["style"].item(), rel=1e-4)


def test_the_weights() -> None:
    net = network({})
    one = GatysLoss(net, PLAIN, CONTENT, STYLE)(IMAGE)
    other = GatysLoss(net, PLAIN, CONTENT, STYLE, content_weight=3.0, style_weight=1e5)(IMAGE)
    assert other["content"].item() == pytest.approx(3 * one["content"].item(), rel=1e-5)
    assert other["style"].item() == pytest.approx(one["style"].item() / 10, rel=1e-5)


def stylizer(**options: Any) -> GatysStylizer:
    return GatysStylizer([STYLE], OptimizeOptions(preset="gatys", **options), network({}), PLAIN)


def test_its_steps_are_adams_in_the_normalised_space() -> None:
    net = network({})
    x = normalised(CONTENT).clone().requires_grad_(True)
    optimiser = torch.optim.Adam([x], lr=0.0003)
    for step in stylizer(size=48, iterations=4).steps(CONTENT):
        loss = notebook_loss(net, x, normalised(CONTENT), normalised(STYLE))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        shown = (x.detach() * STD.view(1, 3, 1, 1) + MEAN.view(1, 3, 1, 1)).clamp(0, 1)
        assert step.losses["total"] == pytest.approx(loss.item(), rel=1e-3)
        assert torch.allclose(step.image, shown, atol=2e-5)


def test_the_first_step_changes_every_value_by_the_rate() -> None:
    """Adam's first step is the rate times the sign of the gradient. The picture moves by that times the deviation."""
    (step,) = stylizer(size=48, iterations=1, rate=0.01).steps(0.2 + 0.6 * CONTENT)
    change = (step.image - (0.2 + 0.6 * CONTENT)) / STD.view(1, 3, 1, 1)
    assert change.abs().median().item() == pytest.approx(0.01, rel=1e-3)
    assert change.abs().max().item() == pytest.approx(0.01, rel=1e-2)


def test_the_variable_is_not_clamped() -> None:
    variable = torch.zeros(())
    for step in stylizer(size=48, iterations=5, rate=0.5).steps(CONTENT):
        assert step.state is not None
        variable = step.state()["x"] * STD.view(1, 3, 1, 1) + MEAN.view(1, 3, 1, 1)
        assert torch.equal(variable.clamp(0, 1), step.image)
    assert variable.max() > 1.05
    assert variable.min() < -0.05


@pytest.mark.parametrize(
    ("options", "content", "size"),
    [
        ({}, (600, 800), (400, 533)),  # the short side becomes 400
        ({}, (4000, 3000), (533, 400)),
        ({}, (400, 400), (400, 400)),
        ({}, (200, 300), (300, 450)),  # a smaller picture's short side becomes as long as its long side
        ({}, (300, 100), (900, 300)),
        ({"size": 200}, (600, 800), (150, 200)),
        ({"scale": 0.5}, (600, 800), (300, 400)),
    ],
)
def test_the_size(options: dict[str, Any], content: tuple[int, int], size: tuple[int, int]) -> None:
    assert painting_size(content, stylizer(**options).options) == size


def test_a_picture_that_is_too_small() -> None:
    with pytest.raises(OptionError, match=r"too small for the encoder tiny.* give --size 32 or more"):
        stylizer().steps(torch.zeros(1, 3, 10, 10))
    assert stylizer(size=32, iterations=1)(torch.rand(1, 3, 10, 10)).shape == (1, 3, 32, 32)


def test_the_style_gets_the_contents_shape() -> None:
    options, net, content = (
        OptimizeOptions(preset="gatys", size=64, iterations=1),
        network({}),
        random_picture(0, 50, 100),
    )
    one, other = (GatysStylizer([s], options, net, PLAIN) for s in (STYLE, resize(STYLE, (32, 64))))
    assert torch.equal(one(content), other(content))


def test_5000_steps_at_one_scale() -> None:
    step = next(iter(stylizer(size=48).steps(CONTENT)))
    assert (step.total, step.iteration, step.scale_index, step.scales, step.scale) == (5000, 1, 1, 1, (32, 48))


def test_exactly_one_picture() -> None:
    options, net = OptimizeOptions(preset="gatys"), network({})
    measured = StyleTarget.of(STYLE, net, PLAIN, (48,))
    for styles in ([], [STYLE, STYLE], [measured]):
        with pytest.raises(OptionError, match="the preset gatys takes exactly one style, as a picture"):
            GatysStylizer(styles, options, net, PLAIN)


NOT_HEEDED: dict[str, Any] = {
    "strength": 0.5,
    "denoise": 0.5,
    "mottle": 0.5,
    "detail": 0.5,
    "style_loss": "gram",
    "tv_weight": 0.1,
    "histogram_weight": 1.0,
    "laplacian_weight": 1.0,
    "similarity_weight": 1.0,
    "layers": "relu1_1",
    "plain_weight": 0.2,
    "plain_blur": 2.0,
    "rim_weight": 0.2,
    "neighbour_weight": 0.2,
    "content_layers": "relu2_1",
    "content_blur": 1.0,
    "style_weights": (1.0,),
    "style_scale": 2.0,
    "stroke_px": 20.0,
    "match_palette": "covariance",
    "palette_strength": 0.5,
    "mask_feather": 1.0,
    "time": 10.0,
    "plateau": 0.1,
    "coarsest": 64,
    "optimizer": "adam",
    "parameters": "pixels",
    "average": 0.9,
    "start": "noise",
}


@pytest.mark.parametrize("name", NOT_HEEDED)
def test_an_option_that_it_does_not_heed_is_an_error(name: str) -> None:
    message = f"--{name.replace('_', '-')} does not work with --preset gatys; leave out one of them"
    with pytest.raises(OptionError, match=message):
        OptimizeOptions(preset="gatys", **{name: NOT_HEEDED[name]})


def test_every_option_is_heeded_or_refused() -> None:
    """The recipe refuses `carry`, which needs Adam on pixels, and the options that only the network has."""
    names = {f.name for f in fields(StylizeOptions)}
    assert names == {*RECIPE, *NOT_HEEDED, "carry", "model", "learn", "underpainting", "statistics", "compile"}
    with pytest.raises(OptionError, match="--preset gatys has one scale; give --iterations one number"):
        OptimizeOptions(preset="gatys", iterations=(3, 4))


def test_what_it_heeds() -> None:
    """The weights, the rate and the iterations are measured on its first two steps."""

    def losses(**options: Any) -> list[dict[str, float]]:
        return [dict(s.losses) for s in stylizer(size=48, iterations=2, **options).steps(CONTENT)]

    plain, heavy, fast = losses(), losses(style_weight=2e6, content_weight=3.0), losses(rate=0.003)
    assert heavy[0]["style"] == pytest.approx(2 * plain[0]["style"], rel=1e-5)
    # The content loss is zero at first, and then what ten times the step makes of it: a hundred times.
    assert plain[0]["content"] < 1e-9 < plain[1]["content"]
    assert fast[1]["content"] == pytest.approx(100 * plain[1]["content"], rel=0.2)


def test_the_losses_of_what_is_shown_are_measured_when_asked_for() -> None:
    steps = []
    for step in stylizer(size=48, iterations=3, rate=0.01).steps(0.2 + 0.6 * CONTENT):
        assert step.measured is not None
        steps.append((step, dict(step.measured())))
    for (_, measured), (after, _) in pairwise(steps):  # what the next iteration begins with
        assert measured == {k: pytest.approx(v, rel=1e-3) for k, v in after.losses.items()}


def test_a_loss_that_is_not_finite() -> None:
    with pytest.raises(DivergedError, match=r"iteration 1; lower --rate \(now 0.0003\)"):
        list(stylizer(size=48).steps(CONTENT * float("nan")))


def test_on_a_photograph_the_loss_falls(photo: Callable[[str, int], Tensor]) -> None:
    options: dict[str, Any] = {"preset": "gatys", "size": 96, "iterations": 30, "rate": 0.03}
    painting = choose.load_stylizer(photo("chelsea", 96), **options)
    steps = list(painting.steps(photo("coffee", 96)))
    assert isinstance(painting, GatysStylizer)
    assert steps[-1].losses["total"] < 0.3 * steps[0].losses["total"]


def test_which_encoder_it_runs_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It uses vgg19 if its file exists, else compact. A test of the command line checks that it says so."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    gatys = OptimizeOptions(preset="gatys")
    assert choose.choose_encoder_name(gatys) == "compact"
    vgg19 = find_model("vgg19")
    assert vgg19.size is not None
    vgg19.path.parent.mkdir(parents=True)
    vgg19.path.touch()
    os.truncate(vgg19.path, vgg19.size)
    assert choose.choose_encoder_name(gatys) == "vgg19"
    assert choose.choose_encoder_name(replace(gatys, encoder="vgg16")) == "vgg16"
    assert choose.choose_encoder_name(OptimizeOptions()) == "compact"


def test_its_precision() -> None:
    for precision, low in (("auto", None), ("float32", None), ("bfloat16", torch.bfloat16)):
        options = OptimizeOptions(preset="gatys", precision=precision, encoder="compact")  # pyright: ignore[reportArgumentType]
        made = choose.choose_stylizer([STYLE], options)
        assert isinstance(made, GatysStylizer)
        assert made.compute.autocast_dtype == low
    assert isinstance(choose.choose_stylizer([STYLE], OptimizeOptions()), OptimizeStylizer)
