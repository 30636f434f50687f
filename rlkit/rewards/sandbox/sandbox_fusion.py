"""SandboxFusion's `/run_code` as a sandbox (ByteDance Seed, github.com/bytedance/SandboxFusion).

It runs scripts only. A call or a check travels as a script of ours, with the judge in it: it reads the program and the
tests from its input, and starts the program in a process of its own, as the runner does in a sandbox of bubblewrap.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Generator, Iterable
from dataclasses import asdict
from functools import cache
from typing import Any

from rlkit.errors import SandboxError, TransientRewardError
from rlkit.rewards.sandbox.bubblewrap_command import INSIDE_FOLDER, INSIDE_PACKAGE
from rlkit.rewards.sandbox.execution import Limits, Outcome, Run, Task, outcome_of
from rlkit.rewards.sandbox.http_call import post_json

EXTRA_S = 30.0
"""Beyond a task's limit: the way there and back, and waiting for a turn."""
START_S = 2.0
"""Beyond a call's or a check's limit, for the judge to start and to report."""
_COMPILE_ERRORS = ("SyntaxError", "IndentationError", "TabError")

_SCRIPT = """\
import os, sys, tempfile
folder = tempfile.mkdtemp()
package = os.path.join(folder, {package!r})
os.makedirs(package)
for name, text in {files!r}.items():
    with open(os.path.join(package, name), "w", encoding="utf-8") as file:
        file.write(text)
sys.path.insert(0, folder)
os.environ["PYTHONPATH"] = folder
from rlkit.rewards.sandbox.inside import standalone
standalone.main()
"""


def run_on_sandbox_fusion(
    url: str, source: str, tasks: Iterable[Task], limits: Limits, *, api_key: str
) -> Generator[Outcome, None, None]:
    """One request for each task. Raises `TransientRewardError` also for what the server calls its own error."""
    ends = time.monotonic() + limits.total_s
    for task in tasks:
        left = ends - time.monotonic()
        if left <= 0:
            yield Outcome("timeout", detail="no time left for this task")
            continue
        wall_s = min(left, limits.wall_s)
        if isinstance(task, Run):
            yield _script_outcome(_run_code(url, source, task.stdin, wall_s, limits, api_key))
        else:
            yield _judged(url, source, task, wall_s, limits, api_key)


def _judged(url: str, source: str, task: Task, wall_s: float, limits: Limits, api_key: str) -> Outcome:
    nonce = secrets.token_hex(16)
    job = {
        "nonce": nonce,
        "source": source,
        # Its user is everybody's there, so the number of processes cannot be limited for one program.
        "limits": {**asdict(limits), "processes": 0},
        "task": {**task.message(), "wall_s": wall_s},
    }
    outcome = _script_outcome(_run_code(url, _script(), json.dumps(job) + "\n", wall_s + START_S, limits, api_key))
    for line in outcome.stdout.splitlines():
        if line.startswith(nonce):
            try:
                return outcome_of(json.loads(line[len(nonce) :]))
            except ValueError:
                break
    if outcome.status == "timeout":
        return outcome
    reason = outcome.stderr.strip().rpartition("\n")[2][:300]
    return Outcome("killed", detail=reason or "the judge's process ended")


def _run_code(url: str, code: str, stdin: str, wall_s: float, limits: Limits, api_key: str) -> dict[str, Any]:
    content = {
        "code": code,
        "language": "python",
        "stdin": stdin,
        "run_timeout": wall_s,
        "memory_limit_MB": limits.memory_mib,
    }
    reply = post_json(f"{url}/run_code", content, api_key=api_key, timeout_s=wall_s + EXTRA_S)
    if not isinstance(reply, dict) or "status" not in reply:
        raise SandboxError(f"{url} does not speak SandboxFusion's protocol: {str(reply)[:100]!r}")
    if reply["status"] == "SandboxError":
        raise TransientRewardError(f"the sandbox at {url} failed: {str(reply.get('message', ''))[-200:]}")
    result = reply.get("run_result")
    if not isinstance(result, dict):
        raise SandboxError(f"the sandbox at {url} sent no run_result")
    return result


def _script_outcome(result: dict[str, Any]) -> Outcome:
    stdout, stderr = str(result.get("stdout") or ""), str(result.get("stderr") or "")
    code = result.get("return_code")
    wall_s = float(result.get("execution_time") or 0.0)
    last_line = stderr.strip().rpartition("\n")[2]
    if result.get("status") == "TimeLimitExceeded":
        return Outcome("timeout", None, stdout, stderr, wall_s=wall_s)
    if result.get("status") == "Finished" and code == 0:
        return Outcome("ok", 0, stdout, stderr, wall_s=wall_s)
    if last_line.startswith(_COMPILE_ERRORS):
        return Outcome("syntax", code, stdout, stderr, wall_s=wall_s)
    return Outcome("error", code, stdout, stderr, wall_s=wall_s)


@cache
def _script() -> str:
    """Everything that runs inside, in one script."""
    files = {path.name: path.read_text(encoding="utf-8") for path in sorted(INSIDE_FOLDER.glob("*.py"))}
    return _SCRIPT.format(package=INSIDE_PACKAGE, files=files)
