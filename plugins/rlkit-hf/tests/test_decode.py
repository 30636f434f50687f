"""The loop on a fake model whose next token follows from the row's content, so that every mix-up of rows shows."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from rlkit_hf.decode import DecodeLoop, Request
from rlkit_hf.sampling import answer_keys

from rlkit.types import SamplingParams

VOCABULARY, END = 11, 0


class CountingForward:
    """Logits prefer (last token + prompt's first token) mod VOCABULARY; remembers how it was used."""

    def __init__(self, *, accepts_more: bool) -> None:
        self.accepts_more = accepts_more
        self.rows: list[tuple[int, int]] = []  # first token of the prompt, last token
        self.batches: list[int] = []
        self.prefills: list[int] = []
        self.adds_with_rows = 0

    def add(self, prompts: Sequence[Sequence[int]], repeats: Sequence[int]) -> torch.Tensor:
        self.prefills.append(len(prompts))
        self.adds_with_rows += bool(self.rows)
        added = [(p[0], p[-1]) for p, n in zip(prompts, repeats, strict=True) for _ in range(n)]
        self.rows += added
        self.batches.append(len(self.rows))
        return self._logits(added)

    def step(self, tokens: torch.Tensor) -> torch.Tensor:
        assert tokens.shape[0] == len(self.rows)
        self.rows = [(first, token) for (first, _), token in zip(self.rows, tokens.tolist(), strict=True)]
        self.batches.append(len(self.rows))
        return self._logits(self.rows)

    def select(self, rows: torch.Tensor) -> None:
        self.rows = [self.rows[row] for row in rows.tolist()]

    def clear(self) -> None:
        self.rows = []

    def _logits(self, rows: list[tuple[int, int]]) -> torch.Tensor:
        scores = torch.zeros(len(rows), VOCABULARY)
        for number, (first, last) in enumerate(rows):
            scores[number, (first + last) % VOCABULARY] = 9.0
        return scores


def expected_answer(prompt: Sequence[int], max_tokens: int) -> list[int]:
    answer: list[int] = []
    last = prompt[-1]
    while len(answer) < max_tokens and (not answer or answer[-1] != END):
        last = (prompt[0] + last) % VOCABULARY
        answer.append(last)
    return answer


PROMPTS = [[3, 1, 4], [1, 5], [9, 2, 6, 5, 3], [5], [8, 9], [7, 9, 3], [2, 3], [8, 4, 6]]


@pytest.mark.parametrize("accepts_more", [True, False])
@pytest.mark.parametrize("max_batch_tokens", [1, 40, 100, 10_000])
def test_every_answer_reaches_its_row(accepts_more: bool, max_batch_tokens: int) -> None:
    samples, max_tokens = 3, 6
    forward = CountingForward(accepts_more=accepts_more)
    requests = [Request(prompt, samples, samples * row) for row, prompt in enumerate(PROMPTS)]
    requests.sort(key=lambda request: -len(request.token_ids))
    loop = DecodeLoop(
        forward,
        SamplingParams(max_tokens=max_tokens, temperature=0.0, samples=samples),
        answer_keys(0, [0] * 24, [0] * 24),
        stop_ids=[END],
        stop_strings=None,
        vocabulary=VOCABULARY,
        max_batch_tokens=max_batch_tokens,
        device=torch.device("cpu"),
    )
    answers = loop.run(requests)
    expected = [expected_answer(prompt, max_tokens) for prompt in PROMPTS for _ in range(samples)]
    assert [row.tolist() for row in answers.token_ids.rows()] == expected
    assert list(answers.finish_reasons) == ["stop" if answer[-1] == END else "length" for answer in expected]
    assert answers.log_probs.lengths.tolist() == answers.token_ids.lengths.tolist()
    capacity = max(1, max_batch_tokens // (5 + max_tokens))
    assert max(forward.batches) <= capacity
    if capacity >= samples:
        assert sum(forward.prefills) == len(PROMPTS)  # each prompt once
    if max_batch_tokens == 100:
        assert (forward.adds_with_rows > 0) == accepts_more
