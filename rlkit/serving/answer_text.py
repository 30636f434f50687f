"""From an engine's chunks of one answer to what a client sees of it: text, tokens with log-probs, why it ended."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rlkit.protocols import Tokenizer
from rlkit.serving.detokenize import IncrementalText
from rlkit.serving.errors import refused
from rlkit.serving.stop_text import StopText
from rlkit.types import CompletionChunk, FinishReason, TopLogProbs


@dataclass(frozen=True)
class TokenEntry:
    """One sampled token: its log-prob, alternatives (the likeliest first), and the character it begins at."""

    token_id: int
    log_prob: float
    alternatives: TopLogProbs
    start: int


@dataclass(frozen=True)
class Piece:
    """What one chunk adds. token_ids: all that were sampled; entries: those with log-probs that may be shown."""

    text: str
    token_ids: tuple[int, ...]
    entries: tuple[TokenEntry, ...]
    finish_reason: FinishReason | None


class AnswerText:
    """Puts one answer together. Text ends before the first stop string, and no piece ever holds a part of one.

    entries are made `with_log_probs` only, and cover the tokens that the text is made of; `every_token` covers the ones
    that are not seen too (end of sequence, special tokens, the stop string).
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        stop: Sequence[str],
        *,
        with_log_probs: bool = False,
        every_token: bool = False,
        special_ids: frozenset[int] = frozenset(),
    ) -> None:
        self._decoded = IncrementalText(tokenizer)
        self._stop = StopText(stop)
        self._with_log_probs = with_log_probs
        self._every_token = every_token
        self._special_ids = special_ids
        self._decoded_length = 0
        self._shown_length = 0
        self._waiting: list[TokenEntry] = []
        self.num_tokens = 0
        self.finished = False

    def add(self, chunk: CompletionChunk) -> Piece:
        """What `chunk` adds. A stop string that the engine has not noticed finishes the answer as well."""
        text = ""
        if self._with_log_probs:
            for number, token_id in enumerate(chunk.token_ids):
                self._remember(chunk, number, token_id)
                text += self._decode((token_id,))
        else:
            text = self._decode(chunk.token_ids)
        self.num_tokens += len(chunk.token_ids)
        reason = chunk.finish_reason
        if reason is not None:
            text += self._stop.add(self._decoded.finish())
            text += self._stop.finish()
        if self._stop.stopped:
            reason = "stop"
        self._shown_length += len(text)
        self.finished = reason is not None
        return Piece(text, chunk.token_ids, self._release(), reason)

    def _decode(self, token_ids: Sequence[int]) -> str:
        decoded = self._decoded.add(token_ids)
        self._decoded_length += len(decoded)
        return self._stop.add(decoded)

    def _remember(self, chunk: CompletionChunk, number: int, token_id: int) -> None:
        if token_id in self._special_ids and not self._every_token:
            return
        if not chunk.log_probs:
            raise refused("this engine gives no log-probs", param="logprobs", code="unsupported_parameter")
        alternatives = chunk.top_log_probs[number] if chunk.top_log_probs else ()
        self._waiting.append(TokenEntry(token_id, chunk.log_probs[number], alternatives, self._decoded_length))

    def _release(self) -> tuple[TokenEntry, ...]:
        """Entries whose text is out; those of text that never comes out (a stop string) are never released."""
        count = len(self._waiting)
        if not self._every_token:
            count = sum(entry.start < self._shown_length for entry in self._waiting)
        released, self._waiting = self._waiting[:count], self._waiting[count:]
        return tuple(released)
