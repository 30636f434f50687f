"""The quickstart project, made small, and commands run in it as a user runs them."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from rlkit.config.load import load_config
from rlkit.models.create import create_model
from rlkit.pipelines.scaffold import choose_template, create_project
from rlkit.pipelines.sft import run_sft

ALPHABET = "0123456789+=?# "
Run = Callable[..., subprocess.CompletedProcess[str]]


def command_environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "RLKIT_OUTPUT": "plain"}


@pytest.fixture(scope="session")
def rlkit_command() -> Run:
    """Function: `rlkit <arguments>` in a process of its own; fails the test on an unexpected exit code."""

    def run(folder: Path, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        result = subprocess.run(
            [sys.executable, "-m", "rlkit", *arguments],
            cwd=folder,
            env=command_environment(),
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert result.returncode == code, f"rlkit {' '.join(arguments)}\n{result.stdout}\n{result.stderr}"
        return result

    return run


@pytest.fixture(scope="session")
def quickstart(tmp_path_factory: pytest.TempPathFactory, rlkit_command: Run) -> Path:
    """A quickstart project with its data, its starting model and a briefly fine-tuned one."""
    parent = tmp_path_factory.mktemp("quickstart")
    rlkit_command(parent, "init", "project", "--template", "quickstart")
    folder = parent / "project"
    data = [sys.executable, "make_data.py", "--largest", "19", "--examples", "64", "--heldout", "40"]
    subprocess.run(data, cwd=folder, check=True, capture_output=True)
    create = ["models", "create", "models/start", "--family", "qwen3", "--size", "tiny"]
    rlkit_command(folder, *create, "--tokenizer", "char", "--alphabet", ALPHABET)
    rlkit_command(folder, "sft", "sft.toml", "--set", "sft.epochs=10")
    # A reward that differs from answer to answer, so that even a few steps change the policy.
    (folder / "graded.py").write_text("def score(response):\n    return min(len(response), 20) / 20\n")
    return folder


@pytest.fixture(scope="session")
def half_right(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A quickstart project with a task that a few iterations solve, and a model fine-tuned for it in `runs/sft/model`.

    Sums of one digit each, worked out twice: once rightly and once with the first number for an answer,
    `7+5=?  ->  7+5=12 #### 12` and `7+5=12 #### 7`. So the model can do both, and is right half of the time.
    """
    folder = tmp_path_factory.mktemp("half-right") / "project"
    create_project(choose_template("quickstart"), folder, {})
    made = runpy.run_path(str(folder / "make_data.py"))
    problems, _ = made["split"](largest=9, heldout=1, seed=0)
    examples = [made["conversation"](problem) for problem in problems for _ in range(2)]
    for problem, example in zip(problems, examples[1::2], strict=True):
        steps = example["messages"][1]["content"].rpartition(" ")[0]
        example["messages"][1]["content"] = f"{steps} {problem[0]}"
    (folder / "data").mkdir()
    made["write"](folder / "data" / "sft.jsonl", examples)
    made["write"](folder / "data" / "train.jsonl", map(made["prompt"], problems))
    create_model(folder / "models" / "start", family="qwen3", size="tiny", tokenizer="char", alphabet=ALPHABET)
    output = f"run.output={folder / 'runs'}"
    run_sft(load_config("sft", folder / "sft.toml", assignments=["sft.epochs=80", output], environ={}))
    return folder
