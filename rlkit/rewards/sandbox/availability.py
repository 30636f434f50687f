"""Whether programs can be run in a sandbox here, and if not, what to do about it."""

from __future__ import annotations

import functools
import os
import platform
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass

from rlkit.errors import SandboxError
from rlkit.rewards.sandbox.syscall_filter import ARCHITECTURES

OLDEST_BUBBLEWRAP = (0, 8)
"""The first that can forbid further namespaces and limit the size of /tmp."""

REMOTE = "use a remote sandbox (docs/sandbox.md)"
INSTALL = f"apt-get install bubblewrap (dnf install bubblewrap, pacman -S bubblewrap), or {REMOTE}"
ENABLE = (
    "allow user namespaces (sysctl -w user.max_user_namespaces=15000 kernel.unprivileged_userns_clone=1, on Ubuntu 24.04 "
    f"kernel.apparmor_restrict_unprivileged_userns=0; in a container start it with --privileged), or {REMOTE}"
)


@dataclass(frozen=True)
class Diagnosis:
    """works: programs can be run. detail: the version, or what is wrong; remedy: what to do about it."""

    works: bool
    detail: str
    remedy: str = ""


def require_sandbox() -> None:
    """Raises `SandboxError`, one line with the way out, where bubblewrap is missing or does not work."""
    diagnosis = diagnose_sandbox()
    if not diagnosis.works:
        raise SandboxError(f"code cannot be run in a sandbox here: {diagnosis.detail}; {diagnosis.remedy}")


def diagnose_sandbox() -> Diagnosis:
    """Looks for bubblewrap and starts a program in it."""
    if sys.platform != "linux":
        return Diagnosis(False, f"bubblewrap runs on Linux only, this is {platform.system()}", REMOTE)
    if platform.machine() not in ARCHITECTURES:
        known = ", ".join(ARCHITECTURES)
        return Diagnosis(False, f"no system call filter for {platform.machine()} processors (only {known})", REMOTE)
    bwrap = shutil.which("bwrap")
    if bwrap is None:
        return Diagnosis(False, "bubblewrap is not installed", INSTALL)
    return _tried(bwrap, os.geteuid())


@functools.cache
def _tried(bwrap: str, user: int) -> Diagnosis:
    """Once for each process, bubblewrap and user: it takes some 50 ms."""
    version = _version(bwrap)
    if version is None:
        return Diagnosis(False, f"{bwrap} does not tell its version", INSTALL)
    shown = ".".join(map(str, version))
    if version < OLDEST_BUBBLEWRAP:
        return Diagnosis(False, f"bubblewrap {shown} is older than 0.8", f"install a newer one, or {REMOTE}")
    complaint = _complaint(bwrap)
    if complaint:
        return Diagnosis(False, f"bubblewrap {shown} does not work: {complaint}", ENABLE)
    return Diagnosis(True, shown)


def _version(bwrap: str) -> tuple[int, ...] | None:
    asked = subprocess.run([bwrap, "--version"], capture_output=True, text=True, timeout=60, check=False)
    found = re.search(r"(\d+)\.(\d+)\.?(\d+)?", asked.stdout)
    return tuple(int(number) for number in found.groups() if number) if found else None


def _complaint(bwrap: str) -> str:
    """ "" when a program that starts a process of its own runs in the sandbox as it should."""
    from rlkit.rewards.sandbox.execution import Limits, Run
    from rlkit.rewards.sandbox.interpreter import find_interpreter
    from rlkit.rewards.sandbox.session import Session, SessionEndedError, SessionSetup

    as_root = os.geteuid() == 0
    setup = SessionSetup(bwrap, find_interpreter(), Limits(), (), as_root=as_root, machine=platform.machine())
    try:
        session = Session(setup, "import os\nif os.fork() == 0: os._exit(7)\nprint(os.wait()[1])")
    except SandboxError as error:
        return str(error)
    try:
        outcome = session.perform(Run(), most_s=60.0)
    except SessionEndedError as ended:
        return f"a first program did not come to an end: {ended.outcome.status}"
    finally:
        session.stop()
    if outcome.status != "ok" or outcome.stdout != f"{7 << 8}\n":
        return f"a first program failed: {outcome.stderr.strip().rpartition(chr(10))[2] or outcome.status}"
    return ""
