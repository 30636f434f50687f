"""How the processes inside the sandbox are started, limited, kept apart and ended."""

from __future__ import annotations

import os
import resource
import signal
import stat
import time
from collections.abc import Callable
from typing import Any

MIB = 2**20
OPEN_FILES = 64
PROGRAM_PATH = __file__.rpartition("/")[0] + "/program.py"

_PR_GET_DUMPABLE, _PR_SET_DUMPABLE = 3, 4


def become(uid: int) -> None:
    """Leave root for a user id that nothing else on the machine has; 0 stays what we are (a user namespace's user)."""
    if uid:
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)


def hide_this_process() -> None:
    """Close this process's memory, file descriptors and environment to others of the same user: /proc and ptrace refuse.

    Whoever has just left root is hidden already. Raises `OSError` when it cannot be done.
    """
    if os.stat("/proc/self/fd").st_uid != os.getuid():  # noqa: PTH116 - what cannot be looked into belongs to root
        return
    try:
        import ctypes
    except ImportError:
        raise OSError("this Python was built without ctypes, which the sandbox needs unless root starts it") from None
    libc = ctypes.CDLL(None)
    if libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0) != 0 or libc.prctl(_PR_GET_DUMPABLE, 0, 0, 0, 0) != 0:
        raise OSError("the sandbox cannot hide its judge from the program: PR_SET_DUMPABLE has no effect")


def limits_of(limits: dict[str, Any]) -> list[tuple[int, int]]:
    """Resource limits of one program, for `setrlimit`; soft and hard alike."""
    processes = int(limits["processes"])
    # Counted for this sandbox alone: its user id, or its user namespace, belongs to nobody else. 0 leaves it open.
    counted = [(resource.RLIMIT_NPROC, processes + 3)] if processes else []
    return [
        *counted,
        (resource.RLIMIT_AS, int(limits["memory_mib"] * MIB)),
        # Whoever started us may have a smaller one.
        (resource.RLIMIT_DATA, int(limits["memory_mib"] * MIB)),
        (resource.RLIMIT_CPU, max(1, round(limits["cpu_s"] + 0.5))),
        (resource.RLIMIT_FSIZE, int(limits["file_mib"] * MIB)),
        (resource.RLIMIT_NOFILE, OPEN_FILES),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_MEMLOCK, 0),
        (resource.RLIMIT_MSGQUEUE, 0),
        (resource.RLIMIT_SIGPENDING, 256),
    ]


def limit(kind: int, value: int) -> None:
    """Set a resource limit for good, soft and hard alike; one that is smaller already stays."""
    hard = resource.getrlimit(kind)[1]
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(kind, (value, value))


def start_program(
    arguments: list[str], descriptors: list[int], *, interpreter: list[str], limits: list[tuple[int, int]], folder: str
) -> int:
    """Start program.py in a process of its own, whose descriptors 0, 1, 2, ... are `descriptors`. Returns its id."""
    environment = {
        **{name: value for name, value in os.environ.items() if name not in ("PWD", "OLDPWD", "SHLVL")},
        "HOME": folder,
        "TMPDIR": folder,
    }
    child = os.fork()
    if child:
        return child
    try:
        os.setsid()
        _offer_to_the_memory_killer()
        _place(descriptors)
        for kind, value in limits:
            limit(kind, value)
        os.chdir(folder)
        os.execve(interpreter[0], [*interpreter, PROGRAM_PATH, *arguments], environment)
    except BaseException as error:
        os.write(2, f"the program did not start: {error!r}".encode())
    finally:
        os._exit(127)


def _offer_to_the_memory_killer() -> None:
    """Should the machine run out of memory all the same, the kernel ends this process first."""
    try:
        with open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:  # noqa: PTH123
            file.write("1000")
    except OSError:
        pass


def _place(descriptors: list[int]) -> None:
    """Make `descriptors` 0, 1, 2, ...: first out of each other's way, then into place."""
    import fcntl

    high = [fcntl.fcntl(descriptor, fcntl.F_DUPFD, 100) for descriptor in descriptors]
    for place, descriptor in enumerate(high):
        os.dup2(descriptor, place)
    os.closerange(len(descriptors), 100 + 2 * len(descriptors) + 1)


def in_judge(work: Callable[[int], None]) -> tuple[int, int]:
    """Run `work(descriptor to write to)` in a copy of this process; returns its id and where its words can be read."""
    read_fd, write_fd = os.pipe()
    child = os.fork()
    if child:
        os.close(write_fd)
        return child, read_fd
    try:
        os.close(read_fd)
        work(write_fd)
    finally:
        os._exit(0)


def kill_all_others() -> None:
    """End every process of the sandbox but this one, its first: whatever the program left behind, however deep."""
    deadline = time.monotonic() + 2.0
    while time.monotonic() < deadline:
        try:
            os.kill(-1, signal.SIGKILL)
        except ProcessLookupError:
            return
        _reap()
        time.sleep(0.001)


def clear_folder(folder: str) -> None:
    """Delete everything in it, as far as that is possible; links are not followed."""
    try:
        with os.scandir(folder) as entries:
            found = list(entries)
    except OSError:
        return
    for entry in found:
        try:
            if entry.is_dir(follow_symlinks=False):
                os.chmod(entry.path, stat.S_IRWXU)  # noqa: PTH101
                clear_folder(entry.path)
                os.rmdir(entry.path)  # noqa: PTH106
            else:
                os.unlink(entry.path)  # noqa: PTH108
        except (OSError, RecursionError):
            continue


def reap_all_but(child: int) -> None:
    """Dead orphans, which count towards the limit on processes, go; `child`'s end is left to whoever asks for it."""
    try:
        while (ended := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)) and ended.si_pid != child:
            os.waitpid(ended.si_pid, os.WNOHANG)
    except ChildProcessError:
        pass


def _reap() -> None:
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


def exit_status(status: int) -> int:
    """An exit code, or minus the number of the signal that ended the process."""
    return -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
