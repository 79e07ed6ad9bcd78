"""The first signal to stop waits for the current piece of work; a second one does not."""

import signal
import threading
from collections.abc import Iterator

import pytest

from impasto.tools.stopping import Stop, Terminated, terminable

HANDLERS = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)}


@pytest.fixture(autouse=True)
def _handlers_as_they_were() -> Iterator[None]:
    before = {n: signal.getsignal(n) for n in HANDLERS}
    yield
    assert {n: signal.getsignal(n) for n in HANDLERS} == before


def test_sigterm_is_raised_like_ctrl_c_and_only_inside() -> None:
    with pytest.raises(Terminated) as raised, terminable():
        signal.raise_signal(signal.SIGTERM)
    assert isinstance(raised.value, KeyboardInterrupt)
    assert signal.getsignal(signal.SIGTERM) is HANDLERS[signal.SIGTERM]


@pytest.mark.parametrize(("number", "kind"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, Terminated)])
def test_the_first_signal_waits_and_the_second_does_not(number: signal.Signals, kind: type) -> None:
    with terminable(), Stop() as stop:
        with pytest.raises(kind):
            signal.raise_signal(number)  # nothing is whole yet
        stop.hold()
        assert stop.asked is None
        signal.raise_signal(number)
        assert type(stop.asked) is kind
        with pytest.raises(kind):
            signal.raise_signal(number)
        assert type(stop.taken()) is kind
        assert stop.taken() is None
        signal.raise_signal(number)  # again, one waits
        assert type(stop.asked) is kind


def test_what_was_ignored_stays_ignored() -> None:
    """The shell makes processes in the background ignore signals."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with Stop() as stop:
            stop.hold()
            signal.raise_signal(signal.SIGINT)
            assert stop.asked is None
    finally:
        signal.signal(signal.SIGINT, before)


def test_outside_the_main_thread_nothing_is_changed() -> None:
    found = []

    def work() -> None:
        with terminable(), Stop():
            found.append({n: signal.getsignal(n) for n in HANDLERS})

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [HANDLERS]
