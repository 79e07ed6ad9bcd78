"""The memory that a painting needs is known beforehand, and its limit is respected."""

import logging
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from impasto.device import Compute, available_memory
from impasto.errors import MemoryNeedError, OptionError
from impasto.models.vgg import COMPACT, VGG, VGG19
from impasto.models.weights import load_encoder
from impasto.options import OptimizeOptions
from impasto.stylizers import memory
from impasto.stylizers.gatys import GatysStylizer
from impasto.stylizers.memory import fit_memory, memory_need
from impasto.stylizers.optimize import OptimizeStylizer, fit_painting

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
    assert fit_memory((300, 400), encoder(), CPU, strict=True) == ((300, 400), False)


def between(size: tuple[int, int], net: VGG, neighbours: bool = False) -> int:
    """Return an amount of memory that fits a painting of that size with checkpointing, but not without."""
    without, least = (memory_need(size, net, CPU, c, neighbours) for c in (False, True))
    assert least < without
    return round((without + least) / 2 / memory.SHARE)


def test_checkpointing_comes_before_a_smaller_size(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    net, size = encoder(), (3000, 4000)
    has(monkeypatch, between(size, net))
    with caplog.at_level(logging.WARNING, logger="impasto"):
        assert fit_memory(size, net, CPU, strict=True) == (size, True)
    (message,) = caplog.messages
    needs = memory_need(size, net, CPU), memory_need(size, net, CPU, checkpointing=True)
    assert f"needs about {needs[0] / 1e9:.1f} GB of memory" in message
    assert f"computing features twice, which takes {needs[1] / 1e9:.1f} GB and a third more time" in message
    with pytest.raises(MemoryNeedError, match=r"--size \d+ fits"):
        fit_memory(size, net, CPU, strict=True, checkpointing=False)


@pytest.mark.parametrize("checkpointing", [True, False])
def test_the_largest_that_fits(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, checkpointing: bool
) -> None:
    net = encoder()
    has(monkeypatch, free := 600_000_000)
    with caplog.at_level(logging.WARNING, logger="impasto"):
        (h, w), used = fit_memory((3000, 4000), net, CPU, strict=False, checkpointing=checkpointing)
    assert used == checkpointing
    larger = (round(h * 1.2), round(w * 1.2))
    assert memory_need((h, w), net, CPU, checkpointing) <= free < memory_need(larger, net, CPU, checkpointing)
    assert h / w == pytest.approx(0.75, abs=0.01)
    assert f"painting {w}x{h} instead (--strict-size refuses)" in caplog.text
    with pytest.raises(MemoryNeedError, match=f"--size {w} fits"):
        fit_memory((3000, 4000), net, CPU, strict=True, checkpointing=checkpointing)


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


@pytest.mark.parametrize(
    "options", [{"neighbour_weight": 0.2}, {"style_loss": "nn"}, {"style_loss": "moments:1,nn:0.5"}]
)
def test_a_search_for_neighbours_takes_more_memory(monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]) -> None:
    net = load_encoder("compact")
    has(monkeypatch, between((1000, 1000), net))  # of a painting without neighbours

    def fitted(**changes: Any) -> Any:
        return fit_painting((1000, 1000), OptimizeOptions(**changes), net, CPU)

    assert fitted(histogram_weight=1.0)[:2] == ((1000, 1000), True)  # not painted in tiles either
    assert max(fitted(**options)[0]) < 1000


@pytest.mark.parametrize("style_loss", ["moments", "nn"])
def test_with_checkpointing_it_is_the_same_painting(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    photo: Callable[..., Tensor],
    style_loss: str,
) -> None:
    """The paintings differ only by rounding, and the log says that checkpointing is used."""
    content, style, net = photo("coffee", 96), photo("chelsea", 96), load_encoder("compact")
    options = OptimizeOptions(size=96, coarsest=64, iterations=6, style_loss=style_loss)
    paintings = []
    for free in (10**12, between((64, 96), net, style_loss == "nn")):
        has(monkeypatch, free)
        with caplog.at_level(logging.WARNING, logger="impasto"):
            paintings.append(OptimizeStylizer([style], options, net, CPU)(content))
    torch.testing.assert_close(*paintings, rtol=0, atol=1e-3)
    assert [m.partition(": ")[2] for m in caplog.messages] == [
        "computing features twice, which takes 0.3 GB and a third more time"
    ]


def test_with_less_memory_than_before_a_state_does_not_fit(
    monkeypatch: pytest.MonkeyPatch, photo: Callable[..., Tensor]
) -> None:
    """A state can only be continued at the size at which it was painted."""
    content, net = photo("coffee", 96), encoder()
    has(monkeypatch, None)
    options = OptimizeOptions(size=400, coarsest=200, iterations=2)
    first = next(iter(OptimizeStylizer([content], options, net, CPU).steps(content)))
    assert first.state is not None
    state = first.state()
    has(monkeypatch, round((memory.FIXED_BYTES + 12_000_000) / memory.SHARE))
    with pytest.raises(OptionError, match="belongs to another painting"):
        OptimizeStylizer([content], options, net, CPU).steps(content, state=state)
