"""Paintings that do not fit into memory are painted in tiles: at full size, with the same result."""

import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from impasto.device import Compute
from impasto.errors import MemoryNeedError, OptionError
from impasto.models.vgg import VGG
from impasto.options import OptimizeOptions, StylizeOptions
from impasto.stylizers import memory
from impasto.stylizers.descent import LBFGS
from impasto.stylizers.lean_lbfgs import LeanLBFGS
from impasto.stylizers.memory import memory_need
from impasto.stylizers.optimize import OptimizeStylizer
from impasto.stylizers.protocol import Region, Step
from impasto.stylizers.store import Store
from impasto.tools.web.controls import controls

from .test_resume import check_going_on

PLAIN = Compute(torch.device("cpu"), None)
SHORT: dict[str, Any] = {"size": 192, "coarsest": 96, "iterations": 6, "style_loss": "gram"}


@pytest.fixture
def scarce(monkeypatch: pytest.MonkeyPatch, encoder: VGG) -> Callable[[], None]:
    """Return a function that leaves so little memory that a painting of 192x128 pixels fits only in tiles."""

    def change(short: int = 1_000_000) -> None:
        need = memory_need((128, 192), encoder, PLAIN, checkpointing=True)
        monkeypatch.setattr(memory, "SIDES", (32,))
        monkeypatch.setattr(memory, "available_memory", lambda device: round((need - short) / memory.SHARE))

    return change


def painted(stylizer: OptimizeStylizer, *inputs: Any) -> Step:
    *_, last = stylizer.steps(*inputs)
    return last


@pytest.mark.parametrize("optimizer", ["lbfgs", "adam"])
def test_the_painting_is_as_if_memory_had_sufficed(
    make: Callable[..., OptimizeStylizer],
    photo: Callable[..., Tensor],
    scarce: Callable[..., None],
    caplog: pytest.LogCaptureFixture,
    optimizer: str,
) -> None:
    options = {**SHORT, "optimizer": optimizer, "parameters": "pixels"}
    content = photo("coffee", 192)
    whole = painted(make(**options), content)
    scarce()
    with caplog.at_level(logging.WARNING, logger="impasto"):
        tiled = painted(make(**options), content)
    assert tiled.image.shape == whole.image.shape
    assert tiled.losses["total"] == pytest.approx(whole.losses["total"], rel=0.01)
    assert (tiled.image - whole.image).abs().mean() < 0.01
    (message,) = caplog.messages
    assert message.startswith("painting 192x128 in tiles of 32 pixels, which takes 0.3 GB of memory")
    assert re.search(r"in one piece it needs about 0\.3 GB, and 0\.3 GB is free$", message)


def test_with_regions_and_a_mask(
    make: Callable[..., OptimizeStylizer], photo: Callable[..., Tensor], style: Tensor, scarce: Callable[..., None]
) -> None:
    content, half = photo("coffee", 192), torch.zeros(1, 1, 128, 192)
    half[..., :96] = 1
    inputs = content, [Region(half, style.flip(2))], half.flip(2)
    whole = painted(make(**SHORT), *inputs)
    scarce(600_000)
    tiled = painted(make(**SHORT), *inputs)
    assert tiled.losses["total"] == pytest.approx(whole.losses["total"], rel=0.01)
    assert (tiled.image - whole.image).abs().mean() < 0.01


@pytest.mark.parametrize("optimizer", ["lbfgs", pytest.param("adam", marks=pytest.mark.slow)])
def test_from_any_step_it_goes_on_bit_for_bit(
    make: Callable[..., OptimizeStylizer], photo: Callable[..., Tensor], scarce: Callable[..., None], optimizer: str
) -> None:
    scarce()
    options = {**SHORT, "iterations": (3, 4), "optimizer": optimizer, "parameters": "pixels"}
    check_going_on(make(**options), make(**options), {"content": photo("coffee", 192)})


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"style_loss": "nn"}, "--style-loss nn compares the whole picture"),
        ({"histogram_weight": 0.1}, "--histogram-weight compares the whole picture"),
        ({"similarity_weight": 0.1}, "--similarity-weight compares the whole picture"),
    ],
    ids=str,
)
def test_losses_of_the_whole_picture_say_why_it_is_smaller(
    make: Callable[..., OptimizeStylizer],
    photo: Callable[..., Tensor],
    scarce: Callable[..., None],
    caplog: pytest.LogCaptureFixture,
    options: dict[str, Any],
    why: str,
) -> None:
    scarce()
    options = {**SHORT, **options, "iterations": 3}
    with caplog.at_level(logging.WARNING, logger="impasto"):
        step = next(iter(make(**options).steps(photo("coffee", 192))))
    assert max(step.scale) < 192
    (message,) = caplog.messages
    assert why in message
    assert "instead" in message
    with pytest.raises(MemoryNeedError, match=why):
        make(**options, strict_size=True).steps(photo("coffee", 192))


def test_a_limit_is_kept_to(
    make: Callable[..., OptimizeStylizer], photo: Callable[..., Tensor], caplog: pytest.LogCaptureFixture, encoder: VGG
) -> None:
    """`--max-memory` counts what the painting takes, so that the tiles do not depend on what else is in memory."""
    content = torch.nn.functional.interpolate(photo("coffee", 192), (480, 720))
    least = memory_need((480, 720), encoder, PLAIN, checkpointing=True)
    limit = least - 25_000_000
    with caplog.at_level(logging.WARNING, logger="impasto"):
        step = next(iter(make(size=720, iterations=1, max_memory=limit).steps(content)))
    assert step.scale == (480, 720)
    assert "in tiles of 256 pixels" in caplog.text
    assert "--max-memory allows 0.4 GB" in caplog.text
    with pytest.raises(MemoryNeedError, match=r"--max-memory allows 0\.0 GB"):
        make(size=720, max_memory=1000, strict_size=True).steps(content)


# -- the option -------------------------------------------------------------------------------------------------------


def test_nothing_is_no_limit() -> None:
    with pytest.raises(OptionError, match="--max-memory is 0; it must be 1 or more"):
        OptimizeOptions(max_memory=0)


def test_visitors_do_not_set_the_servers_memory() -> None:
    assert "max_memory" not in controls(StylizeOptions)


# -- L-BFGS and its store ---------------------------------------------------------------------------------------------


def bowl(x: Tensor) -> tuple[float, Tensor]:
    """Return value and gradient of a bowl that is 100 times steeper in one direction than in another."""
    steepness = torch.logspace(0, 2, x.numel()).view_as(x)
    return 1 + float((steepness * (x - 0.5).square()).sum()) / 2, steepness * (x - 0.5)


def run(optimiser: LBFGS, steps: int = 12) -> list[float]:
    values = []
    for _ in range(steps):
        value, gradient = bowl(optimiser.x)
        values.append(value)
        optimiser.step(value, gradient if optimiser.keeps(value) else None)
    return values


@pytest.mark.parametrize("history", [1, 3, 5])
def test_it_descends_as_the_other(history: int) -> None:
    """`LeanLBFGS` rounds its pairs to bfloat16, which changes the descent little."""
    x = torch.rand(1, 3, 12, 10, generator=torch.Generator().manual_seed(0)).to(memory_format=torch.channels_last)
    plain, lean = run(LBFGS(x, history=history)), run(LeanLBFGS(x, history=history))
    assert lean[:2] == pytest.approx(plain[:2])
    assert lean == pytest.approx(plain, rel=0.1)
    assert lean[-1] < 0.3 * lean[0]


@pytest.mark.parametrize("in_memory", [0, 2])
def test_pairs_in_files_are_those_in_memory(in_memory: int) -> None:
    x = torch.rand(1000, generator=torch.Generator().manual_seed(0))
    assert run(LeanLBFGS(x, in_memory=in_memory)) == run(LeanLBFGS(x))


def test_a_store_on_disk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A store on disk returns what was written, and leaves no file behind."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    store = Store((3, 4, 5), torch.bfloat16, torch.device("cpu"), on_disk=True)
    assert not store.open().any()
    store.open()[1, 2:] = torch.arange(10.0).view(2, 5)
    assert store.open()[1, 2:].flatten().tolist() == list(range(10))
    assert store.open().sum() == 45
    del store
    assert not list(tmp_path.iterdir())


def test_a_disk_without_room(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    with pytest.raises(MemoryNeedError, match=r"need about .* GB for temporary files, and .* cannot take .* TMPDIR"):
        Store((10**6, 10**9), torch.float32, torch.device("cpu"), on_disk=True)
