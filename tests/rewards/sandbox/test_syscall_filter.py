"""The filter, run by a small interpreter of BPF (the kernel itself runs it in test_hostile)."""

from __future__ import annotations

import struct

import pytest

from rlkit.rewards.sandbox.syscall_filter import _CLONE, _MMAP, ARCHITECTURES, DENIED, syscall_filter

ALLOWED, NOT_PERMITTED, NOT_THERE, KILLED = 0x7FFF0000, 0x00050001, 0x00050026, 0x80000000


def verdict(machine: str, number: int, *arguments: int, architecture: int | None = None) -> int:
    given = [*arguments, 0, 0, 0, 0, 0, 0][:6]
    data = struct.pack("=IIQ6Q", number, architecture or ARCHITECTURES[machine], 0, *given)
    program = list(struct.iter_unpack("=HBBI", syscall_filter(machine)))
    position, value = 0, 0
    while True:
        code, if_true, if_false, operand = program[position]
        position += 1
        if code == 0x20:
            (value,) = struct.unpack_from("=I", data, operand)
        elif code == 0x06:
            return operand
        else:
            holds = {0x15: value == operand, 0x35: value >= operand, 0x45: bool(value & operand)}[code]
            position += if_true if holds else if_false


@pytest.mark.parametrize("machine", ARCHITECTURES)
def test_each_listed_call_is_refused(machine: str) -> None:
    assert {verdict(machine, number) for number in DENIED[machine].values()} == {NOT_PERMITTED}
    assert len(set(DENIED[machine].values())) == len(DENIED[machine])
    assert DENIED["x86_64"].keys() == DENIED["aarch64"].keys()


@pytest.mark.parametrize("machine", ARCHITECTURES)
def test_processes_and_threads_may_be_made_but_no_namespaces(machine: str) -> None:
    clone = _CLONE[machine]
    threads = 0x3D0F00
    assert verdict(machine, clone, 17) == verdict(machine, clone, threads) == ALLOWED
    for namespace in (0x80, 0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000):
        assert verdict(machine, clone, 17 | namespace) == NOT_PERMITTED
    assert verdict(machine, 435) == NOT_THERE


@pytest.mark.parametrize("machine", ARCHITECTURES)
def test_memory_may_be_shared_through_files_only(machine: str) -> None:
    shared, private, validate, anonymous, elsewhere = 0x01, 0x02, 0x03, 0x20, 0x4000
    for flags in (private, private | anonymous | elsewhere, shared, validate | elsewhere):
        assert verdict(machine, _MMAP[machine], 0, 2**32, 3, flags) == ALLOWED
    for flags in (shared | anonymous, validate | anonymous, shared | anonymous | elsewhere):
        assert verdict(machine, _MMAP[machine], 0, 2**32, 3, flags) == NOT_PERMITTED


def test_calls_of_another_architecture_end_the_process() -> None:
    assert verdict("x86_64", 1, architecture=0x40000003) == KILLED
    assert verdict("x86_64", 0x40000000 | 272) == NOT_THERE


@pytest.mark.parametrize("machine", ARCHITECTURES)
def test_ordinary_calls_pass(machine: str) -> None:
    denied = set(DENIED[machine].values()) | {435, _CLONE[machine]}
    assert all(verdict(machine, number) == ALLOWED for number in set(range(450)) - denied)
