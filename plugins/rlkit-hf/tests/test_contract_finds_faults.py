"""The engine contract is worth something only if it fails for engines with a fault: each check meets one."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from rlkit_hf.engine import HFEngine
from rlkit_hf.options import HFEngineOptions

from rlkit.errors import ModelError
from rlkit.rollout.engine_model import EngineModel
from rlkit.testing.contracts import rollout_engine as contract
from rlkit.types import AdapterWeights, PromptBatch, Ragged, Rollouts, SamplingParams


class SwapsRows(HFEngine):
    def generate(self, prompts: PromptBatch, sampling: SamplingParams) -> Rollouts:
        rollouts = super().generate(prompts, sampling)
        return (
            rollouts.select([1, 0, *range(2, len(rollouts))])
            if sampling.samples == 1
            else rollouts.select(sorted(range(len(rollouts)), key=lambda row: row % sampling.samples))
        )


class AlwaysSaysLength(HFEngine):
    def generate(self, prompts: PromptBatch, sampling: SamplingParams) -> Rollouts:
        rollouts = super().generate(prompts, sampling)
        return replace(rollouts, finish_reasons=("length",) * len(rollouts))


class IgnoresStops(HFEngine):
    def generate(self, prompts: PromptBatch, sampling: SamplingParams) -> Rollouts:
        return super().generate(prompts, replace(sampling, stop=(), stop_token_ids=()))


class RepeatsItself(HFEngine):
    def generate(self, prompts: PromptBatch, sampling: SamplingParams) -> Rollouts:
        rollouts = super().generate(prompts, sampling)
        return rollouts.select([row - row % sampling.samples for row in range(len(rollouts))])


class CountsCalls(HFEngine):
    calls = 0

    def generate(self, prompts: PromptBatch, sampling: SamplingParams) -> Rollouts:
        self.calls += 1
        return super().generate(prompts, replace(sampling, seed=sampling.seed + self.calls))


class ForgetsTheTemperature(HFEngine):
    def generate(self, prompts: PromptBatch, sampling: SamplingParams) -> Rollouts:
        rollouts = super().generate(prompts, sampling)
        assert rollouts.rollout_log_probs is not None
        scaled = Ragged(rollouts.rollout_log_probs.values * sampling.temperature, rollouts.rollout_log_probs.lengths)
        return replace(rollouts, rollout_log_probs=scaled)


class ForgetsItsLogProbs(HFEngine):
    def generate(self, prompts: PromptBatch, sampling: SamplingParams) -> Rollouts:
        return replace(super().generate(prompts, sampling), rollout_log_probs=None)


class HasNoLogProbs(ForgetsItsLogProbs):
    gives_log_probs = False


class GivesLogProbsAfterAll(HFEngine):
    gives_log_probs = False


class NeverGreedy(HFEngine):
    def generate(self, prompts: PromptBatch, sampling: SamplingParams) -> Rollouts:
        return super().generate(prompts, replace(sampling, temperature=sampling.temperature or 1.0))


class KeepsOldWeights(HFEngine):
    def update_weights(self, named_tensors: Iterable[tuple[str, torch.Tensor]], version: int) -> None:
        self._version = version


class SwallowsErrors(HFEngine):
    def update_weights(self, named_tensors: Iterable[tuple[str, torch.Tensor]], version: int) -> None:
        with contextlib.suppress(ModelError):
            super().update_weights(named_tensors, version)


class KeepsNaN(HFEngine):
    """As an engine whose cache does."""

    spoilt = False

    def generate(self, prompts: PromptBatch, sampling: SamplingParams) -> Rollouts:
        if self.spoilt:
            raise ModelError("the model answered with non-finite logits")
        try:
            return super().generate(prompts, sampling)
        except ModelError:
            self.spoilt = True
            raise


class LosesBuffers(HFEngine):
    def release(self, parts: Any) -> None:
        super().release(parts)
        self._model.model.rotary_emb.inv_freq.zero_()


class IgnoresAdapters(HFEngine):
    takes_adapters = True

    def update_adapter(self, adapter: AdapterWeights, version: int) -> None:
        self._version = version


class ClosesOnce(HFEngine):
    def close(self) -> None:
        del self._model


FAULTS = {
    contract.rows_are_whole_and_in_order: SwapsRows,
    contract.finish_reasons_say_why: AlwaysSaysLength,
    contract.stop_tokens_and_strings_end_answers: IgnoresStops,
    contract.samples_of_a_prompt_differ: RepeatsItself,
    contract.the_seed_decides_whatever_the_batch: CountsCalls,
    contract.log_probs_agree_with_a_recomputation: ForgetsTheTemperature,
    contract.greedy_takes_the_likeliest_token: NeverGreedy,
    contract.updated_weights_are_the_ones_that_answer: KeepsOldWeights,
    contract.wrong_updates_are_refused: SwallowsErrors,
    contract.weights_that_are_not_finite_leave_nothing_behind: KeepsNaN,
    contract.memory_goes_and_comes_back: LosesBuffers,
    contract.an_adapter_answers_as_the_merged_model: IgnoresAdapters,
    contract.closing_twice_is_harmless: ClosesOnce,
}


class Context:
    """Stands in for `rlkit.testing.ContractContext` with an engine class of our own."""

    def __init__(self, engine: type[HFEngine], folder: Path) -> None:
        self._engine, self._folder = engine, folder

    def build(self, *, model: EngineModel) -> HFEngine:
        return self._engine(HFEngineOptions(), model=model)

    def tiny_model(self) -> Path:
        return self._folder


@pytest.mark.parametrize("check", contract.CHECKS, ids=lambda check: check.__name__)
def test_every_check_finds_its_fault(check: Any, model_folder: Path) -> None:
    check(Context(HFEngine, model_folder))
    with pytest.raises((AssertionError, AttributeError)):
        check(Context(FAULTS[check], model_folder))


def test_an_engine_without_log_probs_has_to_say_so(model_folder: Path) -> None:
    check = contract.log_probs_agree_with_a_recomputation
    check(Context(HasNoLogProbs, model_folder))
    with pytest.raises(AssertionError, match="gives_log_probs = False"):
        check(Context(ForgetsItsLogProbs, model_folder))
    with pytest.raises(AssertionError, match="gives_log_probs is False"):
        check(Context(GivesLogProbsAfterAll, model_folder))
