"""Text from tokens that arrive a few at a time: no character comes before it is whole."""

from __future__ import annotations

from collections.abc import Sequence

from rlkit.protocols import Tokenizer

REPLACEMENT = "\ufffd"
"""What decoders put where bytes are no character, or not yet."""
MAX_PARTIAL = 3
"""Bytes of a character whose last byte is missing; each may have a replacement of its own."""
CONTEXT_TOKENS = 8
"""Decoders treat the first tokens of a text specially (spaces, split characters), so this many stay in front."""


class IncrementalText:
    """Decodes one answer; the pieces together are the decoding of all its tokens, special ones left out.

    Only the newest tokens are decoded again, so the work for an answer grows with its length.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._window: list[int] = []
        self._sent = 0  # characters of the window's text that are out
        self._pending = 0  # tokens since the text last ended with a whole character
        self._mark = 0  # tokens of the window before its newest border that is certainly one between characters

    def add(self, token_ids: Sequence[int]) -> str:
        """The text that is certain now and was not before; may be empty."""
        self._window += token_ids
        text = self._decode(self._window)
        partial = min(len(text) - len(text.rstrip(REPLACEMENT)), MAX_PARTIAL)
        self._pending = self._pending + len(token_ids) if partial else 0
        certain = max(len(text) - partial, self._sent)
        if partial and self._pending <= MAX_PARTIAL:
            certain = self._sent  # some decoders replace whole characters too, when one behind them is not whole yet
        piece = text[self._sent : certain]
        self._sent = certain
        if not partial and len(self._window) - self._mark >= CONTEXT_TOKENS:
            self._forget()
        return piece

    def finish(self) -> str:
        """What was held back: the replacement of a character that never became whole."""
        text = self._decode(self._window)
        piece = text[self._sent :]
        self._sent = len(text)
        return piece

    def _forget(self) -> None:
        rest = self._window[self._mark :]
        text = self._decode(rest)
        if text:  # nothing but special tokens would be no context at all
            self._window, self._sent = rest, len(text)
        self._mark = len(self._window)

    def _decode(self, token_ids: Sequence[int]) -> str:
        return self._tokenizer.decode(token_ids, skip_special_tokens=True)
