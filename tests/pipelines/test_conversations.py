"""From config to conversations, with the examples of docs/multi_turn.md."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from rlkit.config.load import load_config
from rlkit.errors import ConfigError
from rlkit.models.tokenizer_making import make_tokenizer
from rlkit.pipelines.conversations import build_collector, build_partners
from rlkit.rewards.adapt import adapt_function
from rlkit.rollout.collector import collect_rollouts
from rlkit.rollout.tool_calls import JSONFormat, ToolCall
from rlkit.types import Conversation, Prompt, Sample

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "multi_turn.md").read_text()
TEMPLATE = (
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The page's Python files, and its settings as a.toml, b.toml, ..."""
    monkeypatch.chdir(tmp_path)
    for name, text in re.findall(r"```python\n# (\S+)\n(.*?)```", PAGE, re.DOTALL):
        (tmp_path / name).write_text(text)
    for letter, text in zip("abcd", re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL), strict=True):
        (tmp_path / f"{letter}.toml").write_text(text)
    return tmp_path


def rollout(file: Path | str, *assignments: str):
    path = Path(file)
    return load_config("ppo", path if path.exists() else None, assignments=assignments, environ={}).config.rollout


def collector(section, template: str = TEMPLATE):
    tokenizer = make_tokenizer("byte", context_length=512)
    tokenizer.chat_template = template
    return build_collector(section, build_partners(section), tokenizer, max_prompt_tokens=64, context_length=512)


def test_without_tools_and_environment_prompts_are_answered_in_one_turn():
    assert collector(rollout("none")) is collect_rollouts


def test_the_pages_tool_is_loaded_with_its_limits(project):
    made = collector(rollout(project / "a.toml"))
    assert made.toolbox.run(ToolCall("add", {"a": 1, "b": 2})).text == "3"
    assert (made.limits.turns, made.limits.tool_tokens, made.calls.timeout_s) == (4, 256, 10.0)
    assert made.renderer.tools[0]["function"]["parameters"]["properties"]["a"]["description"] == "the first number"
    assert made.environment is None and made.lone_results


def test_the_pages_environment_plays(project):
    made = collector(rollout(project / "b.toml"))
    game = made.environment.open(Prompt(0, extra={"number": 31}))
    assert game.reset()[0]["content"] == "Guess my number between 1 and 50."
    steps = [game.step({"role": "assistant", "content": text}) for text in ("x", "20", "40", "31")]
    assert [step.reward for step in steps] == [-0.1, 0.0, 0.0, 1.0]
    assert [step.messages[0]["content"] for step in steps[:3]] == ["That is no number.", "higher", "lower"]
    assert steps[3].done
    assert (made.limits.turn_tokens, made.toolbox) == (64, None)


def test_the_pages_gymnasium_environment_opens(project):
    pytest.importorskip("gymnasium")
    made = collector(rollout(project / "c.toml"))
    prompt = Prompt(0, messages=({"role": "user", "content": "Walk."},))
    assert "Actions: left, down, right, up" in made.environment.open(prompt).reset()[0]["content"]


def test_the_pages_reward_reads_the_conversation(project):
    import runpy

    style = adapt_function(runpy.run_path(str(project / "reward.py"))["score"], name="score")
    said = (
        {"role": "assistant", "content": ""},
        {"role": "tool", "content": "3"},
        {"role": "assistant", "content": "3"},
    )
    prompt = Prompt(0, messages=({"role": "user", "content": "1+2?"},), reference="3")
    samples = [Sample(prompt, "3", conversation=Conversation(prompt.messages, said, "answer")), Sample(prompt, "3")]
    assert list(style(samples)) == [{"score": 1.0, "asked": 1.0}, {"score": 0.9, "asked": 0.0}]


def test_the_format_is_the_one_that_is_named(project):
    assert isinstance(build_partners(rollout(project / "a.toml", "rollout.tool_format=json")).call_format, JSONFormat)
    with pytest.raises(ConfigError, match="'hermess' is not known"):
        build_partners(rollout(project / "a.toml", "rollout.tool_format=hermess"))


def test_a_template_that_wants_calls_before_results_is_noted(project):
    strict = (
        "{% for m in messages %}{% if m.role == 'tool' and not messages[loop.index0 - 1].tool_calls %}"
        "{{ raise_exception('no call') }}{% endif %}{{ m.content }}<|end|>{% endfor %}"
    )
    assert not collector(rollout(project / "a.toml"), strict).lone_results


def test_the_pages_generation_talks_with_the_same_keys(project):
    (project / "questions.jsonl").touch()
    section = load_config("generate", project / "d.toml", environ={}).config.generation
    made = collector(section)
    assert made.toolbox.run(ToolCall("add", {"a": 1, "b": 2})).text == "3"
    assert (made.limits.turns, section.max_response_tokens, section.samples_per_prompt) == (4, 1024, 4)
