"""`rlkit eval`, in this process: what is printed, what is written, what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from rlkit.config.load import load_config
from rlkit.errors import ConfigError, DataError, RLKitError
from rlkit.evaluation.evaluate import EvaluationResult
from rlkit.generation.completions_file import Completion, CompletionRow, append_rows
from rlkit.pipelines.evaluate import run_evaluate
from rlkit.types import Prompt

Evaluate = Callable[..., EvaluationResult]


@pytest.fixture
def evaluate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Evaluate:
    monkeypatch.chdir(tmp_path)

    def run(*completions: str, as_json: bool = False, **flags: Any) -> EvaluationResult:
        keys = {key.replace("__", "."): value for key, value in flags.items()}
        resolved = load_config("eval", None, flags={"evaluation.completions": list(completions), **keys}, environ={})
        return run_evaluate(resolved, as_json=as_json)

    return run


def write(name: str, answers: Sequence[str], *, reference: Any = "132", source: str = "addition") -> str:
    rows = [
        CompletionRow(Prompt(row, text=f"q{row}", reference=reference, data_source=source), (Completion(text),), "m")
        for row, text in enumerate(answers)
    ]
    append_rows(Path(name), rows)
    return name


RIGHT, WRONG = "7+5=12 4+8+1=13 #### 132", "7+5=12 4+8=12 #### 122"


def test_without_a_reward_the_final_answer_is_compared(evaluate: Evaluate) -> None:
    answers = [RIGHT, WRONG, "132", "#### 132 \nand more", "the answer is 132", "132 #### 122"]
    result = evaluate(write("a.jsonl", answers))
    assert [row.scores for row in result.files[0].scored.rows] == [[1.0], [0.0], [1.0], [1.0], [0.0], [0.0]]


def test_a_reference_may_be_a_number_or_a_worked_solution(evaluate: Evaluate) -> None:
    for name, reference in (("a.jsonl", 132), ("b.jsonl", "7+5=12 #### 132")):
        assert evaluate(write(name, [RIGHT, WRONG], reference=reference)).files[0].overall.score.mean == 0.5


def test_tables_go_to_stdout_and_progress_to_stderr(evaluate: Evaluate, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = write("sft.jsonl", [WRONG] * 30), write("ppo.jsonl", [RIGHT] * 20 + [WRONG] * 10)
    evaluate(first, second)
    printed = capsys.readouterr()
    assert "addition" in printed.out
    assert "66.7 %" in printed.out
    assert "ppo.jsonl is better than sft.jsonl by 66.7 points" in printed.out
    assert "p < 0.0001" in printed.out
    assert printed.err == "scoring sft.jsonl: 30 prompts\nscoring ppo.jsonl: 30 prompts\n"
    assert max(map(len, printed.out.split("\n\nppo.jsonl is better")[0].splitlines())) <= 80


def test_json_is_one_object_on_stdout_and_the_same_in_the_file(
    evaluate: Evaluate, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluate(write("a.jsonl", [RIGHT, WRONG]), as_json=True, evaluation__output="out/result.json")
    printed = capsys.readouterr()
    result = json.loads(printed.out)
    assert printed.err == ""
    assert result == json.loads(Path("out/result.json").read_text())
    assert result["reward_functions"] == ["exact_match"]
    assert [row["scores"] for row in result["files"][0]["rows"]] == [[1.0], [0.0]]
    assert result["files"][0]["sources"][0]["score"]["mean"] == 0.5


def test_a_reward_of_the_user_s_own_judges(evaluate: Evaluate, capsys: pytest.CaptureFixture[str]) -> None:
    Path("mine.py").write_text(
        'def score(response, reference):\n    return {"score": len(response) / 10, "ends": response.endswith(reference)}\n'
    )
    evaluate(write("a.jsonl", [RIGHT, WRONG]), reward__functions=["mine.py:score"])
    assert "parts: score 2.3, score/ends 0.5" in capsys.readouterr().out


def test_answers_that_a_reward_cannot_judge_are_counted_and_told(
    evaluate: Evaluate, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("mine.py").write_text("def score(response):\n    return 1 / (len(response) - 3)\n")
    flags: dict[str, Any] = {"reward__functions": ["mine.py:score"]}
    with pytest.raises(RLKitError, match=r"ZeroDivisionError.*reward\.on_error = leave_out"):
        evaluate(write("a.jsonl", ["132", "1"]), reward__on_error="stop", **flags)
    result = evaluate("a.jsonl", reward__on_error="leave_out", reward__max_error_fraction=1.0, **flags)
    assert result.files[0].overall.errors == 1
    assert "warning: a.jsonl: 1 answer could not be judged and was left out" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("paths", "error", "message"),
    [
        ((), ConfigError, "no completions file"),
        (("none.jsonl",), DataError, "cannot read completions file none.jsonl"),
        (("prompts.jsonl",), DataError, "prompts.jsonl, line 1 is not a row of completions: it lacks 'row_id'"),
        (("a.jsonl", "other.jsonl"), DataError, "different prompts under the same row_id in 1 of 1 rows"),
    ],
)
def test_what_cannot_be_evaluated_is_named(
    paths: tuple[str, ...], error: type[Exception], message: str, evaluate: Evaluate
) -> None:
    Path("prompts.jsonl").write_text('{"prompt": "1+1=", "answer": "2"}\n')
    write("a.jsonl", ["1"])
    write("other.jsonl", ["1"], source="elsewhere")
    with pytest.raises(error) as caught:
        evaluate(*paths)
    assert message in str(caught.value)


def test_a_result_that_cannot_be_written_is_refused_before_scoring(
    evaluate: Evaluate, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("taken").mkdir()
    with pytest.raises(ConfigError, match="cannot write taken: it is a folder"):
        evaluate(write("a.jsonl", [RIGHT]), evaluation__output="taken")
    assert capsys.readouterr().out == ""
