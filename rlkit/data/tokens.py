"""Texts to token ids, many at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rlkit.errors import DataError
from rlkit.protocols.tokenizer import Tokenizer

Span = tuple[int, int]
"""Characters [start, end) of a text."""

TEXTS_AT_ONCE = 4096
"""Texts handed to the tokenizer in one call: enough for its threads, small enough for memory."""


def encode_texts(tokenizer: Tokenizer, texts: Sequence[str]) -> list[list[int]]:
    """Token ids of each text, nothing added. Equal texts are encoded once."""
    unique = list(dict.fromkeys(texts))
    ids: dict[str, list[int]] = {}
    for start in range(0, len(unique), TEXTS_AT_ONCE):
        chunk = unique[start : start + TEXTS_AT_ONCE]
        ids.update(zip(chunk, _encode_chunk(tokenizer, chunk), strict=True))
    return [ids[text] for text in texts]


def encode_opening(tokenizer: Tokenizer, text: str) -> list[int]:
    """Token ids of the plain text that opens a sequence, behind the tokenizer's beginning-of-sequence token if it has one.

    An end-of-sequence token that the tokenizer puts behind every text is left out: the text is to be continued.
    """
    ids = list(tokenizer.encode(text, add_special_tokens=True))
    plain = list(tokenizer.encode(text, add_special_tokens=False))
    if ids and ids[-1] == tokenizer.eos_token_id and (not plain or plain[-1] != tokenizer.eos_token_id):
        ids.pop()
    return ids


def encode_continuation(tokenizer: Tokenizer, text: str) -> list[int]:
    """Token ids of a text that goes on a sequence: nothing is put in front of it.

    Raises `DataError` for a tokenizer that puts a space in front of every text and cannot be kept from it.
    """
    if _joins_pieces(tokenizer):
        return list(tokenizer.encode(text, add_special_tokens=False))
    # Behind an anchor the text is no beginning any more.
    anchor = list(tokenizer.encode("x", add_special_tokens=False))
    ids = list(tokenizer.encode(f"x{text}", add_special_tokens=False))
    if ids[: len(anchor)] != anchor:
        raise DataError(
            "the tokenizer puts a space in front of every text, so what stands between two turns cannot be encoded; "
            "use its fast version (tokenizer.json)"
        )
    return ids[len(anchor) :]


def encode_with_spans(
    tokenizer: Tokenizer, texts: Sequence[str], spans: Sequence[Sequence[Span]]
) -> list[tuple[list[int], list[bool]]]:
    """Token ids of each text, and which of them lie in the text's spans (in order, not overlapping).

    No token lies on both sides of a span's border: the text is cut there and its pieces are encoded on their own, as at
    generation time, where the prompt is encoded alone and the answer is sampled behind it. Only tokenizers that put a
    space in front of every text (older sentencepiece ones) encode the text whole; a token on a border is then inside.
    """
    if not _joins_pieces(tokenizer):
        return _encode_whole(tokenizer, texts, spans)
    pieces: list[str] = []
    inside: list[bool] = []
    counts: list[int] = []
    for text, text_spans in zip(texts, spans, strict=True):
        before = len(pieces)
        position = 0
        for start, end in text_spans:
            pieces += [text[position:start], text[start:end]]
            inside += [False, True]
            position = end
        pieces.append(text[position:])
        inside.append(False)
        counts.append(len(pieces) - before)
    encoded = encode_texts(tokenizer, pieces)
    results: list[tuple[list[int], list[bool]]] = []
    first = 0
    for count in counts:
        ids: list[int] = []
        mask: list[bool] = []
        for piece_ids, is_inside in zip(encoded[first : first + count], inside[first : first + count], strict=True):
            ids += piece_ids
            mask += [is_inside] * len(piece_ids)
        results.append((ids, mask))
        first += count
    return results


def _joins_pieces(tokenizer: Tokenizer) -> bool:
    """Two pieces encoded apart and joined say the same as the text in one: nothing is put in front of each."""
    first, second, whole = (list(tokenizer.encode(text, add_special_tokens=False)) for text in ("x", "y", "xy"))
    return tokenizer.decode(first + second, skip_special_tokens=False) == tokenizer.decode(
        whole, skip_special_tokens=False
    )


def _encode_whole(
    tokenizer: Any, texts: Sequence[str], spans: Sequence[Sequence[Span]]
) -> list[tuple[list[int], list[bool]]]:
    if not getattr(tokenizer, "is_fast", False):
        raise DataError(
            "the tokenizer puts a space in front of every text and cannot say which characters a token covers; "
            "use its fast version (tokenizer.json)"
        )
    results: list[tuple[list[int], list[bool]]] = []
    for start in range(0, len(texts), TEXTS_AT_ONCE):
        chunk = list(texts[start : start + TEXTS_AT_ONCE])
        encoded = tokenizer(chunk, add_special_tokens=False, return_offsets_mapping=True)
        for ids, offsets, text_spans in zip(
            encoded["input_ids"], encoded["offset_mapping"], spans[start : start + TEXTS_AT_ONCE], strict=True
        ):
            results.append((list(ids), [_touches(offset, text_spans) for offset in offsets]))
    return results


def _touches(offset: Span, spans: Sequence[Span]) -> bool:
    return any(offset[0] < end and offset[1] > start for start, end in spans)


def _encode_chunk(tokenizer: Any, texts: list[str]) -> list[list[int]]:
    if callable(tokenizer):
        return [list(ids) for ids in tokenizer(texts, add_special_tokens=False)["input_ids"]]
    return [list(tokenizer.encode(text, add_special_tokens=False)) for text in texts]
