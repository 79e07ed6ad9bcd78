import json
from itertools import pairwise
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from impasto.errors import WeightsError
from impasto.models.model_file import write_model_file
from impasto.models.norm import Conditions
from impasto.models.padding import fill
from impasto.models.transformer import (
    LEAST_SIDE,
    STRIDE,
    Transformer,
    TransformerConfig,
    last_kernel,
    load_transformer,
    resized_convolution,
    save_transformer,
    shuffle,
)

STYLES = ("a", "b", "c")


def network(width: int = 4) -> Transformer:
    net = Transformer(TransformerConfig(STYLES, width))
    net.initialise(torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(1)
    for norm in (*net.down_norms, *net.residual_norms, *net.up_norms):
        for p in norm.parameters():
            p.data += 0.3 * torch.randn(p.shape, generator=generator)
    return net.eval().requires_grad_(False)


def conditions(*styles: int, strength: float = 1.0) -> Conditions:
    return Conditions.of(torch.tensor(styles), len(STYLES), strength)


def by_the_paper(net: Transformer, x: Tensor, given: Conditions) -> Tensor:
    """The network with resizing and plain convolutions, of a picture whose sides the stride divides."""

    def padded(x: Tensor, pad: int) -> Tensor:
        return F.pad(x, (pad, pad, pad, pad), mode="reflect")

    for i, (m, norm) in enumerate(zip(net.down, net.down_norms, strict=True)):
        x = norm(F.conv2d(padded(x, 1 if i else 4), m.weight, stride=m.stride), given)  # type: ignore[arg-type]
    for i in range(0, 10, 2):
        y = net.residual_norms[i](F.conv2d(padded(x, 1), net.residual[i].weight), given)  # type: ignore[arg-type]
        x = x + net.residual_norms[i + 1](F.conv2d(padded(y, 1), net.residual[i + 1].weight), given)  # type: ignore[arg-type]
    x = F.interpolate(padded(x, 1), scale_factor=2)
    x = net.up_norms[0](F.conv2d(x, net.up[0].weight)[:, :, 1:-1, 1:-1], given)  # type: ignore[arg-type]
    x = F.interpolate(padded(x, 3), scale_factor=2)
    x = net.up_norms[1](F.conv2d(x, net.up[1].weight)[:, :, 1:-1, 1:-1], given)  # type: ignore[arg-type]
    return torch.sigmoid(F.conv2d(x, net.last.weight, net.last.bias))


def test_it_is_the_papers_network() -> None:
    net, x = network(), torch.rand(2, 3, 24, 32, generator=torch.Generator().manual_seed(3))
    given = conditions(2, 0)
    x = x.contiguous(memory_format=torch.channels_last)
    found = net(x, given)
    assert found.shape == x.shape
    torch.testing.assert_close(found, by_the_paper(net, x, given), rtol=1e-4, atol=1e-5)


def test_resizing_and_convolving_from_the_small_picture() -> None:
    generator = torch.Generator().manual_seed(0)
    x, w = torch.randn(2, 5, 6, 7, generator=generator), torch.randn(3, 5, 3, 3, generator=generator)
    wanted = F.conv2d(F.interpolate(x, scale_factor=2), w)[:, :, 1:-1, 1:-1]
    torch.testing.assert_close(shuffle(resized_convolution(x, w)), wanted, rtol=1e-4, atol=1e-5)


def test_the_last_convolution_of_phases() -> None:
    generator = torch.Generator().manual_seed(0)
    x, w = torch.randn(2, 5, 16, 20, generator=generator), torch.randn(3, 5, 9, 9, generator=generator)
    phases = x.view(2, 5, 8, 2, 10, 2).permute(0, 3, 5, 1, 2, 4).reshape(2, 20, 8, 10)
    torch.testing.assert_close(shuffle(phases), x)
    torch.testing.assert_close(shuffle(F.conv2d(phases, last_kernel(w))), F.conv2d(x, w), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (5, 3), (15, 16), (17, 33), (31, 64)])
def test_any_size(size: tuple[int, int]) -> None:
    x = torch.rand(1, 3, *size)
    found = network()(x, conditions(1))
    assert found.shape == x.shape
    assert found.isfinite().all()
    assert 0 <= found.min() <= found.max() <= 1


def test_a_picture_is_filled_by_going_back_and_forth() -> None:
    x = torch.arange(18.0).view(1, 1, 1, 18)
    row = fill(x, STRIDE, LEAST_SIDE)[0, 0]
    assert row.shape == (16, 20)
    assert row[0].tolist() == [*range(18), 16, 15]
    assert (row == row[0]).all()
    short = fill(torch.tensor([[[[0.0, 1.0, 2.0]] * 16]]), STRIDE, LEAST_SIDE)[0, 0, 0]
    assert short.tolist() == [0, 1, 2, 1, 0, 1, 2, 1, 0, 1, 2, 1, 0, 1, 2, 1]
    whole = torch.rand(1, 3, 16, 20)
    assert fill(whole, STRIDE, LEAST_SIDE) is whole


def test_a_batch_is_its_pictures_one_by_one() -> None:
    net, x = network(), torch.rand(3, 3, 20, 24)
    given = Conditions(torch.tensor([[1, 0, 0], [0, 0.5, 0.5], [0, 0, 1.0]]), (1.0, 0.0, 1.3))
    found = net(x, given)
    for i in range(3):
        one = net(x[i : i + 1], Conditions(given.weights[i : i + 1], given.strength[i : i + 1]))
        torch.testing.assert_close(found[i : i + 1], one, rtol=1e-4, atol=1e-5)


def test_the_styles_differ() -> None:
    net, x = network(), torch.rand(1, 3, 32, 32)
    paintings = [net(x, conditions(i)) for i in range(3)]
    assert min(float((a - b).abs().mean()) for a, b in pairwise(paintings)) > 0.01


def test_without_strength_the_style_has_no_say() -> None:
    net, x = network(), torch.rand(1, 3, 32, 32)
    assert torch.equal(net(x, conditions(0, strength=0.0)), net(x, conditions(2, strength=0.0)))


def test_a_brighter_photograph_is_painted_brighter_only_without_strength() -> None:
    """Instance norms do not see how bright a picture is; the plain maps do."""
    net, x = network(), 0.2 + 0.3 * torch.rand(1, 3, 32, 32)
    change = {
        s: float((net(x + 0.3, conditions(0, strength=s)) - net(x, conditions(0, strength=s))).abs().mean())
        for s in (0.0, 1.0)
    }
    assert change[1.0] < 0.2 * change[0.0]


def test_there_and_back(tmp_path: Path) -> None:
    net, path = network(), tmp_path / "net.safetensors"
    save_transformer(net, path, training={"steps": 3}, licence="MIT")
    found, metadata = load_transformer(path)
    assert found.config == net.config
    assert json.loads(metadata["training"]) == {"steps": 3}
    assert not any(p.requires_grad for p in found.parameters())
    x = torch.rand(1, 3, 32, 40)
    assert (found(x, conditions(1)) - net(x, conditions(1))).abs().max() < 0.01  # it is stored as float16


def test_loading_leaves_the_random_numbers_alone(tmp_path: Path) -> None:
    save_transformer(network(), tmp_path / "net.safetensors", training={}, licence="MIT")
    torch.manual_seed(0)
    wanted = torch.rand(1)
    torch.manual_seed(0)
    load_transformer(tmp_path / "net.safetensors")
    assert torch.equal(torch.rand(1), wanted)


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"styles": [], "width": 4, "blocks": 5},
        {"styles": ["a"], "width": 100_000, "blocks": 5},
        {"styles": ["a"], "width": 8, "blocks": 5},
        {"styles": ["a", "b", "c"], "width": 4, "blocks": 4},
    ],
)
def test_a_file_that_does_not_fit(tmp_path: Path, config: dict[str, object]) -> None:
    path = tmp_path / "net.safetensors"
    write_model_file(path, "transformer", config, network().state_dict(), licence="MIT")
    with pytest.raises(WeightsError, match="does not hold an image transformation network"):
        load_transformer(path)


def test_it_begins_as_a_known_network() -> None:
    """Convolutions and plain maps are the known one's; styles go by name, and an unknown one is their mean."""
    known = Transformer(TransformerConfig(("a", "b"), 4, 1))
    known.initialise(torch.Generator().manual_seed(1))
    for i, p in enumerate(known.parameters()):
        p.data += 0.1 * torch.randn(p.shape, generator=torch.Generator().manual_seed(i))
    net = Transformer(TransformerConfig(("b", "new"), 4, 1))
    net.begin_as(known)
    x = torch.rand(1, 3, 16, 20)
    for own, theirs in (([1.0, 0.0], [0.0, 1.0]), ([0.0, 1.0], [0.5, 0.5])):
        for strength in (0.0, 1.0):
            painted, expected = (
                n(x, Conditions(torch.tensor([w]), (strength,))) for n, w in ((net, own), (known, theirs))
            )
            torch.testing.assert_close(painted, expected)
