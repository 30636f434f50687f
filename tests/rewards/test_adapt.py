"""Every accepted signature gets what it asks for; every other one is refused with the list of accepted ones."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from rlkit.errors import ConfigError, RewardError
from rlkit.rewards.adapt import adapt_function
from rlkit.rewards.verdict import NOT_APPLICABLE, Failure
from rlkit.types import Prompt, Reward, Sample

CHAT = Sample(
    Prompt(
        row_id=3,
        messages=({"role": "system", "content": "be brief"}, {"role": "user", "content": "2+2?"}),
        reference="4",
        data_source="sums",
        extra={"level": 1, "extra_info": {"split": "train"}},
    ),
    response="It is 4",
)
TEXT = Sample(Prompt(row_id=4, text="Once upon", reference="a time", extra={"level": 2}), response=" a time")


def judge(function: object, samples: Sequence[Sample] = (CHAT, TEXT), **options: Any) -> list[Any]:
    return list(adapt_function(function, name="f", options=options)(samples))


def batch_by_name(samples):  # type: ignore[no-untyped-def]
    return [len(sample.response) for sample in samples]


def batch_by_annotation(rows: Sequence[Sample]) -> list[Reward]:
    return [Reward(float(len(row.response))) for row in rows]


class Stateful:
    def __call__(self, samples: Sequence[Sample]) -> list[float]:
        return [1.0 for _ in samples]


def test_the_batch_protocol_is_recognised_by_name_annotation_and_on_objects() -> None:
    assert judge(batch_by_name) == [7, 7]
    assert judge(batch_by_annotation) == [Reward(7.0), Reward(7.0)]
    assert judge(Stateful()) == [1.0, 1.0]


def test_a_per_sample_function_gets_each_parameter_by_its_name() -> None:
    seen: list[tuple[Any, ...]] = []

    def score(prompt, question, response, reference, data_source, extra, messages, sample):  # type: ignore[no-untyped-def]
        seen.append((prompt, question, response, reference, data_source, extra, messages, sample))
        return True

    assert judge(score) == [True, True]
    messages = [dict(message) for message in CHAT.prompt.messages]
    assert seen[0] == ("2+2?", "2+2?", "It is 4", "4", "sums", CHAT.prompt.extra, messages, CHAT)
    assert seen[1] == ("Once upon", "Once upon", " a time", "a time", "default", {"level": 2}, [], TEXT)


def test_synonyms_and_annotated_samples_are_understood() -> None:
    assert judge(lambda completion, ground_truth: ground_truth in completion) == [True, True]

    def by_annotation(row: Sample) -> float:
        return row.prompt.row_id

    assert judge(by_annotation) == [3, 4]


def test_a_per_sample_function_cannot_change_the_rows_extra_columns() -> None:
    judge(lambda response, extra: extra.clear() or 0.0)
    assert CHAT.prompt.extra["level"] == 1


def test_one_raising_sample_leaves_the_others_alone() -> None:
    def score(response: str) -> float:
        if response == " a time":
            raise KeyError("lost")
        return 1.0

    first, second = judge(score)
    assert first == 1.0
    assert isinstance(second, Failure)
    assert second.reason == "KeyError: 'lost'"


def test_verls_scorer_works_unchanged() -> None:
    seen: list[tuple[Any, ...]] = []

    def compute_score(data_source, solution_str, ground_truth, extra_info=None):  # type: ignore[no-untyped-def]
        seen.append((data_source, solution_str, ground_truth, extra_info))
        return {"score": 1.0, "acc": True, "pred": "4"}

    assert judge(compute_score)[0]["score"] == 1.0
    assert seen == [("sums", "It is 4", "4", {"split": "train"}), ("default", " a time", "a time", {"level": 2})]
    assert judge(lambda solution_str, **kwargs: sorted(kwargs))[0] == ["data_source", "extra_info", "ground_truth"]


def test_trls_function_gets_chat_or_text_as_the_prompt_is() -> None:
    seen: dict[str, Any] = {}

    def reward(prompts, completions, level, **columns):  # type: ignore[no-untyped-def]
        seen.update(columns, prompts=prompts, completions=completions, level=level)
        return [0.5, None]

    assert judge(reward) == [0.5, NOT_APPLICABLE]
    assert seen["prompts"] == [[dict(message) for message in CHAT.prompt.messages], "Once upon"]
    assert seen["completions"] == [[{"role": "assistant", "content": "It is 4"}], " a time"]
    assert seen["level"] == [1, 2]
    assert seen["answer"] == seen["ground_truth"] == ["4", "a time"]
    assert seen["extra_info"] == [{"split": "train"}, None]


def test_a_trl_function_without_var_keywords_gets_only_what_it_names() -> None:
    assert judge(lambda completions, solution: [len(completions), solution[1]]) == [2, "a time"]


def test_a_column_wins_over_the_reference_of_the_same_name() -> None:
    sample = Sample(Prompt(0, text="q", reference="from reference", extra={"answer": "from column"}), "r")
    assert judge(lambda completions, answer: answer, [sample]) == ["from column"]


def test_a_trl_function_that_names_a_missing_column_is_told_the_columns() -> None:
    with pytest.raises(ConfigError, match=r"asks for the column 'levle'.*level"):
        judge(lambda completions, levle: [0.0, 0.0])


def _unknown(a, b):  # type: ignore[no-untyped-def]
    return 0.0


def _no_response(question, reference):  # type: ignore[no-untyped-def]
    return 0.0


def _ambiguous(response, answer):  # type: ignore[no-untyped-def]
    return 0.0


def _needs_token_ids(completions, completion_ids):  # type: ignore[no-untyped-def]
    return 0.0


def _half_verl(solution_str, tokenizer):  # type: ignore[no-untyped-def]
    return 0.0


@pytest.mark.parametrize("function", [_unknown, _no_response, _ambiguous, _needs_token_ids, _half_verl, lambda: 0.0])
def test_any_other_signature_is_refused_with_the_accepted_ones(function: Callable[..., Any]) -> None:
    with pytest.raises(RewardError, match=r"accepted are fn\(samples.*solution_str.*completions") as caught:
        adapt_function(function, name="mine")
    assert "'mine'" in str(caught.value)
    assert ("call it response or reference" in str(caught.value)) == (function is _ambiguous)


def test_things_that_cannot_be_called_are_refused() -> None:
    with pytest.raises(RewardError, match="is a int, which cannot be called"):
        adapt_function(3, name="f")


def test_options_become_keyword_arguments() -> None:
    def score(response: str, reference: str, tolerance: float = 0.0) -> float:
        return tolerance

    assert judge(score, tolerance=0.5) == [0.5, 0.5]
    assert judge(lambda response, weight: weight, weight=2) == [2, 2]
    assert judge(lambda samples, bonus=0: [bonus] * len(samples), bonus=3) == [3, 3]
    assert judge(lambda completions, bonus: [bonus] * 2, bonus=4) == [4, 4]


def test_an_option_that_the_function_does_not_take_is_refused_with_a_suggestion() -> None:
    def score(response: str, tolerance: float = 0.0) -> float:
        return tolerance

    with pytest.raises(ConfigError, match=r"no option 'tolerence'.*Did you mean 'tolerance'"):
        adapt_function(score, name="score", options={"tolerence": 1})
    with pytest.raises(ConfigError, match="no option 'response'"):
        adapt_function(score, name="score", options={"response": "x"})


@pytest.mark.parametrize("returned", ["text", 3, {"score": 1}, [1.0], None])
def test_a_batch_function_must_return_one_verdict_for_each_answer(returned: object) -> None:
    with pytest.raises(ValueError, match="2 answers"):
        judge(lambda samples: returned)


def test_adapted_functions_can_be_pickled_for_other_processes() -> None:
    style = pickle.loads(pickle.dumps(adapt_function(batch_by_annotation, name="f")))
    assert list(style([CHAT])) == [Reward(7.0)]
