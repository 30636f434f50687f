"""What tokens read like: the run's tokenizer, looked for where the run has left it. Never asks the network."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlkit.reports.run_data import RunData
from rlkit.tracking.run_folder import RunFolder

if TYPE_CHECKING:
    from tokenizers import Tokenizer

FILE_NAME = "tokenizer.json"
WORD_START = "\u2581"
"""SentencePiece's mark of a space before a word, which decoding a single token loses."""
REPLACEMENT = "\ufffd"


def token_texts(run: RunData, ids: Collection[int]) -> dict[int, str]:
    """Text of each id; empty when no tokenizer of the run can be found or read: the ids have to do then."""
    tokenizer = _load(run) if ids else None
    if tokenizer is None:
        return {}
    size = tokenizer.get_vocab_size(with_added_tokens=True)
    return {number: _text(tokenizer, number) for number in sorted(ids) if 0 <= number < size}


def _text(tokenizer: Tokenizer, number: int) -> str:
    piece = tokenizer.id_to_token(number)
    if piece is None:
        return f"[{number}]"
    text: str = tokenizer.decode([number], skip_special_tokens=False)
    if REPLACEMENT in text and piece != REPLACEMENT:
        # A part of a character: its name in the vocabulary says more than a question mark.
        return f"\u2039{piece}\u203a"
    if not text:
        return str(piece).replace(WORD_START, " ")
    return f" {text}" if piece.startswith(WORD_START) and not text.startswith(" ") else text


def _load(run: RunData) -> Tokenizer | None:
    try:
        from tokenizers import Tokenizer
    except ImportError:
        return None
    for path in _candidates(run):
        try:
            return Tokenizer.from_file(str(path))
        except Exception:  # the library raises bare Exceptions for whatever is wrong with a file
            continue
    return None


def _candidates(run: RunData) -> Iterator[Path]:
    """Existing tokenizer files, the most telling first: another tokenizer than the model's own, the model's, the run's copies."""
    model: Any = run.config.get("model")
    named = [model.get("tokenizer"), model.get("path")] if isinstance(model, dict) else []
    folder = RunFolder(run.folder)
    for name in filter(None, named):
        places = [Path(str(name)).expanduser(), *(parent / str(name) for parent in run.folder.resolve().parents[:3])]
        yield from (place / FILE_NAME for place in places if (place / FILE_NAME).is_file())
        cached = _in_hub_cache(str(name))
        if cached is not None:
            yield cached
    copies = [folder.model, *sorted(folder.checkpoints.glob("step_*"), reverse=True)[:1]]
    for copy in copies:
        yield from sorted(copy.rglob(FILE_NAME))


def _in_hub_cache(name: str) -> Path | None:
    try:
        from huggingface_hub import try_to_load_from_cache

        found = try_to_load_from_cache(name, FILE_NAME)
    except Exception:  # not the name of anything on the Hub
        return None
    return Path(found) if isinstance(found, str) else None
