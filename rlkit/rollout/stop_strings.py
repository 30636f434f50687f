"""Finding stop strings in answers that grow token by token."""

from __future__ import annotations

from collections.abc import Sequence

from rlkit.protocols import Tokenizer

CONTEXT_TOKENS = 4  # decoders treat the first tokens of a text specially (spaces, split characters)


class StopStrings:
    """An answer ends with the token that completes one of these strings.

    They are looked for in the answer alone (never across its beginning), special tokens included.
    """

    def __init__(self, stop: Sequence[str], tokenizer: Tokenizer) -> None:
        self._stop = tuple(stop)
        self._tokenizer = tokenizer
        # A string of n bytes can span n tokens at most.
        self._window = max(len(text.encode()) for text in stop) + CONTEXT_TOKENS

    def end(self, token_ids: Sequence[int]) -> bool:
        """Whether the last of the answer's tokens completes a stop string; asked for each token in turn."""
        text = self._tokenizer.decode(list(token_ids[-self._window :]), skip_special_tokens=False)
        return any(stop in text for stop in self._stop)
