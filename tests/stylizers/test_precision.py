"""Device and precision are decided in one place, and the stylizer says what it paints with."""

import logging
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import impasto
from impasto.device import Compute, choose_compute
from impasto.options import OptimizeOptions, Precision, StylizeOptions
from impasto.stylizers import choose
from impasto.stylizers.choose import NetworkStart, load_stylizer, load_texture, resolve_compute
from impasto.stylizers.optimize import OptimizeStylizer

CPU = torch.device("cpu")
FULL, LOW = Compute(CPU, None), Compute(CPU, torch.bfloat16)


@pytest.fixture
def hardware(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Return `hardware(True, fastest=FULL)`: it sets whether the processor has bfloat16, and what is fastest."""

    def pretend(bfloat16: bool, fastest: Compute = LOW) -> None:
        monkeypatch.setattr("impasto.device.has_bfloat16", lambda: bfloat16)
        monkeypatch.setattr(choose, "fastest", lambda net, compute: fastest if compute.autocast_dtype else compute)

    return pretend


def test_what_the_options_come_to(hardware: Callable[..., None]) -> None:
    net: Any = object()
    for able, auto in ((True, LOW), (False, FULL)):
        hardware(able)
        assert resolve_compute(OptimizeOptions(device="cpu")) == auto
        assert resolve_compute(StylizeOptions(device="cpu"), net) == auto
        assert resolve_compute(OptimizeOptions(device="cpu", preset="gatys")) == FULL
        for given in (None, net):
            assert resolve_compute(OptimizeOptions(device="cpu", precision="bfloat16"), given) == LOW
            assert resolve_compute(OptimizeOptions(device="cpu", precision="float32"), given) == FULL
        assert resolve_compute(OptimizeOptions(device="cpu", preset="gatys", precision="bfloat16")) == LOW
    hardware(True, fastest=FULL)
    assert resolve_compute(OptimizeOptions(device="cpu")) == LOW
    assert resolve_compute(StylizeOptions(device="cpu"), net) == FULL
    assert (str(FULL), str(LOW)) == ("cpu, float32", "cpu, bfloat16")


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({}, LOW),
        ({"keep_colours": 1.0}, LOW),
        ({"preset": "gatys"}, FULL),
        ({"quality": "draft"}, LOW),
        ({"quality": "instant"}, FULL),
        ({"quality": "instant", "keep_colours": 1.0}, FULL),
        ({"method": "network"}, FULL),
        ({"method": "network", "precision": "bfloat16"}, LOW),
    ],
)
def test_every_stylizer_says_it(
    hardware: Callable[..., None], photo: Callable[[str, int], Tensor], options: dict[str, Any], wanted: Compute
) -> None:
    hardware(True, fastest=FULL)
    style = photo("chelsea", 64) if options.get("preset") else "starry-night"
    assert load_stylizer(style, device="cpu", **options).compute == wanted


def test_a_texture_says_it(hardware: Callable[..., None]) -> None:
    hardware(True, fastest=FULL)
    assert load_texture("starry-night", (64, 64), device="cpu").compute == LOW


@pytest.mark.parametrize("precision", ["auto", "float32"])
def test_a_network_that_begins_an_optimisation_shares_it(hardware: Callable[..., None], precision: Precision) -> None:
    """Otherwise the record could not say in which precision the painting began."""
    hardware(True, fastest=FULL)
    stylizer = load_stylizer("starry-night", device="cpu", start="network", precision=precision)
    assert isinstance(stylizer, OptimizeStylizer)
    assert isinstance(stylizer.start, NetworkStart)
    assert stylizer.start.network.compute == stylizer.compute


def test_bfloat16_without_hardware(
    hardware: Callable[..., None], photo: Callable[[str, int], Tensor], caplog: pytest.LogCaptureFixture
) -> None:
    hardware(False)
    with caplog.at_level(logging.WARNING, "impasto"):
        assert choose_compute("cpu", "auto") == FULL
        assert not caplog.records
        low = impasto.stylize(photo("coffee", 64), "udnie", quality="instant", device="cpu", precision="bfloat16")
    assert caplog.messages == ["bfloat16 is slow here: cpu does not support it in hardware and emulates it"]
    full = impasto.stylize(photo("coffee", 64), "udnie", quality="instant", device="cpu", precision="float32")
    assert 0 < (low - full).abs().mean() < 0.02
