"""`rlkit eval` on models: answers are made, judged, kept, and not made twice."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rlkit.config.load import load_config
from rlkit.errors import ConfigError
from rlkit.evaluation.evaluate import EvaluationResult
from rlkit.pipelines.evaluate import run_evaluate
from rlkit.pipelines.preflight import check_run
from rlkit.testing.tiny_model import tiny_model, write_tiny_model

Evaluate = Callable[..., EvaluationResult]
REWARDS = """
def length(response):
    with open("judged.log", "a") as log:
        log.write("x")
    return len(response) / 10


def constant(response):
    return 1.0
"""


def resolved(**flags: Any) -> Any:
    keys = {key.replace("__", "."): value for key, value in flags.items()}
    return load_config("eval", None, flags=keys, environ={})


@pytest.fixture
def evaluate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Evaluate:
    """Two data sources of three prompts each, answered in 6 tokens and judged by the length of the answer."""
    monkeypatch.chdir(tmp_path)
    for source, start in (("sums", 0), ("words", 10)):
        lines = [{"prompt": f"{start + n}+{n}=", "answer": "1", "data_source": source} for n in range(3)]
        Path(f"{source}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    Path("rewards.py").write_text(REWARDS)

    def run(**flags: Any) -> EvaluationResult:
        settings = {
            "evaluation__models": [str(tiny_model())],
            "generation__prompts": ["sums.jsonl", "words.jsonl"],
            "generation__max_response_tokens": 6,
            "generation__max_prompt_tokens": 40,
            "reward__functions": ["rewards.py:length"],
            "reward__workers": 0,
            "run__device": "cpu",
            "run__threads": 1,
        }
        return run_evaluate(resolved(**settings | flags))

    return run


def judged() -> int:
    log = Path("judged.log")
    return len(log.read_text()) if log.exists() else 0


def test_a_model_answers_and_is_judged_and_neither_is_repeated(
    evaluate: Evaluate, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = evaluate(generation__samples_per_prompt=2, generation__temperature=1.0)
    file = first.files[0]
    assert file.scored.name == str(tiny_model())
    assert [summary.data_source for summary in file.summaries] == ["all", "sums", "words"]
    assert file.macro is not None
    assert judged() == 12
    (verdicts,) = Path("evaluation").glob("*.verdicts.jsonl")
    rows = [json.loads(line) for line in verdicts.read_text().splitlines()]
    assert [(row["row_id"], row["sample"]) for row in rows[:3]] == [(0, 0), (0, 1), (1, 0)]
    assert json.loads(Path("evaluation/result.json").read_text())["files"][0]["label"] == str(tiny_model())

    monkeypatch.setattr("rlkit.pipelines.generate.build_engine", lambda *a, **k: pytest.fail("answered again"))
    again = evaluate(generation__samples_per_prompt=2, generation__temperature=1.0)
    assert judged() == 12
    assert again.files[0].scored.rows == file.scored.rows


def test_an_evaluation_that_was_cut_short_goes_on(evaluate: Evaluate) -> None:
    whole = evaluate()
    (answers,) = (path for path in Path("evaluation").glob("*.jsonl") if "verdicts" not in path.name)
    (verdicts,) = Path("evaluation").glob("*.verdicts.jsonl")
    expected = {json.loads(line)["row_id"]: line for line in answers.read_text().splitlines()}
    for path in (answers, verdicts):
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    left = len(verdicts.read_text().split("\n")) - 1
    before = judged()
    resumed = evaluate()
    assert {json.loads(line)["row_id"]: line for line in answers.read_text().splitlines()} == expected
    assert judged() - before == 6 - left
    assert {row.prompt.row_id: row.scores for row in resumed.files[0].scored.rows} == {
        row.prompt.row_id: row.scores for row in whole.files[0].scored.rows
    }


def test_other_sampling_settings_begin_another_file(evaluate: Evaluate) -> None:
    evaluate()
    evaluate(generation__max_response_tokens=4)
    assert len(list(Path("evaluation").glob("*.verdicts.jsonl"))) == 2


def test_a_changed_reward_judges_anew_without_asking_the_model(
    evaluate: Evaluate, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluate()
    Path("other.py").write_text(REWARDS.replace("/ 10", "/ 100"))
    result = evaluate(reward__functions=["other.py:length"])
    assert judged() == 12
    assert all(score < 1 for row in result.files[0].scored.rows for score in row.scores)


def test_each_data_source_may_have_its_own_reward(evaluate: Evaluate) -> None:
    result = evaluate(evaluation__rewards={"words": ["rewards.py:constant"]})
    sums, words = result.files[0].summaries[1:]
    assert words.score.mean == 1.0
    assert sums.score.mean != 1.0
    assert judged() == 3
    assert result.functions_by_source == {"words": ("rewards.py:constant",)}


def test_models_and_checkpoints_are_compared_with_the_first(evaluate: Evaluate, tmp_path: Path) -> None:
    for step in (2, 10):
        write_tiny_model(tmp_path / "run" / "checkpoints" / f"step_{step:06d}" / "model", seed=step)
    shutil.copytree(tiny_model(), tmp_path / "start")
    result = evaluate(evaluation__models=["start"], evaluation__checkpoints="run")
    assert [file.scored.name for file in result.files] == [
        "start",
        "run/checkpoints/step_000002",
        "run/checkpoints/step_000010",
    ]
    assert [comparison.first for comparison in result.comparisons] == ["start", "start"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"evaluation__models": ["x"]}, r"on what\? Give generation.prompts \(--prompts\) or evaluation.tasks"),
        ({"generation__prompts": ["p.jsonl"]}, "none is named; give --model or --checkpoints"),
        ({"generation__samples_per_prompt": 4}, "the same answer every time"),
        ({"evaluation__rewards": {"math": []}}, "evaluation.rewards.math names no reward function"),
        ({"evaluation__reward_options": {"mcq": {}}}, "names mcq, which evaluation.rewards does not"),
        ({"generation__output": "x.jsonl"}, "keeps its answers in evaluation.folder"),
        ({"evaluation__server": "http://x"}, "evaluation.server is for tasks"),
        ({"evaluation__tasks": ["t"], "evaluation__completions": ["a.jsonl"]}, "two kinds of evaluation"),
        ({"evaluation__tasks": ["t"], "generation__prompts": ["p.jsonl"]}, "bring their own prompts"),
        (
            {"evaluation__checkpoints": "run", "generation__prompts": ["p.jsonl"]},
            "no checkpoint with a model in run/checkpoints",
        ),
        ({"evaluation__tasks": ["t"]}, "need a model: give --model, --checkpoints or --server"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_loaded(
    flags: dict[str, Any], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("p.jsonl").write_text('{"prompt": "1+1="}\n')
    with pytest.raises(ConfigError, match=message):
        check_run(resolved(**flags))


def test_tasks_without_the_harness_say_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from rlkit.pipelines import evaluation_settings

    monkeypatch.setattr(evaluation_settings, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"needs lm-evaluation-harness.*rlkit-llm\[harness\]"):
        check_run(resolved(evaluation__tasks=["t"], evaluation__server="http://x"))
