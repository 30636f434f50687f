"""Running programs that nobody has read, and finding out what they do.

`BubblewrapSandbox` (here) and `RemoteSandbox` (by HTTP): `run` takes a program's source and tasks (a script with an input, a function call,
test code) and yields one `Outcome` for each. See docs/sandbox.md.
"""

from rlkit.rewards.sandbox.availability import Diagnosis, diagnose_sandbox
from rlkit.rewards.sandbox.bubblewrap import BubblewrapSandbox
from rlkit.rewards.sandbox.execution import Call, Check, Limits, Outcome, Run, Sandbox, Task
from rlkit.rewards.sandbox.remote import RemoteSandbox

__all__ = [
    "BubblewrapSandbox",
    "Call",
    "Check",
    "Diagnosis",
    "Limits",
    "Outcome",
    "RemoteSandbox",
    "Run",
    "Sandbox",
    "Task",
    "diagnose_sandbox",
]
