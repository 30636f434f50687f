"""From the names in `reward.functions` to functions that can be called."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any

from rlkit.errors import ConfigError
from rlkit.plugin import PluginKind
from rlkit.plugin.loader import construct, load_plugin
from rlkit.rewards.adapt import adapt_function
from rlkit.rewards.styles import Style


@dataclass(frozen=True)
class ResolvedFunction:
    """One reward function of a run.

    name    as the project file has it
    label   short, for the names of parts: the plugin's name, or the function's name in its file
    target  the object that answers: it may offer `extract_answer(response)`, `close()` and `aclose()`
    style   how it is called
    options as the project file has them
    """

    name: str
    label: str
    target: object
    style: Style
    options: Mapping[str, Any] = field(default_factory=dict)


def resolve_functions(names: Sequence[str], options: Mapping[str, Mapping[str, Any]]) -> tuple[ResolvedFunction, ...]:
    """Load, construct and adapt every function. Raises `ConfigError` for none or a repeated one, `PluginError` and `RewardError`."""
    if not names:
        raise ConfigError("reward.functions is empty; name a reward with --reward, for example --reward exact_match")
    repeated = [name for name, count in Counter(names).items() if count > 1]
    if repeated:
        raise ConfigError(
            f"reward.functions names {repeated[0]!r} twice; give it once, with a weight in reward.weights"
        )
    resolved = []
    for name, label in zip(names, short_labels(names), strict=True):
        target, style = load_function(name, options.get(name, {}))
        resolved.append(ResolvedFunction(name, label, target, style, options.get(name, {})))
    return tuple(resolved)


def load_function(name: str, options: Mapping[str, Any]) -> tuple[object, Style]:
    """The object that judges, made with its options, and how it is called. Raises as `resolve_functions`."""
    plugin = load_plugin(PluginKind.REWARD_FUNCTION, name)
    target, rest = construct(plugin, options, where=f"reward.options.{name}")
    return target, adapt_function(target, name=name, options=rest)


def short_labels(names: Sequence[str]) -> list[str]:
    """A short, unique label for each name: `gsm8k` -> gsm8k, `reward.py:score` -> score; with the file's name when two agree."""
    short = [name.rsplit(":", 1)[-1] for name in names]
    counts = Counter(short)
    longer = [label if counts[label] == 1 else _with_module(name) for name, label in zip(names, short, strict=True)]
    counts = Counter(longer)
    return [label if counts[label] == 1 else name for name, label in zip(names, longer, strict=True)]


def _with_module(name: str) -> str:
    if ":" not in name:
        return name
    module, attribute = name.rsplit(":", 1)
    stem = PurePath(module).stem if module.endswith(".py") else module
    return f"{stem}.{attribute}"
