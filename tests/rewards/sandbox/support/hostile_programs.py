"""Programs that want to do harm, or to be taken for right ones, and how they are run."""

from __future__ import annotations

import time
from pathlib import Path

from rlkit.rewards.sandbox import BubblewrapSandbox, Check, Limits, Outcome, Run
from rlkit.rewards.sandbox.session import GRACE_S

LIMITS = Limits(wall_s=4, cpu_s=3, total_s=120, memory_mib=192, processes=8, file_mib=4, tmp_mib=8, output_kib=64)
STARTING_S = 60.0
"""A busy machine may take long to start the sandbox; that is not the program's time, nor is its waiting for a core."""

GREEDY = {
    "fork bomb": """
import os
while True:
    try: os.fork()
    except OSError: pass
""",
    "fork bomb of sessions that ignore signals": """
import os, signal
for number in range(1, 65):
    try: signal.signal(number, signal.SIG_IGN)
    except (OSError, ValueError): pass
while True:
    try:
        if os.fork() == 0: os.setsid()
    except OSError: pass
""",
    "threads without end": """
import threading, time
while True:
    try: threading.Thread(target=time.sleep, args=(100,)).start()
    except RuntimeError: pass
""",
    "memory hog": """
hoard = []
while True:
    try: hoard.append(bytearray(2**20))
    except MemoryError: pass
""",
    "memory hogs": """
import os, time
for _ in range(6): os.fork()
hoard = []
while True:
    try: hoard.append(bytearray(2**20))
    except MemoryError: time.sleep(0.1)
""",
    "memory shared without a file": """
import mmap, os, time
for _ in range(2): os.fork()
held = mmap.mmap(-1, 120 * 2**20)
for page in range(0, len(held), 4096): held[page] = 1
held.madvise(mmap.MADV_DONTNEED)
time.sleep(3)
print('the answer')
""",
    "memory of a device": """
import mmap, os
held = mmap.mmap(os.open('/dev/zero', os.O_RDWR), 120 * 2**20)
print('the answer')
""",
    "endless output": "while True: print('x' * 1000)",
    "endless errors": "import sys\nwhile True: sys.stderr.write('x' * 1000)",
    "endless loop": "while True: pass",
    "endless sleep": "import time\ntime.sleep(1000)",
    "deep recursion": """
import sys
sys.setrecursionlimit(10**9)
def f(n): return [f(n + 1)]
f(0)
""",
    "deep nesting": "x = " + "(" * 100_000 + ")" * 100_000,
    "a number without end": "x = 10 ** (10 ** 9)",
    "many big files": """
number = 0
while True:
    for folder in ('/tmp', '/dev/shm'):
        try:
            with open(f'{folder}/{number}', 'wb') as file:
                while True: file.write(b'x' * 2**20)
        except OSError: number += 1
""",
    "deep folders": """
import os
while True:
    try:
        os.mkdir('d')
        os.chdir('d')
    except OSError: pass
""",
    "a background child that outlives it": """
import os, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        while True: time.sleep(1)
    os._exit(0)
""",
}

FORGERS = {
    "equal to everything": """
class Equal:
    def __eq__(self, other): return True
    __ne__ = lambda self, other: False
    __lt__ = __le__ = __gt__ = __ge__ = __contains__ = __eq__
    __bool__ = lambda self: True
    __hash__ = lambda self: 0
    __abs__ = __sub__ = __rsub__ = __add__ = lambda self, *a: self
def f(x): return Equal()
""",
    "a number that is equal to everything": """
class Equal(int):
    def __eq__(self, other): return True
    __hash__ = int.__hash__
def f(x): return Equal(5)
""",
    "leaves when loaded": "import os; os._exit(0)\ndef f(x): pass",
    "leaves when called": "import os\ndef f(x): os._exit(0)",
    "exits when called": "import sys\ndef f(x): sys.exit(0)",
    "exits in a thread": """
import threading, os
def f(x):
    threading.Thread(target=lambda: os._exit(0)).start()
    threading.Event().wait()
""",
    "raises what ends a process": "def f(x): raise type('KeyboardInterrupt', (BaseException,), {})()",
    "raises StopIteration": "def f(x): raise StopIteration",
    "ends the test's loops": """
class End(StopIteration): pass
End.__name__ = 'StopIteration'
def f(x): raise End
""",
    "interrupts everybody": """
import os, signal
def f(x):
    for process in os.listdir('/proc'):
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGALRM, signal.SIGXFSZ, signal.SIGTSTP):
            try:
                if process.isdigit() and int(process) != os.getpid(): os.kill(int(process), number)
            except OSError: pass
""",
    "never lets its error be read": """
class Error(Exception):
    def __str__(self):
        while True: pass
def f(x): raise Error
""",
    "leaves at the end": """
import atexit, os, sys, threading
atexit.register(os._exit, 0)
sys.excepthook = threading.excepthook = lambda *a: os._exit(0)
threading.Timer(0.05, os._exit, (0,)).start()
def f(x): threading.Event().wait(0.2)
""",
    "unpickles as something else": """
class Text(str):
    def __reduce__(self): return (str, ('SECRET',))
    def __str__(self): return 'SECRET'
    __repr__ = __format__ = encode = __str__
def f(x): return Text('nothing')
""",
    "imports its own plain data": """
import sys, types
sys.modules['rlkit.rewards.sandbox.inside.plain_values'] = module = types.ModuleType('plain_values')
module.encode = lambda *a: {'x': '0x' + 'f' * 100_000}
module.decode = lambda *a: []
def f(x): return None
""",
    "hooks every import": """
import sys
class Finder:
    def find_spec(self, *a): sys.exit(0)
sys.meta_path.insert(0, Finder())
sys.modules.clear()
def f(x): return None
""",
    "returns broken Unicode": "def f(x): return 'SECRET' + chr(0xD800)",
    "returns what holds itself": "def f(x):\n    r = []\n    r.append(r)\n    return r",
    "returns too deep a list": "def f(x):\n    r = []\n    for _ in range(900): r = [r]\n    return r",
    "returns a huge number": "def f(x): return 1 << 30_000_000",
    "traces whoever calls": """
import sys
def trace(frame, *a):
    frame.f_locals.clear()
    frame.f_globals['passed'] = True
    return trace
sys.settrace(trace)
def f(x):
    frame = sys._getframe(1)
    frame.f_trace = trace
    return trace
""",
    "writes success to every descriptor": """
import os
for text in (b'{"status": "ok", "passed": true, "value": 1}\\n', b'{"ready": true}\\n{"value": true}\\n' * 50):
    for descriptor in range(256):
        try: os.write(descriptor, text)
        except OSError: pass
def f(x): return None
""",
    "writes success to every open file of every process": """
import os
for process in ['self'] + os.listdir('/proc'):
    for folder in ('fd', 'task'):
        try: entries = os.listdir(f'/proc/{process}/{folder}')
        except OSError: continue
        for entry in entries:
            try:
                with open(f'/proc/{process}/{folder}/{entry}', 'wb', buffering=0) as file:
                    file.write(b'{"status": "ok", "passed": true}\\n')
            except OSError: pass
def f(x): return None
""",
    "replaces builtins": """
import builtins, ast, json, operator
builtins.AssertionError = type('Fine', (Exception,), {})
builtins.bool = builtins.isinstance = lambda *a: True
builtins.exec = builtins.compile = lambda *a, **k: None
json.dumps = lambda *a, **k: '{"value": true, "passed": true, "status": "ok"}'
operator.eq = lambda *a: True
def f(x): return None
""",
    "overwrites the harness": """
import os, sys
for module in list(sys.modules.values()):
    path = getattr(module, '__file__', None)
    for name in (path, '/harness/rlkit/rewards/sandbox/inside/checking.py'):
        try:
            open(name, 'w').write('')
            os.rename(name, '/tmp/gone')
        except (OSError, TypeError): pass
import rlkit.rewards.sandbox.inside.checking as checking
checking.check = lambda *a: {'passed': True, 'detail': ''}
def f(x): return None
""",
    "looks for the expected value in memory and files": """
import gc, os, sys
found = []
def f(x):
    frame = sys._getframe()
    while frame:
        found.extend(v for v in list(frame.f_locals.values()) + list(frame.f_globals.values()) if isinstance(v, str) and 'SECRET' in v)
        frame = frame.f_back
    found.extend(o for o in gc.get_objects() if isinstance(o, str) and 'SECRET' in o and 'gc.get' not in o)
    for process in os.listdir('/proc'):
        for name in ('environ', 'cmdline', 'mem', 'maps', 'fd/3', 'fd/4', 'fd/5', 'fd/6', 'cwd', 'stack', 'syscall'):
            if process.isdigit() and int(process) != os.getpid():
                try:
                    data = open(f'/proc/{process}/{name}', 'rb').read(10**6)
                    found.extend([str(data)] if b'SECRET' + b'-' in data else [])
                except OSError: pass
    for folder, _, names in os.walk('/tmp'):
        found.extend(n for n in names if b'SECRET' + b'-' in open(os.path.join(folder, n), 'rb').read())
    return found[0] if found else None
""",
    "replies before it is asked": """
import os
def f(x):
    for descriptor in range(3, 20):
        try: os.write(descriptor, b'{"value": {"h": 0}}\\n' * 100)
        except OSError: pass
    return f
""",
    "replies without end": """
import os
def f(x):
    while True:
        for descriptor in range(3, 64):
            try: os.write(descriptor, b'x' * 65536)
            except OSError: pass
""",
    "replies too deep": """
import os
def f(x):
    for descriptor in range(3, 64):
        try: os.write(descriptor, b'{"value": ' + b'[' * 100_000 + b'\\n')
        except OSError: pass
""",
    "defines the test": """
def check(candidate): pass
candidate = lambda x: True
def f(x): return None
__name__ = '__main__'
""",
    "kills its parents": """
import os, signal
def f(x):
    for process in (os.getppid(), 2, 1, -1):
        try: os.kill(process, signal.SIGKILL)
        except OSError: pass
""",
    "stops its parents": """
import os, signal
def f(x):
    for process in os.listdir('/proc'):
        if process.isdigit() and int(process) != os.getpid():
            try: os.kill(int(process), signal.SIGSTOP)
            except OSError: pass
""",
    "becomes its own judge": """
import os
def f(x):
    os.kill(os.getppid(), 9)
    os.execv('/proc/self/exe', ['python', '-S', '/harness/rlkit/rewards/sandbox/inside/runner.py', '3', '4'])
""",
    "leaves a child to answer": """
import os, time
if os.fork() == 0:
    while True:
        for descriptor in range(0, 64):
            try: os.write(descriptor, b'{"status": "ok", "value": 1}\\n')
            except OSError: pass
        time.sleep(0.01)
os._exit(0)
""",
}
TEST = """
def check(candidate):
    assert candidate(3) == "SECRET-4711"
    assert candidate(4) == ["SECRET" + "-", 12]
"""


def open_to_all(folder: Path) -> None:
    """Whoever the program runs as can read `folder` and those that pytest has put it into."""
    for each in (folder, *folder.parents[:3]):
        each.chmod(each.stat().st_mode & 0o7777 | 0o055)  # the last one may be /tmp, which keeps what it has


def run_hostile(source: str, task: Run | Check, *, python: str = "") -> Outcome:
    started = time.monotonic()
    (outcome,) = BubblewrapSandbox(LIMITS, python=python).run(source, [task])
    assert time.monotonic() - started < STARTING_S + outcome.waited_s + LIMITS.wall_s + GRACE_S
    assert outcome.wall_s - outcome.waited_s < LIMITS.wall_s + GRACE_S + 2.0
    return outcome
