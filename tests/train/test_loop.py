"""A resumed training equals an uninterrupted one, several processes equal one, and stopping leaves a checkpoint."""

import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from impasto.errors import TrainingError
from impasto.models.network import load_network
from impasto.options import TrainNetworkOptions
from impasto.train import loop
from impasto.train.checkpoint import STATE, checkpoint_path, load_checkpoint
from impasto.train.loop import Training, start_fabric, train
from impasto.train.network import rate_factor
from impasto.train.optimisers import Optimisers
from impasto.train.start import start_network_training

Brief = Callable[..., TrainNetworkOptions]


def weights(training: Training) -> dict[str, Tensor]:
    return {k: v.clone() for k, v in training.recipe.net.state_dict().items()}


def trained(options: TrainNetworkOptions, stop: int | None = None) -> Training:
    """Train to the end, or stop after that many steps like a signal does."""
    training = start_network_training(options)
    with closing(train(training)) as steps:
        for step in steps:
            if step.step == stop:
                break
    return training


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


def test_the_rate_rises_stays_and_falls(brief: Brief) -> None:
    o = brief(steps=100, warm_up=9, decay=0.4)
    factors = [rate_factor(i, o) for i in range(101)]
    assert factors[0] == pytest.approx(0.1)
    assert factors[:10] == sorted(factors[:10])
    assert set(factors[9:60]) == {1.0}
    assert factors[80] == pytest.approx(0.5)
    assert factors[100] == 0
    assert [rate_factor(i, brief(steps=10, warm_up=0, decay=0.0)) for i in (0, 9)] == [1, 1]


# -- the same, however it is done -------------------------------------------------------------------------------------


def test_a_training_that_is_stopped_and_resumed_is_the_uninterrupted_one(brief: Brief, tmp_path: Path) -> None:
    """Weights, averages, the optimisers' memory and the file are equal bit for bit."""
    whole = trained(brief(stability=0.1))
    out = tmp_path / "parts.safetensors"
    for stop in (1, 2, 5, None):
        parts = trained(brief(out=out, resume=stop != 1, stability=0.1), stop)
    assert parts.step == 6
    assert same(weights(whole), weights(parts))
    assert same(whole.average, parts.average)
    states = [load_checkpoint(checkpoint_path(o)) for o in (whole.options.out, out)]
    adam = [s["optimisers"]["adam"]["state"] for s in states]
    assert all(torch.equal(adam[0][i]["exp_avg_sq"], adam[1][i]["exp_avg_sq"]) for i in adam[0])
    assert whole.options.out.read_bytes() == out.read_bytes()


def test_a_training_that_is_killed_goes_on_from_its_checkpoint(brief: Brief) -> None:
    whole = weights(trained(brief()))
    steps = train(start_network_training(brief()))
    for _ in range(5):
        next(steps)
    state = load_checkpoint(checkpoint_path(brief().out))
    assert state["step"] == 4  # a killed process does not close its generator
    assert same(whole, weights(trained(brief(resume=True))))
    steps.close()


@pytest.mark.parametrize("workers", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_workers_change_nothing(brief: Brief, workers: int) -> None:
    alone, helped = (weights(trained(brief(steps=3, workers=n))) for n in (0, workers))
    assert same(alone, helped)


def test_accumulation_changes_nothing_but_the_rounding(brief: Brief) -> None:
    whole, parts = (weights(trained(brief(steps=2, accumulate=n))) for n in (1, 4))
    for k, v in whole.items():  # Adam divides gradients by their own size, and rounding decides the smallest ones
        torch.testing.assert_close(parts[k], v, rtol=1e-3, atol=2e-3)


def test_another_seed_is_another_training(brief: Brief) -> None:
    first = weights(trained(brief(steps=1)))
    assert same(first, weights(trained(brief(steps=1))))
    assert not same(first, weights(trained(brief(steps=1, seed=1))))


# -- averages ---------------------------------------------------------------------------------------------------------


def test_what_is_written_is_the_average(brief: Brief) -> None:
    training = trained(brief(steps=8, average=0.9))
    own = weights(training)
    assert not same(training.average, own)
    with training.averaged() as net:
        assert same(training.average, {k: v.clone() for k, v in net.state_dict().items()})
    assert same(weights(training), own)
    net, _ = load_network(training.options.out)
    assert all(torch.equal(v, training.average[k].half().float()) for k, v in net.state_dict().items())


def test_without_an_average_it_is_the_weights(brief: Brief) -> None:
    training = trained(brief(steps=2, average=0.0))
    assert same(training.average, weights(training))


# -- what stops it ----------------------------------------------------------------------------------------------------


def test_minutes_stop_it_with_a_checkpoint_and_it_goes_on(brief: Brief, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each step seems to take 50 seconds.

    Stopped and resumed, the training equals the uninterrupted one bit for bit.
    """
    whole = trained(brief(out=brief().out.with_name("whole.safetensors")))
    ticks = itertools.count(0, 50)
    monkeypatch.setattr(loop, "time", type("Clock", (), {"monotonic": staticmethod(lambda: float(next(ticks)))}))
    o = brief(minutes=5.0, checkpoint_every=1000)
    steps = [s.step for s in train(start_network_training(o))]
    assert 1 <= len(steps) < 6
    assert load_checkpoint(checkpoint_path(o.out))["step"] == steps[-1]
    load_network(o.out)
    found = start_network_training(replace(o, resume=True, minutes=None))
    assert found.step == steps[-1]
    assert [s.step for s in train(found)] == list(range(steps[-1] + 1, 7))
    assert same(weights(whole), weights(found))
    assert whole.options.out.read_bytes() == o.out.read_bytes()


def test_no_minutes_are_no_steps(brief: Brief) -> None:
    o = brief(minutes=0.0)
    assert list(train(start_network_training(o))) == []
    assert not o.out.exists()


def test_a_loss_that_is_not_finite(brief: Brief, monkeypatch: pytest.MonkeyPatch) -> None:
    training = start_network_training(brief())
    loss = training.recipe.loss

    def spoilt(samples: Any) -> Any:
        total, sums = loss(samples)
        return total * torch.nan, sums

    monkeypatch.setattr(training.recipe, "loss", spoilt)
    before = weights(training)
    with pytest.raises(TrainingError, match=r"no longer finite at step 1; lower --rate \(now 0.01\)"):
        next(train(training))
    assert same(before, weights(training))


@pytest.mark.parametrize("damage", ["missing", "empty", "foreign", "another network", "no optimiser"])
def test_a_checkpoint_that_does_not_fit(brief: Brief, damage: str) -> None:
    path = checkpoint_path(brief().out)
    changes: dict[str, Any] = {}
    if damage != "missing":
        trained(brief(steps=1))
    if damage == "empty":
        (path / STATE).write_bytes(b"")
    elif damage == "foreign":
        torch.save({"step": 1}, path / STATE)
    elif damage == "another network":
        changes = {"width": 8}
    elif damage == "no optimiser":
        state = torch.load(path / STATE, weights_only=True)
        torch.save({**state, "state": {**state["state"], "optimisers": {}}}, path / STATE)
    with pytest.raises(TrainingError, match="cannot resume from"):
        start_network_training(brief(resume=True, **changes))


def test_more_processes_than_pictures(brief: Brief) -> None:
    class Two:
        world_size, global_rank = 2, 1

    recipe: Any = start_network_training(brief(batch=2)).recipe
    with pytest.raises(TrainingError, match="--batch is 1 for 2 processes; it must be at least that"):
        Training(recipe, brief(batch=1), Two())  # type: ignore[arg-type]


# -- several processes ------------------------------------------------------------------------------------------------

PROGRAM = """
import json, sys, torch
from pathlib import Path
from impasto.options import TrainNetworkOptions
from impasto.train import network
from impasto.train.start import start_network_training
from impasto.train.loop import stop_fabric, train
network.CALIBRATION = 6
torch.set_num_threads(1)
values = json.loads(sys.argv[1])
paths = {k: tuple(map(Path, values[k])) for k in ("photos", "paintings")}
o = TrainNetworkOptions(**{**values, **paths, "out": Path(values["out"]), "styles": tuple(values["styles"])})
training = start_network_training(o)
for step in train(training):
    pass
print(training.fabric.global_rank, training.fabric.world_size, json.dumps(step.figures))
stop_fabric(training.fabric)
"""


def test_two_processes_are_one_with_the_whole_batch(brief: Brief, tmp_path: Path) -> None:
    """The results are equal up to rounding, which decides the sign of Adam's step where a gradient is nearly 0."""
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    o = brief(steps=3, style_rate=0.001, small_rate=0.001, minutes=60.0)
    alone = start_network_training(o)
    *_, last = train(alone)
    out = tmp_path / "two.safetensors"
    paths = {k: [str(p) for p in getattr(o, k)] for k in ("photos", "paintings")}
    values = json.dumps({**asdict(o), **paths, "out": str(out)})
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(program)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    done = subprocess.run([*command, values], env=environment, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    (line,) = (line for line in done.stdout.splitlines() if line.startswith("0 2 "))
    assert json.loads(line.removeprefix("0 2 ")) == pytest.approx(last.figures, rel=1e-3)
    state = load_checkpoint(checkpoint_path(out))
    assert state["step"] == 3
    differences = torch.cat([(state["net"][k] - v).abs().flatten() for k, v in weights(alone).items()])
    assert differences.max() <= 2 * 3 * 0.001
    assert (differences > 1e-4).float().mean() < 0.01


@pytest.mark.slow
def test_killed_five_times_at_random_moments_it_ends_at_the_same_weights(photos: Path, tmp_path: Path) -> None:
    """The command line is stopped by SIGKILL, and continues only from what is next to the network."""

    def command(out: Path, *more: str) -> list[str]:
        program = [sys.executable, "-m", "impasto", "train", "network", "--photos", str(photos), "--out", str(out)]
        sizes = ["--steps", "120", "--batch", "2", "--crop", "64", "--width", "4", "--blocks", "1", "--device", "cpu"]
        return [*program, "--styles", "udnie", *sizes, "--checkpoint-every", "3", "--sample-every", "40", *more]

    def state(out: Path) -> Path:
        return checkpoint_path(out) / STATE

    def start(out: Path) -> "subprocess.Popen[bytes]":
        more = ["--resume"] if state(out).exists() else []
        return subprocess.Popen(command(out, *more), stderr=subprocess.DEVNULL)

    whole, killed = tmp_path / "whole.safetensors", tmp_path / "killed.safetensors"
    assert start(whole).wait() == 0
    rng = np.random.default_rng(0)
    for _ in range(5):
        before = state(killed).stat().st_mtime_ns if state(killed).exists() else 0
        process = start(killed)
        while process.poll() is None:
            if state(killed).exists() and state(killed).stat().st_mtime_ns != before:
                break
            time.sleep(0.05)
        time.sleep(float(rng.uniform(0, 1)))
        process.kill()
        process.wait()
    assert start(killed).wait() == 0
    assert killed.read_bytes() == whole.read_bytes()
    states = [load_checkpoint(checkpoint_path(p)) for p in (whole, killed)]
    assert states[0]["step"] == states[1]["step"] == 120
    assert same(states[0]["net"], states[1]["net"])


# -- in small, without a network that paints --------------------------------------------------------------------------


class Line:
    """The recipe y = a x, trained on y = 3 x: everything that the loop needs."""

    def __init__(self) -> None:
        self.net = torch.nn.Linear(1, 1, bias=False)
        self.net.weight.data.fill_(0.0)
        self.optimisers = Optimisers([], 0.0, (self.net.parameters(), 0.05))
        self.taken: list[int] = []
        self.rated: list[int] = []
        self.written: list[tuple[Path, int]] = []

    @staticmethod
    def sample(step: int, i: int) -> float:
        return float(np.random.default_rng((step, i)).uniform(-1, 1))

    def loss(self, samples: Any) -> tuple[Tensor, dict[str, Tensor]]:
        x = torch.tensor(samples)[:, None]
        error = (self.net(x) - 3 * x).square().sum()
        return error, {"error": error}

    def rate_factor(self, step: int) -> float:
        self.rated.append(step)
        return 1.0

    def after(self, step: int) -> None:
        self.taken.append(step)

    def state_dict(self) -> dict[str, Any]:
        return {"taken": self.taken}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.taken = state["taken"]

    def write(self, net: torch.nn.Module, path: Path, step: int) -> None:
        self.written.append((path, step))


@pytest.fixture
def line(brief: Brief) -> Callable[..., tuple[Training, Line]]:
    def make(**changes: Any) -> tuple[Training, Line]:
        recipe, o = Line(), brief(**changes)
        return Training(recipe, o, start_fabric(o)), recipe

    return make


def test_any_recipe_is_trained(line: Callable[..., tuple[Training, Line]]) -> None:
    training, recipe = line(steps=200, batch=3, accumulate=2, checkpoint_every=80, warm_up=0)
    steps = list(train(training))
    assert recipe.net.weight.item() == pytest.approx(3, abs=0.05)
    assert recipe.taken == list(range(1, 201)) == [s.step for s in steps]
    assert recipe.rated == list(range(200))
    assert [s for _, s in recipe.written] == [80, 160, 200]
    assert steps[-1].figures["error"] == steps[-1].figures["loss"] < 0.01 * steps[0].figures["error"]
    assert {s.total for s in steps} == {200}
    assert [s.seconds for s in steps] == sorted(s.seconds for s in steps)


def test_the_figures_are_means_over_the_pictures(line: Callable[..., tuple[Training, Line]]) -> None:
    """This holds for any number of parts and any processes."""
    found = []
    for accumulate in (1, 2, 5):
        training, _ = line(steps=1, batch=5, accumulate=accumulate)
        (step,) = train(training)
        found.append(step.figures["error"])
    wanted = np.mean([(3 * Line.sample(0, i)) ** 2 for i in range(5)])
    assert found == pytest.approx([wanted] * 3, rel=1e-5)


def test_large_gradients_are_scaled_down(line: Callable[..., tuple[Training, Line]]) -> None:
    training, recipe = line(steps=1, clip=0.001)
    next(train(training))
    assert recipe.net.weight.grad is not None
    assert recipe.net.weight.grad.norm().item() == pytest.approx(0.001, rel=1e-3)


def test_a_recipes_own_state_is_kept(line: Callable[..., tuple[Training, Line]]) -> None:
    first, _ = line(steps=5)
    list(train(first))
    again, recipe = line(steps=7, resume=True)
    again.restore()
    assert recipe.taken == [1, 2, 3, 4, 5]
    assert [s.step for s in train(again)] == [6, 7]
    assert recipe.taken == [1, 2, 3, 4, 5, 6, 7]


def test_another_shape_on_the_way(line: Callable[..., tuple[Training, Line]], monkeypatch: pytest.MonkeyPatch) -> None:
    """A recipe may change its network's shape after a step; the average then starts afresh."""
    training, recipe = line(steps=6, average=0.5)

    def after(step: int) -> None:
        if step == 3:
            recipe.net.bias = torch.nn.Parameter(torch.ones(1))
            recipe.optimisers = Optimisers([], 0.0, (recipe.net.parameters(), 0.05))

    monkeypatch.setattr(recipe, "after", after)
    for step in train(training):
        assert ("bias" in training.average) == (step.step >= 3)
    assert training.average["bias"] != 1
    with training.averaged() as net:
        assert torch.equal(net.state_dict()["bias"], training.average["bias"])
