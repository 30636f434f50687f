"""The decoding loop: queue -> prefill -> one token a row and step -> finished rows out, waiting prompts in.

queue (longest prompts first) --admit--> live rows --step, choose, record--> finished rows leave by compaction
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from rlkit.types import FinishReason, Ragged, SamplingParams
from rlkit_hf.forward import Forward
from rlkit_hf.sampling import choose_tokens, uniforms
from rlkit_hf.stopping import StopStrings

COMPACTION_FRACTION = 0.25
"""Finished rows are removed when they are this much of the batch: the copy costs about what one step reads."""

ADMISSION_FRACTION = 0.25
"""Waiting prompts enter when this much of the batch is free: a prefill for a few rows is wasteful."""

_RUNNING, _STOP, _LENGTH = 0, 1, 2
_REASONS: tuple[FinishReason, ...] = ("abort", "stop", "length")


@dataclass(frozen=True)
class Request:
    """One prompt to be answered `samples` times; its answers are numbered from `first_answer`."""

    token_ids: Sequence[int]
    samples: int
    first_answer: int


@dataclass(frozen=True, eq=False)
class Answers:
    """token_ids (ragged int64), log_probs (ragged float32, nats) and finish reasons, by answer number."""

    token_ids: Ragged
    log_probs: Ragged
    finish_reasons: tuple[FinishReason, ...]


@dataclass(eq=False)
class _LiveRows:
    """answer, keys, produced, token: [B] int64. active [B] bool: not finished. seen [B, V] bool or None."""

    answer: Tensor
    keys: Tensor
    produced: Tensor
    token: Tensor
    active: Tensor
    seen: Tensor | None

    def select(self, rows: Tensor) -> _LiveRows:
        chosen: dict[str, Any] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            chosen[field.name] = None if value is None else value[rows]
        return _LiveRows(**chosen)

    def followed_by(self, other: _LiveRows) -> _LiveRows:
        joined: dict[str, Any] = {}
        for field in fields(self):
            mine, theirs = getattr(self, field.name), getattr(other, field.name)
            joined[field.name] = None if mine is None else torch.cat([mine, theirs])
        return _LiveRows(**joined)


class DecodeLoop:
    """Answers requests with one set of sampling parameters; used once."""

    def __init__(
        self,
        forward: Forward,
        sampling: SamplingParams,
        keys: Tensor,
        *,
        stop_ids: Sequence[int],
        stop_strings: StopStrings | None,
        vocabulary: int,
        max_batch_tokens: int,
        device: torch.device,
    ) -> None:
        self._forward = forward
        self._sampling = sampling
        self._keys = keys.to(device)
        self._stop_ids = torch.tensor(sorted(stop_ids), dtype=torch.int64, device=device)
        self._stop_strings = stop_strings
        self._vocabulary = vocabulary
        self._max_batch_tokens = max_batch_tokens
        self._device = device
        self._finish = torch.zeros(len(keys), dtype=torch.int8, device=device)
        self._record: list[tuple[Tensor, Tensor, Tensor]] = []
        self._live: _LiveRows | None = None
        self._num_active = 0

    def run(self, requests: Sequence[Request]) -> Answers:
        """All answers. Requests with equally long prompts side by side are fastest; the longest must come first."""
        queue = list(reversed(requests))
        row_tokens = max((len(request.token_ids) for request in requests), default=0) + self._sampling.max_tokens
        capacity = max(1, self._max_batch_tokens // row_tokens) if requests else 0
        while queue or self._num_active:
            if queue and self._may_admit(capacity):
                self._compact()
                self._admit(_take(queue, capacity - self._num_active, may_split=self._num_active == 0))
            elif self._num_finished() > COMPACTION_FRACTION * self._num_rows():
                self._compact()
            if self._num_active:
                self._step()
        return self._collect()

    def _num_rows(self) -> int:
        return 0 if self._live is None else int(self._live.answer.shape[0])

    def _num_finished(self) -> int:
        return self._num_rows() - self._num_active

    def _may_admit(self, capacity: int) -> bool:
        if self._num_active == 0:
            return True
        return self._forward.accepts_more and capacity - self._num_active >= max(1, ADMISSION_FRACTION * capacity)

    def _compact(self) -> None:
        if self._live is None or self._num_finished() == 0:
            return
        if self._num_active == 0:
            self._live = None
            return
        rows = self._live.active.nonzero()[:, 0]
        self._forward.select(rows)
        self._live = self._live.select(rows)

    def _admit(self, requests: Sequence[Request]) -> None:
        """Prefill `requests` and choose the first token of each of their rows."""
        if not requests:
            return
        prompts = [request.token_ids for request in requests]
        answer = torch.cat([torch.arange(r.first_answer, r.first_answer + r.samples) for r in requests]).to(
            self._device
        )
        if self._live is None:
            self._forward.clear()
        logits = self._forward.add(prompts, [request.samples for request in requests])
        rows = _LiveRows(
            answer=answer,
            keys=self._keys[answer],
            produced=torch.zeros_like(answer),
            token=torch.zeros_like(answer),
            active=torch.ones_like(answer, dtype=torch.bool),
            seen=self._seen_in(requests),
        )
        self._choose(rows, logits)
        self._live = rows if self._live is None else self._live.followed_by(rows)
        self._num_active = int(self._live.active.sum())

    def _seen_in(self, requests: Sequence[Request]) -> Tensor | None:
        if self._sampling.repetition_penalty == 1:
            return None
        seen = torch.zeros(len(requests), self._vocabulary, dtype=torch.bool)
        for row, request in enumerate(requests):
            seen[row, torch.tensor(request.token_ids)] = True
        return seen.repeat_interleave(torch.tensor([request.samples for request in requests]), dim=0).to(self._device)

    def _step(self) -> None:
        assert self._live is not None
        logits = self._forward.step(self._live.token)
        self._choose(self._live, logits)
        self._num_active = int(self._live.active.sum())

    def _choose(self, rows: _LiveRows, logits: Tensor) -> None:
        """Choose, record and judge one token for each active row of `rows`, in place."""
        tokens, log_probs = choose_tokens(logits, self._sampling, uniforms(rows.keys, rows.produced), rows.seen)
        active = rows.active
        self._record.append((rows.answer[active], tokens[active], log_probs[active]))
        rows.produced = rows.produced + 1
        rows.token = tokens
        if rows.seen is not None:
            rows.seen.scatter_(1, tokens[:, None], True)
        stopped = torch.isin(tokens, self._stop_ids)
        if self._stop_strings is not None:
            answers, newest, _ = self._record[-1]
            completed = self._stop_strings.completed_by(answers.tolist(), newest.tolist())
            stopped[active] |= torch.tensor(completed, dtype=torch.bool, device=self._device)
        stopped &= active
        full = active & ~stopped & (rows.produced >= self._sampling.max_tokens)
        self._finish[rows.answer[stopped]] = _STOP
        self._finish[rows.answer[full]] = _LENGTH
        rows.active = active & ~stopped & ~full

    def _collect(self) -> Answers:
        """The recorded tokens in order of answers: a stable sort keeps each answer's tokens in order of time."""
        num_answers = int(self._finish.shape[0])
        answer = _joined([entry[0] for entry in self._record], torch.int64)
        order = torch.argsort(answer, stable=True)
        lengths = torch.bincount(answer, minlength=num_answers).cpu()
        tokens = _joined([entry[1] for entry in self._record], torch.int64)[order].cpu()
        log_probs = _joined([entry[2] for entry in self._record], torch.float32)[order].cpu()
        reasons = tuple(_REASONS[code] for code in self._finish.tolist())
        return Answers(Ragged(tokens, lengths), Ragged(log_probs, lengths), reasons)


def _joined(parts: Sequence[Tensor], dtype: torch.dtype) -> Tensor:
    return torch.cat(list(parts)) if parts else torch.zeros(0, dtype=dtype)


def _take(queue: list[Request], room: int, *, may_split: bool) -> list[Request]:
    """Requests from the end of `queue` with at most `room` answers together; one that alone is too large is split."""
    taken: list[Request] = []
    while queue and queue[-1].samples <= room:
        taken.append(queue.pop())
        room -= taken[-1].samples
    if not taken and queue and may_split:
        whole = queue.pop()
        taken.append(Request(whole.token_ids, room, whole.first_answer))
        queue.append(Request(whole.token_ids, whole.samples - room, whole.first_answer + room))
    return taken
