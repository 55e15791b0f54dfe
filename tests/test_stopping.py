import os
import signal

import pytest

from dass_jax.stopping import (
    StoppedError,
    check_stop,
    deferred_stop,
    stop_on_signals,
    stop_requested,
)


def send(number):
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_stops_at_once_where_nothing_is_at_stake(number):
    with stop_on_signals(), pytest.raises(StoppedError, match=number.name) as stopped:
        send(number)
    assert stopped.value.number == number


def test_signal_waits_for_a_check_where_something_is():
    seen = []

    @deferred_stop()
    def work():
        assert not stop_requested()
        send(signal.SIGTERM)
        seen.append("went on")
        assert stop_requested()
        check_stop()
        seen.append("went too far")

    with stop_on_signals(), pytest.raises(StoppedError, match="SIGTERM"):
        work()
    assert seen == ["went on"]
    assert not stop_requested()


def test_waiting_signal_is_not_forgotten():
    with stop_on_signals(), pytest.raises(StoppedError, match="SIGTERM"), deferred_stop():
        send(signal.SIGTERM)


def test_second_signal_does_not_wait():
    seen = []

    @deferred_stop()
    def work():
        send(signal.SIGTERM)
        seen.append("went on")
        send(signal.SIGINT)
        seen.append("went too far")

    with stop_on_signals(), pytest.raises(StoppedError, match="SIGINT"):
        work()
    assert seen == ["went on"]


def test_handlers_are_put_back():
    before = signal.getsignal(signal.SIGTERM)
    with stop_on_signals():
        assert signal.getsignal(signal.SIGTERM) != before
    assert signal.getsignal(signal.SIGTERM) == before
