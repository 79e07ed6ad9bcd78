"""Samples from worker processes equal those without workers, with errors and log lines, and no worker is left."""

import itertools
import multiprocessing
import operator
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from impasto.errors import TrainingError
from impasto.train.loading import prepared
from impasto.train.pack import _Encoder
from impasto.train.pictures import PictureSet

forked = partial(prepared, start="fork")
"""Tests whose samplers cannot be pickled need this."""


def numbers(steps: int, batch: int = 3) -> Iterator[list[tuple[int, int]]]:
    return ([(step, i) for i in range(batch)] for step in range(steps))


def cropper(found: PictureSet) -> Callable[[int, int], Tensor]:
    return lambda step, i: found.crop(np.random.default_rng((step, i)), 40)


@pytest.fixture(autouse=True)
def _no_worker_is_left() -> Iterator[None]:
    yield
    assert not multiprocessing.active_children()


def test_any_number_of_workers_gives_the_same_bit_for_bit(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"no")
    groups = []
    for workers in (0, 1, 2, 3):
        state = torch.random.get_rng_state()
        sampler = cropper(PictureSet.open([photos, tmp_path], None, 100))
        groups.append(list(forked(sampler, numbers(5), workers)))
        assert torch.equal(torch.random.get_rng_state(), state)
    assert [len(g) for g in groups[0]] == [3] * 5
    for other in groups[1:]:
        assert all(torch.equal(a, b) for x, y in zip(groups[0], other, strict=True) for a, b in zip(x, y, strict=True))


@pytest.mark.parametrize("start", ["spawn", "forkserver"])
def test_processes_that_are_not_forked(photos: Path, start: str) -> None:
    found = PictureSet.open([photos], None, 100)
    encoder = _Encoder(found, 80)
    assert list(prepared(encoder, numbers(2), 1, start=start)) == list(prepared(encoder, numbers(2), 0))


def test_endless_numbers_and_groups_of_any_size() -> None:
    endless = ([(step, i) for i in range(step % 3)] for step in itertools.count())
    found = prepared(operator.add, endless, 2)
    assert list(itertools.islice(found, 7)) == [[], [1], [2, 3], [], [4], [5, 6], []]
    found.close()


def test_packed_files_in_several_processes(photos: Path, tmp_path: Path) -> None:
    from impasto.cli import main

    assert main(["train", "pack", str(photos), "--out", str(tmp_path / "p.zip"), "--workers", "0"]) == 0
    found = PictureSet.open([tmp_path / "p.zip"], None, 100)
    found.read(0)  # the file is open already when processes are forked
    groups = [list(forked(cropper(found), numbers(20), workers)) for workers in (2, 0)]
    assert all(torch.equal(a, b) for x, y in zip(*groups, strict=True) for a, b in zip(x, y, strict=True))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_samplers_error_arrives_as_it_is(workers: int) -> None:
    def sampler(step: int, i: int) -> int:
        if step == 2 and i == 1:
            raise TrainingError("no picture can be read; look for others")
        return step

    found = forked(sampler, numbers(5), workers)
    assert [next(found), next(found)] == [[0] * 3, [1] * 3]
    with pytest.raises(TrainingError, match=r"^no picture can be read; look for others$"):
        next(found)


def test_a_worker_that_dies() -> None:
    def sampler(step: int, i: int) -> int:
        if step == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return step

    message = r"^a worker process that prepares pictures died \(.*\); if memory is short, use fewer with --workers$"
    with pytest.raises(TrainingError, match=message):
        list(forked(sampler, numbers(5), 1))


def test_a_mistake_in_the_sampler_keeps_its_traceback() -> None:
    def sampler(step: int, i: int) -> int:
        return [step][i]

    with pytest.raises(IndexError, match="in sampler"):
        list(forked(sampler, numbers(5), 1))


def test_what_workers_log_comes_from_here(photos: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A picture that cannot be read is logged and counted once, though every worker may draw it."""
    (tmp_path / "broken.jpg").write_bytes(b"no")
    found = PictureSet.open([photos, tmp_path], None, 100)
    assert len(list(forked(cropper(found), numbers(20), 2))) == 20
    assert {r.getMessage() for r in caplog.records} == {
        f"skipped: {tmp_path / 'broken.jpg'} is not a picture of a known format; convert it to PNG or JPEG"
    }
    assert len(caplog.records) <= 2  # both may meet it at the same moment
    assert all(r.processName != "MainProcess" for r in caplog.records)
    assert found.skipped == 1


def test_a_closed_generator_ends_its_workers() -> None:
    found = prepared(operator.add, numbers(1000), 2)
    next(found)
    assert len(multiprocessing.active_children()) == 2
    found.close()


PROGRAM = """
import itertools, sys, time
from impasto.train.loading import prepared
def sampler(step, i):
    time.sleep(0.05)
    return step
try:
    for group in prepared(sampler, ([(step, 0)] for step in itertools.count()), 2, start="fork"):
        print(group[0], flush=True)
except KeyboardInterrupt:
    print("stopped", flush=True)
"""


@pytest.mark.skipif(os.name == "nt", reason="there is no process group to signal")
def test_ctrl_c_stops_quietly() -> None:
    """The signal reaches the whole process group, as from a terminal."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env=environment,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "0\n"
        os.killpg(process.pid, signal.SIGINT)
        begun = time.monotonic()
        out, err = process.communicate(timeout=60)
        assert time.monotonic() - begun < 20
    assert out.splitlines()[-1] == "stopped"
    assert err == ""
    assert process.returncode == 0
