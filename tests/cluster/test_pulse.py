"""Who is heard, and what silence means."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

from rlkit.cluster.pulse import Pulse, PulseAddress, PulseListener


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def listener(clock: Clock) -> Iterator[PulseListener]:
    made = PulseListener("127.0.0.1", clock=clock)
    yield made
    made.close()


def send(address: PulseAddress, data: bytes = b"") -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(data or address.key, (address.host, address.port))


def wait_until_heard(listener: PulseListener, address: PulseAddress) -> None:
    deadline = time.monotonic() + 60
    while listener.silent_for(address) is None:
        assert time.monotonic() < deadline, "no sign of life came"
        time.sleep(0.01)


def test_silence_is_counted_from_the_last_sign_of_life(listener: PulseListener, clock: Clock) -> None:
    first, second = listener.new_address(), listener.new_address()
    send(first)
    wait_until_heard(listener, first)
    clock.now += 30
    send(second)
    wait_until_heard(listener, second)
    assert (listener.silent_for(first), listener.silent_for(second)) == (30, 0)


def test_who_was_never_heard_is_not_silent(listener: PulseListener, clock: Clock) -> None:
    address = listener.new_address()
    clock.now += 1000
    assert listener.silent_for(address) is None


def test_a_driver_that_was_busy_elsewhere_finds_the_signs_that_came_meanwhile(
    listener: PulseListener, clock: Clock
) -> None:
    address, other = listener.new_address(), listener.new_address()
    send(address)
    wait_until_heard(listener, address)
    send(address)
    send(other)  # comes after it, on the same socket
    clock.now += 1000
    wait_until_heard(listener, other)
    assert listener.silent_for(address) == 0


def test_what_is_no_key_changes_nothing(listener: PulseListener) -> None:
    address, last = listener.new_address(), listener.new_address()
    send(address, b"?")
    send(address, address.key + b"?")
    send(last)
    wait_until_heard(listener, last)
    assert listener.silent_for(address) is None


def test_a_forgotten_replica_is_not_heard(listener: PulseListener) -> None:
    address = listener.new_address()
    listener.forget(address)
    listener.forget(address)
    send(address)
    assert listener.silent_for(address) is None


def test_a_closed_listener_hears_nothing_and_does_not_fail(listener: PulseListener) -> None:
    address = listener.new_address()
    listener.close()
    assert listener.silent_for(address) is None


def test_a_pulse_beats_until_it_is_stopped(listener: PulseListener, clock: Clock) -> None:
    address = listener.new_address()
    pulse = Pulse(address)
    wait_until_heard(listener, address)
    clock.now += 5
    deadline = time.monotonic() + 60
    while listener.silent_for(address):  # until the second beat
        assert time.monotonic() < deadline, "no second sign of life came"
        time.sleep(0.01)
    pulse.stop()
    listener.silent_for(address)
    clock.now += 5
    time.sleep(0.05)
    assert listener.silent_for(address) == 5


def test_a_pulse_that_reaches_nobody_disturbs_nobody(listener: PulseListener) -> None:
    Pulse(replace(listener.new_address(), host="not a host")).stop()
