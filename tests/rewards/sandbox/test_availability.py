"""No sandbox, no program: what is said where bubblewrap is missing or does not work."""

from __future__ import annotations

import platform
import shutil
import sys
from pathlib import Path

import pytest

from rlkit.errors import RewardError, SandboxError
from rlkit.rewards.sandbox import BubblewrapSandbox, diagnose_sandbox

BROKEN = """#!/bin/sh
if [ "$1" = --version ]; then echo bubblewrap {version}; exit; fi
echo 'bwrap: Creating new namespace failed: Operation not permitted' >&2
exit 1
"""


def put_bwrap(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    fake = folder / "bwrap"
    fake.write_text(script)
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))


def refusal() -> str:
    with pytest.raises(SandboxError) as caught:
        BubblewrapSandbox()
    assert isinstance(caught.value, RewardError)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_without_bubblewrap_it_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "bubblewrap is not installed; apt-get install bubblewrap" in refusal()
    assert not diagnose_sandbox().works


def test_where_namespaces_are_forbidden_it_says_how_to_allow_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    put_bwrap(tmp_path, monkeypatch, BROKEN.format(version="0.11.0"))
    said = refusal()
    assert "bubblewrap 0.11.0 does not work: the sandbox did not start: bwrap: Creating new namespace failed" in said
    assert "sysctl -w user.max_user_namespaces" in said


@pytest.mark.parametrize(
    ("script", "said"),
    [
        (BROKEN.format(version="0.6.1"), "bubblewrap 0.6.1 is older than 0.8; install a newer one"),
        ("#!/bin/sh\necho hello\n", "does not tell its version"),
        # One that runs what it is given, without any sandbox.
        ("#!/bin/sh\nif [ $1 = --version ]; then echo bubblewrap 1.0; fi\n", "bubblewrap 1.0 does not work"),
    ],
)
def test_an_old_or_foreign_bwrap_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, script: str, said: str
) -> None:
    put_bwrap(tmp_path, monkeypatch, script)
    assert said in refusal()


def test_on_another_system_it_points_to_a_remote_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    assert refusal() == (
        "code cannot be run in a sandbox here: bubblewrap runs on Linux only, this is Darwin; "
        "use a remote sandbox (docs/sandbox.md)"
    )


def test_on_a_processor_without_a_filter_it_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    assert "no system call filter for riscv64 processors" in refusal()


def test_where_it_works_the_version_is_told(works: None) -> None:
    assert shutil.which("bwrap")
    assert diagnose_sandbox().detail[0].isdigit()
    assert diagnose_sandbox().remedy == ""
