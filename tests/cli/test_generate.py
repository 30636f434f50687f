"""`rlkit generate` at the command line: which flag sets what."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from rlkit.cli.main import app
from rlkit.generation.completions_file import read_rows
from rlkit.testing.tiny_model import tiny_model


@pytest.fixture(autouse=True)
def in_a_folder_with_prompts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RLKIT_OUTPUT", "plain")  # --json replaces it; put back afterwards
    rows = [{"prompt": f"{number}+1=", "answer": str(number + 1)} for number in range(4)]
    Path("prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def run(line: str) -> str:
    small = ("--set", "generation.max_prompt_tokens=32", "--set", "run.threads=1", "--model", str(tiny_model()))
    result = CliRunner().invoke(app, ["generate", *line.split(), *small], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_flags_reach_the_completions() -> None:
    run("--data prompts.jsonl --output o.jsonl --samples 2 --temperature 1 --max-tokens 5 --limit 3 --seed 4")
    rows = list(read_rows(Path("o.jsonl")))
    assert [len(row.completions) for row in rows] == [2, 2, 2]
    assert max(completion.num_tokens for row in rows for completion in row.completions) <= 5
    origin = json.loads(Path("o.jsonl.origin.json").read_text())
    assert (origin["run.seed"], origin["generation.temperature"]) == (4, 1.0)


def test_a_project_file_does_as_well_and_a_flag_wins() -> None:
    Path("generate.toml").write_text(
        '[generation]\nprompts = ["prompts.jsonl"]\noutput = "file.jsonl"\nlimit = 1\nmax_response_tokens = 4\n'
    )
    run("generate.toml --limit 2")
    assert len(list(read_rows(Path("file.jsonl")))) == 2


def test_json_prints_one_object_for_each_event() -> None:
    printed = run("--data prompts.jsonl --output o.jsonl --max-tokens 4 --json")
    events = [json.loads(line) for line in printed.splitlines()]
    assert [event["event"] for event in events] == ["run_started", "step", "run_finished"]
    assert events[1]["metrics"]["generate/prompts"] == 4
    assert os.environ["RLKIT_OUTPUT"] == "json"


def test_a_dry_run_writes_nothing() -> None:
    assert "prompts.jsonl" in run("--data prompts.jsonl --output o.jsonl --max-tokens 4 --dry-run")
    assert [path.name for path in Path().iterdir()] == ["prompts.jsonl"]
