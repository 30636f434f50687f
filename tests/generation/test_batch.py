"""Prompts to rows: nothing lost, nothing twice, whatever happens in between."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rlkit.errors import ConfigError, ModelError, RolloutError
from rlkit.generation.batch import (
    BatchGeneration,
    Progress,
    answered_rows,
    drop_failed_rows,
    proven_prompt,
    remaining_batches,
)
from rlkit.generation.completions_file import read_rows
from rlkit.generation.rates import AnswerRates
from rlkit.plugin import hookimpl
from rlkit.plugin.hooks import HookRelay
from rlkit.plugin.hookspecs import RunInfo
from rlkit.rollout.answered import AnsweredBatch, BatchAfterBatch
from rlkit.testing.fakes import END, RIGHT, FakeEngine, FakeTokenizer, fake_prompts
from rlkit.testing.simulated_replicas import row_prompts, simulate
from rlkit.trainers.stop_signal import StopSignal
from rlkit.types import Prompt, PromptBatch, Rollouts, SamplingParams


def generation(
    output: Path,
    *,
    engine: FakeEngine | None = None,
    samples: int = 1,
    log_probs: bool = False,
    keep_going: bool = False,
    proven: PromptBatch | None = None,
) -> BatchGeneration:
    sampling = SamplingParams(max_tokens=4, temperature=0.0, samples=samples)
    answers = BatchAfterBatch(engine or FakeEngine(log_odds=2.0), proven=proven)
    return BatchGeneration(answers, FakeTokenizer(), sampling, output, "m", log_probs, keep_going)


def answer(
    output: Path,
    prompts: PromptBatch,
    *,
    size: int,
    maker: BatchGeneration | None = None,
    stop: StopSignal | None = None,
) -> Progress:
    before = answered_rows(output, prompts)
    batches = remaining_batches(prompts, before.answered | before.failed, size)
    run = RunInfo(kind="generate", name="x", folder=output.parent, config={}, total_steps=len(batches), first_step=0)
    return (maker or generation(output)).run(
        batches, run=run, hooks=HookRelay.for_run((), skip=("jsonl", "console")), stop=stop or StopSignal()
    )


def test_every_prompt_is_answered_once_in_order(tmp_path: Path) -> None:
    output = tmp_path / "answers.jsonl"
    answer(output, fake_prompts(7), size=3)
    rows = list(read_rows(output))
    assert [row.prompt.row_id for row in rows] == list(range(7))
    assert {completion.text for row in rows for completion in row.completions} == {"right"}
    assert {row.model for row in rows} == {"m"}


def test_each_prompt_keeps_its_own_samples_together(tmp_path: Path) -> None:
    class Numbered(FakeEngine):
        """Every answer's finish reason tells which prompt it belongs to: even rows were cut, odd ones stopped."""

        def generate(self, prompts: PromptBatch, sampling: SamplingParams) -> Rollouts:
            from dataclasses import replace

            rollouts = super().generate(prompts, sampling)
            return replace(rollouts, finish_reasons=tuple(("length", "stop")[p.row_id % 2] for p in rollouts.prompts))

    output = tmp_path / "answers.jsonl"
    answer(output, fake_prompts(4), size=4, maker=generation(output, engine=Numbered(), samples=3))
    for row in read_rows(output):
        assert [completion.finish_reason for completion in row.completions] == [
            ("length", "stop")[row.prompt.row_id % 2]
        ] * 3


def test_tokens_and_log_probs_are_written_when_asked_for(tmp_path: Path) -> None:
    output = tmp_path / "answers.jsonl"
    answer(output, fake_prompts(1), size=1, maker=generation(output, log_probs=True))
    (row,) = read_rows(output)
    assert row.completions[0].token_ids == (RIGHT, END)
    assert row.completions[0].log_probs is not None
    assert len(row.completions[0].log_probs) == 2


@pytest.mark.parametrize("cut", [1, 10, 100])
def test_a_file_cut_anywhere_is_completed_to_the_same_bytes(cut: int, tmp_path: Path) -> None:
    whole, torn = tmp_path / "whole.jsonl", tmp_path / "torn.jsonl"
    prompts = fake_prompts(5)
    answer(whole, prompts, size=2)
    torn.write_bytes(whole.read_bytes()[:-cut])
    answer(torn, prompts, size=2)
    assert torn.read_bytes() == whole.read_bytes()


def test_a_complete_file_leaves_nothing_to_do(tmp_path: Path) -> None:
    output = tmp_path / "answers.jsonl"
    answer(output, fake_prompts(3), size=2)
    assert remaining_batches(fake_prompts(3), answered_rows(output, fake_prompts(3)).answered, 2) == []


def test_a_request_to_stop_is_heard_between_batches(tmp_path: Path) -> None:
    output = tmp_path / "answers.jsonl"
    stop = StopSignal()

    class StopsAfterOne(FakeEngine):
        def generate(self, prompts: PromptBatch, sampling: SamplingParams) -> Rollouts:
            stop.requested = True
            return super().generate(prompts, sampling)

    answer(output, fake_prompts(6), size=2, maker=generation(output, engine=StopsAfterOne()), stop=stop)
    assert [row.prompt.row_id for row in read_rows(output)] == [0, 1]
    answer(output, fake_prompts(6), size=2)
    assert [row.prompt.row_id for row in read_rows(output)] == list(range(6))


def test_batches_that_replicas_have_begun_are_finished_after_a_request_to_stop(tmp_path: Path) -> None:
    output = tmp_path / "answers.jsonl"
    replicas, stop = simulate(4), StopSignal()

    class Decodes(FakeTokenizer):
        def decode(self, ids: Any, skip_special_tokens: bool = False) -> str:
            stop.requested = True  # when the first batch comes out
            return "x"

    maker = BatchGeneration(
        replicas.engine.answer_batches, Decodes(), SamplingParams(max_tokens=9), output, "m", log_probs=False
    )
    answer(output, row_prompts(range(160)), size=16, maker=maker, stop=stop)
    asked = {row for calls in replicas.calls() for call in calls for row in call}
    written = [row.prompt.row_id for row in read_rows(output)]
    assert written == sorted(asked)
    assert 16 < len(written) < 160


class Recorder:
    """Keeps the metrics of each batch."""

    def __init__(self) -> None:
        self.steps: list[dict[str, float]] = []

    @hookimpl
    def step_finished(self, metrics: dict[str, float]) -> None:
        self.steps.append(metrics)


def test_rates_of_batches_that_are_answered_side_by_side_are_those_of_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two batches come out at once each time, two seconds after those before."""
    engine, now = FakeEngine(log_odds=2.0), 0.0
    monkeypatch.setattr("rlkit.generation.batch.AnswerRates", lambda: AnswerRates(lambda: now))

    def answers(
        batches: Iterable[PromptBatch], sampling: SamplingParams, *, keep_going: bool
    ) -> Iterator[AnsweredBatch]:
        nonlocal now
        for number, batch in enumerate(batches):
            now += 0 if number % 2 else 2
            yield AnsweredBatch(engine.generate(batch, sampling))

    recorder, hooks = Recorder(), HookRelay()
    hooks.add("recorder", recorder)
    sampling = SamplingParams(max_tokens=4, temperature=0.0)
    maker = BatchGeneration(answers, FakeTokenizer(), sampling, tmp_path / "answers.jsonl", "m", log_probs=False)
    run = RunInfo(kind="generate", name="x", folder=tmp_path, config={}, total_steps=20, first_step=0)
    maker.run(remaining_batches(fake_prompts(320), frozenset(), 16), run=run, hooks=hooks, stop=StopSignal())
    whole = 320 / now
    rates = [metrics["generate/answers_per_s"] for metrics in recorder.steps]
    assert len(rates) == 20
    assert all(whole / 2 <= rate <= 2 * whole for rate in rates)
    tokens = [metrics["rollout/tokens_per_s"] for metrics in recorder.steps]
    assert tokens == pytest.approx([2 * rate for rate in rates])


def test_prompts_that_have_changed_are_not_mixed(tmp_path: Path) -> None:
    output = tmp_path / "answers.jsonl"
    answer(output, fake_prompts(2), size=2)
    changed = PromptBatch((Prompt(row_id=0, text="question 0"), Prompt(row_id=1, text="another")), ((3,), (4,)))
    with pytest.raises(ConfigError, match="answers another prompt in row 1: the prompts have changed"):
        answered_rows(output, changed)


def test_a_longer_list_of_prompts_is_a_continuation(tmp_path: Path) -> None:
    output = tmp_path / "answers.jsonl"
    answer(output, fake_prompts(2), size=2)
    answer(output, fake_prompts(4), size=2)
    assert [row.prompt.row_id for row in read_rows(output)] == [0, 1, 2, 3]


class Refuses(FakeEngine):
    """Cannot answer the rows of `bad`, nor any batch that holds one."""

    bad: frozenset[int] = frozenset()

    def generate(self, prompts: PromptBatch, sampling: SamplingParams) -> Rollouts:
        for prompt in prompts.prompts:
            if prompt.row_id in self.bad:
                raise ModelError(f"row {prompt.row_id} is\ntoo long")
        return super().generate(prompts, sampling)


def refusing(*rows: int) -> Refuses:
    engine = Refuses(log_odds=2.0)
    engine.bad = frozenset(rows)
    return engine


def test_a_failing_row_is_recorded_and_counted_and_the_others_are_answered(tmp_path: Path) -> None:
    output = tmp_path / "answers.jsonl"
    maker = generation(output, engine=refusing(2, 7), keep_going=True)
    assert answer(output, fake_prompts(10), size=4, maker=maker) == Progress(answered=8, failed=2)
    rows = list(read_rows(output))
    assert [row.prompt.row_id for row in rows] == list(range(10))
    assert {row.prompt.row_id: row.error for row in rows if row.error} == {
        2: "row 2 is too long", 7: "row 7 is too long",
    }  # fmt: skip
    assert all(bool(row.completions) != bool(row.error) for row in rows)


def test_a_failing_row_ends_the_run_when_that_is_asked_for(tmp_path: Path) -> None:
    output = tmp_path / "answers.jsonl"
    with pytest.raises(ModelError, match="row 7"):
        answer(output, fake_prompts(10), size=4, maker=generation(output, engine=refusing(7)))
    assert [row.prompt.row_id for row in read_rows(output)] == [0, 1, 2, 3]


def test_a_failed_row_is_passed_over_until_it_is_asked_for_again(tmp_path: Path) -> None:
    output = tmp_path / "answers.jsonl"
    answer(output, fake_prompts(6), size=3, maker=generation(output, engine=refusing(1), keep_going=True))
    assert answer(output, fake_prompts(6), size=3) == Progress()
    drop_failed_rows(output)
    assert answer(output, fake_prompts(6), size=3) == Progress(answered=1)
    rows = {row.prompt.row_id: row for row in read_rows(output)}
    assert sorted(rows) == list(range(6))
    assert not any(row.error for row in rows.values())


def test_when_nothing_can_be_answered_it_is_not_the_prompts_that_are_wrong(tmp_path: Path) -> None:
    output = tmp_path / "answers.jsonl"
    maker = generation(output, engine=refusing(*range(6)), keep_going=True)
    with pytest.raises(
        RolloutError, match="none of the 3 prompts of a batch could be answered; row 0: row 0 is too long"
    ):
        answer(output, fake_prompts(6), size=3, maker=maker)
    assert not output.exists()


def test_a_whole_batch_of_bad_rows_after_good_ones_is_recorded(tmp_path: Path) -> None:
    output = tmp_path / "answers.jsonl"
    maker = generation(output, engine=refusing(3, 4, 5), keep_going=True)
    assert answer(output, fake_prompts(6), size=3, maker=maker) == Progress(answered=3, failed=3)


class Dies(FakeEngine):
    """Answers two calls."""

    asked = 0

    def generate(self, prompts: PromptBatch, sampling: SamplingParams) -> Rollouts:
        self.asked += 1
        if self.asked > 2:
            raise RuntimeError("CUDA error: an illegal memory access was encountered")
        return super().generate(prompts, sampling)


def test_an_engine_that_dies_ends_the_run_and_the_rest_is_answered_by_the_next_one(tmp_path: Path) -> None:
    output = tmp_path / "answers.jsonl"
    maker = generation(output, engine=Dies(log_odds=2.0), keep_going=True)
    with pytest.raises(RolloutError, match="the rollout engine is broken: it fails at row 3 too"):
        answer(output, fake_prompts(10), size=3, maker=maker)
    assert [row.prompt.row_id for row in read_rows(output)] == list(range(6))
    assert answer(output, fake_prompts(10), size=3) == Progress(answered=4)
    assert not any(row.error for row in read_rows(output))


def test_bad_rows_that_are_tried_again_are_recorded_again(tmp_path: Path) -> None:
    """The file holds answers, and the engine still gives them: it is the prompts that are wrong."""
    output, prompts = tmp_path / "answers.jsonl", fake_prompts(6)
    answer(output, prompts, size=6, maker=generation(output, engine=refusing(1, 4), keep_going=True))
    drop_failed_rows(output)
    proven = proven_prompt(prompts, answered_rows(output, prompts))
    assert proven is not None and proven.prompts[0].row_id == 0
    maker = generation(output, engine=refusing(1, 4), keep_going=True, proven=proven)
    assert answer(output, prompts, size=6, maker=maker) == Progress(failed=2)
    assert proven_prompt(prompts, answered_rows(tmp_path / "none.jsonl", prompts)) is None
