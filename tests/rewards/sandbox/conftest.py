"""A real sandbox for the tests, and what is left of it afterwards."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from rlkit.rewards.sandbox import BubblewrapSandbox, Limits, diagnose_sandbox
from rlkit.rewards.sandbox.session import Session

LIMITS = Limits(wall_s=20, cpu_s=20, total_s=100, memory_mib=256, processes=8, file_mib=8, tmp_mib=16, output_kib=64)


@pytest.fixture(autouse=True)
def turns_of_this_test(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No other process's turns: to wait for one may take as long as its program."""
    monkeypatch.setenv("TMPDIR", str(tmp_path_factory.mktemp("turns")))
    monkeypatch.setattr("tempfile.tempdir", None)


@pytest.fixture(scope="session")
def works() -> None:
    """Skips where bubblewrap is missing or does not work."""
    diagnosis = diagnose_sandbox()
    if not diagnosis.works:
        pytest.skip(f"{diagnosis.detail}; {diagnosis.remedy}")


@pytest.fixture
def sandbox(works: None) -> BubblewrapSandbox:
    return BubblewrapSandbox(LIMITS)


@pytest.fixture
def namespaces(monkeypatch: pytest.MonkeyPatch) -> Iterator[set[int]]:
    """Process namespaces of all sandboxes that the test starts; at its end no process may be left in any of them."""
    seen: set[int] = set()
    held: list[int] = []
    find = Session._find_init

    def remember(session: Session, *arguments: int) -> None:
        find(session, *arguments)
        # Held open, so that its number is not given to another one meanwhile.
        held.append(os.open(f"/proc/{session._init_pid}/ns/pid", os.O_RDONLY))
        seen.add(os.fstat(held[-1]).st_ino)

    monkeypatch.setattr(Session, "_find_init", remember)
    yield seen
    assert seen, "the test started no sandbox"
    left = processes_in(seen)
    for descriptor in held:
        os.close(descriptor)
    assert not left


def processes_in(namespaces: set[int]) -> list[int]:
    """Processes of this machine that belong to one of the namespaces; dead ones that nobody has asked about do not count."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and (entry / "ns/pid").stat().st_ino in namespaces:
                state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
                found += [int(entry.name)] if state not in "ZX" else []
        except OSError:
            continue
    return found
