"""Everything that `rlkit models inspect` tells about a model folder, without torch and without reading a weight."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlkit.errors import ModelError
from rlkit.models.registry import installed_architectures
from rlkit.models.safetensors_io import weight_files
from rlkit.models.shape import ModelShape, read_config_json, read_shape


@dataclass(frozen=True)
class TokenizerFacts:
    """num_tokens counts added tokens; None where tokenizer.json does not say."""

    class_name: str
    num_tokens: int | None
    eos_token: str
    pad_token: str
    has_chat_template: bool


@dataclass(frozen=True)
class ModelDescription:
    """family is the plugin that lists the architecture; empty when none does. files maps weight files to bytes."""

    folder: Path
    family: str
    shape: ModelShape
    files: Mapping[str, int]
    tokenizer: TokenizerFacts | None
    needs_own_code: bool


def describe_model(folder: Path) -> ModelDescription:
    """Raises `ModelError` for a damaged or incomplete folder; a missing tokenizer is described as None."""
    shape = read_shape(folder)
    families = [
        name for name, architectures in installed_architectures().items() if shape.architecture in architectures
    ]
    return ModelDescription(
        folder=folder,
        family=", ".join(sorted(families)),
        shape=shape,
        files={file.name: file.stat().st_size for file in weight_files(folder)},
        tokenizer=_tokenizer_facts(folder),
        needs_own_code=bool(read_config_json(folder).get("auto_map")),
    )


def _tokenizer_facts(folder: Path) -> TokenizerFacts | None:
    config = _json(folder / "tokenizer_config.json")
    backend = _json(folder / "tokenizer.json")
    if not config and not backend:
        return None
    return TokenizerFacts(
        class_name=str(config.get("tokenizer_class", "unknown")),
        num_tokens=_num_tokens(backend),
        eos_token=_token(config.get("eos_token")),
        pad_token=_token(config.get("pad_token")),
        has_chat_template=bool(config.get("chat_template"))
        or (folder / "chat_template.jinja").is_file()
        or (folder / "chat_template.json").is_file(),
    )


def _json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelError(f"'{path}' is not valid JSON: {error}") from error
    return content if isinstance(content, dict) else {}


def _num_tokens(backend: Mapping[str, Any]) -> int | None:
    vocabulary = backend.get("model", {}).get("vocab")
    if vocabulary is None:
        return None
    tokens = set(vocabulary) if isinstance(vocabulary, dict) else {entry[0] for entry in vocabulary}
    return len(tokens | {added["content"] for added in backend.get("added_tokens", ())})


def _token(value: Any) -> str:
    """Tokens are written as a string or as an object with a content."""
    return str(value.get("content", "")) if isinstance(value, dict) else str(value or "")
