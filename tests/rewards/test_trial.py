"""Trials of good and of bad rewards, and what is said of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from rlkit.rewards.findings import find_all, find_outliers, is_suspicious
from rlkit.rewards.probes import NEIGHBOUR, PROBES
from rlkit.rewards.trial import JudgedAnswer, Trial, try_reward
from rlkit.types import Prompt, Reward, Sample

Judge = Callable[[Sample], float]
PROMPTS = [Prompt(i, text=f"question {'x' * i}", reference=f"because\n#### {100 + i}") for i in range(30)]


def trial_of(judge: Judge, prompts: Sequence[Prompt] = PROMPTS, completions: Sequence[Sample] = ()) -> Trial:
    def judged(sample: Sample) -> JudgedAnswer:
        try:
            return JudgedAnswer(sample, Reward(judge(sample)), 0.001)
        except ValueError as error:
            return JudgedAnswer(sample, Reward(0.0, error=str(error)), None)

    return try_reward(prompts, completions, lambda samples: [judged(s) for s in samples], probe_rows=10, seed=0)


def suspicious(trial: Trial) -> set[str]:
    return {result.name for result in trial.probes if is_suspicious(result)}


def number(sample: Sample) -> str:
    return str(sample.prompt.reference).rpartition("#### ")[2]


def right(sample: Sample) -> float:
    return float(sample.response.rpartition("#### ")[2] == number(sample))


def contains(sample: Sample) -> float:
    return float(number(sample) in sample.response)


def test_a_good_reward_has_nothing_said_against_it() -> None:
    trial = trial_of(right)
    assert [(finding.level, finding.text) for finding in find_all(trial)] == [
        ("fine", "right answers score high, and no probe does")
    ]
    assert trial.references is not None and trial.references.mean == 1.0
    assert trial.form == "as it is" and trial.forms["#### N"] == 1.0 and trial.forms["boxed"] == 0.0
    assert {result.name for result in trial.probes} == {probe.name for probe in PROBES}
    assert find_outliers(trial) == []


def test_a_reward_for_mentioning_the_answer_is_caught_by_lists_of_candidates() -> None:
    trial = trial_of(contains)
    assert suspicious(trial) == {"many candidates", "many marked candidates"}
    assert any("many candidates: scores like a right answer in 100 %" in f.text for f in find_all(trial))


def test_a_reward_for_length_is_caught_by_the_long_answer_which_scores_higher() -> None:
    trial = trial_of(lambda sample: len(sample.response) / 1000)
    assert {"very long answer", "marker repeated"} <= suspicious(trial)
    assert "empty answer" not in suspicious(trial)
    assert any("very long answer: scores higher than a right answer" in f.text for f in find_all(trial))


def test_a_reward_that_gives_everything_the_same_is_told_once() -> None:
    for constant in (0.0, 1.0):
        trial = trial_of(lambda sample, constant=constant: constant)
        texts = [finding.text for finding in find_all(trial)]
        assert texts == [f"every answer scores {constant:g}, whatever it says: nothing can be learned from that"]
        assert suspicious(trial) == {probe.name for probe in PROBES}


def test_a_reward_that_does_not_read_the_reference_is_told_so() -> None:
    trial = trial_of(lambda sample: float("####" in sample.response))
    assert NEIGHBOUR in suspicious(trial)
    assert any("does not read the reference" in finding.text for finding in find_all(trial))


def test_a_reward_that_does_not_understand_the_references_is_told_so() -> None:
    trial = trial_of(lambda sample: float("<think>" in sample.response and "step" in sample.response) - 1)
    assert any("every answer scores -1" in finding.text for finding in find_all(trial))
    trial = trial_of(lambda sample: float(sample.response == "yes"))
    assert any("no right answer scores above 0" in finding.text for finding in find_all(trial))


def test_the_form_of_answer_that_scores_best_is_found_for_short_references() -> None:
    prompts = [Prompt(i, text="q", reference=str(100 + i)) for i in range(12)]
    trial = trial_of(lambda s: float(s.response == rf"\boxed{{{s.prompt.reference}}}"), prompts)
    assert trial.form == "boxed"
    assert trial.references is not None and trial.references.mean == 1.0
    neighbour = next(result for result in trial.probes if result.name == NEIGHBOUR)
    assert all(answer.sample.response.startswith(r"\boxed{") for answer in neighbour.group.answers)


def test_errors_are_counted_with_reason_and_row_and_are_no_scores() -> None:
    def judge(sample: Sample) -> float:
        if not sample.response:
            raise ValueError("nothing there")
        return right(sample)

    trial = trial_of(judge)
    finding = find_all(trial)[0]
    assert finding.level == "unusable"
    assert finding.text.startswith("10 of ") and finding.text.endswith("(default): nothing there")
    empty = next(result for result in trial.probes if result.name == "empty answer")
    assert (empty.group.mean, empty.share_like_right) == (None, None)


def test_right_answers_that_score_low_are_shown() -> None:
    trial = trial_of(lambda sample: 0.0 if sample.prompt.row_id == 7 else right(sample))
    (outlier,) = find_outliers(trial)
    assert (outlier.answer.sample.prompt.row_id, outlier.reason) == (7, "a right answer that scores low")
    assert any("1 of 30 right answers score below 1" in finding.text for finding in find_all(trial))


def test_completions_whose_score_does_not_go_with_the_reference_are_shown() -> None:
    texts = ["#### 100", "it is 100", "no idea", "#### 100\nhm, what else", "it is 1001", "or 100"]
    scores = dict(zip(texts, (1.0, 0.0, 1.0, 0.0, 0.0, 0.0), strict=True))
    completions = [Sample(PROMPTS[0], text) for text in texts]
    trial = trial_of(lambda sample: scores.get(sample.response, 0.0), [], completions)
    assert trial.references is None and trial.completions is not None and trial.completions.mean == pytest.approx(1 / 3)
    shown = {(outlier.answer.sample.response, outlier.reason) for outlier in find_outliers(trial)}
    assert shown == {
        ("no idea", "scores high without the reference in it"),
        ("it is 100", "scores low with the reference at its end"),
    }


def test_without_references_probes_are_measured_by_the_best_completion() -> None:
    prompts = [Prompt(i, text="q") for i in range(4)]
    completions = [Sample(prompt, "x" * (40 + prompt.row_id)) for prompt in prompts]
    trial = trial_of(lambda sample: min(1.0, len(sample.response) / 43), [], completions)
    assert "very long answer" in suspicious(trial) and "yes" not in suspicious(trial)
    assert any("no reference answers" in finding.text for finding in find_all(trial))


def test_a_constant_answer_that_is_right_in_a_row_is_left_out_there() -> None:
    prompts = [Prompt(i, text="q", reference="yes" if i % 2 else "no") for i in range(10)]
    trial = trial_of(lambda sample: float(sample.response.strip() == sample.prompt.reference), prompts)
    yes = next(result for result in trial.probes if result.name == "yes")
    assert (yes.by_chance, yes.share_like_right) == (5, 0.0)


def test_the_same_seed_draws_the_same_rows() -> None:
    drawn = [[a.sample.prompt.row_id for a in trial_of(right).probes[0].group.answers] for _ in range(2)]
    assert drawn[0] == drawn[1] and len(drawn[0]) == 10


def test_slow_rewards_are_noted() -> None:
    def judge(samples: Sequence[Sample]) -> list[JudgedAnswer]:
        return [JudgedAnswer(sample, Reward(right(sample)), 2.0) for sample in samples]

    trial = try_reward(PROMPTS, (), judge, probe_rows=2, seed=0)
    assert [finding.text for finding in find_all(trial)] == ["slow: one answer in twenty takes 2.0 s or more"]


@pytest.mark.parametrize("count", [0, 3])
def test_the_number_of_probed_rows_can_be_chosen(count: int) -> None:
    trial = try_reward(
        PROMPTS,
        (),
        lambda samples: [JudgedAnswer(s, Reward(right(s)), None) for s in samples],
        probe_rows=count,
        seed=0,
    )
    assert {len(result.group.answers) for result in trial.probes} == ({count} if count else set())
