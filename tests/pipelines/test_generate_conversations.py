"""`rlkit generate` with tools and environments: whole conversations in the file, by a policy that is scripted."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rlkit.config.load import load_config
from rlkit.config.reward_sections import EvaluationRewardSection
from rlkit.errors import ConfigError, RolloutError
from rlkit.evaluation.evaluate import evaluate_files
from rlkit.evaluation.statistics import IntervalSettings
from rlkit.generation.completions_file import CompletionRow, read_rows
from rlkit.pipelines.generate import run_generate
from rlkit.rewards.scorer import build_scorer
from rlkit.testing.tiny_model import tiny_model

TEMPLATE = (
    "{% for m in messages %}<|{{ 'user' if m.role == 'tool' else m.role }}|>{{ m.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
PLAY = '''
from pathlib import Path
from rlkit.protocols import EnvironmentStep
from rlkit.rollout.tool_calls import ParsedMessage, ToolCall
from rlkit.testing.scripted_engine import ScriptedEngine

class Caller(ScriptedEngine):
    """Says # (a call), then, once there is a second turn of the user, a digit of the question."""

    def __init__(self, model):
        def script(token_ids):
            seen = model.tokenizer.decode(token_ids, skip_special_tokens=False)
            said = "#" if seen.count("<|user|>") == 1 else seen.partition("<|user|>")[2][:1]
            return [*model.tokenizer.encode(said, add_special_tokens=False), model.tokenizer.eos_token_id]
        super().__init__(script)

class Hash:
    """A # is a call."""

    def parse(self, text):
        return ParsedMessage(text.replace("#", ""), (ToolCall("roll", {}),) if "#" in text else ())

def roll() -> int:
    """Roll the dice."""
    return 7

class Echo:
    """Two turns; a question about 3 breaks it while there is a file `broken`."""

    def reset(self, prompt):
        self.number = prompt.row_id
        if self.number == 3 and Path("broken").exists():
            raise ValueError("3 is odd")
        return f"{self.number}?" + "0" * (30 * Path("long").exists())

    def step(self, message):
        done = message["content"] != "#"
        return EnvironmentStep("" if done else "again", reward=self.number / 10 if done else 0.0, done=done)

def score(response, conversation):
    return float(any(message["role"] == "tool" for message in conversation))
'''
TOOLS = {"tools": ["play.py:roll"], "tool_format": "play.py:Hash"}
ECHO = {"environment": "play.py:Echo"}
ROWS = 6

Generate = Callable[..., Path]


@pytest.fixture
def generate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Generate:
    """Run a generation; keyword arguments are `generation.*` keys."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RLKIT_OUTPUT", "plain")
    questions = [{"messages": [{"role": "user", "content": f"{row}+{row}=?"}]} for row in range(ROWS)]
    (tmp_path / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in questions))
    (tmp_path / "play.py").write_text(PLAY)
    (tmp_path / "plain.jinja").write_text(TEMPLATE)

    def run(*, output: str = "answers.jsonl", **keys: Any) -> Path:
        usual = {
            "prompts": ["prompts.jsonl"], "engine": "play.py:Caller", "max_prompt_tokens": 24,
            "max_response_tokens": 60, "batch_prompts": 4,
        }  # fmt: skip
        flags = {f"generation.{key}": value for key, value in {**usual, **keys}.items()}
        flags |= {
            "generation.output": output, "model.path": str(tiny_model()), "model.chat_template": "plain.jinja"
        }  # fmt: skip
        return run_generate(load_config("generate", None, flags=flags, environ={}))

    return run


def rows_of(path: Path) -> list[CompletionRow]:
    return list(read_rows(path))


def test_a_call_is_run_and_the_whole_conversation_is_in_the_file(generate: Generate) -> None:
    rows = rows_of(generate(**TOOLS, samples_per_prompt=2))
    assert [row.prompt.question for row in rows] == [f"{row}+{row}=?" for row in range(ROWS)]
    for number, row in enumerate(rows):
        assert len(row.completions) == 2
        for completion in row.completions:
            conversation = completion.conversation
            assert completion.text == str(number) and conversation is not None
            assert (conversation.end, conversation.turns, conversation.tool_calls) == ("answer", 2, 1)
            roles = [message["role"] for message in conversation.messages]
            assert roles == ["user", "assistant", "tool", "assistant"]
            assert conversation.replies[1]["content"] == "7"
            assert completion.token_ids is completion.response_mask is None


def test_with_log_probs_the_mask_says_which_tokens_were_sampled(generate: Generate) -> None:
    from rlkit.models.tokenizer import load_tokenizer

    tokenizer = load_tokenizer(tiny_model())
    for number, row in enumerate(rows_of(generate(**TOOLS, log_probs=True))):
        (completion,) = row.completions
        ids, mask, log_probs = completion.token_ids, completion.response_mask, completion.log_probs
        assert ids is not None and mask is not None and log_probs is not None
        assert len(ids) == len(mask) == len(log_probs) == completion.num_tokens
        sampled = tokenizer.decode([token for token, own in zip(ids, mask, strict=True) if own])
        assert sampled.replace(tokenizer.eos_token, "") == f"#{number}"
        assert "7" in tokenizer.decode([token for token, own in zip(ids, mask, strict=True) if not own])
        assert all((value < 0) is own for value, own in zip(log_probs, mask, strict=True))


def test_answers_of_one_turn_have_no_mask(generate: Generate) -> None:
    (completion, *_) = rows_of(generate(log_probs=True, limit=1))[0].completions
    assert completion.token_ids is not None and completion.response_mask is completion.conversation is None


def test_a_torn_file_is_completed_with_the_same_conversations(generate: Generate) -> None:
    whole = generate(output="whole.jsonl", **TOOLS).read_bytes()
    torn = generate(output="torn.jsonl", **TOOLS)
    torn.write_bytes(whole[: len(whole) // 2])
    generate(output="torn.jsonl", **TOOLS)
    assert sorted(torn.read_bytes().splitlines()) == sorted(whole.splitlines())


def test_an_environment_that_fails_is_a_row_with_an_error(generate: Generate, tmp_path: Path) -> None:
    (tmp_path / "broken").touch()
    rows = rows_of(generate(**ECHO))
    assert [row.prompt.row_id for row in rows] == list(range(ROWS))
    (failed,) = [row for row in rows if row.error]
    assert failed.prompt.row_id == 3
    assert failed.error == "environment 'play.py:Echo' failed in reset on row 3: ValueError: 3 is odd"
    (tmp_path / "broken").unlink()
    rows = rows_of(generate(**ECHO, retry_failed=True))
    assert sorted(row.prompt.row_id for row in rows if row.completions) == list(range(ROWS))


def test_an_environment_that_fails_may_end_the_run(generate: Generate, tmp_path: Path) -> None:
    (tmp_path / "broken").touch()
    with pytest.raises(RolloutError, match="3 is odd"):
        generate(**ECHO, on_error="stop")


def test_evaluation_sees_the_conversation_and_adds_the_rewards_of_its_environment(generate: Generate) -> None:
    def means(output: Path) -> dict[str, float]:
        with build_scorer(EvaluationRewardSection(functions=("play.py:score",))) as scorer:
            (scored,) = evaluate_files(
                [str(output)], scorer, functions=("play.py:score",), settings=IntervalSettings(0.9, 100, 0)
            ).files
        (summary,) = scored.summaries
        return {**summary.parts, "total": summary.score.mean}

    assert means(generate(**TOOLS, output="a.jsonl"))["total"] == 1.0
    found = means(generate(**ECHO, output="b.jsonl"))
    assert found["environment"] == found["total"] == pytest.approx(sum(range(ROWS)) / 10 / ROWS)


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        (TOOLS, {**TOOLS, "max_turns": 3}, r"begun with generation\.max_turns = 8, this run has 3"),
        (TOOLS, {}, r"begun with generation\.tools = \['play\.py:roll'\], this run has None"),
        ({}, ECHO, r"begun with generation\.tools = None, this run has \[\]"),
    ],
)
def test_conversations_of_other_settings_are_not_mixed_in(
    generate: Generate, before: dict[str, Any], after: dict[str, Any], message: str
) -> None:
    generate(**before, limit=2)
    with pytest.raises(ConfigError, match=message):
        generate(**after)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"tools": ["play.py:Hash"]}, r"generation\.tools: 'play\.py:Hash' is a type, not a function"),
        ({**TOOLS, "tool_format": "hermess"}, r"generation\.tool_format = 'hermess' is not known"),
        ({"environment": "play.py:Hash"}, r"generation\.environment: 'play\.py:Hash' has no method reset"),
        ({**ECHO, "environment_options": {"size": 2}}, r"generation\.environment_options: "),
    ],
)
def test_faults_are_named_by_their_key_before_a_model_is_looked_for(
    generate: Generate, keys: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        generate(**keys)


def test_an_opening_that_is_too_long_names_the_limit(generate: Generate, tmp_path: Path) -> None:
    (tmp_path / "long").touch()
    with pytest.raises(RolloutError, match=r"opens row 0 with .* generation\.max_prompt_tokens is 24; raise it"):
        generate(**ECHO, on_error="stop")
