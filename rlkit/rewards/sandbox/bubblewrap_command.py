"""The command line of bubblewrap: what a program in the sandbox sees of the machine."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from rlkit.rewards.sandbox.execution import Limits
from rlkit.rewards.sandbox.interpreter import Interpreter

HARNESS = "/harness"
INSIDE_PACKAGE = "rlkit/rewards/sandbox/inside"
INSIDE_FOLDER = Path(__file__).parent / "inside"
SYSTEM_LIBRARIES = ("/lib", "/lib32", "/lib64", "/libx32", "/usr/lib", "/usr/lib32", "/usr/lib64", "/usr/libx32")
"""Folders with the C library and what else an interpreter is linked to; none holds commands, such as a shell."""
EXTRAS = ("/etc/ld.so.cache", "/etc/alternatives", "/etc/localtime")
"""What libraries look for; shown where there."""
MIB = 2**20
INSIDE_USER = "1000"
"""Not 65534, as which everything that is not ours appears."""


def bubblewrap_command(
    bwrap: str,
    interpreter: Interpreter,
    limits: Limits,
    *,
    as_root: bool,
    visible: Sequence[str] = (),
    descriptors: dict[str, int],
) -> list[str]:
    """The whole command, up to the runner and its arguments.

    as_root: root starts without a user namespace and the runner leaves root by itself (a namespace's only user would be
    root outside, whom the kernel's limit on the number of processes does not bind). descriptors: `seccomp` and `info`
    for bubblewrap, `job` and `result` for the runner.
    """
    return [
        bwrap,
        *_namespaces(as_root=as_root),
        # Not --die-with-parent: bubblewrap would be killed with whoever asks while its child waits for a word from it, for good.
        # The runner ends by itself, and everything with it, when the line to the outside hangs up.
        "--new-session",
        *("--seccomp", str(descriptors["seccomp"])),
        *("--info-fd", str(descriptors["info"])),
        *("--proc", "/proc", "--dev", "/dev"),
        # A shared mapping of it is memory that no limit counts.
        *("--dev-bind", "/dev/null", "/dev/zero"),
        *("--perms", "1777", "--size", str(max(1, limits.tmp_mib // 2) * MIB), "--tmpfs", "/dev/shm"),
        *("--perms", "1777", "--size", str(limits.tmp_mib * MIB), "--tmpfs", "/tmp"),
        # After /tmp: what is shown may lie there.
        *_system(interpreter, visible),
        *("--ro-bind", str(INSIDE_FOLDER), f"{HARNESS}/{INSIDE_PACKAGE}"),
        # Everything else is in memory too, and has no size limit: nothing may be written there.
        *("--remount-ro", "/dev", "--remount-ro", "/"),
        *("--chdir", "/tmp"),
        *runner_command(interpreter),
        *(str(descriptors["job"]), str(descriptors["result"])),
    ]


def runner_command(interpreter: Interpreter) -> list[str]:
    """How the runner is started: as a script, without packages."""
    return [interpreter.executable, "-S", "-s", "-B", f"{HARNESS}/{INSIDE_PACKAGE}/runner.py"]


def sandbox_environment() -> dict[str, str]:
    """All environment variables there are inside. The hash seed is fixed: the same program prints the same."""
    return {
        "PATH": "/usr/bin:/bin",
        "LANG": "C.UTF-8",
        "HOME": "/tmp",
        "TMPDIR": "/tmp",
        "PYTHONPATH": HARNESS,
        "PYTHONSAFEPATH": "1",
        "PYTHONUTF8": "1",
        "PYTHONHASHSEED": "0",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
    }


def _namespaces(*, as_root: bool) -> list[str]:
    apart = ["--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts", "--unshare-cgroup-try"]
    # The runner is the namespace's first process: nothing inside can kill or stop it, and no dead bubblewrap is left.
    apart += ["--hostname", "sandbox", "--as-pid-1"]
    if as_root:
        return [*apart, "--cap-drop", "ALL", "--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]
    return [
        *apart,
        "--unshare-user",
        "--disable-userns",
        "--uid",
        INSIDE_USER,
        "--gid",
        INSIDE_USER,
        "--cap-drop",
        "ALL",
    ]


def _system(interpreter: Interpreter, visible: Sequence[str]) -> list[str]:
    shown = _outermost((*interpreter.folders, *interpreter.files, *visible))
    links = [link for link in interpreter.links if not _is_within(link[0], shown)]
    inside = f"{HARNESS}/{INSIDE_PACKAGE}"
    arguments = _parents((*SYSTEM_LIBRARIES, *EXTRAS, *shown, *(where for where, _ in links), inside))
    for folder in SYSTEM_LIBRARIES:
        path = Path(folder)
        if path.is_symlink():
            arguments += ["--symlink", os.readlink(path), folder]  # noqa: PTH115 - the text of the link, as it is
        elif path.is_dir():
            arguments += ["--ro-bind", folder, folder]
    for extra in EXTRAS:
        arguments += ["--ro-bind-try", extra, extra]
    for path_inside in shown:
        arguments += ["--ro-bind", path_inside, path_inside]
    for where, target in links:
        arguments += ["--symlink", target, where]
    return arguments


def _parents(paths: Sequence[str]) -> list[str]:
    """Empty folders above what is shown. Bubblewrap makes them by itself, but so that only root may pass."""
    above = {str(parent) for path in paths for parent in Path(path).parents}
    arguments: list[str] = []
    for folder in sorted(above - {"/", "/tmp", "/dev", "/proc"}):
        arguments += ["--perms", "0755", "--dir", folder]
    return arguments


def _outermost(paths: Sequence[str]) -> list[str]:
    """Without those that lie in another one of them, or in a system folder: a mount shows what is below it."""
    return sorted(
        path
        for path in set(paths)
        if path not in SYSTEM_LIBRARIES and not _is_within(path, [*SYSTEM_LIBRARIES, *(set(paths) - {path})])
    )


def _is_within(path: str, folders: Sequence[str]) -> bool:
    return any(Path(path).is_relative_to(folder) for folder in folders)
