"""Starts `rlkit` commands without waiting for imports: a process that has imported what a run imports, and forks.

    stdin   {"folder": "...", "arguments": ["sft", "sft.toml"], "output": "..."}     one line for each command
    stdout  <pid>                                                                   as soon as it runs
            <exit code>                                                             when it has ended; -9 when it was killed

The child is a process of its own that enters at `rlkit.cli.main.main`, as the installed command does.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from pathlib import Path
from typing import Any

PRELOADED = (
    "rlkit.cli.sft",
    "rlkit.cli.train",
    "rlkit.pipelines.sft",
    "rlkit.pipelines.ppo",
    "rlkit.pipelines.preflight",
    "rlkit.reports.html",
    "rlkit_fsdp.backend",
    "rlkit_hf.engine",
    "rlkit_qwen.plugin",
    "transformers.models.qwen3.modeling_qwen3",
    "peft",
)
"""Not pyarrow, which starts a thread when it is imported: a fork has one thread only."""


class WithoutPyarrow:
    """Keeps those from importing pyarrow that do so only where it is installed, as pandas does for scikit-learn."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if name.partition(".")[0] == "pyarrow":
            raise ModuleNotFoundError(f"{name} is not to be imported here", name=name)


def main() -> None:
    guard: Any = WithoutPyarrow()
    sys.meta_path.insert(0, guard)
    for name in PRELOADED:
        importlib.import_module(name)
    sys.meta_path.remove(guard)
    threads = len(list(Path("/proc/self/task").iterdir()))
    assert threads == 1, f"{threads} threads before the fork: the child would have one of them"
    print("ready", flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        pid = os.fork()
        if pid == 0:
            become(request["folder"], request["arguments"], request["output"])
        print(pid, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


def become(folder: str, arguments: list[str], output: str) -> None:
    """Never returns."""
    from rlkit.cli.main import main as rlkit

    os.chdir(folder)
    file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((nothing, 0), (file, 1), (file, 2)):
        os.dup2(source, target)
    sys.argv = ["rlkit", *arguments]
    rlkit()


if __name__ == "__main__":
    main()
