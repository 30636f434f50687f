"""What trackio's own store holds; run where trackio is installed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("trackio")
pytestmark = pytest.mark.slow

# trackio reads TRACKIO_DIR once, when it is imported: a process of its own for each test.
READ = """
import json, sys
import trackio
from trackio.sqlite_storage import SQLiteStorage
runs = SQLiteStorage.get_runs("rlkit")
print(json.dumps({run: SQLiteStorage.get_logs("rlkit", run) for run in runs}))
"""
PLAY = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
import conftest
play = conftest.play.__wrapped__ if hasattr(conftest.play, "__wrapped__") else conftest.play._get_wrapped_function()
run = play(Path({folder!r}))
for first, last in {parts!r}:
    assert not run("trackio", first=first, last=last, answers_every=2, folder={store!r}).failures
print("end")
"""


def python(code: str, store: Path) -> str:
    import os

    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, "TRACKIO_DIR": str(store)}
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def logs(tmp_path: Path, parts: list[tuple[int, int]]) -> dict[str, list[dict[str, object]]]:
    import json

    store = tmp_path / "store"
    code = PLAY.format(tests=str(Path(__file__).parent), folder=str(tmp_path), parts=parts, store=str(store))
    assert python(code, store) == "end\n"  # nothing of trackio's own words on standard output
    found: dict[str, list[dict[str, object]]] = json.loads(python(READ, store))
    return found


def test_metrics_answers_and_checkpoints_are_in_the_store(tmp_path):
    ((name, rows),) = logs(tmp_path, [(0, 4)]).items()
    assert name.startswith("played-")
    means = [(row["step"], row["reward/mean"]) for row in rows if "reward/mean" in row]
    assert means == [(1, 0.1), (2, 0.2), (3, 0.3), (4, 0.4)]
    tables = [row["answers/training"] for row in rows if "answers/training" in row]
    assert [table["_value"][0]["answer"] for table in tables] == ["a2", "a4"]
    assert [row["checkpoint"]["_value"][0]["step"] for row in rows if "checkpoint" in row] == [4]


def test_a_resumed_run_is_the_same_run(tmp_path):
    ((_, rows),) = logs(tmp_path, [(0, 2), (2, 4)]).items()
    assert [row["step"] for row in rows if "reward/mean" in row] == [1, 2, 3, 4]


def test_steps_done_again_are_there_once(tmp_path):
    ((_, rows),) = logs(tmp_path, [(0, 3), (1, 4)]).items()
    assert [row["step"] for row in rows if "reward/mean" in row] == [1, 2, 3, 4]
