"""Architectures whose parameters transformers lays out differently in memory than on disk (fused experts, mostly).

transformers converts whole state dicts, so these models are loaded and exported in one piece: a second copy of the
weights exists for the duration.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from rlkit.errors import ModelError
from rlkit.models.value_model import ValueModel


def needs_conversion(module: nn.Module) -> bool:
    """Whether names or shapes on disk differ from those of the module."""
    from transformers.conversion_mapping import get_model_conversion_mapping
    from transformers.core_model_loading import PrefixChange

    backbone: Any = module.model if isinstance(module, ValueModel) else module
    mapping = get_model_conversion_mapping(backbone, add_legacy=False)
    return any(not isinstance(transform, PrefixChange) for transform in mapping)


def assign_converted(module: nn.Module, named_tensors: Iterable[tuple[str, Tensor]], *, where: str) -> None:
    """Let transformers convert the tensors, then copy the result into `module` in place."""
    language_model = _language_model(module)
    state_dict = dict(named_tensors)
    try:
        converted, report = type(language_model).from_pretrained(
            None,
            config=language_model.config,
            state_dict=state_dict,
            dtype=language_model.dtype,
            output_loading_info=True,
        )
    except Exception as error:
        raise ModelError(f"the tensors of {where} do not fit {type(language_model).__name__}: {error}") from error
    for problem, word in (
        ("missing_keys", "lacks"),
        ("unexpected_keys", "has unknown"),
        ("mismatched_keys", "has misshapen"),
    ):
        if report[problem]:
            raise ModelError(
                f"{where} {word} tensor '{sorted(report[problem], key=str)[0]}' for {type(language_model).__name__}"
            )
    with torch.no_grad():
        source = converted.state_dict()
        for name, target in language_model.state_dict(keep_vars=True).items():
            target.copy_(source[name])


def export_converted(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Names and tensors as on disk, tied ones once."""
    from transformers.core_model_loading import revert_weight_conversion

    language_model = _language_model(module)
    unique: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, tensor in language_model.state_dict(keep_vars=True).items():
        if id(tensor) not in seen:
            seen.add(id(tensor))
            unique[name] = tensor.detach()
    yield from revert_weight_conversion(language_model, unique).items()


def _language_model(module: nn.Module) -> Any:
    if isinstance(module, ValueModel):
        raise ModelError(
            f"a value head on {type(module.model).__name__} is not supported: its parameters are stored in another layout; "
            "choose a dense model as critic, or an algorithm without one (algorithm.advantage = grpo)"
        )
    return module
