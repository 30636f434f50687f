"""Making a new model: a real architecture with random weights, and a tokenizer of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rlkit.errors import ModelError
from rlkit.models.shape import ModelShape, read_shape


def create_model(
    folder: Path,
    *,
    family: str,
    size: str = "tiny",
    overrides: Mapping[str, Any] | None = None,
    tokenizer: str = "byte",
    tokenizer_data: Sequence[Path] = (),
    alphabet: str = "",
    vocab_size: int = 0,
    seed: int = 0,
) -> ModelShape:
    """Write config, random weights (float32) and tokenizer to `folder`, as `AutoModelForCausalLM` and `AutoTokenizer` open them.

    family     model family plugin; size one of its presets; overrides keys of its transformers config
    tokenizer  char, byte or bpe (see `make_tokenizer`), or the path of a folder with a tokenizer
    seed       the same seed and sizes give the same weights

    The vocabulary is the tokenizer's unless `overrides` sets `vocab_size` (at least as large). Raises `ModelError` when
    the folder is in use or the sizes do not fit.
    """
    import torch

    from rlkit.models.causal import save_model
    from rlkit.models.registry import build_family

    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ModelError(f"'{folder}' exists and is not empty; choose another folder or remove it")
    overrides = dict(overrides or {})
    chosen = build_family(family)
    if not chosen.presets():
        raise ModelError(f"model family '{family}' makes no new models; choose another, such as qwen3 or llama")
    config = chosen.create_config(size, overrides)
    made = _tokenizer(tokenizer, tokenizer_data, alphabet, vocab_size, config.max_position_embeddings)
    if config.vocab_size < len(made) and "vocab_size" in overrides:
        raise ModelError(f"vocab_size = {config.vocab_size} is smaller than the tokenizer's {len(made)} tokens")
    if "vocab_size" not in overrides:
        config.vocab_size = len(made)
    config.bos_token_id, config.eos_token_id, config.pad_token_id = (
        made.bos_token_id,
        made.eos_token_id,
        made.pad_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = chosen.build(config, head="causal_lm", dtype=torch.float32, device="cpu")
    folder.mkdir(parents=True, exist_ok=True)
    save_model(chosen.export_weights(module), module.config, folder)
    made.save_pretrained(folder)
    return read_shape(folder)


def _tokenizer(kind: str, data: Sequence[Path], alphabet: str, vocab_size: int, context_length: int) -> Any:
    from rlkit.models.locate import locate_tokenizer
    from rlkit.models.tokenizer import load_tokenizer
    from rlkit.models.tokenizer_making import TOKENIZER_KINDS, make_tokenizer

    for known in TOKENIZER_KINDS:
        if kind == known:
            return make_tokenizer(
                known, data=data, alphabet=alphabet, vocab_size=vocab_size, context_length=context_length
            )
    if data or alphabet or vocab_size:
        raise ModelError(
            f"'{kind}' is a finished tokenizer: tokenizer data, alphabet and vocabulary size are for {', '.join(TOKENIZER_KINDS)}"
        )
    if not Path(kind).exists() and "/" not in kind:
        raise ModelError(f"tokenizer '{kind}' is neither {', '.join(TOKENIZER_KINDS)} nor a folder with a tokenizer")
    return load_tokenizer(locate_tokenizer(kind))
