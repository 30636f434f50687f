"""How a run under torchrun ends when its first process has nothing to do, or cannot begin: the others end with it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from rlkit.testing.tiny_model import write_tiny_model

pytestmark = pytest.mark.slow

PROJECT = """\
[model]
path = "model"
[data]
train = ["rows.jsonl"]
[sft]
batch_size = 7
steps = 2
lr = 1e-3
[run]
output = "runs"
threads = 1
"""
COMMAND = (sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "rlkit", "sft", "sft.toml")
PATIENCE_S = 120.0
"""Far more than the processes need; far less than the hour after which a rank gives up waiting for the others."""

Torchrun = Callable[..., tuple[int, str]]


@pytest.fixture
def torchrun(tmp_path: Path) -> Torchrun:
    """Function: exit code and output of a run with two processes, with more arguments."""
    write_tiny_model(tmp_path / "model")
    rows = [{"question": f"{n}+{n}=", "answer": str(2 * n)} for n in range(20)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "broken.jsonl").write_text('{"question": "1+1="}\n')
    (tmp_path / "sft.toml").write_text(PROJECT)

    def run(*arguments: str) -> tuple[int, str]:
        process = subprocess.Popen(
            [*COMMAND, *arguments],
            cwd=tmp_path,
            env={**os.environ, "OMP_NUM_THREADS": "1", "RLKIT_OUTPUT": "plain"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        try:
            output, _ = process.communicate(timeout=PATIENCE_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            output, _ = process.communicate()
            pytest.fail(f"still running after {PATIENCE_S:g} s: {output}")
        return process.returncode, output

    return run


def test_the_same_command_on_a_finished_run_ends_at_once(torchrun: Torchrun) -> None:
    code, output = torchrun("--name", "a")
    assert code == 0, output
    code, output = torchrun("--name", "a")
    assert code == 0, output
    assert output.count("is complete (2 of 2 steps)") == 1


@pytest.mark.parametrize(
    ("arguments", "message", "exit_code"),
    [
        (("--data", "broken.jsonl"), "broken.jsonl", 4),
        (("--data", "nowhere.jsonl"), "nowhere.jsonl", 4),
        (("--set", "sft.lr=fast"), "sft.lr", 2),
        (("--set", "model.path=nowhere"), "nowhere", 4),
    ],
    ids=["row", "file", "setting", "model"],
)
def test_what_the_first_process_cannot_begin_is_said_once_and_ends_them_all(
    torchrun: Torchrun, arguments: tuple[str, ...], message: str, exit_code: int
) -> None:
    code, output = torchrun(*arguments)
    assert code != 0
    errors = [line for line in output.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and message in errors[0], output
    root = output.partition("Root Cause")[2]
    assert f"exitcode  : {exit_code} " in root, output
    assert "forcefully exiting" not in output
