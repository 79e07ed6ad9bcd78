import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from impasto.errors import TrainingError
from impasto.options import TrainFeedforwardOptions
from impasto.train.loop import Training, checkpoint_path, load_checkpoint, rate_factor, train
from impasto.train.start import start_training

Brief = Callable[..., TrainFeedforwardOptions]


def weights(training: Training) -> dict[str, Tensor]:
    return {k: v.clone() for k, v in training.recipe.net.state_dict().items()}


def trained(options: TrainFeedforwardOptions, stop: int | None = None) -> Training:
    """Trained to the end, or stopped after so many steps as a signal stops it."""
    training = start_training(options)
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


def test_a_training_that_is_stopped_and_resumed_is_the_uninterrupted_one(brief: Brief, tmp_path: Path) -> None:
    """Bit for bit: weights, averages, content weights, and the file."""
    whole = trained(brief())
    out = tmp_path / "parts.safetensors"
    for stop in (1, 2, 5, None):
        parts = trained(brief(out=out, resume=stop != 1), stop)
    assert parts.step == 6
    assert same(weights(whole), weights(parts))
    assert same(whole.average, parts.average)
    assert torch.equal(whole.recipe.state_dict()["content_weights"], parts.recipe.state_dict()["content_weights"])
    assert (tmp_path / "net.safetensors").read_bytes() == out.read_bytes()


def test_a_training_that_is_killed_goes_on_from_its_checkpoint(brief: Brief) -> None:
    o = brief()
    whole = weights(trained(o))
    training = start_training(o)
    steps = train(training)
    for _ in range(5):
        next(steps)
    del steps  # the generator is never closed in a killed process; here its save is undone
    state = load_checkpoint(checkpoint_path(o.out))
    assert state["step"] in (4, 5)
    assert same(whole, weights(trained(brief(resume=True))))


def test_accumulation_changes_nothing_but_the_rounding(brief: Brief) -> None:
    whole, parts = (weights(trained(brief(steps=2, accumulate=n, style_rate=0.003))) for n in (1, 4))
    for k, v in whole.items():  # Adam divides gradients by their own size, and rounding decides the smallest ones
        torch.testing.assert_close(parts[k], v, rtol=1e-3, atol=1e-3)


def test_the_average_is_calmer_than_the_weights(brief: Brief) -> None:
    training = trained(brief(steps=8, average=0.9))
    change = {k: float((training.average[k] - v).norm()) for k, v in weights(training).items()}
    assert max(change.values()) > 0
    with training.averaged() as net:
        assert same(training.average, {k: v.clone() for k, v in net.state_dict().items()})
    assert not same(training.average, weights(training))


def test_without_an_average_it_is_the_weights(brief: Brief) -> None:
    training = trained(brief(steps=2, average=0.0))
    assert same(training.average, weights(training))


@pytest.mark.parametrize("damage", ["missing", "empty", "foreign", "other network"])
def test_a_checkpoint_that_does_not_fit(brief: Brief, damage: str) -> None:
    o = brief()
    path = checkpoint_path(o.out)
    if damage == "empty":
        path.touch()
    elif damage == "foreign":
        torch.save({"step": 1}, path)
    elif damage == "other network":
        trained(brief(steps=2))
    with pytest.raises(TrainingError, match="cannot resume from"):
        start_training(brief(resume=True, width=8))


def test_a_loss_that_is_not_finite(brief: Brief, monkeypatch: pytest.MonkeyPatch) -> None:
    training = start_training(brief())
    loss = training.recipe.loss

    def spoilt(step: int, pictures: Any) -> Any:
        total, sums = loss(step, pictures)
        return total * torch.nan, sums

    monkeypatch.setattr(training.recipe, "loss", spoilt)
    before = weights(training)
    with pytest.raises(TrainingError, match="no longer finite at step 1; lower --rate"):
        next(train(training))
    assert same(before, weights(training))


PROGRAM = """
import sys, torch
from pathlib import Path
from impasto.options import TrainFeedforwardOptions
from impasto.train.start import start_training
from impasto.train.loop import train
torch.set_num_threads(1)
o = TrainFeedforwardOptions(styles=("starry-night", "great-wave"), photos=(Path(sys.argv[1]),), out=Path(sys.argv[2]),
    steps=3, batch=4, crop=64, width=4, blocks=1, warm_up=2, identity=0.3, checkpoint_every=3, sample_every=0,
    style_rate=0.003,  # higher, Adam makes more of the rounding
    device="cpu", precision="float32")
training = start_training(o)
for step in train(training):
    pass
print(training.fabric.global_rank, training.fabric.world_size, step.figures)
"""


def test_two_processes_are_one_with_the_whole_batch(photos: Path, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    states = []
    for processes in (1, 2):
        out = tmp_path / f"{processes}.safetensors"
        command = [sys.executable, str(program), str(photos), str(out)]
        if processes == 2:
            command[1:1] = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240, check=False)
        assert done.returncode == 0, done.stderr
        assert f"0 {processes} " in done.stdout
        states.append(load_checkpoint(checkpoint_path(out)))
    one, two = states
    for k, v in one["net"].items():
        torch.testing.assert_close(two["net"][k], v, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(two["recipe"]["content_weights"], one["recipe"]["content_weights"])


@pytest.mark.slow
def test_killed_five_times_at_random_moments_it_ends_at_the_same_weights(photos: Path, tmp_path: Path) -> None:
    """By SIGKILL, as the command line; what lies beside the network is all that goes on."""

    def command(out: Path, *more: str) -> list[str]:
        program = [sys.executable, "-m", "impasto", "train", "feedforward", "--photos", str(photos), "--out", str(out)]
        sizes = ["--steps", "120", "--batch", "2", "--crop", "64", "--width", "4", "--blocks", "1", "--device", "cpu"]
        return [*program, "--styles", "udnie", *sizes, "--checkpoint-every", "3", "--sample-every", "40", *more]

    def start(out: Path) -> "subprocess.Popen[bytes]":
        more = ["--resume"] if checkpoint_path(out).exists() else []
        return subprocess.Popen(command(out, *more), stderr=subprocess.DEVNULL)

    whole, killed = tmp_path / "whole.safetensors", tmp_path / "killed.safetensors"
    assert start(whole).wait() == 0
    rng = np.random.default_rng(0)
    for _ in range(5):
        before = checkpoint_path(killed).stat().st_mtime_ns if checkpoint_path(killed).exists() else 0
        process = start(killed)
        while process.poll() is None:
            if checkpoint_path(killed).exists() and checkpoint_path(killed).stat().st_mtime_ns != before:
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
