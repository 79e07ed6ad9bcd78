"""Tests of iterators that run ahead in a thread, of calls in order, and of calls side by side."""

import threading
import time
from collections.abc import Iterator

import pytest
import torch

from impasto.video.ahead import InOrder, SideBySide, ahead


def test_all_items_in_order() -> None:
    assert list(ahead(range(50), 3)) == list(range(50))


def test_no_further_ahead_than_asked() -> None:
    taken = []

    def items() -> Iterator[int]:
        for i in range(100):
            taken.append(i)
            yield i

    found = ahead(items(), 3)
    assert next(found) == 0
    time.sleep(0.2)
    assert len(taken) <= 6
    found.close()


def test_an_exception_comes_where_its_item_would() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise KeyError("here")

    found = ahead(items())
    assert next(found) == 1
    with pytest.raises(KeyError, match="here"):
        next(found)


def test_closing_closes_the_items() -> None:
    closed = threading.Event()

    def items() -> Iterator[int]:
        try:
            yield from range(1000)
        finally:
            closed.set()

    found = ahead(items(), 2)
    next(found)
    found.close()
    assert closed.wait(5)


def test_calls_in_order() -> None:
    done: list[int] = []
    with InOrder(2) as calls:
        for i in range(20):
            calls.call(done.append, i)
    assert done == list(range(20))


def test_the_error_of_a_call_is_raised() -> None:
    def fail() -> None:
        raise KeyError("there")

    def make() -> None:
        with InOrder() as calls:
            calls.call(fail)

    def stop() -> None:
        with InOrder() as calls:
            calls.call(time.sleep, 0.01)
            raise ZeroDivisionError

    with pytest.raises(KeyError, match="there"):
        make()
    with pytest.raises(ZeroDivisionError):
        stop()


def test_what_was_given_is_done_although_the_context_is_left() -> None:
    """A finished segment is not lost if the painting is interrupted a moment later."""
    done: list[int] = []

    def stop() -> None:
        with InOrder() as calls:
            calls.call(time.sleep, 0.05)
            calls.call(done.append, 1)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stop()
    assert done == [1]


def test_nothing_is_done_after_a_call_that_failed() -> None:
    """A segment that lacks a frame is not finished."""
    done: list[int] = []

    def fail() -> None:
        time.sleep(0.05)
        raise KeyError("there")

    def make() -> None:
        with InOrder() as calls:
            calls.call(fail)
            calls.call(done.append, 1)

    with pytest.raises(KeyError, match="there"):
        make()
    assert not done


def test_calls_side_by_side_share_the_cores() -> None:
    """Each thread has its share. Later threads have all, and so has this one afterwards."""
    before, met, later = torch.get_num_threads(), threading.Barrier(3, timeout=30), list[int]()
    torch.set_num_threads(4)
    try:
        with SideBySide(2) as side:

            def call() -> int:
                met.wait()
                return torch.get_num_threads()

            waiting = [side.start(call) for _ in range(3)]
            assert [wait() for wait in waiting] == [2, 2, 2]
            other = threading.Thread(target=lambda: later.append(torch.get_num_threads()))
            other.start()
            other.join()
            assert (torch.get_num_threads(), later) == (2, [4])
        assert torch.get_num_threads() == 4
    finally:
        torch.set_num_threads(before)


def test_the_error_of_a_call_side_by_side_is_raised_where_its_result_would_be() -> None:
    def fail() -> None:
        raise ValueError("this one")

    with SideBySide(1) as side:
        first, second = side.start(fail), side.start(lambda: 2)
        assert second() == 2
        with pytest.raises(ValueError, match="this one"):
            first()
