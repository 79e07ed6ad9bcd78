"""Tests of LPIPS: the equation by hand on a small network, and files that are refused."""

from pathlib import Path

import pytest
import torch

from impasto.device import choose_compute
from impasto.errors import WeightsError
from impasto.evaluate import lpips
from impasto.evaluate.lpips import LAYERS, LPIPS, load_lpips
from impasto.models.vgg import VGG, VGGConfig

COMPUTE = choose_compute("cpu", "float32")


def small() -> VGG:
    net = VGG(VGGConfig((2, 3, 2, 3, 2), (2, 2, 3, 3, 3), {}))
    net.initialise(torch.Generator().manual_seed(0))
    return net


def test_the_equation() -> None:
    """The equation is computed pixel by pixel, in plain loops."""
    g = torch.Generator().manual_seed(1)
    net, x, y = small(), torch.rand(1, 3, 32, 48, generator=g), torch.rand(1, 3, 32, 48, generator=g)
    weights = [torch.rand(net.width(k), generator=g) for k in LAYERS]
    expected = 0.0
    for layer, w in zip(LAYERS, weights, strict=True):
        f, h = (net(p, (layer,))[layer][0].flatten(1).t().tolist() for p in (x, y))
        for a, b in zip(f, h, strict=True):
            length_a, length_b = (sum(v * v for v in c) ** 0.5 + 1e-10 for c in (a, b))
            parts = zip(w.tolist(), a, b, strict=True)
            expected += sum(k * (u / length_a - v / length_b) ** 2 for k, u, v in parts) / len(f)
    found = LPIPS(net, weights, COMPUTE)
    assert found(x, y) == pytest.approx(expected, rel=1e-4)
    assert found(x, x) == 0


def test_another_file(tmp_path: Path) -> None:
    path = tmp_path / "vgg.pth"
    with pytest.raises(WeightsError, match="cannot read"):
        load_lpips(path, COMPUTE)
    path.write_bytes(b"something else")
    with pytest.raises(WeightsError, match=r"vgg\.pth is not the expected file; give lpips/weights"):
        load_lpips(path, COMPUTE)


def test_vgg_is_not_downloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "vgg.pth"
    torch.save({f"lin{i}.model.1.weight": torch.ones(1, 2, 1, 1) for i in range(5)}, path)
    monkeypatch.setattr(lpips, "SHA256", lpips.file_digest(path))
    with pytest.raises(WeightsError, match="run `impasto models fetch vgg16`"):
        load_lpips(path, COMPUTE)


class Unsafe:
    """An object whose unpickling would call this class."""


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    path = tmp_path / "vgg.pth"
    torch.save({"lin0.model.1.weight": Unsafe()}, path)
    with pytest.raises(WeightsError, match="is not a state dict of LPIPS"):
        lpips._read_weights(path)
