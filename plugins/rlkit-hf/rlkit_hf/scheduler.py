"""Continuous batching: queue -> prefill beside the rows in progress -> one token a row and step -> finished rows out.

    waiting (first come, first in) --admit--> live --step, choose, record--> finished
        ^------------------ preempt, the newest first, when the budget is short ----'

A row that is put back keeps its tokens; they are prefilled with its prompt when it returns, and its random numbers follow
from its key and position, so its answer is the same.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from rlkit_hf.forward import Forward
from rlkit_hf.rows import Row
from rlkit_hf.sampling import RowSettings, choose_tokens, uniforms

ADMISSION_FRACTION = 1 / 16
"""When more wait than fit, they enter once this much of the rows has left: a pass costs something, however few enter."""

MEMORY = 256  # answers whose length is remembered to foresee that of the next


class NonFiniteLogitsError(Exception):
    """The model answered with NaN or infinite logits."""


@dataclass(eq=False)
class _Waiting:
    """Rows that begin with the same tokens: all samples of a prompt, or one that was put back."""

    token_ids: Sequence[int]
    rows: list[Row]

    def takes(self, row: Row) -> bool:
        """Whether a new row may enter with these: nothing is answered yet, and as much is foreseen for it."""
        first = self.rows[0]
        return not first.token_ids and (first.sampling.max_tokens, first.prompt_ids) == (
            row.sampling.max_tokens,
            row.prompt_ids,
        )


class Scheduler:
    """Runs rows of any settings side by side; what each answers does not depend on the others.

    max_rows         in progress at once
    budget_tokens    what the KV cache may hold; a single row may exceed it
    """

    def __init__(
        self, forward: Forward, *, vocabulary: int, max_rows: int, budget_tokens: int, device: torch.device
    ) -> None:
        self._forward = forward
        self._vocabulary = vocabulary
        self._max_rows = max_rows
        self._budget_tokens = budget_tokens
        self._device = device
        self._waiting: deque[_Waiting] = deque()
        self._live: dict[Row, None] = {}  # in the order of admission
        self._answer_lengths: deque[int] = deque(maxlen=MEMORY)
        self._settings: tuple[list[Row], RowSettings, Tensor] | None = None
        self.num_preemptions = 0

    @property
    def has_work(self) -> bool:
        return bool(self._waiting or self._live)

    @property
    def num_live(self) -> int:
        return len(self._live)

    @property
    def allocated_tokens(self) -> int:
        """Of the KV cache."""
        return self._forward.allocated_tokens

    def submit(self, rows: Sequence[Row]) -> None:
        """Queue rows that answer the same prompt; those that wait next to each other are prefilled once."""
        if self._waiting and self._waiting[-1].takes(rows[0]):
            self._waiting[-1].rows.extend(rows)
        else:
            self._waiting.append(_Waiting(rows[0].prompt_ids, list(rows)))

    @torch.inference_mode()
    def abort(self, rows: Iterable[Row]) -> None:
        """Forget rows, waiting or live."""
        gone = set(rows)
        live = [row for row in self._live if row in gone]
        self._leave(live)
        left = ((w, [row for row in w.rows if row not in gone]) for w in self._waiting)
        self._waiting = deque(_Waiting(w.token_ids, rows) for w, rows in left if rows)

    @torch.inference_mode()
    def release(self) -> None:
        """Free the KV cache. Rows in progress go back to the queue."""
        self._put_back(list(self._live))
        self._forward.clear()

    def forget_lengths(self) -> None:
        """Foresee answers as at the start, so that the next batches are composed as those of a new process."""
        self._answer_lengths.clear()

    def clear(self) -> None:
        """Forget everything."""
        self._waiting.clear()
        self._live.clear()
        self._settings = None
        self._forward.clear()

    @torch.inference_mode()
    def step(self) -> list[Row]:
        """One token for each live row and for those that enter; returns these rows."""
        if not self.has_work:
            return []
        self._make_room()
        rows = [cast(Row, row) for row in self._forward.order()]
        tokens = [row.last_token for row in rows]
        entered = self._admit()
        logits = self._forward.run(tokens)
        rows += entered
        self._choose(rows, logits)
        finished = [row for row in rows if row.finish_reason is not None]
        self._answer_lengths.extend(len(row.token_ids) for row in finished)
        self._leave(finished)
        return rows

    def _make_room(self) -> None:
        while self._live and not self._forward.make_room(force=len(self._live) == 1):
            newest = next(reversed(self._live))
            self._put_back([newest])
            self.num_preemptions += 1

    def _put_back(self, rows: Sequence[Row]) -> None:
        self._leave(rows)
        for row in reversed(rows):
            self._waiting.appendleft(_Waiting([*row.prompt_ids, *row.token_ids], [row]))

    def _leave(self, rows: Sequence[Row]) -> None:
        if not rows:
            return
        self._forward.remove(rows)
        for row in rows:
            del self._live[row]
            row.seen = None

    def _admit(self) -> list[Row]:
        """Let waiting rows enter, in order, as far as there is room; returns them."""
        entered: list[Row] = []
        if not self._waiting or (self._live and not self._forward.accepts_more):
            return entered
        if not self._worth_it():
            return entered
        usual = sum(self._answer_lengths) // len(self._answer_lengths) if self._answer_lengths else None
        room_tokens = self._budget_tokens - sum(self._foreseen(row, usual) for row in self._live)
        room_prefill = self._forward.max_prefill_tokens
        while self._waiting:
            first = self._waiting[0]
            alone = not self._live and not entered
            cost = self._foreseen(first.rows[0], usual)
            count = min(len(first.rows), self._max_rows - len(self._live), max(room_tokens // cost, int(alone)))
            if count < 1 or (len(first.token_ids) > room_prefill and entered):
                break
            if not self._forward.enter(first.token_ids, first.rows[:count], force=alone and count == 1):
                if not alone:
                    break
                count = 1
                self._forward.enter(first.token_ids, first.rows[:1], force=True)
            self._take(first, count)
            entered += first.rows[:count]
            room_tokens -= count * cost
            room_prefill -= len(first.token_ids)
        return entered

    def _take(self, first: _Waiting, count: int) -> None:
        self._waiting.popleft()
        if count < len(first.rows):
            self._waiting.appendleft(_Waiting(first.token_ids, first.rows[count:]))
        for row in first.rows[:count]:
            self._live[row] = None
            if row.sampling.repetition_penalty != 1:
                row.seen = torch.zeros(self._vocabulary, dtype=torch.bool, device=self._device)
                row.seen[torch.tensor([*row.prompt_ids, *row.token_ids], device=self._device)] = True

    def _worth_it(self) -> bool:
        """Whether everyone who waits could enter, or enough have left to make a larger pass pay."""
        room = self._max_rows - len(self._live)
        waiting = sum(len(w.rows) for w in self._waiting)
        return waiting <= room or room >= max(1, ADMISSION_FRACTION * self._max_rows)

    def _foreseen(self, row: Row, usual: int | None) -> int:
        """Tokens that a row will take of the budget when its answer is as long as answers were lately, `usual`."""
        produced, limit = len(row.token_ids), row.sampling.max_tokens
        answer = min(limit, max(limit // 2 if usual is None else usual, produced + 1))
        return self._forward.capacity_for(len(row.prompt_ids) + answer)

    def _choose(self, rows: list[Row], logits: Tensor) -> None:
        if self._settings is None or self._settings[0] != rows:
            params = [row.sampling for row in rows]
            settings = RowSettings.of(params, vocabulary=self._vocabulary, device=self._device)
            self._settings = rows, settings, torch.tensor([row.key for row in rows], dtype=torch.int64)
        _, settings, keys = self._settings
        uniform = uniforms(keys, torch.tensor([len(row.token_ids) for row in rows])).to(self._device)
        seen = [row.seen for row in rows if row.seen is not None]
        wanted = {number: row.top_log_probs for number, row in enumerate(rows) if row.top_log_probs}
        choice = choose_tokens(logits, settings, uniform, torch.stack(seen) if seen else None, wanted)
        for row, token, log_prob in zip(rows, choice.tokens.tolist(), choice.log_probs.tolist(), strict=True):
            if not math.isfinite(log_prob):
                raise NonFiniteLogitsError
            row.add(token, log_prob)
            if row.seen is not None:
                row.seen[token] = True
        for number, alternatives in choice.alternatives.items():
            rows[number].alternatives.append(alternatives)
