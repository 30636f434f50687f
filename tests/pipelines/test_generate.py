"""`rlkit generate`, in this process, with a real tiny model."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from rlkit_hf.engine import HFEngine
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from rlkit.config.load import load_config
from rlkit.config.runs import GenerateConfig
from rlkit.errors import ConfigError, DataError, RLKitError, RolloutError
from rlkit.generation.completions_file import CompletionRow, read_rows
from rlkit.pipelines.assembly import locate
from rlkit.pipelines.generate import origin_of, run_generate
from rlkit.pipelines.preflight import check_model
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
    """Run a generation; keyword arguments are `generation.*` keys, `model` and `seed`; `settings` are any others."""
    monkeypatch.setenv("RLKIT_OUTPUT", "plain")

    def run(
        *,
        output: str = "answers.jsonl",
        model: Path | None = None,
        seed: int = 0,
        settings: Mapping[str, Any] | None = None,
        **keys: Any,
    ) -> Path:
        usual = {"prompts": [str(prompts)], "max_prompt_tokens": 32, "max_response_tokens": 6, "batch_prompts": 4}
        flags = {f"generation.{key}": value for key, value in {**usual, **keys}.items()}
        flags |= {
            "generation.output": str(tmp_path / output),
            "model.path": str(model or tiny_model()),
            "run.seed": seed,
            **(settings or {}),
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


def test_how_many_are_written_together_decides_no_answer_and_keeps_nothing_waiting(
    generate: Generate, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings: dict[str, Any] = {"samples_per_prompt": 2, "temperature": 1.0, "max_response_tokens": 24}
    together = generate(output="together.jsonl", batch_prompts=100, **settings)
    steps: list[str] = []
    step = HFEngine.step
    monkeypatch.setattr(HFEngine, "step", lambda engine: steps.append("") or step(engine))
    one_by_one = generate(output="one.jsonl", batch_prompts=1, **settings)
    assert one_by_one.read_bytes() == together.read_bytes()
    longest = [max(completion.num_tokens for completion in row.completions) for row in rows_of(one_by_one)]
    assert 24 <= len(steps) < sum(longest)


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
    ("key", "value"),
    [("model.dtype", "bfloat16"), ("model.tokenizer", "elsewhere"), ("model.chat_template", "b.jinja")],
)
def test_what_else_decides_the_answers_may_not_change_either(
    key: str, value: str, generate: Generate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(tiny_model(), tmp_path / "elsewhere")
    (tmp_path / "b.jinja").write_text("{% for message in messages %}{{ message.content }}{% endfor %}")
    generate(limit=2)
    with pytest.raises(ConfigError, match=f"was begun with {key} = "):
        generate(settings={key: value})


def test_a_chat_template_is_known_by_what_is_in_it(generate: Generate, tmp_path: Path) -> None:
    template = tmp_path / "a.jinja"
    template.write_text("{% for message in messages %}{{ message.content }}{% endfor %}")
    generate(limit=2, settings={"model.chat_template": str(template)})
    moved = template.rename(tmp_path / "b.jinja")
    generate(limit=4, settings={"model.chat_template": str(moved)})
    moved.write_text("{% for message in messages %}<{{ message.content }}>{% endfor %}")
    with pytest.raises(ConfigError, match=r"was begun with model\.chat_template = "):
        generate(settings={"model.chat_template": str(moved)})


def test_stop_tokens_end_answers_and_a_repetition_penalty_changes_them(generate: Generate) -> None:
    free = rows_of(generate(log_probs=True))
    stop = free[0].completions[0].token_ids[1]
    stopped = rows_of(generate(log_probs=True, output="stopped.jsonl", stop_token_ids=[stop]))
    for before, after in zip(free, stopped, strict=True):
        tokens = before.completions[0].token_ids
        end = tokens.index(stop) + 1 if stop in tokens else len(tokens)
        assert after.completions[0].token_ids == tokens[:end]
    assert stopped[0].completions[0].finish_reason == "stop"
    varied = rows_of(generate(log_probs=True, output="varied.jsonl", repetition_penalty=5.0))
    assert [row.completions for row in varied] != [row.completions for row in free]
    with pytest.raises(ConfigError, match=r"was begun with generation\.repetition_penalty = 5\.0"):
        generate(output="varied.jsonl", limit=2)


def test_the_engine_s_number_type_is_part_of_an_answer_and_its_batch_size_is_not(tmp_path: Path) -> None:
    def origin(**options: Any) -> dict[str, object]:
        flags = {"model.path": str(tiny_model()), "generation.engine": "vllm", "generation.options": options}
        config = load_config("generate", None, flags=flags, environ={}).config
        assert isinstance(config, GenerateConfig)
        return origin_of(config, locate(config.model))

    assert origin() == origin(dtype="model") == origin(max_num_seqs=4)
    assert origin() != origin(dtype="float16")


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

class Dies(RowEngine):
    '''Its GPU is gone after the first batch.'''

    def __init__(self, model):
        super().__init__(Faults())

    def generate(self, prompts, sampling):
        if self.calls:
            raise RuntimeError("CUDA error: an illegal memory access was encountered")
        return super().generate(prompts, sampling)
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


def test_an_engine_that_dies_ends_the_run_with_an_error_and_records_nothing(generate: Generate, tmp_path: Path) -> None:
    (tmp_path / "engines.py").write_text(ENGINE)
    with pytest.raises(RolloutError, match="CUDA error") as caught:
        generate(engine=f"{tmp_path / 'engines.py'}:Dies")
    assert caught.value.exit_code == 5
    assert [(row.prompt.row_id, row.error) for row in rows_of(tmp_path / "answers.jsonl")] == [
        (row, "") for row in range(4)
    ]


def test_a_file_that_is_being_written_is_left_to_its_writer(generate: Generate) -> None:
    from rlkit.generation.origin import only_writer

    output = generate(limit=2)
    with (
        only_writer(output),
        pytest.raises(ConfigError, match=r"another `rlkit generate` \(process \d+ on .+\) is writing"),
    ):
        generate()


def test_a_file_that_another_begins_is_left_to_it_before_its_first_answer(generate: Generate, tmp_path: Path) -> None:
    from rlkit.generation.origin import check_origin, only_writer, origin_path

    output = tmp_path / "answers.jsonl"
    with only_writer(output):
        check_origin(output, {"model.path": "another"})
        with pytest.raises(ConfigError, match="is writing"):
            generate(output=str(output))
        assert "another" in origin_path(output).read_text()


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    """A peft adapter on the tiny model that changes every layer."""
    folder = tmp_path / "adapter"
    base = AutoModelForCausalLM.from_pretrained(tiny_model(), dtype=torch.float32)
    adapted = peft.get_peft_model(base, peft.LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "down_proj"]))
    generator = torch.Generator().manual_seed(0)
    for name, parameter in adapted.named_parameters():
        if "lora_" in name:
            parameter.data = torch.randn(parameter.shape, generator=generator) / 4
    adapted.save_pretrained(folder)
    return folder


def test_prompts_with_images_are_refused_where_nothing_takes_them(generate: Generate, tmp_path: Path) -> None:
    """The engine hf takes none whatever the model is; a model of text takes none whatever the engine is."""
    rows = [{"prompt": "1+2="}, {"prompt": "1+2=", "images": ["data:image/png;base64,aGVsbG8="]}]
    path = tmp_path / "images.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    for engine, named in (("hf", "rollout engine hf takes"), ("vllm", "the model in .* takes")):
        with pytest.raises(DataError, match=rf"prompt 1 \(rows counted from 0\) has images, and {named} text only"):
            generate(prompts=[str(path)], engine=engine)
    assert not (tmp_path / "answers.jsonl").exists()


def test_an_adapter_s_folder_answers_as_the_merged_model(generate: Generate, adapter: Path, tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    shutil.copytree(tiny_model(), whole)
    base = AutoModelForCausalLM.from_pretrained(tiny_model(), dtype=torch.float32)
    peft.PeftModel.from_pretrained(base, adapter).merge_and_unload().save_pretrained(whole)
    texts = {
        name: [[c.text for c in row.completions] for row in rows_of(generate(output=f"{name}.jsonl", model=model))]
        for name, model in (("adapter", adapter), ("whole", whole), ("base", tiny_model()))
    }
    assert texts["adapter"] == texts["whole"]
    assert texts["adapter"] != texts["base"]


def test_a_changed_adapter_does_not_continue_the_file_of_another(generate: Generate, adapter: Path) -> None:
    generate(model=adapter, limit=4)
    weights = adapter / "adapter_model.safetensors"
    tensors = load_file(weights)
    save_file({name: tensor + 1 for name, tensor in tensors.items()}, weights)
    with pytest.raises(ConfigError, match="was begun with adapter = "):
        generate(model=adapter)


def test_an_adapter_without_its_base_model_is_refused_before_anything_loads(generate: Generate, adapter: Path) -> None:
    config = adapter / "adapter_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "base_model_name_or_path": "/gone"}))
    resolved = load_config("generate", None, flags={"model.path": str(adapter)}, environ={})
    with pytest.raises(RLKitError, match=r"is on '/gone', where there is no model .*correct base_model_name_or_path"):
        check_model(resolved)
