"""Chat templates of both kinds, a tokenizer of bytes, and conversations with a scripted policy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from rlkit.data.turns import TurnRenderer
from rlkit.models.tokenizer_making import make_tokenizer
from rlkit.rollout.conversations import ConversationCollector, ConversationLimits
from rlkit.rollout.environments import EnvironmentMaker
from rlkit.rollout.foreign_calls import ForeignCalls
from rlkit.rollout.tool_calls import HermesFormat
from rlkit.rollout.tools import Tool, Toolbox
from rlkit.testing.scripted_engine import ScriptedEngine
from rlkit.types import Prompt, PromptBatch, Rollouts, SamplingParams

PLAIN = """\
{%- for message in messages -%}
{%- if message.role == 'tool' -%}
{{- '<|user|>(tool) ' + message.content + '<|end|>\n' -}}
{%- else -%}
{{- '<|' + message.role + '|>' + message.content + '<|end|>\n' -}}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|assistant|>' -}}{%- endif -%}
"""
"""Shows every message as it is."""

REWRITING = """\
{%- if tools -%}{{- '<|system|>tools: ' + tools[0].function.name + '<|end|>\n' -}}{%- endif -%}
{%- for message in messages -%}
{%- if message.role == 'assistant' -%}
{%- set said = message.content -%}
{%- if '</think>' in said -%}{%- set said = said.split('</think>')[-1].lstrip('\n') -%}{%- endif -%}
{%- if loop.last -%}{%- set said = '<think>\n\n</think>\n\n' + said -%}{%- endif -%}
{{- '<|assistant|>' + said -}}
{%- for call in message.tool_calls or [] -%}
{{- '\n<tool_call>\n' + (call.function | tojson) + '\n</tool_call>' -}}
{%- endfor -%}
{{- '<|end|>\n' -}}
{%- elif message.role == 'tool' -%}
{%- if loop.first or messages[loop.index0 - 1].role != 'tool' -%}{{- '<|user|>' -}}{%- endif -%}
{{- '\n<tool_response>\n' + message.content + '\n</tool_response>' -}}
{%- if loop.last or messages[loop.index0 + 1].role != 'tool' -%}{{- '<|end|>\n' -}}{%- endif -%}
{%- else -%}
{{- '<|' + message.role + '|>' + message.content + '<|end|>\n' -}}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|assistant|>' -}}{%- endif -%}
"""
"""Drops the thinking of earlier turns and writes an empty one into the last, as reasoning models' templates do."""

STRICT = """\
{%- for message in messages -%}
{%- if message.role == 'tool' -%}
{%- if not messages[loop.index0 - 1].tool_calls -%}{{- raise_exception('a result without a call') -}}{%- endif -%}
{{- '[RESULT]' + message.content + '[/RESULT]' -}}
{%- elif message.role == 'assistant' and message.tool_calls -%}
{%- for call in message.tool_calls -%}
{{- '[CALL]' + call.function.name + '(' + (call.function.arguments | tojson) + ')' -}}
{%- endfor -%}
{{- '<|end|>' -}}
{%- elif message.role == 'assistant' -%}
{{- message.content + '<|end|>' -}}
{%- else -%}
{{- '<|user|>' + message.content + '<|assistant|>' -}}
{%- endif -%}
{%- endfor -%}
"""
"""Takes a tool's result only behind its call, and writes no header of its own for the assistant."""

BETWEEN = {
    "plain": lambda result: f"\n<|user|>(tool) {result}<|end|>\n<|assistant|>",
    "rewriting": lambda result: f"\n<|user|>\n<tool_response>\n{result}\n</tool_response><|end|>\n<|assistant|>",
}
"""By hand: what stands between a turn that ends with the end token and the next one."""

TEMPLATES = {"plain": PLAIN, "rewriting": REWRITING, "strict": STRICT}


def tokenizer_with(template: str) -> Any:
    tokenizer = make_tokenizer("byte", context_length=4096)
    tokenizer.chat_template = TEMPLATES.get(template, template)
    return tokenizer


def add(a: int, b: int) -> int:
    """Add two numbers.

    Args:
        a: the first
        b: the second
    """
    return a + b


def tool(function: Callable[..., Any]) -> Tool:
    return Tool(function.__name__, function, {"type": "function", "function": {"name": function.__name__}})


@dataclass
class Scene:
    """A scripted policy that talks with tools or an environment."""

    tokenizer: Any
    turns: Sequence[str] | Callable[[str], str]
    functions: Sequence[Callable[..., Any]] = (add,)
    make_environment: Callable[[], Any] | None = None
    max_turns: int = 8
    turn_tokens: int = 0
    tool_tokens: int = 200
    prompt_tokens: int = 400
    context: int = 100_000
    timeout_s: float = 60.0
    engine: ScriptedEngine = field(init=False)

    def __post_init__(self) -> None:
        self.engine = ScriptedEngine(self._next_turn)

    def _next_turn(self, token_ids: Sequence[int]) -> list[int]:
        seen = self.tokenizer.decode(token_ids, skip_special_tokens=False)
        text = self.turns(seen) if callable(self.turns) else self.turns[seen.count("<|assistant|>") - 1]
        return self.ids(text)

    def ids(self, text: str) -> list[int]:
        return list(self.tokenizer.encode(text, add_special_tokens=False))

    def collector(self) -> ConversationCollector:
        calls = ForeignCalls(self.timeout_s)
        toolbox = Toolbox(tuple(map(tool, self.functions)), calls) if self.functions else None
        environment = None
        if self.make_environment is not None:
            environment = EnvironmentMaker("play.py:Game", self.make_environment, calls)
        return ConversationCollector(
            TurnRenderer(self.tokenizer, toolbox.schemas if toolbox else ()),
            ConversationLimits(self.max_turns, self.turn_tokens, self.tool_tokens, self.prompt_tokens, self.context),
            calls,
            toolbox,
            HermesFormat() if toolbox else None,
            environment,
            lone_results=self.tokenizer.chat_template != STRICT,
        )

    def prompts(self, *questions: str) -> PromptBatch:
        prompts = tuple(
            Prompt(row_id=10 + row, messages=({"role": "user", "content": question},), reference="42")
            for row, question in enumerate(questions)
        )
        renderer = self.collector().renderer
        return PromptBatch(prompts, tuple(tuple(renderer.opening(prompt.messages)) for prompt in prompts))

    def run(self, *questions: str, max_tokens: int = 4000, samples: int = 1, seed: int = 0) -> Rollouts:
        sampling = SamplingParams(max_tokens=max_tokens, samples=samples, seed=seed)
        return self.collector()(self.engine, self.prompts(*(questions or ("q",))), sampling)


@pytest.fixture
def scene():
    """Function: a `Scene` with the template of this name (or this text)."""

    def make(turns: Sequence[str] | Callable[[str], str], template: str = "plain", **options: Any) -> Scene:
        return Scene(tokenizer_with(template), turns, **options)

    return make


@pytest.fixture
def between():
    return BETWEEN


@pytest.fixture
def call():
    """Function: the text of a call."""

    def write(name: str, arguments: str) -> str:
        return f'<tool_call>\n{{"name": "{name}", "arguments": {arguments}}}\n</tool_call>'

    return write
