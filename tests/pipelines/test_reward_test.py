"""`rlkit reward test` from files to what is printed."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from rlkit.errors import ConfigError, DataError, PluginNotFoundError, RewardError
from rlkit.generation.completions_file import Completion, CompletionRow, append_rows
from rlkit.pipelines.reward_test import run_reward_test
from rlkit.pipelines.reward_test_view import print_trial
from rlkit.types import Prompt

SCORER = """
def score(response, reference, bonus=0.0):
    if "42" in response:
        raise KeyError("forty-two")
    return float(response.endswith(reference[-7:])) + bonus

def _helper():
    pass
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    rows = [{"question": f"What is {i} + 1000?", "answer": f"Add.\n#### {1000 + i}"} for i in range(40)]
    Path("rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    Path("mine.py").write_text(SCORER)
    return tmp_path


def run(*rewards: str, **options: Any) -> dict[str, Any]:
    options = {"data": ["rows.jsonl"], "rows": 20, "probe_rows": 3, "assignments": ["reward.workers=0"], **options}
    trial = run_reward_test(rewards, as_json=True, **options)
    assert trial is not None
    return {}


def printed(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(capsys.readouterr().out)
    return content


def test_a_plugin_is_tried_on_rows_drawn_from_the_file(capsys: pytest.CaptureFixture[str]) -> None:
    run("gsm8k")
    result = printed(capsys)
    assert result["reward_functions"] == ["gsm8k"] and result["data"] == ["rows.jsonl"]
    assert result["groups"][0]["answers"] == 20 and result["groups"][0]["mean"] == 1.0
    assert result["groups"][0]["parts"]["gsm8k/answered"] == 1.0
    assert not any(probe["suspicious"] for probe in result["probes"])
    assert [finding["level"] for finding in result["findings"]] == ["fine"]
    assert result["latency_s"]["max"] >= result["latency_s"]["median"] > 0


def test_answers_that_cannot_be_judged_are_an_error_after_everything_is_printed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(
        RewardError, match=r"3 of \d+ answers could not be judged; first row \d+ .*KeyError: 'forty-two'"
    ):
        run("mine.py:score")
    result = printed(capsys)
    assert result["errors"] == 3
    assert result["findings"][0]["level"] == "unusable"


def test_a_file_without_a_function_means_the_usual_or_the_only_one(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RewardError):
        run("mine.py")
    assert printed(capsys)["reward_functions"] == ["mine.py:score"]
    Path("two.py").write_text("def first(response): return 1.0\ndef second(response): return 0.0\n")
    with pytest.raises(ConfigError, match=r"several functions; name one: two.py:first, two.py:second"):
        run("two.py")
    with pytest.raises(PluginNotFoundError, match=r"missing\.py does not exist"):
        run("missing.py")


def test_a_project_files_reward_and_data_count_and_can_be_overridden(capsys: pytest.CaptureFixture[str]) -> None:
    Path("run.toml").write_text(
        '[data]\ntrain = "rows.jsonl"\n[reward]\nfunctions = ["gsm8k"]\n[reward.options.gsm8k]\nmethod = "strict"\n'
    )
    run("run.toml", data=[])
    result = printed(capsys)
    assert result["forms"]["boxed"] == 0.0 and result["forms"]["#### N"] == 1.0
    run("run.toml", data=[], assignments=["reward.workers=0", "reward.options.gsm8k.method=flexible"])
    assert printed(capsys)["forms"]["boxed"] == 1.0


def test_completions_are_scored_beside_the_rows_or_alone(capsys: pytest.CaptureFixture[str]) -> None:
    answers = [Completion("#### 7", num_tokens=3), Completion("#### 8", num_tokens=3)]
    append_rows(Path("c.jsonl"), [CompletionRow(Prompt(i, text="q", reference="7"), tuple(answers)) for i in range(5)])
    run("gsm8k", data=[], completions=["c.jsonl"])
    (group,) = printed(capsys)["groups"]
    assert (group["name"], group["answers"], group["mean"]) == ("completions", 10, 0.5)
    run("gsm8k", completions=["c.jsonl"])
    assert [group["name"] for group in printed(capsys)["groups"]] == ["right answers", "completions"]


def test_what_cannot_be_tried_is_refused_in_one_line() -> None:
    with pytest.raises(ConfigError, match="nothing to score"):
        run("gsm8k", data=[])
    with pytest.raises(PluginNotFoundError, match="Did you mean 'gsm8k'"):
        run("gsm9k")
    with pytest.raises(DataError, match=r"nothing\.jsonl"):
        run("gsm8k", data=["nothing.jsonl"])
    Path("sft.toml").write_text('[sft]\nbackend = "fsdp"\n')
    with pytest.raises(ConfigError, match="judges nothing"):
        run("sft.toml")
    with pytest.raises(ConfigError, match="2 project files"):
        run("a.toml", "b.toml")


@pytest.mark.parametrize("width", [80, 120])
def test_what_is_printed_fits_the_terminal_and_flags_what_is_wrong(width: int) -> None:
    Path("bad.py").write_text("def longer(response):\n    return len(response) / 1000\n")
    trial = run_reward_test(
        ["bad.py"], data=["rows.jsonl"], rows=20, probe_rows=3, assignments=["reward.workers=0"], as_json=True
    )
    out = io.StringIO()
    console = Console(file=out, width=width, highlight=False)
    print_trial(trial, functions=["bad.py:longer"], data=["rows.jsonl"], completions=[], console=console)
    text = out.getvalue()
    assert max(map(len, text.splitlines())) <= width
    for expected in (
        "right answers",
        "SUSPICIOUS",
        "very long answer: scores higher",
        "latency per answer: median",
        "p95",
    ):
        assert expected in " ".join(text.split())
