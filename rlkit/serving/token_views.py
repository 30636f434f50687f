"""Tokens with log-probs as the two OpenAI formats show them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from rlkit.protocols import Tokenizer
from rlkit.serving.answer_text import TokenEntry
from rlkit.serving.detokenize import REPLACEMENT
from rlkit.serving.responses import ChatLogProbs, ChatTokenLogProb, CompletionLogProbs, TokenLogProb

CACHED_TOKENS = 65_536
SMALLEST_LOG_PROB = -9999.0
"""JSON has no infinity; a token that cannot come has this."""


class TokenViews:
    """Writes log-prob entries; the text of each token is decoded once."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._text = lru_cache(CACHED_TOKENS)(lambda token: tokenizer.decode([token], skip_special_tokens=False))
        added = getattr(tokenizer, "added_tokens_decoder", {})
        self.special_ids = frozenset(
            [*(number for number, token in added.items() if token.special), *getattr(tokenizer, "all_special_ids", ())]
        )

    def chat(self, entries: Sequence[TokenEntry], *, with_ids: bool) -> ChatLogProbs:
        return ChatLogProbs(content=[self._chat_entry(entry, with_ids=with_ids) for entry in entries])

    def completion(self, entries: Sequence[TokenEntry], *, with_alternatives: bool) -> CompletionLogProbs:
        return CompletionLogProbs(
            tokens=[self._text(entry.token_id) for entry in entries],
            token_logprobs=[_finite(entry.log_prob) for entry in entries],
            top_logprobs=[self._alternatives(entry) for entry in entries] if with_alternatives else None,
            text_offset=[entry.start for entry in entries],
        )

    def _alternatives(self, entry: TokenEntry) -> dict[str, float]:
        """By text; of two tokens with the same one the likelier counts."""
        shown: dict[str, float] = {}
        for token, log_prob in entry.alternatives:
            shown.setdefault(self._text(token), _finite(log_prob))
        return shown

    def _chat_entry(self, entry: TokenEntry, *, with_ids: bool) -> ChatTokenLogProb:
        text = self._text(entry.token_id)
        ids = {"token_id": entry.token_id} if with_ids else {}
        return ChatTokenLogProb(
            token=text,
            logprob=_finite(entry.log_prob),
            bytes=_bytes(text),
            top_logprobs=[self._one(token, log_prob) for token, log_prob in entry.alternatives],
            **ids,
        )

    def _one(self, token: int, log_prob: float) -> TokenLogProb:
        text = self._text(token)
        return TokenLogProb(token=text, logprob=_finite(log_prob), bytes=_bytes(text))


def _bytes(text: str) -> list[int] | None:
    return None if REPLACEMENT in text else list(text.encode())


def _finite(log_prob: float) -> float:
    return max(log_prob, SMALLEST_LOG_PROB)
