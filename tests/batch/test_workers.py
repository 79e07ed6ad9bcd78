"""Tests of worker processes: their results, errors and messages, and what happens when one dies."""

import logging
import os
from pathlib import Path

import pytest

from impasto.batch.workers import Workers
from impasto.errors import ImpastoError, PictureError


def double(number: int) -> int:
    logging.getLogger("impasto.here").warning("doubling %d", number)
    return 2 * number


def fail(kind: str) -> None:
    if kind == "ours":
        raise PictureError("a.jpg is damaged")
    if kind == "memory":
        raise MemoryError
    if kind == "crash":
        os._exit(9)
    raise KeyError("no such\nkey")


MESSAGES = {"ours": "^a.jpg is damaged$", "memory": "out of memory", "other": r"it failed \(KeyError: 'no such"}


@pytest.mark.parametrize("count", [0, 1])
def test_calls(count: int, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parents[2])  # so that a worker finds `double` and `fail`
    with Workers(count) as workers:
        calls = [workers.submit(double, i) for i in range(5)]
        failing = {kind: workers.submit(fail, kind) for kind in MESSAGES}
        assert [call.result() for call in calls] == [0, 2, 4, 6, 8]
        for kind, message in MESSAGES.items():
            with pytest.raises(ImpastoError, match=message) as caught:
                failing[kind].result()
            assert "\n" not in str(caught.value)
        assert isinstance(failing["ours"].exception(), PictureError)
        if count:
            lost, after = workers.submit(fail, "crash"), workers.submit(double, 21)
            with pytest.raises(PictureError, match=r"the process that worked on it ended \(code 9\)"):
                lost.result()
            assert after.result() == 42
    assert [r.getMessage() for r in caplog.records][:2] == ["doubling 0", "doubling 1"]
    for process in workers.all:
        assert not process.process.is_alive()
