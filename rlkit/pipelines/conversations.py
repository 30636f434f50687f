"""From the keys of `[rollout]` or `[generation]` to how prompts become rollouts: in one turn, or in conversations."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rlkit.data.turns import TurnRenderer
from rlkit.errors import DataError, PluginNotFoundError
from rlkit.plugin.references import is_file_reference, is_reference
from rlkit.protocols import Tokenizer
from rlkit.rollout.collector import Collector, collect_rollouts
from rlkit.rollout.conversations import ConversationCollector, ConversationLimits
from rlkit.rollout.environments import EnvironmentMaker, load_environment
from rlkit.rollout.foreign_calls import ForeignCalls
from rlkit.rollout.replies import tool_message
from rlkit.rollout.tool_calls import ToolCallFormat, find_format
from rlkit.rollout.tools import Toolbox, load_tools

if TYPE_CHECKING:
    from rlkit.config.conversation_section import ConversationSection

PROBE_CALL = {"id": "call00000", "type": "function", "function": {"name": "probe", "arguments": {}}}


@dataclass(frozen=True, eq=False)
class Partners:
    """Whom the policy talks with; made before any model is loaded, so that a fault in them costs nothing."""

    calls: ForeignCalls
    toolbox: Toolbox | None = None
    call_format: ToolCallFormat | None = None
    environment: EnvironmentMaker | None = None


def build_partners(section: ConversationSection, *, name: str = "rollout") -> Partners:
    """Those that the config section `name` asks for.

    Raises `PluginError` for what cannot be imported and `ConfigError` for what is no tool or environment.
    """
    calls = ForeignCalls(section.tool_timeout_s, section=name)
    return Partners(
        calls,
        toolbox=Toolbox(load_tools(section.tools, section=name), calls) if section.tools else None,
        call_format=find_format(section.tool_format, section=name) if section.tools else None,
        environment=load_environment(section.environment, section.environment_options, calls, section=name)
        if section.environment
        else None,
    )


def build_collector(
    section: ConversationSection,
    partners: Partners,
    tokenizer: Tokenizer,
    *,
    max_prompt_tokens: int,
    context_length: int,
    prompt_key: str = "data.max_prompt_tokens",
) -> Collector:
    """How prompts become rollouts; `prompt_key` is the config key of `max_prompt_tokens`. Raises `DataError` when the chat template cannot show what the partners say."""
    if not section.is_conversation:
        return collect_rollouts
    toolbox = partners.toolbox
    renderer = TurnRenderer(tokenizer, toolbox.schemas if toolbox is not None else ())
    if partners.environment is not None:
        renderer.check({"role": "user", "content": "observation"})
    if toolbox is not None:
        renderer.check(tool_message("result", name="probe", call_id="call00000"), call=PROBE_CALL)
    return ConversationCollector(
        renderer=renderer,
        limits=ConversationLimits(
            turns=section.max_turns,
            turn_tokens=section.max_turn_tokens,
            tool_tokens=section.max_tool_tokens,
            prompt_tokens=max_prompt_tokens,
            context=context_length,
            prompt_key=prompt_key,
        ),
        calls=partners.calls,
        toolbox=toolbox,
        call_format=partners.call_format,
        environment=partners.environment,
        lone_results=toolbox is None or _takes_lone_results(renderer),
    )


def check_references(section: ConversationSection, *, name: str) -> None:
    """Raises `PluginNotFoundError` with a line for each file that does not exist; imports nothing."""
    files = [(key, found, found.rpartition(":")[0]) for key, found in _references(section) if is_file_reference(found)]
    lines = [
        f"{name}.{key}: file {file} of '{reference}' does not exist"
        for key, reference, file in files
        if not Path(file).expanduser().is_file()
    ]
    if lines:
        raise PluginNotFoundError("\n".join(lines))


def _references(section: ConversationSection) -> Iterator[tuple[str, str]]:
    for name in section.tools:
        yield "tools", name
    if section.environment:
        yield "environment", section.environment
    if is_reference(section.tool_format):
        yield "tool_format", section.tool_format


def _takes_lone_results(renderer: TurnRenderer) -> bool:
    try:
        renderer.check(tool_message("result"))
    except DataError:
        return False
    return True
