"""The light description of a plugin that its entry point resolves to: strings only, nothing imported."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

PLUGIN_API_VERSION = 1
"""Raised when a protocol changes so that older plugins no longer work."""


class PluginKind(StrEnum):
    """What a plugin provides; the value is also the word used in messages and commands."""

    MODEL_FAMILY = "model_family"
    ROLLOUT_ENGINE = "rollout_engine"
    ACTOR_BACKEND = "actor_backend"
    REWARD_FUNCTION = "reward_function"
    HOOK = "hook"

    @property
    def group(self) -> str:
        """The entry-point group: `rlkit.model_families` and so on."""
        return _GROUPS[self]

    @property
    def label(self) -> str:
        """For people: `model family`."""
        return self.value.replace("_", " ")


_GROUPS = {
    PluginKind.MODEL_FAMILY: "rlkit.model_families",
    PluginKind.ROLLOUT_ENGINE: "rlkit.rollout_engines",
    PluginKind.ACTOR_BACKEND: "rlkit.actor_backends",
    PluginKind.REWARD_FUNCTION: "rlkit.reward_functions",
    PluginKind.HOOK: "rlkit.hooks",
}


@dataclass(frozen=True, kw_only=True)
class PluginSpec:
    """What an entry point of one of rlkit's groups resolves to. Its name is the entry point's name.

    kind           which protocol the target satisfies
    target         `package.module:Class`, imported only when the plugin is selected
    summary        one line for `rlkit plugins list`
    config         `package.module:Options`, a frozen pydantic model (see `rlkit.config.PluginOptions`), or None: no options
    requires       modules that must be importable, besides those of the plugin's own package
    install_hint   what to type when one of them is missing
    api_version    the `PLUGIN_API_VERSION` that the plugin was written for
    architectures  model families only: the `architectures` strings of config.json that the family answers to
    always_on      hooks only: called in every run; otherwise only when named in `run.hooks`
    """

    kind: PluginKind
    target: str
    summary: str
    config: str | None = None
    requires: tuple[str, ...] = ()
    install_hint: str = ""
    api_version: int = PLUGIN_API_VERSION
    architectures: tuple[str, ...] = ()
    always_on: bool = False
