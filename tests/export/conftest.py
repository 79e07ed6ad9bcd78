"""Fixtures for exporting: a small network, styles and photographs."""

import gc
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor

from impasto.export import job
from impasto.export.check import compare
from impasto.export.styles import Style, measure
from impasto.models.network import Network, NetworkConfig, load_network, save_network
from impasto.models.vgg import VGG
from impasto.models.weights import load_encoder
from impasto.options import ExportOptions

CASES = ((16, 16, (1.0,)), (17, 31, (0.4,)), (97, 131, (1.0, 1.4)), (150, 261, (1.0,)))
"""Fewer sizes than those at which a user's export is compared."""


@pytest.fixture(autouse=True, scope="module")
def _seldom_collected() -> Iterator[None]:
    """Look for garbage seldom: tracing makes millions of objects that stay, and looking takes a quarter of its time."""
    before = gc.get_threshold()
    gc.set_threshold(100_000, *before[1:])
    yield
    gc.set_threshold(*before)


@pytest.fixture(scope="module")
def _few_sizes() -> Iterator[None]:
    """Compare exports at a few sizes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(job, "compare", partial(compare, cases=CASES))
        yield


@pytest.fixture(scope="session")
def encoder() -> VGG:
    return load_encoder("compact")


@pytest.fixture(scope="session")
def small_network(encoder: VGG, tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Path]:
    """Return `small_network(blocks)`: the file of a small network with random weights, none of which is 0."""

    def write(blocks: int) -> Path:
        layers = {k: encoder.width(k) for k in ("relu1_1", "relu2_1")}
        net = Network(NetworkConfig(encoder.digest, layers, width=4, blocks=blocks, fine=1, rank=2, noise=3, hidden=8))
        generator = torch.Generator().manual_seed(0)
        net.initialise(generator)
        net.last.weight.data *= 10
        for mixing in net.noises:
            mixing.data.normal_(0, 0.3, generator=generator)
        reader = torch.randn(3, layers["relu1_1"], generator=generator)
        net.colours.weight.copy_(0.02 * reader)
        net.colours.bias.fill_(0.4)
        path = tmp_path_factory.mktemp("model") / "small.safetensors"
        save_network(net, path, training={}, licence="CC0-1.0")
        return path

    return write


@pytest.fixture(scope="session")
def model(small_network: Callable[[int], Path]) -> Path:
    return small_network(1)


@pytest.fixture(scope="session")
def net(model: Path) -> Network:
    return load_network(model)[0]


@pytest.fixture(scope="session")
def styles(net: Network, encoder: VGG, model: Path) -> list[Style]:
    """Return two styles that are far apart."""
    options = ExportOptions(model=str(model))
    return [measure([name], net, encoder, options) for name in ("starry-night", "great-wave")]


@pytest.fixture(scope="session")
def levels(photo: Callable[[str, int], Tensor]) -> Callable[..., Tensor]:
    """Return `levels(97, 131, "coffee")`: a photograph of that height and width, (1, 3, H, W), uint8."""

    def load(height: int, width: int, name: str = "coffee") -> Tensor:
        from impasto.image.resize import resize

        return (255 * resize(photo(name, 640), (height, width))).round().to(torch.uint8)

    return load
