"""Finding stop strings in answers that grow token by token."""

from __future__ import annotations

from collections.abc import Sequence

from rlkit.protocols import Tokenizer

CONTEXT_TOKENS = 4  # decoders treat the first tokens of a text specially (spaces, split characters)


class StopStrings:
    """Remembers the tail of each answer; an answer ends with the token that completes a stop string.

    Stop strings are looked for in the answer alone (never across its beginning), special tokens included.
    """

    def __init__(self, stop: Sequence[str], tokenizer: Tokenizer) -> None:
        self._stop = tuple(stop)
        self._tokenizer = tokenizer
        # A string of n bytes can span n tokens at most.
        self._window = max(len(text.encode()) for text in stop) + CONTEXT_TOKENS
        self._tails: dict[int, list[int]] = {}

    def completed_by(self, answers: Sequence[int], tokens: Sequence[int]) -> list[bool]:
        """For each answer number and its newest token: is a stop string complete now?"""
        tails = [self._tails.setdefault(answer, []) for answer in answers]
        for tail, token in zip(tails, tokens, strict=True):
            tail.append(token)
            del tail[: -self._window]
        texts = self._tokenizer.batch_decode(tails, skip_special_tokens=False)
        return [any(text in tail for text in self._stop) for tail in texts]
