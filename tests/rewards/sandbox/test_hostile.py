"""Programs that want to do harm (real processes).

Each runs in a small sandbox. It may fail in any way it likes, but the machine stays as it was, the end comes in time,
and no process is left.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from hostile_programs import GREEDY, LIMITS, open_to_all, run_hostile

from rlkit.rewards.sandbox import BubblewrapSandbox, Outcome, Run, Task
from rlkit.rewards.sandbox.session import Session

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("works", "namespaces")]


@pytest.mark.parametrize("source", GREEDY.values(), ids=GREEDY)
def test_a_greedy_program_ends_in_time_and_leaves_nothing(source: str) -> None:
    outcome = run_hostile(source, Run("the question"))
    assert outcome.stdout != "the answer\n"


def test_processes_are_counted_and_memory_too() -> None:
    source = """
import os, time
children = 0
try:
    while True:
        if os.fork() == 0: time.sleep(100)
        children += 1
except OSError: print(children)
held = []
try:
    while True: held.append(bytearray(2**20))
except MemoryError: print(len(held))
"""
    children, megabytes = map(int, run_hostile(source, Run()).stdout.split())
    assert LIMITS.processes - 3 <= children <= LIMITS.processes + 1
    assert 64 < megabytes < LIMITS.memory_mib


def test_processes_cannot_hold_more_together_than_one() -> None:
    source = """
import os, time
for _ in range(2): os.fork()
held = bytearray(120 * 2**20)
time.sleep(3)
"""
    assert run_hostile(source, Run()).status == "memory"


WRITERS = """
import os
for path in PATHS:
    for attempt in (lambda: open(path, 'w').write('x'), lambda: open(path, 'a').write('x'), lambda: os.unlink(path),
                    lambda: os.rename(path, path + '2'), lambda: os.chmod(path, 0o777), lambda: os.mkdir(path + '3'),
                    lambda: os.symlink('/tmp', path + '4'), lambda: os.truncate(path, 0)):
        try:
            attempt()
            print('wrote', path)
        except OSError:
            pass
"""


def test_nothing_outside_can_be_written(tmp_path: Path) -> None:
    open_to_all(tmp_path)
    target = tmp_path / "file"
    target.write_text("as it was")
    target.chmod(0o666)
    paths = [
        str(target),
        "/etc/ld.so.cache",
        "/harness/rlkit/rewards/sandbox/inside/runner.py",
        "/dev/x",
        "/x",
        os.__file__,
    ]
    paths += [
        "/proc/sys/kernel/hostname",
        "/proc/sysrq-trigger",
        "/proc/1/comm",
        "/usr/lib/x",
        "/proc/sys/vm/drop_caches",
    ]
    harness = {path: path.read_bytes() for path in _inside_files()}
    printed = run_hostile(WRITERS.replace("PATHS", repr(paths)), Run()).stdout
    assert printed.replace("wrote /proc/1/comm\n", "") == ""  # the name of the sandbox's own first process
    assert target.read_text() == "as it was"
    assert list(tmp_path.iterdir()) == [target]
    assert {path: path.read_bytes() for path in _inside_files()} == harness


def test_links_lead_nowhere(tmp_path: Path) -> None:
    open_to_all(tmp_path)
    (tmp_path / "secret").write_text("hidden")
    source = f"""
import os
os.symlink({str(tmp_path / "secret")!r}, 'a')
os.symlink('/proc/1/root/' + {str(tmp_path)!r} + '/secret', 'b')
os.symlink('/proc/2/root/etc/passwd', 'c')
os.symlink('/proc/2/cwd/../etc/passwd', 'd')
for name in 'abcd':
    try: print(open(name).read())
    except OSError: pass
"""
    assert run_hostile(source, Run()).stdout == ""


def test_there_is_no_network() -> None:
    source = """
import socket
for family, address in ((socket.AF_INET, ('127.0.0.1', PORT)), (socket.AF_INET6, ('::1', PORT)),
                        (socket.AF_INET, ('192.0.2.1', 80)), (socket.AF_UNIX, '\\0rlkit-test')):
    try:
        s = socket.socket(family)
        s.settimeout(0.5)
        s.connect(address)
        print('connected', address)
    except OSError: pass
print(len(socket.if_nameindex()))
"""
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket(socket.AF_UNIX) as abstract:
        name = f"rlkit-test-{os.getpid()}"
        abstract.bind(f"\0{name}")
        abstract.listen()
        port = server.getsockname()[1]
        printed = run_hostile(source.replace("PORT", str(port)).replace("rlkit-test", name), Run()).stdout
    assert printed == "1\n"


def test_dangerous_system_calls_are_refused() -> None:
    source = """
import os, socket
for attempt in (lambda: os.memfd_create('x'), lambda: os.chroot('/tmp'), lambda: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(50)),
                lambda: os.setuid(0), lambda: os.nice(-5), lambda: os.mknod('/tmp/disk', 0o60666, os.makedev(8, 0)),
                lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW), lambda: os.unshare(0x10000000)):
    try:
        attempt()
        print('done')
    except (OSError, AttributeError): pass
"""
    assert run_hostile(source, Run()).stdout == ""


CALLS_BY_NUMBER = """
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
for name, number in NUMBERS.items():
    ctypes.set_errno(0)
    if libc.syscall(number, 0, 0, 0, 0, 0, 0) != -1 or ctypes.get_errno() != 1:
        print(name, ctypes.get_errno())
ctypes.set_errno(0)
print('clone', libc.syscall(CLONE, 0x10000000 | 17, 0, 0, 0, 0), ctypes.get_errno())
print('clone3', libc.syscall(435, 0, 0), ctypes.get_errno())
"""


def test_denied_calls_are_denied_by_the_filter() -> None:
    from rlkit.rewards.sandbox import syscall_filter

    machine = os.uname().machine
    numbers = syscall_filter.DENIED[machine]
    source = CALLS_BY_NUMBER.replace("NUMBERS", repr(numbers)).replace("CLONE", str(syscall_filter._CLONE[machine]))
    outcome = run_hostile(source, Run(), python=_python_with_ctypes())
    assert outcome.stdout == "clone -1 1\nclone3 -1 38\n"


def test_a_program_cannot_end_or_stop_its_runner() -> None:
    source = """
import os, signal
if input() == 'kill':
    for number in (signal.SIGKILL, signal.SIGSTOP, signal.SIGINT, signal.SIGTERM, signal.SIGSEGV, signal.SIGXCPU):
        os.kill(os.getppid(), number)
print(os.getppid())
"""
    outcomes = list(BubblewrapSandbox(LIMITS).run(source, [Run("kill\n"), Run("x\n")]))
    assert [(outcome.status, outcome.stdout) for outcome in outcomes] == [("ok", "1\n")] * 2


def test_a_sandbox_that_is_brought_down_does_not_spoil_the_next_test(monkeypatch: pytest.MonkeyPatch) -> None:
    """From outside, as the machine's memory killer may do it: no program can."""
    perform = Session.perform

    def killed(session: Session, task: Task, *, most_s: float) -> Outcome:
        if task == Run("kill\n"):
            os.kill(session._init_pid, signal.SIGKILL)
        return perform(session, task, most_s=most_s)

    monkeypatch.setattr(Session, "perform", killed)
    tasks = [Run("kill\n"), Run("x\n"), Run("kill\n"), Run("x\n")]
    outcomes = list(BubblewrapSandbox(LIMITS).run("print('here')", tasks))
    assert [outcome.status for outcome in outcomes] == ["killed", "ok", "killed", "ok"]


def test_dead_orphans_do_not_use_up_the_processes() -> None:
    source = """
import os, time
orphans = 0
while orphans < 2 * 8:
    try:
        child = os.fork()
        if child == 0: os._exit(1 if os.fork() else 0)
        orphans += os.waitpid(child, 0)[1] == 256
    except OSError:
        if os.getppid() != 1: os._exit(2)
        time.sleep(0.01)  # the dead before this one are still to be let go
print('done')
"""
    assert run_hostile(source, Run()).stdout == "done\n"


def _inside_files() -> list[Path]:
    from rlkit.rewards.sandbox.bubblewrap_command import INSIDE_FOLDER

    return sorted(INSIDE_FOLDER.glob("*.py"))


def _python_with_ctypes() -> str:
    """An interpreter that can call by number; the running one may have been built without ctypes."""
    for candidate in (sys.executable, "/usr/bin/python3", shutil.which("python3") or ""):
        if candidate and Path(candidate).exists():
            done = subprocess.run([candidate, "-c", "import ctypes"], capture_output=True, check=False)
            if done.returncode == 0:
                return candidate
    pytest.skip("no Python with ctypes on this machine")
