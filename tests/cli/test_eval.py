"""`rlkit eval` at the command line: files, flags, and what comes out where."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from rlkit.cli.eval import split_rewards
from rlkit.cli.main import app
from rlkit.errors import ConfigError
from rlkit.generation.completions_file import Completion, CompletionRow, append_rows
from rlkit.types import Prompt


@pytest.fixture(autouse=True)
def in_a_folder_with_completions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name, right in (("a.jsonl", 2), ("b.jsonl", 8)):
        answers = ["#### 7"] * right + ["#### 8"] * (10 - right)
        append_rows(
            Path(name),
            [
                CompletionRow(Prompt(row, text="q", reference="7"), (Completion(text),))
                for row, text in enumerate(answers)
            ],
        )


def run(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["eval", *arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_two_files_are_scored_and_compared() -> None:
    printed = run("a.jsonl", "b.jsonl")
    assert "20.0 %" in printed and "80.0 %" in printed
    assert "b.jsonl is better than a.jsonl by 60.0 points" in printed
    assert "p = 0.0156" in printed  # six prompts better, none worse, the outcome itself counted half: 1 / 2**6


def test_json_output_file_and_flags() -> None:
    result = json.loads(run("b.jsonl", "--json", "--output", "r.json", "--confidence", "0.9", "--reward", "gsm8k"))
    assert result == json.loads(Path("r.json").read_text())
    assert (result["confidence"], result["reward_functions"]) == (0.9, ["gsm8k"])


def test_a_project_file_among_the_completions_is_found() -> None:
    Path("eval.toml").write_text('[reward]\nfunctions = ["format"]\n[reward.options.format]\npattern = "#+ 7"\n')
    assert "80.0 %" in run("b.jsonl", "eval.toml")


def test_two_project_files_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"2 project files are given \(x\.toml, y\.yaml\)"):
        run("x.toml", "y.yaml")


def test_a_dry_run_scores_nothing() -> None:
    assert "80.0 %" not in run("b.jsonl", "--output", "r.json", "--dry-run")
    assert not Path("r.json").exists()


def test_a_reward_is_for_every_source_or_for_one() -> None:
    given = ["format", "gsm8k=gsm8k", "math=math", "math=mine.py:brief"]
    assert split_rewards(given) == (["format"], {"gsm8k": ["gsm8k"], "math": ["math", "mine.py:brief"]})
    assert split_rewards([]) == ([], {})


@pytest.mark.parametrize("text", ["=gsm8k", "math="])
def test_half_a_reward_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="give a reward function, or SOURCE=FUNCTION"):
        split_rewards([text])
