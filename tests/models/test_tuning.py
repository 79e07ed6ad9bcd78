"""The precision in which a network is fastest is measured once and remembered, and never causes a failure."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from impasto.device import Compute
from impasto.models import tuning
from impasto.models.network import Network, NetworkConfig
from impasto.models.tuning import cache_file, fastest

LOW, HIGH = Compute(torch.device("cpu"), torch.bfloat16), Compute(torch.device("cpu"), None)


def network(**changes: Any) -> Network:
    config = NetworkConfig("", {"relu1_1": 3}, **{"width": 4, "blocks": 1, "rank": 1, "hidden": 8, **changes})
    return Network(config).eval().requires_grad_(False)


@pytest.fixture
def net() -> Network:
    return network()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize(("seconds", "wanted"), [((1.0, 2.0), HIGH), ((2.0, 1.0), LOW)])
def test_the_faster_one_is_taken_and_remembered(
    net: Network, monkeypatch: pytest.MonkeyPatch, seconds: tuple[float, float], wanted: Compute
) -> None:
    calls = []

    def timed(_: Network, compute: Compute) -> float:
        calls.append(compute)
        return seconds[compute.autocast_dtype is not None]

    monkeypatch.setattr(tuning, "_seconds", timed)
    assert fastest(net, LOW) == wanted
    assert fastest(net, LOW) == wanted
    assert calls == [HIGH, LOW]  # once
    assert list(json.loads(cache_file().read_text()).values()) == ["bfloat16" if wanted.autocast_dtype else "float32"]
    threads = torch.get_num_threads()
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads + 1)
    fastest(net, LOW)
    assert len(calls) == 4  # with other threads it may be the other


@pytest.mark.parametrize("changes", [{}, {"rank": 0}, {"styles": ("one", "two")}], ids=str)
def test_it_is_measured_on_the_network(changes: dict[str, Any]) -> None:
    net = network(**changes)
    assert fastest(net, LOW) in (LOW, HIGH)
    assert 0 < tuning._seconds(net, HIGH) < 60


def test_each_width_is_measured(net: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuning, "_seconds", lambda net, c: float((net.config.width > 4) == (c.autocast_dtype is None)))
    assert [fastest(network(width=w), LOW) for w in (4, 8)] == [HIGH, LOW]
    monkeypatch.setattr(tuning, "_seconds", None)
    assert [fastest(network(width=w, hidden=9), LOW) for w in (4, 8)] == [HIGH, LOW]


def test_where_there_is_no_choice_nothing_is_measured(net: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuning, "_seconds", None)
    assert fastest(net, HIGH) == HIGH
    gpu = Compute(torch.device("cuda"), torch.bfloat16)
    assert fastest(net, gpu) == gpu


@pytest.mark.parametrize("content", ["", "[1]", "{]", '{"a": 3}'])
def test_a_damaged_cache_is_measured_anew(net: Network, monkeypatch: pytest.MonkeyPatch, content: str) -> None:
    monkeypatch.setattr(tuning, "_seconds", lambda _, c: float(c.autocast_dtype is None))
    cache_file().parent.mkdir()
    cache_file().write_text(content)
    assert fastest(net, LOW) == LOW
    assert "bfloat16" in cache_file().read_text()


def test_a_cache_that_cannot_be_written_is_done_without(
    net: Network, monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    monkeypatch.setattr(tuning, "_seconds", lambda _, c: float(c.autocast_dtype is None))
    (cache / "impasto").write_text("a file where the folder should be")
    assert fastest(net, LOW) == LOW
