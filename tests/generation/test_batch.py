"""Prompts to rows: nothing lost, nothing twice, whatever happens in between."""

from __future__ import annotations

from pathlib import Path

import pytest

from rlkit.errors import ConfigError
from rlkit.generation.batch import BatchGeneration, answered_rows, remaining_batches
from rlkit.generation.completions_file import read_rows
from rlkit.plugin.hooks import HookRelay
from rlkit.plugin.hookspecs import RunInfo
from rlkit.testing.fakes import END, RIGHT, FakeEngine, FakeTokenizer, fake_prompts
from rlkit.trainers.stop_signal import StopSignal
from rlkit.types import Prompt, PromptBatch, Rollouts, SamplingParams


def generation(
    output: Path, *, engine: FakeEngine | None = None, samples: int = 1, log_probs: bool = False
) -> BatchGeneration:
    sampling = SamplingParams(max_tokens=4, temperature=0.0, samples=samples)
    return BatchGeneration(engine or FakeEngine(log_odds=2.0), FakeTokenizer(), sampling, output, "m", log_probs)


def answer(
    output: Path,
    prompts: PromptBatch,
    *,
    size: int,
    maker: BatchGeneration | None = None,
    stop: StopSignal | None = None,
) -> None:
    batches = remaining_batches(prompts, answered_rows(output, prompts), size)
    run = RunInfo(kind="generate", name="x", folder=output.parent, config={}, total_steps=len(batches), first_step=0)
    (maker or generation(output)).run(
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
    assert remaining_batches(fake_prompts(3), answered_rows(output, fake_prompts(3)), 2) == []


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
