"""The scorer always comes back, with finite scores or with one clear reason."""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable, Sequence
from typing import Any, Literal

import pytest

from rlkit.config.reward_sections import RewardSection
from rlkit.errors import ConfigError, RewardError, TransientRewardError
from rlkit.rewards.adapt import adapt_function
from rlkit.rewards.deadline import MAX_ABANDONED
from rlkit.rewards.jobs import Patience
from rlkit.rewards.judging import ErrorPolicy
from rlkit.rewards.resolve import ResolvedFunction
from rlkit.rewards.scorer import Runtime, Scorer, build_scorer
from rlkit.types import Conversation, Prompt, Reward, Sample

SAMPLES = [Sample(Prompt(10 + i, text="q", reference=str(i), data_source="sums"), response=str(i)) for i in range(3)]


def make_scorer(
    *functions: Callable[..., Any],
    weights: Sequence[float] = (),
    timeout_s: float = 5.0,
    on_error: Literal["stop", "leave_out"] = "stop",
    max_error_fraction: float = 1.0,
    retries: int = 0,
) -> Scorer:
    names = [getattr(function, "__name__", type(function).__name__) for function in functions]
    resolved = tuple(
        ResolvedFunction(name, name, function, adapt_function(function, name=name))
        for name, function in zip(names, functions, strict=True)
    )
    policy = ErrorPolicy(on_error, max_error_fraction)
    return Scorer(resolved, tuple(weights) or (1.0,) * len(functions), Patience(timeout_s, retries, 0.001), policy)


def same(response: str, reference: str) -> bool:
    return response == reference


def length(response: str) -> dict[str, float]:
    return {"score": 0.5, "tokens": len(response)}


def raises_on_second(response: str) -> float:
    return 1 / (int(response) - 1)


def test_scores_are_weighted_and_parts_are_named_after_their_function() -> None:
    rewards = make_scorer(same, length, weights=(1.0, -2.0)).score(SAMPLES)
    assert rewards == [Reward(0.0, {"same": 1.0, "length": 0.5, "length/tokens": 1.0})] * 3


def test_no_samples_need_no_call() -> None:
    def never(samples: Sequence[Sample]) -> list[float]:
        raise AssertionError("called")

    assert make_scorer(never).score([]) == []


def test_stop_names_the_function_the_row_and_the_cause() -> None:
    with pytest.raises(RewardError) as caught:
        make_scorer(raises_on_second).score(SAMPLES)
    message = str(caught.value)
    assert "'raises_on_second' failed on row 11 (sums): ZeroDivisionError" in message
    assert "on_error = leave_out" in message
    assert "\n" not in message


def test_leaving_out_marks_the_failed_answer_and_keeps_the_others(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="rlkit"):
        rewards = make_scorer(same, raises_on_second, on_error="leave_out").score(SAMPLES)
    assert [reward.score for reward in rewards] == [0.0, 0.0, 2.0]
    assert [reward.error is None for reward in rewards] == [True, False, True]
    assert rewards[1].parts == {"same": 1.0}
    assert "1 of 3 answers could not be judged (exception 1) and are left out" in caplog.text


@pytest.mark.parametrize(
    ("verdicts", "reason"),
    [
        ([1.0, math.nan, 1.0], "nan"),
        ([1.0, math.inf, 1.0], "inf"),
        ([1.0, "high", 1.0], "not a number"),
        ([1.0, 1.0], "returned 2 verdicts for 3 answers"),
        ("abc", "returned str"),
    ],
)
def test_unusable_verdicts_follow_the_error_policy(verdicts: Any, reason: str) -> None:
    def judge(samples: Sequence[Sample]) -> Any:
        return verdicts

    with pytest.raises(RewardError, match=reason):
        make_scorer(judge).score(SAMPLES)
    rewards = make_scorer(judge, on_error="leave_out").score(SAMPLES)
    assert len(rewards) == 3
    assert all(math.isfinite(reward.score) for reward in rewards)
    assert reason in (rewards[1].error or "")


def test_a_function_that_exits_the_process_has_only_failed() -> None:
    def leaves(response: str) -> float:
        raise SystemExit(1)

    rewards = make_scorer(leaves, on_error="leave_out").score(SAMPLES)
    assert [reward.error for reward in rewards] == ["leaves: SystemExit: 1"] * 3


def test_a_hanging_answer_costs_the_timeout_and_no_other_verdict() -> None:
    release = threading.Event()

    def hangs(response: str) -> float:
        if response == "1":
            release.wait(60)
        return 1.0

    try:
        rewards = make_scorer(hangs, timeout_s=2.0, on_error="leave_out").score(SAMPLES)
        assert [reward.score for reward in rewards] == [1.0, 0.0, 1.0]
        assert "no verdict within 2 s" in (rewards[1].error or "")
        with pytest.raises(RewardError, match=r"row 11.*no verdict within"):
            make_scorer(hangs, timeout_s=2.0).score(SAMPLES)
    finally:
        release.set()


def test_a_function_that_always_hangs_ends_the_run_before_its_threads_fill_the_machine() -> None:
    release = threading.Event()

    def hangs(response: str) -> float:
        release.wait(60)
        return 1.0

    scorer = make_scorer(hangs, timeout_s=0.01, on_error="leave_out")
    try:
        with pytest.raises(RewardError, match="never came back"):
            for _ in range(MAX_ABANDONED):
                scorer.score(SAMPLES)
    finally:
        release.set()


def test_a_missing_column_stops_whatever_the_policy() -> None:
    def judge(completions: list[Any], level: list[int]) -> list[float]:
        return [0.0] * len(completions)

    with pytest.raises(ConfigError, match="'judge': the function asks for the column 'level'"):
        make_scorer(judge, on_error="leave_out").score(SAMPLES)


def test_an_abstaining_function_adds_nothing() -> None:
    def sometimes(completions: list[Any]) -> list[float | None]:
        return [None, 1.0, 1.0]

    assert make_scorer(sometimes).score(SAMPLES)[0] == Reward(0.0)


def test_an_overflowing_sum_is_refused() -> None:
    with pytest.raises(RewardError, match="weights"):
        make_scorer(lambda response: 1e300, weights=(1e300,)).score(SAMPLES)


def test_closing_and_extraction_reach_the_functions_that_offer_them() -> None:
    class Judge:
        closed = False

        def __call__(self, samples: Sequence[Sample]) -> list[float]:
            return [0.0 for _ in samples]

        def extract_answer(self, response: str) -> str | None:
            return response or None

        def close(self) -> None:
            self.closed = True

    judge = Judge()
    with make_scorer(same, judge) as scorer:
        assert scorer.extract_answers(SAMPLES) == ["0", "1", "2"]
    assert judge.closed
    assert make_scorer(same).extract_answers(SAMPLES) is None


TALK = Conversation(
    opening=({"role": "user", "content": "q"},),
    replies=(
        {"role": "assistant", "content": "a"},
        {"role": "user", "content": "?"},
        {"role": "assistant", "content": "1"},
    ),
    end="done",
    turn_rewards=(0.25, -1.0),
)
TALKED = Sample(SAMPLES[1].prompt, "1", conversation=TALK)


def test_an_environments_rewards_are_added_as_a_part_and_kept_by_turn() -> None:
    rewards = make_scorer(same, weights=(2.0,)).score([TALKED, SAMPLES[1]])
    assert rewards[0] == Reward(1.25, {"same": 1.0, "environment": -0.75}, turn_scores=(0.25, -1.0))
    assert rewards[1] == Reward(2.0, {"same": 1.0})


def test_an_environment_may_be_all_that_rewards() -> None:
    scorer = build_scorer(RewardSection(), has_environment=True)
    assert scorer.score([TALKED]) == [Reward(-0.75, {"environment": -0.75}, turn_scores=(0.25, -1.0))]
    with pytest.raises(ConfigError, match=r"reward\.functions is empty"):
        build_scorer(RewardSection())


def test_no_function_may_be_called_like_the_environments_part(tmp_path) -> None:
    (tmp_path / "reward.py").write_text("def environment(response): return 1\n")
    section = RewardSection(functions=(f"{tmp_path}/reward.py:environment",))
    with pytest.raises(ConfigError, match=r"'environment'.*rename the function"):
        build_scorer(section, has_environment=True)
    build_scorer(section)


def test_functions_are_given_the_whole_conversation_under_its_names() -> None:
    given: dict[str, Any] = {}

    def asks(response: str, messages: list[Any], conversation: list[Any]) -> float:
        given.update(response=response, messages=messages, conversation=conversation)
        return 0.0

    def trl(prompts: list[Any], completions: list[Any]) -> list[float]:
        given["completions"] = completions[0]
        return [0.0]

    sample = Sample(Prompt(0, messages=TALK.opening), "1", conversation=TALK)
    make_scorer(asks, trl).score([sample])
    assert (given["response"], given["messages"]) == ("1", [{"role": "user", "content": "q"}])
    assert given["conversation"] == [{"role": "user", "content": "q"}, *TALK.replies]
    assert given["completions"] == list(TALK.replies)


def test_an_answer_of_one_turn_is_a_conversation_too() -> None:
    assert SAMPLES[1].messages == ({"role": "user", "content": "q"}, {"role": "assistant", "content": "1"})


def test_a_budget_of_errors_ends_the_batch_with_the_counts_and_the_first_reason() -> None:
    make_scorer(raises_on_second, on_error="leave_out", max_error_fraction=0.34).score(SAMPLES)
    with pytest.raises(RewardError) as caught:
        make_scorer(raises_on_second, on_error="leave_out", max_error_fraction=0.33).score(SAMPLES)
    assert str(caught.value).startswith("1 of 3 answers could not be judged (exception 1), more than")
    assert "reward.max_error_fraction = 0.33 allows; the first: reward function 'raises_on_second'" in str(caught.value)


def test_an_answer_that_two_functions_fail_on_is_one_error() -> None:
    scorer = make_scorer(raises_on_second, lambda response: 1 / (int(response) - 1), on_error="leave_out")
    judging = scorer.begin(SAMPLES)
    assert [reward.error is None for reward in judging.result()] == [True, False, True]
    assert judging.report().errors == {"exception": 1}


def test_passing_failures_are_asked_again_and_counted() -> None:
    attempts: dict[str, int] = {}

    def busy(response: str) -> float:
        attempts[response] = attempts.get(response, 0) + 1
        if attempts[response] <= int(response):
            raise TransientRewardError("busy")
        return 1.0

    judging = make_scorer(busy, retries=2).begin(SAMPLES)
    assert [reward.score for reward in judging.result()] == [1.0, 1.0, 1.0]
    assert judging.report().retries == 3
    with pytest.raises(RewardError, match=r"failed on row 12.*: busy"):
        attempts.clear()
        make_scorer(busy, retries=1).score(SAMPLES)


class CountsCalls:
    """Judges a batch; how many answers it was given in each call."""

    def __init__(self, *, judges_apart: bool, remembers: bool = True) -> None:
        self.judges_apart = judges_apart
        self.remembers = remembers
        self.calls: list[int] = []

    def __call__(self, samples: Sequence[Sample]) -> list[float]:
        self.calls.append(len(samples))
        return [float(len(sample.response)) for sample in samples]


def remembering(function: CountsCalls) -> Scorer:
    resolved = ResolvedFunction("f", "f", function, adapt_function(function, name="f"))
    return Scorer((resolved,), (1.0,), Patience(5.0), runtime=Runtime(remembered=100))


def test_the_same_answer_to_the_same_prompt_is_judged_once() -> None:
    function = CountsCalls(judges_apart=True)
    scorer = remembering(function)
    other = Sample(Prompt(99, text="q", reference="1", data_source="sums"), "1")
    judging = scorer.begin([*SAMPLES, SAMPLES[1], other])
    assert [reward.score for reward in judging.result()] == [1.0] * 5
    assert function.calls == [4]
    assert judging.report().remembered == 0.2
    judging = scorer.begin(SAMPLES)
    assert [reward.score for reward in judging.result()] == [1.0] * 3
    assert function.calls == [4]
    assert judging.report().remembered == 1.0


@pytest.mark.parametrize(
    "function",
    [CountsCalls(judges_apart=False), CountsCalls(judges_apart=True, remembers=False)],
    ids=["batch", "changing"],
)
def test_functions_whose_verdicts_depend_on_more_than_the_answer_are_always_asked(function: CountsCalls) -> None:
    scorer = remembering(function)
    scorer.score([SAMPLES[0], SAMPLES[0]])
    scorer.score([SAMPLES[0], SAMPLES[0]])
    assert function.calls == [2, 2]


def test_failures_are_not_remembered() -> None:
    asked: list[str] = []

    def sometimes(response: str) -> float:
        asked.append(response)
        return 1 / (len(asked) - 1)

    resolved = ResolvedFunction("f", "f", sometimes, adapt_function(sometimes, name="f"))
    scorer = Scorer((resolved,), (1.0,), Patience(5.0), ErrorPolicy("leave_out"), Runtime(remembered=100))
    assert scorer.score(SAMPLES[:1])[0].error
    assert scorer.score(SAMPLES[:1])[0].score == 1.0
    assert len(asked) == 2


def test_a_function_in_the_trainer_gets_the_whole_batch_in_the_callers_thread() -> None:
    seen: list[tuple[int, threading.Thread]] = []

    class Model:
        judges_apart = True
        runs_in = "trainer"

        def __call__(self, samples: Sequence[Sample]) -> list[float]:
            seen.append((len(samples), threading.current_thread()))
            return [1.0 for _ in samples]

    make_scorer(Model()).score(SAMPLES)
    assert seen == [(3, threading.current_thread())]


def test_a_time_limit_shorter_than_the_functions_own_is_refused(tmp_path) -> None:
    (tmp_path / "reward.py").write_text("def score(response): return 1\nscore.answer_timeout_s = 25.0\n")
    name = f"{tmp_path}/reward.py:score"
    with pytest.raises(ConfigError, match=r"timeout_s = 10 is no longer than the 25 s"):
        build_scorer(RewardSection(functions=(name,), timeout_s=10.0))
