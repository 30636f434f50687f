"""The harness's documents as rows of rlkit's."""

from __future__ import annotations

import math
from typing import Any

import pytest

from rlkit.errors import DataError
from rlkit.evaluation.compare import compare_files
from rlkit.evaluation.harness.records import harness_numbers, scored_tasks
from rlkit.evaluation.statistics import IntervalSettings


def sample(doc_id: int, *, filter: str = "none", answer: Any = "x", **metrics: Any) -> dict[str, Any]:
    return {
        "doc_id": doc_id,
        "target": "t",
        "arguments": [(f"question {doc_id}", {})],
        "filtered_resps": [answer],
        "filter": filter,
        "metrics": list(metrics),
        **metrics,
    }


def test_each_document_is_a_row_whose_score_is_the_preferred_metric() -> None:
    results = {"samples": {"b": [sample(1, f1=0.5, acc=1.0), sample(0, f1=0.25, acc=0.0)], "a": [sample(0, bleu=3.0)]}}
    scored = scored_tasks(results, label="model")
    assert [(row.prompt.row_id, row.prompt.data_source, row.scores) for row in scored.rows] == [
        (0, "a", [3.0]),
        (1, "b", [0.0]),
        (2, "b", [1.0]),
    ]
    assert scored.rows[1].rewards[0].parts == {"b/f1": 0.25, "b/acc": 0.0}
    assert scored.rows[2].prompt.question == "question 1"
    assert scored.rows[2].answers == ("x",)


def test_several_filters_are_several_sources_and_perplexities_none() -> None:
    results = {
        "samples": {
            "gsm8k": [sample(0, filter=name, exact_match=1.0) for name in ("strict", "flexible")],
            "wiki": [sample(0, word_perplexity=(-12.0, 3))],
        }
    }
    scored = scored_tasks(results, label="model")
    assert [row.prompt.data_source for row in scored.rows] == ["gsm8k (flexible)", "gsm8k (strict)"]


def test_choices_have_no_answer_that_could_be_voted_on() -> None:
    (row,) = scored_tasks({"samples": {"t": [sample(0, answer=(-1.0, False), acc=True)]}}, label="m").rows
    assert row.answers == (None,)
    assert row.scores == [1.0]


def test_every_number_of_the_harness_is_kept_with_its_standard_error() -> None:
    table = {
        "alias": "t",
        "acc,none": 0.5,
        "acc_stderr,none": 0.1,
        "f1,none": 0.2,
        "f1_stderr,none": "N/A",
        "x,none": math.nan,
    }
    found = list(harness_numbers({"results": {"t": table}}))
    assert [(number.metric, number.value, number.standard_error) for number in found] == [
        ("acc", 0.5, 0.1),
        ("f1", 0.2, None),
    ]


def templated(template: str, *, doc_hash: str = "h") -> dict[str, Any]:
    rows = [{**sample(row, exact_match=row % 2), "doc_hash": f"{doc_hash}{row}"} for row in range(8)]
    for row in rows:
        row["arguments"] = [(template.format(f"question {row['doc_id']}"), {})]
    return {"samples": {"gsm8k": rows}}


def test_one_document_in_two_chat_templates_is_the_same_prompt() -> None:
    first = scored_tasks(templated("<|im_start|>user {}"), label="a")
    second = scored_tasks(templated("[INST] {} [/INST]"), label="b")
    (comparison,) = compare_files([first, second], IntervalSettings())
    assert comparison.test.prompts == 8
    other = scored_tasks(templated("<|im_start|>user {}", doc_hash="other"), label="c")
    with pytest.raises(DataError, match="different prompts under the same row_id in 8 of 8 rows"):
        compare_files([first, other], IntervalSettings())


def test_a_document_without_a_number_leaves_the_others_their_ids() -> None:
    samples = [sample(0, bleu=math.nan), sample(1, bleu=2.0)]
    assert [row.prompt.row_id for row in scored_tasks({"samples": {"t": samples}}, label="m").rows] == [1]


@pytest.mark.parametrize(
    ("higher_is_better", "verdict"),
    [(True, "better"), (False, "worse"), (None, "higher")],
    ids=["up", "down", "unsaid"],
)
def test_better_is_what_the_harness_says_is_better(higher_is_better: bool | None, verdict: str) -> None:
    def scored(level: float, label: str) -> Any:
        """Of the form that crows_pairs has."""
        rows = [sample(row, likelihood_diff=level + row / 100, pct_stereotype=1.0) for row in range(40)]
        directions = {"crows_pairs": {"likelihood_diff": higher_is_better, "pct_stereotype": False}}
        return scored_tasks({"samples": {"crows_pairs": rows}, "higher_is_better": directions}, label=label)

    (comparison,) = compare_files([scored(1.0, "fair"), scored(5.0, "biased")], IntervalSettings())
    assert comparison.verdict == verdict


def test_scores_of_both_directions_are_higher_or_lower() -> None:
    def scored(level: float, label: str) -> Any:
        samples = {name: [sample(row, **{name: level}) for row in range(20)] for name in ("acc", "loss")}
        directions = {"acc": {"acc": True}, "loss": {"loss": False}}
        return scored_tasks({"samples": samples, "higher_is_better": directions}, label=label)

    (comparison,) = compare_files([scored(0.0, "a"), scored(1.0, "b")], IntervalSettings())
    assert comparison.verdict == "higher"
