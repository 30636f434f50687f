"""`rlkit reward test` at the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from rlkit.cli.main import app
from rlkit.errors import ConfigError, RewardError

SETTINGS = ("--rows", "8", "--probe-rows", "2", "--set", "reward.workers=0")


@pytest.fixture(autouse=True)
def in_a_folder_with_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rows = [{"question": f"What is {i} + 1000?", "answer": f"#### {1000 + i}"} for i in range(20)]
    Path("rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def run(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["reward", "test", *arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_a_good_reward_passes() -> None:
    printed = run("gsm8k", "--data", "rows.jsonl", *SETTINGS)
    assert "right answers score high, and no probe does" in printed


def test_a_suspicious_reward_is_flagged_but_usable() -> None:
    Path("one.py").write_text("def score(response):\n    return 1.0\n")
    printed = run("one.py", "--data", "rows.jsonl", *SETTINGS)
    assert "SUSPICIOUS" in printed and "every answer scores 1, whatever it says" in printed


def test_json_is_one_object() -> None:
    result = json.loads(run("gsm8k", "--data", "rows.jsonl", "--json", "--seed", "3", *SETTINGS))
    assert {probe["answers"] for probe in result["probes"]} == {2}


def test_an_unusable_reward_ends_with_the_rewards_exit_code() -> None:
    Path("broken.py").write_text("def score(response):\n    raise KeyError('x')\n")
    with pytest.raises(RewardError, match="could not be judged") as caught:
        run("broken.py", "--data", "rows.jsonl", *SETTINGS)
    assert caught.value.exit_code == 5
    with pytest.raises(ConfigError, match="nothing to score"):
        run("gsm8k")
