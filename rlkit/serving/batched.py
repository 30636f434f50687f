"""Any rollout engine as a serving engine: what waits is answered in batches by `generate`."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from rlkit.errors import ModelError
from rlkit.protocols import RolloutEngine
from rlkit.types import CompletionChunk, CompletionRequest, Prompt, PromptBatch, Rollouts, SamplingParams

if TYPE_CHECKING:
    from torch import Tensor


class BatchedServing:
    """Implements `rlkit.protocols.ServingEngine` over `generate`, for engines that do not offer it themselves.

    A step answers the waiting requests that have the sampling settings of the first one, one of each row: an engine that
    is asked for a row twice goes on with its next sample, and the answer would depend on who else asks. Answers come
    whole, the other requests wait for their turn, and one that is running cannot be stopped, only forgotten.
    """

    def __init__(self, engine: RolloutEngine) -> None:
        self._engine = engine
        self._waiting: deque[CompletionRequest] = deque()

    @property
    def has_work(self) -> bool:
        return bool(self._waiting)

    def submit(self, request: CompletionRequest) -> None:
        if request.top_log_probs:
            raise ModelError("this engine gives the log-probs of sampled tokens, but no alternatives to them")
        if request.sample:
            raise ModelError("this engine counts the answers to a row itself; give each request a row of its own")
        if not request.prompt_ids:
            raise ModelError("the prompt has no tokens; there is nothing to continue")
        self._waiting.append(request)

    def abort(self, request_ids: Iterable[str]) -> None:
        gone = set(request_ids)
        self._waiting = deque(request for request in self._waiting if request.request_id not in gone)

    def step(self) -> Sequence[CompletionChunk]:
        if not self._waiting:
            return []
        sampling = self._waiting[0].sampling
        batch = self._take_batch(sampling)
        prompts = tuple(Prompt(row_id=request.row_id, text="") for request in batch)
        rollouts = self._engine.generate(PromptBatch(prompts, tuple(request.prompt_ids for request in batch)), sampling)
        return _chunks(batch, rollouts)

    def _take_batch(self, sampling: SamplingParams) -> list[CompletionRequest]:
        """Out of what waits: the requests with these settings; of those with the same row only the first, unless greedy."""
        batch: list[CompletionRequest] = []
        left: deque[CompletionRequest] = deque()
        rows: set[int] = set()
        for request in self._waiting:
            if request.sampling != sampling or (request.row_id in rows and sampling.temperature > 0):
                left.append(request)
            else:
                rows.add(request.row_id)
                batch.append(request)
        self._waiting = left
        return batch

    def update_weights(self, named_tensors: Iterable[tuple[str, Tensor]], version: int) -> None:
        self._engine.update_weights(named_tensors, version)

    def close(self) -> None:
        self._engine.close()


def _chunks(batch: Sequence[CompletionRequest], rollouts: Rollouts) -> list[CompletionChunk]:
    tokens = [tuple(row.tolist()) for row in rollouts.response_ids.rows()]
    log_probs: list[tuple[float, ...]] = [()] * len(batch)
    if rollouts.rollout_log_probs is not None:
        log_probs = [tuple(row.tolist()) for row in rollouts.rollout_log_probs.rows()]
    return [
        CompletionChunk(
            request.request_id,
            token_ids=tokens[row],
            log_probs=log_probs[row],
            top_log_probs=(),
            finish_reason=rollouts.finish_reasons[row],
            policy_version=rollouts.policy_version,
        )
        for row, request in enumerate(batch)
    ]
