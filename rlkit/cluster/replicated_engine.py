"""A rollout engine that is several: each batch is answered by whichever replicas are free.

The answers are those of one engine, in order: they depend on seed, row and sample, not on who gives them.
"""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rlkit.cluster.device_chunks import replica_chunks
from rlkit.cluster.replica import ReplicaAnswers, ReplicaInfo
from rlkit.cluster.replica_pool import Answered, ReplicaPool
from rlkit.cluster.requests import Request, RequestQueue, requests_of
from rlkit.errors import ClusterError, ModelError, RolloutError
from rlkit.protocols.rollout_engine import EnginePart
from rlkit.rollout.answered import AnsweredBatch, FailedPrompt, reason_of
from rlkit.types import AdapterWeights, PromptBatch, Ragged, Rollouts, SamplingParams

LOGGER = logging.getLogger("rlkit")

BATCHES_AHEAD = 3
"""Batches that are begun while the first one is not finished, so that no replica waits for another's longest answer."""


@dataclass(eq=False)
class _Batch:
    """A batch in progress: what came back so far."""

    prompts: PromptBatch
    answers: list[tuple[tuple[int, ...], ReplicaAnswers]] = field(default_factory=list)
    failed: dict[int, str] = field(default_factory=dict)

    @property
    def is_done(self) -> bool:
        return sum(len(positions) for positions, _ in self.answers) + len(self.failed) == len(self.prompts)


class ReplicatedEngine:
    """Implements `rlkit.protocols.RolloutEngine` over the replicas of a pool, and `rlkit.rollout.answered.AnswersBatches`."""

    def __init__(
        self,
        pool: ReplicaPool,
        *,
        request_attempts: int,
        weight_chunk_bytes: int,
        shared_device: str | None = None,
    ) -> None:
        """shared_device: the GPU that the replicas share with this process, such as cuda:0; None: they do not."""
        self._pool = pool
        self._request_attempts = request_attempts
        self._weight_chunk_bytes = weight_chunk_bytes
        self._shared_device = shared_device
        self._weights_whole = True
        self._is_open = True
        try:
            pool.start()
        except BaseException:
            pool.close()
            raise

    def generate(self, prompts: PromptBatch, sampling: SamplingParams) -> Rollouts:
        """As the protocol says. A prompt that no replica survives raises `RolloutError` naming its row."""
        (answered,) = self.answer_batches([prompts], sampling, keep_going=False)
        assert answered.rollouts is not None
        return answered.rollouts

    def answer_batches(
        self, batches: Iterable[PromptBatch], sampling: SamplingParams, *, keep_going: bool
    ) -> Iterator[AnsweredBatch]:
        """The batches in order, several of them in progress at once; see `AnswersBatches`."""
        self._check_ready()
        self._pool.forget_answers()  # of an earlier call that was broken off
        queue = RequestQueue(sampling.samples, self._pool.routes)
        running: deque[tuple[int, _Batch]] = deque()
        by_number: dict[int, _Batch] = {}
        coming = enumerate(batches)
        while True:
            while len(running) <= BATCHES_AHEAD and (entry := next(coming, None)) is not None:
                number, prompts = entry
                by_number[number] = _Batch(prompts)
                running.append((number, by_number[number]))
                queue.add(requests_of(number, prompts))
            if not running:
                return
            number, first = running[0]
            if first.is_done:
                running.popleft()
                del by_number[number]
                yield assembled(first.prompts, first.answers, first.failed, sampling.samples)
                continue
            self._hand_out(queue, by_number, sampling)
            self._check_progress(queue)
            for done in self._pool.finished():
                self._take_in(done, queue, by_number[done.chunk.batch], sampling, keep_going=keep_going)

    def resume(self, parts: Iterable[EnginePart]) -> None:
        parts = tuple(parts)
        state = self._pool.state
        self._pool.call_all(replace(state, released=state.released - set(parts)), "resume", parts)

    def release(self, parts: Iterable[EnginePart]) -> None:
        parts = tuple(parts)
        state = self._pool.state
        self._pool.routes.clear()
        if "weights" in parts:
            self._weights_whole = False
        self._pool.call_all(replace(state, released=state.released | set(parts)), "release", parts)

    def update_weights(self, named_tensors: Iterable[tuple[str, Tensor]], version: int) -> None:
        """Every replica reads the tensors from one copy, which is kept for replicas that start later: in shared memory, or
        on the GPU that they share with the sender (`rlkit.cluster.device_chunks`).
        """
        self._forget_weights()
        self._spread_weights(self._shared(named_tensors), version)

    def update_shared_weights(self, chunks: Iterable[Any], version: int) -> None:
        """As `update_weights`, with chunks that somebody else puts into shared memory, one after another."""
        self._forget_weights()
        self._spread_weights(tuple(chunks), version)

    def take_weights(self, source: str, version: int) -> None:
        """As `update_weights`, from the model `source` in the replicas' own processes; only for `HybridReplica`."""
        self._forget_weights()
        self._pool.call_all(replace(self._pool.state, version=version), "take_weights", source, version)
        self._weights_whole = True

    def _forget_weights(self) -> None:
        """The old copy is given up before the new one comes, though Ray takes about a second to free it."""
        self._check_open()
        if "weights" in self._pool.state.released:
            raise ModelError("the replicas have released their weights; call resume(['weights']) before update_weights")
        self._weights_whole = False
        self._pool.routes.clear()
        self._pool.state = replace(self._pool.state, chunks=None, adapter=None)

    def _spread_weights(self, chunks: tuple[Any, ...], version: int) -> None:
        state = replace(self._pool.state, chunks=chunks, version=version)
        try:
            self._pool.call_all(state, "update_weights", chunks, version)
        except Exception:
            # A replica that starts now must not fail over what the others have refused.
            self._pool.state = replace(state, chunks=None, version=0)
            raise
        self._weights_whole = True

    @property
    def takes_adapters(self) -> bool:
        """Whether every replica does."""
        infos = self._pool.infos()
        return bool(infos) and all(info.takes_adapters for info in infos)

    def update_adapter(self, adapter: AdapterWeights, version: int) -> None:
        """As `AdapterEngine.update_adapter`: the adapter alone goes through shared memory."""
        self._check_ready()
        self._pool.routes.clear()
        before = self._pool.state
        chunks = self._shared(adapter.named_tensors())
        try:
            state = replace(before, adapter=(adapter.scale, chunks), version=version)
            self._pool.call_all(state, "update_adapter", adapter.scale, chunks, version)
        except Exception:
            self._pool.state = replace(before, adapter=None)
            self._weights_whole = False  # some replicas may have it, others not
            raise

    def _shared(self, named_tensors: Iterable[tuple[str, Tensor]]) -> tuple[Any, ...]:
        share = self._pool.transport.share
        return tuple(replica_chunks(named_tensors, self._weight_chunk_bytes, share, device=self._shared_device))

    def close(self) -> None:
        if self._is_open:
            self._is_open = False
            self._pool.close()

    def metrics(self) -> Mapping[str, float]:
        """How many replicas there are, and how many were started anew since the beginning."""
        return {
            "rollout/replicas": float(self._pool.num_live),
            "rollout/replica_restarts": float(self._pool.num_restarts),
        }

    def replicas(self) -> tuple[ReplicaInfo, ...]:
        """Where the replicas run."""
        return self._pool.infos()

    def _check_open(self) -> None:
        if not self._is_open:
            raise ClusterError("the replicas of the rollout engine are closed")

    def _check_ready(self) -> None:
        self._check_open()
        if not self._weights_whole:
            raise ModelError(
                "the replicas have no whole set of weights: call resume and update_weights before generate"
            )

    def _hand_out(self, queue: RequestQueue, batches: Mapping[int, _Batch], sampling: SamplingParams) -> None:
        """A chunk for every replica that is free."""
        for slot in self._pool.idle_slots():
            chunk = queue.take(slot.number, replicas=self._pool.num_live)
            if chunk is not None:
                prompts = batches[chunk.batch].prompts.select(chunk.positions)
                self._pool.hand_out(slot, chunk, prompts, sampling)

    def _check_progress(self, queue: RequestQueue) -> None:
        """Raises `ClusterError` instead of waiting for answers that nobody gives; never while the queue is right."""
        free = len(self._pool.idle_slots())
        if free and not self._pool.is_busy:
            raise ClusterError(
                f"all {free} replicas are free, but none of them may answer what is waiting ({queue.num_waiting} "
                "requests): this is a fault in rlkit, please report it"
            )

    def _take_in(
        self, done: Answered, queue: RequestQueue, batch: _Batch, sampling: SamplingParams, *, keep_going: bool
    ) -> None:
        """Keep answers; send what failed around again, in pieces, or give it up."""
        chunk = done.chunk
        if done.answers is not None:
            self._check_answers(done.answers, len(chunk.positions) * sampling.samples)
            batch.answers.append((chunk.positions, done.answers))
        elif done.lost:
            self._send_again(done, queue, batch, keep_going=keep_going)
        elif not keep_going:
            assert done.error is not None
            raise done.error
        elif len(chunk.requests) > 1:
            for half in chunk.halves():
                queue.put_back(half)
        else:
            assert done.error is not None
            self._give_up(chunk.requests[0], batch, reason_of(done.error))

    def _send_again(self, done: Answered, queue: RequestQueue, batch: _Batch, *, keep_going: bool) -> None:
        """A replica died over these prompts: others take them, in ever smaller pieces until the last attempt is made alone."""
        chunk, error = done.chunk, done.error
        assert error is not None
        for request in chunk.requests:
            request.attempts += 1
        attempts = max(request.attempts for request in chunk.requests)
        if len(chunk.requests) == 1 and attempts >= self._request_attempts:
            request = chunk.requests[0]
            fault = f"row {request.row_id} brought down {attempts} replicas and was given up: {reason_of(error)}"
            if not keep_going:
                raise RolloutError(fault)
            self._give_up(request, batch, fault)
            return
        alone = attempts >= self._request_attempts - 1
        for piece in chunk.pieces(1 if alone else math.ceil(math.sqrt(len(chunk.requests)))):
            queue.put_back(piece)

    def _give_up(self, request: Request, batch: _Batch, reason: str) -> None:
        for position in request.positions:
            batch.failed[position] = reason

    def _check_answers(self, answers: ReplicaAnswers, rows: int) -> None:
        if len(answers.lengths) != rows:
            raise RolloutError(f"a replica returned {len(answers.lengths)} answers where {rows} were asked for")
        if len(answers.lengths) and not answers.lengths.min():
            raise RolloutError("a replica returned an answer without tokens")
        if answers.policy_version != self._pool.state.version:
            raise RolloutError(
                f"a replica answered with weights of version {answers.policy_version}, not {self._pool.state.version}"
            )


def assembled(
    prompts: PromptBatch,
    answers: list[tuple[tuple[int, ...], ReplicaAnswers]],
    failed: Mapping[int, str],
    samples: int,
) -> AnsweredBatch:
    """Answers of several calls, each with the positions of its prompts in `prompts`, put in the order of `prompts`."""
    failures = tuple(FailedPrompt(prompts.prompts[position], failed[position]) for position in sorted(failed))
    if not answers:
        return AnsweredBatch(None, failures)
    parts = [part for _, part in answers]
    came = [position for positions, _ in answers for position in positions]
    rows_came = [position * samples + sample for position in came for sample in range(samples)]
    order = np.argsort(np.array(rows_came), kind="stable").tolist()
    kept = sorted(came)
    lengths = torch.from_numpy(np.concatenate([part.lengths for part in parts]))
    response_ids = Ragged(torch.from_numpy(np.concatenate([part.token_ids for part in parts])), lengths)
    mask = torch.from_numpy(np.concatenate([part.mask for part in parts]))
    given = [part.log_probs for part in parts if part.log_probs is not None]
    if given and len(given) < len(parts):
        raise RolloutError("only some of the replicas return log-probs")
    reasons = [reason for part in parts for reason in part.finish_reasons]
    rows = [position for position in kept for _ in range(samples)]
    prompt_ids = Ragged.from_rows([prompts.token_ids[position] for position in kept], dtype=torch.int64)
    groups = [number for number in range(len(kept)) for _ in range(samples)]
    rollouts = Rollouts(
        prompt_ids=prompt_ids.select(groups),
        response_ids=response_ids.select(order),
        response_mask=response_ids.with_values(mask).select(order),
        rollout_log_probs=response_ids.with_values(torch.from_numpy(np.concatenate(given))).select(order)
        if given
        else None,
        group_ids=torch.tensor(groups, dtype=torch.int64),
        finish_reasons=tuple(reasons[row] for row in order),
        policy_version=parts[0].policy_version,
        prompts=tuple(prompts.prompts[row] for row in rows),
    )
    return AnsweredBatch(rollouts, failures)
