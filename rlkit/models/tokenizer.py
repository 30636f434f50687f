"""Loading the tokenizer that comes with a model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rlkit.errors import ModelError


def load_tokenizer(folder: Path, *, chat_template: str = "", trust_remote_code: bool = False) -> Any:
    """The tokenizer in `folder` (a `rlkit.protocols.Tokenizer`), with `chat_template` (a Jinja file) in place of its own.

    A tokenizer without a padding token pads with its end-of-sequence token. Raises `ModelError` when there is no
    tokenizer, or when it would need foreign code and `trust_remote_code` is off.
    """
    from transformers import AutoTokenizer

    template = _read_template(chat_template) if chat_template else None
    if not trust_remote_code:
        _refuse_foreign_code(folder)
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            str(folder), local_files_only=True, trust_remote_code=trust_remote_code, clean_up_tokenization_spaces=False
        )
    except Exception as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ModelError(f"no tokenizer could be loaded from '{folder}': {reason}") from error
    if template is not None:
        tokenizer.chat_template = template
    if tokenizer.pad_token_id is None and tokenizer.eos_token_id is not None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def _read_template(path: str) -> str:
    file = Path(path).expanduser()
    if not file.is_file():
        raise ModelError(f"chat template '{path}' does not exist; model.chat_template is the path of a Jinja file")
    return file.read_text(encoding="utf-8")


def _refuse_foreign_code(folder: Path) -> None:
    path = folder / "tokenizer_config.json"
    if not path.is_file():
        return
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelError(f"'{path}' is not valid JSON: {error}") from error
    if isinstance(config, dict) and "AutoTokenizer" in (config.get("auto_map") or {}):
        raise ModelError(
            f"the tokenizer in '{folder}' runs its own Python code (auto_map); "
            "read that code, then set model.trust_remote_code = true (--set model.trust_remote_code=true)"
        )
