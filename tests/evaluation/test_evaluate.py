"""Files in, numbers that one can check by hand out."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rlkit.errors import ConfigError, DataError
from rlkit.evaluation.completions import ANSWERS_AT_ONCE, JudgesAnswers, load_completions, score_completions
from rlkit.evaluation.evaluate import EvaluationResult, evaluate_files
from rlkit.evaluation.result_json import as_json_values
from rlkit.evaluation.statistics import IntervalSettings, wilson_interval
from rlkit.generation.completions_file import CompletionRow, append_rows
from rlkit.types import Prompt

Write = Callable[..., str]


@pytest.fixture
def evaluate(scorer: JudgesAnswers) -> Callable[..., EvaluationResult]:
    def run(*paths: str, confidence: float = 0.95, **options: Any) -> EvaluationResult:
        settings = IntervalSettings(confidence, bootstrap_samples=200)
        return evaluate_files(paths, scorer, functions=["exact"], settings=settings, **options)

    return run


def test_one_answer_a_prompt_gives_shares_by_source(
    evaluate: Callable[..., EvaluationResult], write_completions: Write
) -> None:
    path = write_completions("a.jsonl", {0: ["1"], 1: ["0"], 2: ["1"], 3: ["1"], 4: ["cut"]})
    result = evaluate(path)
    everything, even, odd = result.files[0].summaries
    assert (everything.data_source, even.data_source, odd.data_source) == ("all", "even", "odd")
    assert everything.score == wilson_interval(0.6, 5, confidence=0.95)
    assert (even.score.mean, odd.score.mean) == (2 / 3, 1 / 2)
    assert (everything.prompts, even.prompts, odd.prompts) == (5, 3, 2)
    assert everything.truncated == 0.2
    assert everything.pass_at == {}
    assert everything.majority is None
    assert result.warnings == ()


def test_several_answers_give_pass_at_k_and_majority(
    evaluate: Callable[..., EvaluationResult], write_completions: Write
) -> None:
    path = write_completions("a.jsonl", {0: ["1", "1", "0", "2"], 2: ["0", "0", "1", "2"]})
    overall = evaluate(path).files[0].overall
    assert overall.score.mean == pytest.approx(3 / 8)
    assert {k: interval.mean for k, interval in overall.pass_at.items()} == pytest.approx(
        {1: 3 / 8, 2: ((1 - 1 / 6) + 1 / 2) / 2, 4: 1.0}
    )
    assert overall.majority is not None
    assert overall.majority.mean == 0.5


def test_answers_that_cannot_be_judged_are_left_out_with_what_they_could_change(
    evaluate: Callable[..., EvaluationResult], write_completions: Write
) -> None:
    result = evaluate(write_completions("a.jsonl", {0: ["boom", "1"], 2: ["1", "0"], 4: ["boom", "boom"]}))
    overall = result.files[0].overall
    assert (overall.errors, overall.unjudged, overall.prompts) == (3, 1, 3)
    assert overall.score.mean == pytest.approx((1 + 0.5) / 2)
    assert overall.error_bounds is not None
    assert (overall.error_bounds.low, overall.error_bounds.high) == pytest.approx((1 / 3, (1 + 0.5 + 1) / 3))
    assert overall.parts["characters"] == 1.0
    assert overall.too_few == {2: 1}
    assert (
        "3 answers could not be judged and were left out; all wrong they would make the score 33.3 %"
        in result.warnings[0]
    )
    assert "all right 83.3 %; the first: exploded" in result.warnings[0]


def test_without_a_single_verdict_there_is_no_score(
    evaluate: Callable[..., EvaluationResult], write_completions: Write
) -> None:
    result = evaluate(write_completions("a.jsonl", {0: ["boom"], 1: ["1"]}))
    overall, even, odd = result.files[0].summaries
    assert (overall.score.mean, odd.score.mean) == (1.0, 1.0)
    assert math.isnan(even.score.mean)
    assert result.files[0].macro is None
    assert (
        json.loads(json.dumps(as_json_values(result), allow_nan=False))["files"][0]["sources"][1]["score"]["mean"]
        is None
    )


def test_the_mean_of_prompts_and_the_mean_of_sources_are_two_numbers(
    evaluate: Callable[..., EvaluationResult], write_completions: Write
) -> None:
    file = evaluate(write_completions("a.jsonl", {0: ["1"], 2: ["1"], 4: ["1"], 1: ["0"], 3: ["1"]})).files[0]
    assert file.overall.score.mean == 0.8
    assert file.macro is not None
    assert file.macro.mean == pytest.approx((1 + 0.5) / 2)


def test_families_of_prompts_are_the_units(evaluate: Callable[..., EvaluationResult], write_completions: Write) -> None:
    answers = {row: ["1" if row < 40 else "0"] for row in range(0, 80, 2)}
    path, better = write_completions("a.jsonl", answers), write_completions("b.jsonl", {row: ["1"] for row in answers})
    alone, clustered = evaluate(path, better), evaluate(path, better, cluster="family")
    overall = clustered.files[0].overall
    assert (overall.prompts, overall.clusters) == (40, 8)
    assert overall.score.high - overall.score.low > 1.5 * (alone.files[0].overall.score.high - 0.5)
    assert clustered.comparisons[0].test.clusters == 8
    assert alone.comparisons[0].verdict == "better"
    assert clustered.comparisons[0].verdict == "not significant", "four families of eight changed"
    with pytest.raises(DataError, match=r"row_id 0 has no column 'topic'.*its extra columns: family"):
        evaluate(path, cluster="topic")


def test_a_second_file_is_compared_on_the_prompts_in_common(
    evaluate: Callable[..., EvaluationResult], write_completions: Write
) -> None:
    first = write_completions("a.jsonl", {row: ["0"] for row in range(0, 60)})
    second = write_completions("b.jsonl", {row: ["1"] if row % 3 else ["0"] for row in range(10, 64)})
    result = evaluate(first, second)
    comparison = result.comparisons[0]
    assert comparison.test.prompts == 50
    assert (comparison.only_first, comparison.only_second) == (10, 4)
    assert comparison.test.difference == pytest.approx(34 / 50)  # 16 of the 50 are multiples of 3
    assert comparison.verdict == "better"
    assert "50 prompts in common; 10 are only in" in result.warnings[0]
    assert evaluate(second, first).comparisons[0].verdict == "worse"


def test_a_small_difference_is_called_not_significant(
    evaluate: Callable[..., EvaluationResult], write_completions: Write
) -> None:
    first = write_completions("a.jsonl", {0: ["1"], 2: ["0"], 4: ["0"]})
    second = write_completions("b.jsonl", {0: ["1"], 2: ["1"], 4: ["0"]})
    assert evaluate(first, second).comparisons[0].verdict == "not significant"


def test_several_comparisons_are_corrected(evaluate: Callable[..., EvaluationResult], write_completions: Write) -> None:
    rows = range(0, 20, 2)
    first = write_completions("a.jsonl", {row: ["0"] for row in rows})
    others = [write_completions(f"{n}.jsonl", {row: ["1" if row < 10 else "0"] for row in rows}) for n in "bc"]
    alone = evaluate(first, others[0]).comparisons[0]
    assert alone.adjusted_p_value == alone.test.p_value == pytest.approx(1 / 32)
    assert alone.significant
    assert [c.significant for c in evaluate(first, *others).comparisons] == [False, False]


def test_files_that_cannot_be_compared_are_refused(
    evaluate: Callable[..., EvaluationResult], write_completions: Write
) -> None:
    first = write_completions("a.jsonl", {0: ["0"], 2: ["1"]})
    with pytest.raises(DataError, match="no row_id in common"):
        evaluate(first, write_completions("b.jsonl", {1: ["0"]}))
    with pytest.raises(DataError, match=r"different prompts under the same row_id in 2 of 2 rows, first in row 0"):
        evaluate(first, write_completions("c.jsonl", {0: ["0"], 2: ["1"]}, question="other"))
    with pytest.raises(ConfigError, match="given twice"):
        evaluate(first, first)
    with pytest.raises(ConfigError, match="no completions file"):
        evaluate()


def test_files_with_no_repeated_or_unanswered_rows_are_refused(tmp_path: Path, write_completions: Write) -> None:
    (tmp_path / "empty.jsonl").touch()
    with pytest.raises(DataError, match="is empty"):
        load_completions(str(tmp_path / "empty.jsonl"))
    write_completions("twice.jsonl", {0: ["0"]})
    with pytest.raises(DataError, match="row_id 0 twice"):
        load_completions(write_completions("twice.jsonl", {0: ["0"]}))
    with pytest.raises(DataError, match="row_id 4 has no completions"):
        load_completions(write_completions("none.jsonl", {4: []}))


def test_every_row_is_judged_once_whatever_the_batches(scorer: JudgesAnswers, write_completions: Write) -> None:
    answers = {row: ["1", str(row % 2)] for row in range(2 * ANSWERS_AT_ONCE)}
    path = write_completions("a.jsonl", answers)
    told: list[int] = []
    scored = score_completions(path, load_completions(path), scorer, on_progress=told.append)
    assert [row.prompt.row_id for row in scored.rows] == list(answers)
    assert all(row.scores == [1.0, float(row.prompt.row_id % 2)] for row in scored.rows)
    assert sum(told) == len(answers)
    assert len(told) == 4


def test_the_result_is_plain_json_with_every_rows_scores(
    evaluate: Callable[..., EvaluationResult], write_completions: Write
) -> None:
    first = write_completions("a.jsonl", {0: ["0", "1"], 1: ["1", "1"]})
    second = write_completions("b.jsonl", {0: ["1", "1"], 1: ["1", "1"]})
    content = json.loads(json.dumps(as_json_values(evaluate(first, second)), allow_nan=False))
    assert content["files"][0]["rows"] == [
        {"row_id": 0, "data_source": "even", "scores": [0.0, 1.0]},
        {"row_id": 1, "data_source": "odd", "scores": [1.0, 1.0]},
    ]
    assert content["files"][0]["sources"][0]["pass_at"]["2"]["mean"] == 1.0
    assert content["comparisons"][0]["test"]["difference"] == 0.25
    assert content["comparisons"][0]["verdict"] == "not significant"


def test_prompts_that_were_not_answered_are_left_out_and_said(
    evaluate: Callable[..., EvaluationResult], write_completions: Write
) -> None:
    path = write_completions("a.jsonl", {0: ["1"], 2: ["0"]})
    append_rows(Path(path), [CompletionRow(Prompt(5, text="q5"), (), "m", error="too long")])
    result = evaluate(path)
    assert [row.prompt.row_id for row in result.files[0].scored.rows] == [0, 2]
    assert any("1 prompt was not answered and left out" in warning for warning in result.warnings)
    nothing = write_completions("b.jsonl", {})
    append_rows(Path(nothing), [CompletionRow(Prompt(5, text="q5"), (), "m", error="too long")])
    with pytest.raises(DataError, match="has no answers; row_id 5: too long"):
        evaluate(nothing)
