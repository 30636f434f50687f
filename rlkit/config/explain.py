"""What a config key means: type, default, effect, and every way to set it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from pydantic.fields import FieldInfo

from rlkit.config.base import Selects
from rlkit.config.describe import default_text, type_text
from rlkit.config.keys import leaf_keys
from rlkit.config.load import config_class_of
from rlkit.config.option_hint import option_hint
from rlkit.config.runs import RUN_CONFIGS
from rlkit.config.sources import ENVIRONMENT_PREFIX
from rlkit.config.suggest import keys_about, keys_called, keys_near, nearest_word
from rlkit.errors import ConfigError


@dataclass(frozen=True)
class KeyDescription:
    """One key of one or more kinds of run; `kinds` are those that have it with this meaning."""

    key: str
    kinds: tuple[str, ...]
    type: str
    default: str
    doc: str
    selects: str = ""  # kind of the plugins whose names it holds

    @property
    def variable(self) -> str:
        """The environment variable that sets it."""
        return ENVIRONMENT_PREFIX + self.key.upper().replace(".", "__")

    def as_json(self) -> dict[str, Any]:
        choices = {"installed": dict(self.choices())} if self.selects else {}
        return {**asdict(self), "environment": self.variable, **choices}

    def choices(self) -> tuple[tuple[str, str], ...]:
        """Name and summary of every installed plugin that the key can name."""
        from rlkit.plugin.describe import describe_plugin
        from rlkit.plugin.discovery import installed_plugins

        plugins = [plugin for plugin in installed_plugins() if plugin.kind == self.selects and plugin.state == "ok"]
        return tuple((plugin.name, describe_plugin(plugin).told) for plugin in plugins)


def describe_keys(kind: str = "") -> tuple[KeyDescription, ...]:
    """Every key of one kind of run, or of all, in the order of the sections."""
    if kind:
        config_class_of(kind)
    merged: dict[tuple[str, str, str, str, str], list[str]] = {}
    for name, config_class in RUN_CONFIGS.items():
        if kind in ("", name):
            for key, option in leaf_keys(config_class):
                texts = (key, type_text(option), default_text(option), option.description or "", _selects(option))
                merged.setdefault(texts, []).append(name)
    return tuple(
        KeyDescription(key, tuple(kinds), kind_of_value, default, doc, selects)
        for (key, kind_of_value, default, doc, selects), kinds in merged.items()
    )


def _selects(option: FieldInfo) -> str:
    return next((mark.kind.value for mark in option.metadata if isinstance(mark, Selects)), "")


def explain(key: str, kind: str = "") -> tuple[KeyDescription, ...]:
    """The key, or every key of the section that it names. Raises `ConfigError` with the nearest key."""
    key = key.strip(".")
    known = describe_keys(kind)
    found = tuple(item for item in known if item.key == key or item.key.startswith(f"{key}."))
    if found:
        return found
    config_classes = [RUN_CONFIGS[kind]] if kind else list(RUN_CONFIGS.values())
    hint = next(filter(None, (option_hint(config_class, key, "") for config_class in config_classes)), "")
    raise ConfigError(f"unknown key {key}{hint}" if hint else _complaint(key, known))


def _complaint(key: str, known: tuple[KeyDescription, ...]) -> str:
    """What is near: the whole key first, then keys whose last part is meant, near or spoken of."""
    meanings = {item.key: item.doc.partition(". ")[0] for item in known}
    whole, last = nearest_word(key, list(meanings)), key.rpartition(".")[2]
    meant = [whole] if whole is not None else keys_called(last, list(meanings))
    meant = meant or keys_near(last, list(meanings)) or keys_about(last, meanings)
    if meant:
        return f"unknown key {key}; did you mean {' or '.join(meant)}?"
    sections = list(dict.fromkeys(candidate.partition(".")[0] for candidate in meanings))
    return f"unknown key {key}; sections: {', '.join(sections)}"
