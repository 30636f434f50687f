"""Environments of the gymnasium library whose state can be written as text.

    rollout.environment = "rlkit.rollout.gymnasium_environment:GymnasiumEnvironment"
    rollout.environment_options = {id = "FrozenLake-v1", actions = ["left", "down", "right", "up"]}

Made for gymnasium 1.x, the optional extra `rlkit-llm[gym]`; it is imported when the first environment is made.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from rlkit.data.messages import text_of
from rlkit.errors import ConfigError, MissingRequirementError
from rlkit.protocols.environment import EnvironmentStep
from rlkit.types.prompts import Message, Prompt

HIGHLIGHT = re.compile(r"\x1b\[[0-9;]*m(.*?)\x1b\[0m", re.DOTALL)
"""How the text renderings mark where the player is."""
CODES = re.compile(r"\x1b\[[0-9;]*m")


class GymnasiumEnvironment:
    """Implements `rlkit.protocols.environment.Environment`.

    id              of a registered environment with discrete actions or text for actions
    actions         names of the discrete actions in order; empty means 0, 1, ...
    make_options    further arguments of `gymnasium.make`
    seed_key        column of the prompts file with the seed of `reset`; a row without it is seeded by its row_id
    invalid_reward  for a message in which no action is named; the state then stays as it is

    The observation stands below the prompt's last message: as text when the environment can render itself as such
    (what is highlighted in brackets), else as Python writes it. Of several actions in a message the last one counts.
    """

    def __init__(
        self,
        id: str,
        *,
        actions: Sequence[str] = (),
        make_options: Mapping[str, Any] | None = None,
        seed_key: str = "seed",
        invalid_reward: float = 0.0,
    ) -> None:
        self._environment = _make(id, make_options or {})
        self._space = self._environment.action_space
        self._names = _action_names(id, self._space, actions)
        self._seed_key = seed_key
        self._invalid_reward = invalid_reward

    @classmethod
    def check_options(cls, **options: Any) -> None:
        """Raises `ConfigError` or `MissingRequirementError` for what could not be played."""
        cls(**options).close()

    def reset(self, prompt: Prompt) -> Sequence[Message]:
        seed = prompt.extra.get(self._seed_key, prompt.row_id)
        observation, _ = self._environment.reset(seed=int(seed))
        asked = prompt.messages or ({"role": "user", "content": prompt.text or ""},)
        text = f"{text_of(asked[-1])}\n\n{self._shown(observation)}{self._choices()}".strip()
        return [*asked[:-1], {**asked[-1], "content": text}]

    def step(self, message: Message) -> EnvironmentStep:
        action = self._action_in(text_of(message))
        if action is None:
            return EnvironmentStep(f"No action understood.{self._choices()}", self._invalid_reward)
        observation, reward, terminated, truncated, _ = self._environment.step(action)
        done = bool(terminated or truncated)
        return EnvironmentStep("" if done else self._shown(observation), float(reward), done)

    def close(self) -> None:
        self._environment.close()

    def _shown(self, observation: object) -> str:
        rendered = self._environment.render() if self._environment.render_mode == "ansi" else str(observation)
        return CODES.sub("", HIGHLIGHT.sub(r"[\1]", rendered)).strip()

    def _choices(self) -> str:
        return f"\nActions: {', '.join(self._names)}" if self._names else ""

    def _action_in(self, text: str) -> Any:
        """The action that the message names last, behind its thinking; None without any."""
        said = text.rpartition("</think>")[2]
        if not self._names:
            return said.strip()
        lower = [name.lower() for name in self._names]
        # Longer names first: "up" must not be found in "up left".
        choices = "|".join(re.escape(name) for name in sorted(lower, key=len, reverse=True))
        found = re.findall(rf"(?<!\w)(?:{choices})(?!\w)", said.lower())
        return self._space.start + lower.index(found[-1]) if found else None


def _make(name: str, options: Mapping[str, Any]) -> Any:
    try:
        import gymnasium
    except ModuleNotFoundError as error:
        raise MissingRequirementError(
            "environment: gymnasium is not installed; pip install 'rlkit-llm[gym]'"
        ) from error
    try:
        made = gymnasium.make(name, **options)
        if made.render_mode is None and "ansi" in made.metadata.get("render_modes", ()):
            made = gymnasium.make(name, **{**options, "render_mode": "ansi"})
    except Exception as error:
        # Environments raise whatever they like for options that they do not take.
        raise ConfigError(
            f"environment_options: gymnasium cannot make {name!r}: {' '.join(str(error).split())}"
        ) from error
    return made


def _action_names(name: str, space: Any, actions: Sequence[str]) -> tuple[str, ...]:
    """Empty for environments that take the text itself."""
    from gymnasium import spaces

    if isinstance(space, spaces.Text):
        if actions:
            raise ConfigError(f"environment_options: the actions of {name!r} are texts and have no names")
        return ()
    if not isinstance(space, spaces.Discrete):
        raise ConfigError(
            f"environment_options: the actions of {name!r} are {space}; only discrete ones and texts can be said"
        )
    if actions and len(actions) != space.n:
        raise ConfigError(f"environment_options: {name!r} has {space.n} actions, but {len(actions)} are named")
    return tuple(actions) or tuple(str(space.start + number) for number in range(space.n))
