"""`rlkit generate`, in this process, with a real tiny model."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rlkit.config.load import load_config
from rlkit.errors import ConfigError, DataError, RLKitError
from rlkit.generation.completions_file import CompletionRow, read_rows
from rlkit.pipelines.generate import run_generate
from rlkit.testing.tiny_model import tiny_model, write_tiny_model

QUESTIONS = [f"{a}+{b}=" for a in range(3) for b in range(3)]

Generate = Callable[..., Path]


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    path = tmp_path / "prompts.jsonl"
    rows = [{"prompt": question, "answer": str(row), "data_source": "sums"} for row, question in enumerate(QUESTIONS)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def generate(tmp_path: Path, prompts: Path, monkeypatch: pytest.MonkeyPatch) -> Generate:
    """Run a generation; keyword arguments are `generation.*` keys, `model` and `seed`."""
    monkeypatch.setenv("RLKIT_OUTPUT", "plain")

    def run(*, output: str = "answers.jsonl", model: Path | None = None, seed: int = 0, **keys: Any) -> Path:
        usual = {"prompts": [str(prompts)], "max_prompt_tokens": 32, "max_response_tokens": 6, "batch_prompts": 4}
        flags = {f"generation.{key}": value for key, value in {**usual, **keys}.items()}
        flags |= {
            "generation.output": str(tmp_path / output),
            "model.path": str(model or tiny_model()),
            "run.seed": seed,
        }
        return run_generate(load_config("generate", None, flags=flags, environ={}))

    return run


def rows_of(path: Path) -> list[CompletionRow]:
    return list(read_rows(path))


def test_prompts_become_completions_with_all_that_evaluation_needs(generate: Generate) -> None:
    rows = rows_of(generate())
    assert [row.prompt.question for row in rows] == QUESTIONS
    assert [row.prompt.reference for row in rows] == [str(row) for row in range(len(QUESTIONS))]
    assert {row.prompt.data_source for row in rows} == {"sums"}
    assert {row.model for row in rows} == {str(tiny_model())}
    assert all(1 <= completion.num_tokens <= 6 for row in rows for completion in row.completions)


def test_several_samples_differ_and_a_seed_repeats_them(generate: Generate) -> None:
    first = generate(output="a.jsonl", samples_per_prompt=4, temperature=1.0, seed=5)
    second = generate(output="b.jsonl", samples_per_prompt=4, temperature=1.0, seed=5)
    other = generate(output="c.jsonl", samples_per_prompt=4, temperature=1.0, seed=6)
    assert all(len(row.completions) == 4 for row in rows_of(first))
    assert any(len({c.text for c in row.completions}) > 1 for row in rows_of(first))
    assert first.read_bytes() == second.read_bytes()
    assert first.read_bytes() != other.read_bytes()


def test_a_torn_file_is_completed_without_asking_again(generate: Generate, capsys: pytest.CaptureFixture[str]) -> None:
    whole = generate(output="whole.jsonl").read_bytes()
    torn = generate(output="torn.jsonl")
    torn.write_bytes(whole[: len(whole) // 2])
    kept = len(whole[: len(whole) // 2].split(b"\n")) - 1
    capsys.readouterr()
    generate(output="torn.jsonl")
    assert {json.loads(line)["row_id"]: json.loads(line) for line in torn.read_text().splitlines()} == {
        json.loads(line)["row_id"]: json.loads(line) for line in whole.decode().splitlines()
    }
    assert f"{len(QUESTIONS)} prompts answered, {kept} of them before" in capsys.readouterr().err
    generate(output="torn.jsonl")
    assert "is complete" in capsys.readouterr().err


def test_parquet_prompts_and_a_limit(generate: Generate, tmp_path: Path) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    path = tmp_path / "prompts.parquet"
    messages = [[{"role": "user", "content": question}] for question in QUESTIONS]
    parquet.write_table(pa.table({"messages": messages, "answer": ["1"] * len(QUESTIONS)}), path)
    rows = rows_of(generate(prompts=[str(path)], limit=3))
    assert [row.prompt.question for row in rows] == QUESTIONS[:3]


def test_log_probs_are_written_for_each_token(generate: Generate) -> None:
    for row in rows_of(generate(log_probs=True, limit=2)):
        (completion,) = row.completions
        assert completion.token_ids is not None and completion.log_probs is not None
        assert len(completion.token_ids) == len(completion.log_probs) == completion.num_tokens
        assert all(value <= 0 for value in completion.log_probs)


def test_another_model_s_answers_are_not_mixed_in(generate: Generate, tmp_path: Path) -> None:
    generate(limit=2)
    other = write_tiny_model(tmp_path / "other", seed=1)
    with pytest.raises(ConfigError, match=r"was begun with model\.path"):
        generate(model=other)


def test_new_weights_under_the_same_path_are_noticed(generate: Generate, tmp_path: Path) -> None:
    model = write_tiny_model(tmp_path / "model", seed=1)
    generate(model=model, limit=2)
    write_tiny_model(model, seed=2)
    with pytest.raises(ConfigError, match="was begun with weights"):
        generate(model=model)


@pytest.mark.parametrize(
    ("keys", "error", "message"),
    [
        ({"prompts": ["nowhere.jsonl"]}, DataError, r"nowhere\.jsonl"),
        ({"max_response_tokens": 4096}, ConfigError, "exceed the model's context of 128 tokens"),
        ({"max_prompt_tokens": 3}, RLKitError, "max_prompt_tokens|tokens"),
        ({"engine": "hff"}, RLKitError, "Did you mean 'hf'"),
        ({"options": {"speed": 2}}, ConfigError, r"generation\.options\.speed"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_written(
    keys: dict[str, Any], error: type[Exception], message: str, generate: Generate, tmp_path: Path
) -> None:
    with pytest.raises(error, match=message):
        generate(**keys)
    assert not (tmp_path / "answers.jsonl").exists()


def test_an_output_that_cannot_be_written_is_refused(generate: Generate, tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    with pytest.raises(ConfigError, match="it is a folder; choose another --output"):
        generate(output="taken")


ENGINE = """\
from collections import Counter
from rlkit.testing.simulated_replicas import Faults, RowEngine

class Picky(RowEngine):
    def __init__(self, model):
        super().__init__(Faults(refuses=Counter({3: 99})))
"""


def test_a_row_that_cannot_be_answered_is_recorded_or_ends_the_run(
    generate: Generate, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "picky.py").write_text(ENGINE)
    engine = f"{tmp_path / 'picky.py'}:Picky"
    rows = rows_of(generate(engine=engine))
    assert [row.prompt.row_id for row in rows] == list(range(len(QUESTIONS)))
    assert {row.prompt.row_id: row.error for row in rows if row.error} == {3: "row 3 is too long"}
    assert "8 of 9 prompts answered, 1 failed (--retry-failed tries them again)" in capsys.readouterr().err
    generate(engine=engine)
    assert "is complete: 8 of 9 prompts answered, 1 failed" in capsys.readouterr().err
    with pytest.raises(RLKitError, match="row 3 is too long"):
        generate(engine=engine, output="other.jsonl", on_error="stop")


def test_a_file_that_is_being_written_is_left_to_its_writer(generate: Generate) -> None:
    from rlkit.generation.origin import only_writer

    output = generate(limit=2)
    with only_writer(output), pytest.raises(ConfigError, match="another `rlkit generate` is writing"):
        generate()
