"""Architectures whose parameters transformers lays out differently in memory than on disk (fused experts, mostly).

transformers converts whole state dicts. Tensors are only ever fused within a layer, so here its converters are given one
layer at a time, and no second copy of the weights ever exists.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Any

import torch
from torch import Tensor, nn

from rlkit.errors import ModelError
from rlkit.models.sharded import copy_into, gathered
from rlkit.models.value_model import ValueModel


def needs_conversion(module: nn.Module) -> bool:
    """Whether names or shapes on disk differ from those of the module."""
    from transformers.conversion_mapping import get_model_conversion_mapping
    from transformers.core_model_loading import PrefixChange

    backbone: Any = module.model if isinstance(module, ValueModel) else module
    mapping = get_model_conversion_mapping(backbone, add_legacy=False)
    return any(not isinstance(transform, PrefixChange) for transform in mapping)


def assign_converted(module: nn.Module, named_tensors: Iterable[tuple[str, Tensor]], *, where: str) -> None:
    """Let transformers convert the tensors, layer by layer, and copy the results into `module` in place.

    A layer is converted when all of it has arrived, which for tensors in the order of the layers is before the next one.
    """
    language_model = _language_model(module)
    targets: dict[str, Tensor] = language_model.state_dict(keep_vars=True)
    expected = _elements(targets)
    waiting: dict[str, dict[str, Tensor]] = {}
    loaded: set[int] = set()
    for name, tensor in named_tensors:
        layer = _layer(name)
        waiting.setdefault(layer, {})[name] = tensor
        if sum(part.numel() for part in waiting[layer].values()) == expected.get(layer):
            loaded |= _assign_layer(language_model, targets, waiting.pop(layer), where)
    for left_over in waiting.values():
        loaded |= _assign_layer(language_model, targets, left_over, where)
    for name, target in targets.items():
        if id(target) not in loaded:
            raise ModelError(f"{where} lacks tensor '{name}' for {type(language_model).__name__}")


def _assign_layer(model: Any, targets: dict[str, Tensor], tensors: dict[str, Tensor], where: str) -> set[int]:
    """Copy what the tensors of a layer become; returns which of `targets` that were, by id."""
    from rlkit.models.causal import ignored_names

    ignored, found = ignored_names(model), set()
    try:
        converted = _convert(model, targets, tensors)
    except Exception as error:
        raise ModelError(f"the tensors of {where} do not fit {type(model).__name__}: {error}") from error
    for name, tensor in converted.items():
        target = targets.get(name)
        if target is None:
            if ignored(name):
                continue
            raise ModelError(f"{where} has unknown tensor '{name}' for {type(model).__name__}")
        if target.shape != tensor.shape:
            raise ModelError(f"{where} has misshapen tensor '{name}' for {type(model).__name__}")
        with torch.no_grad():
            copy_into(target, tensor)
        found.add(id(target))
    return found


def _convert(model: Any, targets: dict[str, Tensor], tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Names and tensors as in memory, from those on disk, as transformers' own loader goes about it."""
    from transformers.conversion_mapping import get_model_conversion_mapping
    from transformers.core_model_loading import WeightConverter, WeightRenaming, dot_natural_key, rename_source_key

    transforms = get_model_conversion_mapping(model)
    renamings = [transform for transform in transforms if isinstance(transform, WeightRenaming)]
    converters = [transform for transform in transforms if isinstance(transform, WeightConverter)]
    by_pattern = {pattern: converter for converter in converters for pattern in converter.source_patterns}
    collected: dict[str, Any] = {}
    for name in sorted(tensors, key=dot_natural_key):
        known: Any = targets
        renamed, pattern = rename_source_key(name, renamings, converters, model.base_model_prefix, known)
        if renamed not in targets and name in targets:
            renamed, pattern = name, None
        if pattern is None:
            transform = collected.setdefault(renamed, WeightRenaming(name, renamed))
        else:
            transform = collected.setdefault(renamed, copy.deepcopy(by_pattern[pattern]))
        transform.add_tensor(renamed, name, name if pattern is None else pattern, tensors[name])
    converted: dict[str, Tensor] = {}
    for name, transform in collected.items():
        for target, value in transform.convert(name, model=model, config=model.config).items():
            converted[target] = value[0] if isinstance(value, list) else value
    return converted


def _elements(targets: dict[str, Tensor]) -> dict[str, int]:
    """How many numbers each layer has; converting keeps them."""
    counts: dict[str, int] = {}
    for name, target in targets.items():
        counts[_layer(name)] = counts.get(_layer(name), 0) + target.numel()
    return counts


def export_converted(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Names and tensors as on disk, tied ones once; converted layer by layer. Collective when they are sharded."""
    from transformers.core_model_loading import revert_weight_conversion

    language_model = _language_model(module)
    unique: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, tensor in language_model.state_dict(keep_vars=True).items():
        if id(tensor) not in seen:
            seen.add(id(tensor))
            unique[name] = tensor.detach()
    for _, names in groupby(unique, key=_layer):
        whole = {name: gathered(unique[name]) for name in names}
        yield from revert_weight_conversion(language_model, whole).items()


def _layer(name: str) -> str:
    """Up to the first number in the name: tensors are only ever fused within a layer."""
    found = re.match(r"(.*?\.\d+)\.", name)
    return name if found is None else found[1]


def _language_model(module: nn.Module) -> Any:
    if isinstance(module, ValueModel):
        raise ModelError(
            f"a value head on {type(module.model).__name__} is not supported: its parameters are stored in another layout; "
            "choose a dense model as critic, or an algorithm without one (algorithm.advantage = grpo)"
        )
    return module
