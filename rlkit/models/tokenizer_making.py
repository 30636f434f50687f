"""Small tokenizers made on the spot, with a chat template that has one token for each role."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from rlkit.errors import ModelError

TokenizerKind = Literal["char", "byte", "bpe"]
TOKENIZER_KINDS: tuple[TokenizerKind, ...] = ("char", "byte", "bpe")

PAD, UNKNOWN, END = "<|pad|>", "<|unk|>", "<|end|>"
ROLES = ("<|system|>", "<|user|>", "<|assistant|>")
SPECIAL_TOKENS = (PAD, *ROLES, END)

CHAT_TEMPLATE = """\
{%- for message in messages -%}
{%- if message['role'] == 'assistant' -%}
{{- '<|assistant|>' -}}{%- generation -%}{{- message['content'] + '<|end|>' -}}{%- endgeneration -%}
{%- elif message['role'] in ['system', 'user'] -%}
{{- '<|' + message['role'] + '|>' + message['content'] + '<|end|>' -}}
{%- else -%}
{{- raise_exception('role must be system, user or assistant, got ' + message['role']) -}}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|assistant|>' -}}{%- endif -%}
"""
"""`<|user|>2+2=<|end|><|assistant|>4<|end|>`; the generation block is what an assistant mask covers, end token included."""

DEFAULT_BPE_TOKENS = 2048


def make_tokenizer(
    kind: TokenizerKind,
    *,
    data: Sequence[Path] = (),
    alphabet: str = "",
    vocab_size: int = 0,
    context_length: int,
) -> Any:
    """A transformers tokenizer: pad, role and end tokens, the chat template, and a vocabulary by `kind`.

    char  one token for each character of `alphabet` and of the text in `data`
    byte  one token for each of the 256 bytes
    bpe   byte-level pairs trained on `data` to `vocab_size` tokens (0: DEFAULT_BPE_TOKENS)
    """
    from transformers import PreTrainedTokenizerFast

    if alphabet and kind != "char":
        raise ModelError(f"an alphabet belongs to a char tokenizer, not to '{kind}'")
    if vocab_size and kind != "bpe":
        raise ModelError(f"the vocabulary of a {kind} tokenizer follows from its kind; --vocab-size belongs to bpe")
    if kind == "char":
        backend = _char_backend(sorted(set(alphabet).union(*read_texts(data))))
    elif kind == "byte":
        backend = _byte_backend()
    else:
        backend = _bpe_backend(data, vocab_size or DEFAULT_BPE_TOKENS)
    special = {"unk_token": UNKNOWN} if kind == "char" else {}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        eos_token=END,
        pad_token=PAD,
        additional_special_tokens=list(ROLES),
        model_max_length=context_length,
        clean_up_tokenization_spaces=False,
        **special,
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def read_texts(files: Sequence[Path]) -> Iterator[str]:
    """The text of each file: every string in JSON and JSONL, anything else as it is."""
    for file in files:
        try:
            content = file.read_text(encoding="utf-8")
        except FileNotFoundError as error:
            raise ModelError(f"tokenizer data '{file}' does not exist") from error
        except (UnicodeDecodeError, IsADirectoryError) as error:
            raise ModelError(f"tokenizer data '{file}' is not a UTF-8 text file; give .txt, .json or .jsonl") from error
        try:
            if file.suffix == ".jsonl":
                for line in content.splitlines():
                    if line.strip():
                        yield from _strings_in(json.loads(line))
            elif file.suffix == ".json":
                yield from _strings_in(json.loads(content))
            else:
                yield content
        except ValueError as error:
            raise ModelError(f"tokenizer data '{file}' is not valid JSON: {error}") from error


def _strings_in(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _strings_in(item)
    elif isinstance(value, list):
        for item in value:
            yield from _strings_in(item)


def _char_backend(characters: Sequence[str]) -> Any:
    from tokenizers import Tokenizer, decoders, models

    if not characters:
        raise ModelError(
            "a char tokenizer needs its characters: give --tokenizer-data FILE or --alphabet '0123456789+-= '"
        )
    tokens = [*SPECIAL_TOKENS, UNKNOWN, *characters]
    # Byte pairs without merges: every character is a token of its own.
    backend = Tokenizer(models.BPE({token: number for number, token in enumerate(tokens)}, [], unk_token=UNKNOWN))
    backend.decoder = decoders.Fuse()
    return backend


def _byte_backend() -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = [*SPECIAL_TOKENS, *alphabet]
    backend = Tokenizer(models.BPE({token: number for number, token in enumerate(tokens)}, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    return backend


def _bpe_backend(data: Sequence[Path], vocab_size: int) -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    if not data:
        raise ModelError("a bpe tokenizer is trained: give --tokenizer-data FILE (once or more)")
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    smallest = len(alphabet) + len(SPECIAL_TOKENS)
    if vocab_size < smallest:
        raise ModelError(f"--vocab-size {vocab_size} is too small for byte-level pairs: at least {smallest}")
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, special_tokens=list(SPECIAL_TOKENS), initial_alphabet=alphabet, show_progress=False
    )
    backend.train_from_iterator(read_texts(data), trainer)
    return backend
