"""The section of answers that may be conversations with tools or an environment."""

from __future__ import annotations

from typing import Any

from pydantic import Field, model_validator

from rlkit.config.base import fault_in_section
from rlkit.config.fields import NonNegativeInt, PositiveFloat, PositiveInt, Reference, References
from rlkit.config.sections import SamplingSection
from rlkit.plugin.references import is_reference


class ConversationSection(SamplingSection):
    """How answers are drawn. An answer becomes a conversation of several turns when `tools` or `environment` is set."""

    tools: References = ()
    """Python functions that the policy may call, as `file.py:function` or `package.module:attr`. Type hints and docstring (a summary, and a section `Args:`) become what the chat template shows the model."""
    tool_format: Reference = "hermes"
    """How the model writes calls: hermes (`<tool_call>{json}</tool_call>`, as Qwen does), json (the message is one JSON object or a list of them, as Llama 3 does), or `file.py:Class` with a method `parse(text)`."""
    max_tool_tokens: PositiveInt = 512
    """Longest tool result in tokens; of a longer one the policy is shown the beginning and a note."""
    tool_timeout_s: PositiveFloat = 30.0
    """Seconds for one call of a tool, after which the policy is told that it failed, and for one of an environment, after which the run stops."""
    environment: Reference = ""
    """Class of an environment with `reset` and `step`, as `file.py:Class` or `package.module:Class`; each conversation has its own. Its rewards are added to the score."""
    environment_options: dict[str, Any] = Field(default_factory=dict)
    """Keyword arguments of the environment's class."""
    max_turns: PositiveInt = 8
    """Turns of the policy in one conversation; the rest of its length is limited by `max_response_tokens`, which counts everything behind the prompt."""
    max_turn_tokens: NonNegativeInt = 0
    """Longest turn in tokens; a turn that is cut there is answered as it is. 0 sets no limit of its own."""

    @property
    def is_conversation(self) -> bool:
        """Whether an answer may have several turns."""
        return bool(self.tools or self.environment)

    @model_validator(mode="after")
    def _conversation_is_sound(self) -> ConversationSection:
        for key, name in [*(("tools", name) for name in self.tools), ("environment", self.environment)]:
            if name and not is_reference(name):
                raise fault_in_section(f"{key} = '{name}': write file.py:name or package.module:name")
        for keys, needed in UNREAD_WITHOUT.items():
            changed = [key for key in keys if self._is_changed(key)]
            if changed and not any(getattr(self, key) for key in needed):
                raise fault_in_section(
                    f"{changed[0]} = {getattr(self, changed[0])} has a meaning with {' or '.join(needed)} only; set that, too"
                )
        if self.max_turn_tokens >= self.max_response_tokens:
            raise fault_in_section(
                f"max_turn_tokens = {self.max_turn_tokens} leaves no room for a second turn: max_response_tokens is "
                f"{self.max_response_tokens} for the whole conversation"
            )
        return self

    def _is_changed(self, key: str) -> bool:
        field = type(self).model_fields[key]
        return bool(getattr(self, key) != field.get_default(call_default_factory=True))


UNREAD_WITHOUT = {
    ("tool_format", "max_tool_tokens"): ("tools",),
    ("environment_options",): ("environment",),
    ("max_turns", "max_turn_tokens", "tool_timeout_s"): ("tools", "environment"),
}
"""Keys, and those of which one must be set for them to be read."""
