"""The light description of a plugin that its entry point resolves to: strings only, nothing imported."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, get_args

PLUGIN_API_VERSION = 1
"""Raised when a protocol changes so that older plugins no longer work."""


class PluginKind(StrEnum):
    """What a plugin provides; the value is also the word used in messages and commands."""

    MODEL_FAMILY = "model_family"
    ROLLOUT_ENGINE = "rollout_engine"
    ACTOR_BACKEND = "actor_backend"
    REWARD_FUNCTION = "reward_function"
    ADVANTAGE_ESTIMATOR = "advantage_estimator"
    POLICY_LOSS = "policy_loss"
    HOOK = "hook"

    @property
    def group(self) -> str:
        """The entry-point group: `rlkit.model_families` and so on."""
        return _GROUPS[self]

    @property
    def label(self) -> str:
        """For people: `model family`."""
        return self.value.replace("_", " ")


Need = Literal["critic", "groups", "greedy_baseline", "reward_parts", "probability_squares"]
"""What an advantage estimator reads besides the rewards: values of a critic; several answers to each prompt; the score of
each prompt's greedy answer; the score of each reward function by itself; the sum of squared probabilities at each token."""
NEEDS: tuple[Need, ...] = get_args(Need)

_GROUPS = {
    PluginKind.MODEL_FAMILY: "rlkit.model_families",
    PluginKind.ROLLOUT_ENGINE: "rlkit.rollout_engines",
    PluginKind.ACTOR_BACKEND: "rlkit.actor_backends",
    PluginKind.REWARD_FUNCTION: "rlkit.reward_functions",
    PluginKind.ADVANTAGE_ESTIMATOR: "rlkit.advantage_estimators",
    PluginKind.POLICY_LOSS: "rlkit.policy_losses",
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
    many_devices   rollout engines: one engine can compute on several devices (`rollout.devices_per_replica`);
                   actor backends: one model can be spread over several processes (`placement.workers`, torchrun)
    takes_images   rollout engines only: answers prompts with images, of models that take them
    always_on      hooks only: called in every run; otherwise only when named in `run.hooks`
    needs          advantage estimators only: what the pipeline must provide; nothing else is loaded or computed for them
    has_ratio      policy losses only: the ratio of the present to the old probability is in the loss
    aggregations   policy losses only: the values of `algorithm.loss_aggregation` that go with it; empty: all
    """

    kind: PluginKind
    target: str
    summary: str
    config: str | None = None
    requires: tuple[str, ...] = ()
    install_hint: str = ""
    api_version: int = PLUGIN_API_VERSION
    architectures: tuple[str, ...] = ()
    many_devices: bool = False
    takes_images: bool = False
    always_on: bool = False
    needs: tuple[Need, ...] = ()
    has_ratio: bool = True
    aggregations: tuple[str, ...] = ()
