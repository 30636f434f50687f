"""Programs that want to be taken for right ones (real processes): none of them is ever right, whoever starts the sandbox."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest
from hostile_programs import FORGERS, GREEDY, LIMITS, TEST, run_hostile

import rlkit
from rlkit.rewards.sandbox import Check, Run

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("works", "namespaces")]


@pytest.mark.parametrize("source", FORGERS.values(), ids=FORGERS)
def test_a_forger_never_passes_a_check(source: str) -> None:
    assert run_hostile(source, Check(TEST, "f")).status != "ok"


@pytest.mark.parametrize("source", FORGERS.values(), ids=FORGERS)
def test_a_forger_never_prints_what_is_expected(source: str) -> None:
    outcome = run_hostile(source + "\nf(3)\n", Run("3"))
    assert "4711" not in outcome.stdout
    assert outcome.value is None


LOOPS = (
    "for given, wanted in zip(map(f, [1, 2]), [2, 3]):\n    assert given == wanted",
    "assert all(map(lambda case: f(case[0]) == case[1], [(1, 2), (2, 3)]))",
    "assert [*map(f, [])] == list(map(f, [1]))",
)


@pytest.mark.parametrize("test", LOOPS)
@pytest.mark.parametrize("error", ["StopIteration", "StopAsyncIteration", "GeneratorExit", "IndexError", "KeyError"])
def test_an_exception_does_not_end_a_loop_of_the_test(test: str, error: str) -> None:
    assert run_hostile(f"def f(x): raise {error}", Check(test)).status == "error"


AS_SOMEBODY_ELSE = """
import json, sys
from concurrent.futures import ThreadPoolExecutor
from rlkit.rewards.sandbox import BubblewrapSandbox, Check, Limits, Run, diagnose_sandbox
given = json.load(sys.stdin)
found = diagnose_sandbox()
if not found.works:
    sys.exit(found.detail)
sandbox = BubblewrapSandbox(Limits(**given["limits"]))
def outcome(task):
    return lambda source: next(sandbox.run(source, [task]))
with ThreadPoolExecutor(4) as pool:
    checked = pool.map(outcome(Check(given["test"], "f")), given["checked"])
    ran = pool.map(outcome(Run("3")), given["ran"])
    print(json.dumps([[found.status for found in checked], [found.stdout for found in ran]]))
"""


def test_started_by_somebody_who_is_not_root_it_holds_as_well() -> None:
    """Then the sandbox is made in another way: in a user namespace, and with runner and program of one user."""
    right = "def f(x): return 'SECRET-4711' if x == 3 else ['SECRET-', 12]"
    checked = {"right": right, **FORGERS}
    assert run_hostile(right, Check(TEST, "f")).status == "ok"
    given = {"limits": asdict(LIMITS), "test": TEST, "checked": [*checked.values()], "ran": [*GREEDY.values()]}
    done = subprocess.run(
        [*_somebody_else(), "-c", AS_SOMEBODY_ELSE],
        input=json.dumps(given),
        capture_output=True,
        text=True,
        check=False,
    )
    if "does not work" in done.stderr or "not permitted" in done.stderr:
        pytest.skip(f"no user namespaces here: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    statuses, printed = json.loads(done.stdout)
    assert [name for name, status in zip(checked, statuses, strict=True) if status == "ok"] == ["right"]
    assert len(printed) == len(GREEDY)
    assert "the answer\n" not in printed


def _somebody_else() -> list[str]:
    """A command that runs Python as a user without rights; skips where this is none of root's or nothing can be read."""
    setpriv = shutil.which("setpriv")
    if os.geteuid() != 0 or setpriv is None:
        pytest.skip("the suite runs as an ordinary user already, or there is no setpriv")
    root = Path(rlkit.__file__).parents[1]
    for python in dict.fromkeys((sys.executable, "/usr/bin/python3")):
        environment = [shutil.which("env") or "env", "-i", "PATH=/usr/bin:/bin", f"PYTHONPATH={root}", "HOME=/tmp"]
        command = [setpriv, "--reuid=54321", "--regid=54321", "--clear-groups", *environment, python, "-B"]
        imports = "import sys; assert sys.version_info >= (3, 11); import ctypes, rlkit.rewards.sandbox"
        if subprocess.run([*command, "-c", imports], cwd="/", capture_output=True, check=False).returncode == 0:
            return command
    pytest.skip("an ordinary user can read no Python of 3.11 or newer, or not rlkit")
