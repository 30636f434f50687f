"""The serving side's contract passes for an engine that keeps it and finds each fault."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rlkit.plugin import PluginKind, PluginSpec
from rlkit.plugin.loader import LoadedPlugin
from rlkit.testing import ContractContext
from rlkit.testing.contracts import serving as contract
from rlkit.testing.fake_serving import FakeServingEngine
from rlkit.types import CompletionChunk, CompletionRequest


def context(engine: Callable[..., Any], tmp_path: Path) -> ContractContext:
    def target(model: Any) -> Any:
        return engine(model.tokenizer)

    spec = PluginSpec(kind=PluginKind.ROLLOUT_ENGINE, target="m:t", summary="A test.")
    return ContractContext(LoadedPlugin(spec.kind, "acme", spec, "acme", "1.0", target, None), tmp_path)


class AnotherSeed(FakeServingEngine):
    def submit(self, request: CompletionRequest) -> None:
        super().submit(replace(request, sampling=replace(request.sampling, seed=request.sampling.seed + 1)))


class OneSamplingForAll(FakeServingEngine):
    def submit(self, request: CompletionRequest) -> None:
        for live in self._live.values():
            request = replace(request, sampling=live.request.sampling)
            break
        super().submit(request)


class RepeatsItself(FakeServingEngine):
    def submit(self, request: CompletionRequest) -> None:
        super().submit(replace(request, sample=0))


class StartsAnew(FakeServingEngine):
    def submit(self, request: CompletionRequest) -> None:
        for live in self._live.values():
            live.produced.clear()
        super().submit(request)


class GoesOnAfterAbort(FakeServingEngine):
    def abort(self, request_ids: Iterable[str]) -> None:
        return


class AbortsAll(FakeServingEngine):
    def abort(self, request_ids: Iterable[str]) -> None:
        self._live.clear()


class IgnoresStops(FakeServingEngine):
    def submit(self, request: CompletionRequest) -> None:
        super().submit(replace(request, sampling=replace(request.sampling, stop=())))


class ChangedChunks(FakeServingEngine):
    def change(self, chunk: CompletionChunk) -> CompletionChunk:
        raise NotImplementedError

    def step(self) -> Sequence[CompletionChunk]:
        return [self.change(chunk) for chunk in super().step()]


class ReversedAlternatives(ChangedChunks):
    def change(self, chunk: CompletionChunk) -> CompletionChunk:
        return replace(chunk, top_log_probs=tuple(top[::-1] for top in chunk.top_log_probs))


class AlwaysVersionZero(ChangedChunks):
    def change(self, chunk: CompletionChunk) -> CompletionChunk:
        return replace(chunk, policy_version=0)


class TakesAnything(FakeServingEngine):
    def submit(self, request: CompletionRequest) -> None:
        super().submit(replace(request, prompt_ids=request.prompt_ids[:20] or (1,)))


class NeverIdle(FakeServingEngine):
    @property
    def has_work(self) -> bool:
        return True


@pytest.mark.parametrize("check", contract.CHECKS, ids=lambda check: check.__name__)
def test_an_engine_that_keeps_the_contract_passes(check: Callable[[ContractContext], None], tmp_path: Path) -> None:
    check(context(FakeServingEngine, tmp_path))


@pytest.mark.parametrize("check", contract.CHECKS, ids=lambda check: check.__name__)
def test_an_engine_without_that_side_is_not_asked(check: Callable[[ContractContext], None], tmp_path: Path) -> None:
    class OnlyCloses:
        def __init__(self, tokenizer: Any) -> None:
            return

        def close(self) -> None:
            return

    check(context(OnlyCloses, tmp_path))


@pytest.mark.parametrize(
    ("check", "engine"),
    [
        (contract.served_answers_are_those_of_generate, AnotherSeed),
        (contract.served_samples_are_those_of_generate, RepeatsItself),
        (contract.different_sampling_side_by_side, OneSamplingForAll),
        (contract.requests_join_while_others_run, StartsAnew),
        (contract.aborted_requests_are_gone, GoesOnAfterAbort),
        (contract.aborted_requests_are_gone, AbortsAll),
        (contract.served_finish_reasons_say_why, IgnoresStops),
        (contract.alternatives_are_the_likeliest, ReversedAlternatives),
        (contract.requests_that_cannot_be_answered_are_refused, TakesAnything),
        (contract.served_answers_name_their_weights, AlwaysVersionZero),
        (contract.an_idle_engine_has_nothing_to_say, NeverIdle),
    ],
)
def test_each_check_finds_its_fault(
    check: Callable[[ContractContext], None], engine: type[FakeServingEngine], tmp_path: Path
) -> None:
    with pytest.raises((AssertionError, KeyError)):
        check(context(engine, tmp_path))
