"""Which plugins are installed, from distribution metadata alone: nothing is imported."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from importlib import metadata
from typing import Literal

from rlkit.plugin.spec import PluginKind

DISABLED_VARIABLE = "RLKIT_DISABLED_PLUGINS"
"""Comma-separated names, `kind:name` pairs or distributions that are to be treated as not installed."""

PluginState = Literal["ok", "disabled", "conflict"]


@dataclass(frozen=True)
class InstalledPlugin:
    """One entry point of one of rlkit's groups.

    value is what it points at (`package.module:attribute`); state is `conflict` when another distribution provides the
    same kind and name.
    """

    kind: PluginKind
    name: str
    distribution: str
    version: str
    value: str
    state: PluginState = "ok"

    @property
    def origin(self) -> str:
        """`rlkit-hf 0.1.0`, for messages."""
        return f"{self.distribution} {self.version}"


def installed_plugins() -> tuple[InstalledPlugin, ...]:
    """All plugins of all kinds, by kind and name."""
    disabled = disabled_names()
    found = _read_metadata()
    providers: dict[tuple[PluginKind, str], int] = {}
    for plugin in found:
        if not _is_disabled(plugin, disabled):
            providers[plugin.kind, plugin.name] = providers.get((plugin.kind, plugin.name), 0) + 1
    plugins: list[InstalledPlugin] = []
    for plugin in found:
        state: PluginState = "ok"
        if _is_disabled(plugin, disabled):
            state = "disabled"
        elif providers[plugin.kind, plugin.name] > 1:
            state = "conflict"
        plugins.append(replace(plugin, state=state))
    return tuple(plugins)


def plugin_names(kind: PluginKind) -> tuple[str, ...]:
    """Names of the usable plugins of a kind, in alphabetical order."""
    return tuple(plugin.name for plugin in installed_plugins() if plugin.kind is kind and plugin.state == "ok")


def disabled_names() -> frozenset[str]:
    """What RLKIT_DISABLED_PLUGINS lists."""
    return frozenset(part.strip() for part in os.environ.get(DISABLED_VARIABLE, "").split(",") if part.strip())


def normalise_distribution(name: str) -> str:
    """The name as package indexes compare it: `Foo_Bar` and `foo-bar` are the same."""
    return re.sub(r"[-_.]+", "-", name).lower()


@cache
def _read_metadata() -> tuple[InstalledPlugin, ...]:
    kinds = {kind.group: kind for kind in PluginKind}
    found: list[InstalledPlugin] = []
    for distribution in _distributions():
        found += [
            InstalledPlugin(kinds[entry.group], entry.name, distribution.name, distribution.version, entry.value)
            for entry in distribution.entry_points
            if entry.group in kinds
        ]
    order = list(PluginKind)
    return tuple(sorted(found, key=lambda plugin: (order.index(plugin.kind), plugin.name, plugin.distribution)))


@dataclass(frozen=True)
class _Distribution:
    name: str
    version: str
    entry_points: tuple[metadata.EntryPoint, ...]


def _distributions() -> Iterator[_Distribution]:
    """Every distribution with a relevant entry_points.txt, once: the first on the path is the one that is imported."""
    seen: set[str] = set()
    for candidate in metadata.distributions():
        try:
            found = _read_distribution(candidate)
        except (OSError, ValueError, KeyError, AttributeError, TypeError):
            # Remains of an interrupted installation, or metadata that nobody can read: another's tool to complain about.
            continue
        if found is not None and normalise_distribution(found.name) not in seen:
            seen.add(normalise_distribution(found.name))
            yield found


def _read_distribution(candidate: metadata.Distribution) -> _Distribution | None:
    """None when there is nothing for rlkit in it. Raises several kinds of errors for damaged metadata."""
    # Reading the entry points first is much cheaper than parsing every distribution's whole metadata for its name.
    text = candidate.read_text("entry_points.txt")
    if not text or "rlkit." not in text:
        return None
    name: str | None = candidate.metadata["Name"]
    if name is None:
        return None
    version: str | None = candidate.metadata["Version"]
    return _Distribution(name, version or "(no version)", tuple(candidate.entry_points))


def _is_disabled(plugin: InstalledPlugin, disabled: frozenset[str]) -> bool:
    names = {plugin.name, f"{plugin.kind.value}:{plugin.name}"}
    return bool(names & disabled) or normalise_distribution(plugin.distribution) in {
        normalise_distribution(name) for name in disabled
    }
