"""The memory that a painting needs is known beforehand, and heeded."""

import logging
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from impasto.device import Compute, available_memory
from impasto.errors import MemoryNeedError
from impasto.models.vgg import COMPACT, VGG, VGG19
from impasto.options import OptimizeOptions
from impasto.stylize import memory
from impasto.stylize.gatys import GatysStylizer
from impasto.stylize.memory import fit_memory, memory_need
from impasto.stylize.optimize import OptimizeStylizer

CPU = Compute(torch.device("cpu"), None)
LOW = Compute(torch.device("cpu"), torch.bfloat16)


def encoder() -> VGG:
    net = VGG(COMPACT, "compact").eval()
    net.initialise(torch.Generator().manual_seed(0))
    return net


def has(monkeypatch: pytest.MonkeyPatch, free: int | None) -> None:
    monkeypatch.setattr(memory, "available_memory", lambda device: free)


def test_need_grows_with_pixels_width_and_precision() -> None:
    net = encoder()
    small, large = memory_need((512, 512), net, CPU), memory_need((1024, 1024), net, CPU)
    assert large - memory.FIXED_BYTES == pytest.approx(4 * (small - memory.FIXED_BYTES))
    assert memory_need((512, 512), net, LOW) < small < memory_need((512, 512), VGG(VGG19, "vgg19"), CPU)


def test_this_machine_tells() -> None:
    free = available_memory(torch.device("cpu"))
    assert free is None or free > 10_000_000


@pytest.mark.parametrize("free", [None, 10**12])
def test_what_fits_stays(monkeypatch: pytest.MonkeyPatch, free: int | None) -> None:
    has(monkeypatch, free)
    assert fit_memory((300, 400), encoder(), CPU, strict=True) == (300, 400)


def test_the_largest_that_fits(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    net = encoder()
    has(monkeypatch, free := 600_000_000)
    with caplog.at_level(logging.WARNING, logger="impasto"):
        h, w = fit_memory((3000, 4000), net, CPU, strict=False)
    assert memory_need((h, w), net, CPU) <= free < memory_need((round(h * 1.2), round(w * 1.2)), net, CPU)
    assert h / w == pytest.approx(0.75, abs=0.01)
    assert f"painting {w}x{h} instead" in caplog.text
    with pytest.raises(MemoryNeedError, match=f"--size {w} fits"):
        fit_memory((3000, 4000), net, CPU, strict=True)


def test_nothing_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    has(monkeypatch, 1_000_000)
    with pytest.raises(MemoryNeedError, match="close other programs"):
        fit_memory((3000, 4000), encoder(), CPU, strict=False)


def test_stylizers_ask_first(monkeypatch: pytest.MonkeyPatch, photo: Callable[..., Tensor]) -> None:
    has(monkeypatch, round((memory.FIXED_BYTES + 12_000_000) / memory.SHARE))
    content, net = photo("coffee", 96), encoder()
    options = OptimizeOptions(size=400, iterations=1)
    (step,) = OptimizeStylizer([content], options, net, CPU).steps(content)
    assert 32 <= max(step.image.shape[-2:]) < 400
    with pytest.raises(MemoryNeedError):
        OptimizeStylizer([content], OptimizeOptions(size=400, strict_size=True), net, CPU).steps(content)
    with pytest.raises(MemoryNeedError):
        GatysStylizer([content], OptimizeOptions(preset="gatys", size=400), net, CPU).steps(content)
