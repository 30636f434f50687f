"""The judge in somebody else's sandbox: one call or check, read from the standard input, answered on the standard output."""

from __future__ import annotations

import json
import os
import sys

from rlkit.rewards.sandbox.inside import confine
from rlkit.rewards.sandbox.inside.runner import Runner
from rlkit.rewards.sandbox.inside.stopwatch import Stopwatch


def main() -> None:
    """One line in: nonce, source, limits, task. One line out, which begins with the nonce."""
    job = json.loads(sys.stdin.readline())
    # The descriptors that the program would inherit are the judge's only words to the outside.
    answers = os.dup(1)
    confine.hide_this_process()
    runner = Runner({**job, "interpreter": [sys.executable, "-s", "-B"]})
    task = job["task"]
    watch = Stopwatch(task["wall_s"], most_s=task["wall_s"], cpu_s=job["limits"]["cpu_s"], looks=False)
    result = runner.judge(task, watch)
    line = job["nonce"] + json.dumps({**result, "wall_s": watch.elapsed()}) + "\n"
    os.write(answers, line.encode())
