"""init, SFT, PPO, generate, eval, as a user types them, on the quickstart project made small."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

SMALL = (
    *("--reward", "graded.py:score", "--steps", "3", "--set", "rollout.prompts_per_step=16"),
    *("--set", "algorithm.mini_batch_samples=32", "--set", "trainer.validate_every=2"),
)


@pytest.fixture(scope="module")
def trained(quickstart, rlkit_command) -> Path:
    rlkit_command(quickstart, "train", "ppo", "ppo.toml", *SMALL)
    return quickstart


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_run_leaves_everything_that_is_promised(trained):
    run = trained / "runs" / "ppo"
    described = json.loads((run / "run.json").read_text())
    assert described["status"] == "finished"
    assert described["config"]["trainer"]["steps"] == 3
    assert described["origins"]["trainer.steps"] == "--steps"
    assert {plugin["name"] for plugin in described["plugins"]} >= {"fsdp", "hf", "qwen3", "graded.py:score"}
    assert described["versions"]["torch"]
    events = [(entry["event"], entry["step"]) for entry in lines(run / "metrics.jsonl")]
    done = [event for event in events if event[0] != "checkpoint"]
    assert done == [("validation", 0), ("step", 1), ("step", 2), ("validation", 2), ("step", 3), ("validation", 3)]
    # Written beside the steps: the best so far, and the last.
    assert [event for event in events if event[0] == "checkpoint"] == [("checkpoint", 2), ("checkpoint", 3)]
    assert sorted(path.name for path in (run / "rollouts").iterdir()) == [f"step_{n:06d}.parquet" for n in (1, 2, 3)]
    assert (run / "checkpoints" / "step_000003" / "manifest.json").is_file()
    assert "</html>" in (run / "report.html").read_text()
    assert "validation after step 3" in (run / "log.txt").read_text()


def test_models_open_in_transformers_and_equal_their_checkpoint(trained):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    run = trained / "runs" / "ppo"
    token_ids = AutoTokenizer.from_pretrained(run / "model")("12+7=?", return_tensors="pt")["input_ids"]
    folders = [run / "model", run / "checkpoints" / "step_000003" / "model", trained / "runs" / "sft" / "model"]
    logits = [AutoModelForCausalLM.from_pretrained(folder).eval()(token_ids).logits for folder in folders]
    assert torch.equal(logits[0], logits[1])
    assert not torch.equal(logits[0], logits[2])


def test_nothing_in_a_run_is_a_pickle(trained):
    for path in filter(Path.is_file, (trained / "runs").rglob("*")):
        assert path.suffix in {".json", ".jsonl", ".safetensors", ".parquet", ".html", ".txt", ".jinja"}, path
        assert not path.read_bytes()[:2].startswith((b"\x80\x02", b"\x80\x04", b"\x80\x05")), path


def test_rollouts_hold_what_a_replay_of_the_update_needs(trained):
    import torch
    from pyarrow import parquet

    rows = parquet.read_table(trained / "runs" / "ppo" / "rollouts" / "step_000002.parquet").to_pylist()
    assert len(rows) == 64
    for row in rows:
        tokens = len(row["response_ids"])
        for column in (
            "response_mask",
            "loss_mask",
            "rollout_log_probs",
            "old_log_probs",
            "advantages",
            "returns",
            "old_values",
        ):
            assert len(row[column]) == tokens, column
        assert row["policy_version"] == 2  # two mini-batches a step
        assert row["score"] == pytest.approx(min(len(row["response"]), 20) / 20)
    difference = torch.tensor(
        [a - b for row in rows for a, b in zip(row["rollout_log_probs"], row["old_log_probs"], strict=True)]
    )
    assert difference.abs().max() < 1e-3


def test_generate_and_eval_compare_two_models(trained, rlkit_command):
    for name in ("sft", "ppo"):
        rlkit_command(
            trained,
            *("generate", "--model", f"runs/{name}/model", "--data", "data/heldout.jsonl"),
            *("--output", f"{name}.jsonl", "--max-tokens", "32"),
        )
    assert len(lines(trained / "sft.jsonl")) == 40
    shown = rlkit_command(trained, "eval", "sft.jsonl", "ppo.jsonl", "--output", "result.json").stdout
    assert "compared with sft.jsonl" in shown
    result = json.loads((trained / "result.json").read_text())
    assert [source["prompts"] for file in result["files"] for source in file["sources"]] == [40, 40]
    assert 0 <= result["comparisons"][0]["test"]["p_value"] <= 1


def test_a_completions_file_is_never_mixed(trained, rlkit_command):
    arguments = (
        "generate",
        "--data",
        "data/heldout.jsonl",
        "--output",
        "mixed.jsonl",
        "--max-tokens",
        "32",
        "--limit",
        "5",
    )
    rlkit_command(trained, *arguments, "--model", "runs/sft/model")
    refused = rlkit_command(trained, *arguments, "--model", "runs/ppo/model", code=2)
    assert "was begun with model.path = 'runs/sft/model'" in refused.stderr
    again = rlkit_command(trained, *arguments, "--model", "runs/sft/model")
    assert "is complete: 5 prompts answered" in again.stderr


def test_grpo_runs_without_a_critic_and_with_a_reference_when_asked(quickstart, rlkit_command):
    rlkit_command(quickstart, "train", "ppo", "grpo.toml", *SMALL, "--set", "algorithm.kl_loss=0.01")
    run = quickstart / "runs" / "grpo"
    steps = [entry["metrics"] for entry in lines(run / "metrics.jsonl") if entry["event"] == "step"]
    assert not any(name.startswith("critic/") for name in steps[0])
    assert steps[0]["actor/kl_to_reference"] == pytest.approx(0, abs=1e-6)
    assert steps[2]["actor/kl_to_reference"] > 0
    assert not (run / "checkpoints" / "step_000003" / "state" / "critic").exists()


def test_a_run_needs_no_file_and_speaks_json(quickstart, rlkit_command):
    result = rlkit_command(
        quickstart,
        *("train", "ppo", "--model", "runs/sft/model", "--data", "data/train.jsonl", "--reward", "reward.py:score"),
        *("--name", "no-file", "--advantage", "grpo", "--samples", "4", "--steps", "2", "--json"),
        *("--set", "rollout.prompts_per_step=8", "--set", "rollout.max_response_tokens=24"),
    )
    events = [json.loads(line) for line in result.stdout.splitlines()]
    assert [event["event"] for event in events] == ["run_started", "step", "step", "checkpoint", "run_finished"]
    assert events[-1]["status"] == "finished"


@pytest.mark.parametrize("hook", ["hook.py:Greeter"])
def test_a_hook_in_a_file_hears_the_run_and_a_broken_one_does_not_stop_it(quickstart, rlkit_command, hook):
    (quickstart / "hook.py").write_text(
        "from rlkit.plugin import hookimpl\n"
        "class Greeter:\n"
        "    @hookimpl\n"
        "    def run_started(self, run):\n        print('hello', run.name)\n"
        "    @hookimpl\n"
        "    def step_finished(self, step):\n        raise RuntimeError('out of paper')\n"
    )
    arguments = ("sft", "sft.toml", "--name", "greeted", "--set", "sft.steps=3", "--set", f"run.hooks=['{hook}']")
    result = rlkit_command(quickstart, *arguments)
    assert "hello greeted" in result.stdout
    assert result.stderr.count("RuntimeError: out of paper") == 1


def test_gsm8k_goes_through_the_same_commands(shared_data, tmp_path, rlkit_command):
    """Real data, cut to what a test may take; the whole of it was run by hand."""
    train, test = shared_data / "gsm8k_train.jsonl", shared_data / "gsm8k_test.jsonl"
    rlkit_command(
        tmp_path,
        *("models", "create", "start", "--family", "qwen3", "--size", "tiny", "--tokenizer", "bpe"),
        *("--tokenizer-data", str(train), "--vocab-size", "1024"),
    )
    limits = ("--set", "data.limit=64", "--set", "data.max_length=1500")
    rlkit_command(tmp_path, "sft", "--model", "start", "--data", str(train), "--epochs", "1", *limits)
    rlkit_command(
        tmp_path,
        *("train", "ppo", "--model", "runs/sft/model", "--data", str(train), "--reward", "gsm8k", "--steps", "2"),
        *("--set", "data.limit=64", "--set", "data.max_prompt_tokens=1200", "--set", "rollout.prompts_per_step=8"),
        *("--set", "rollout.max_response_tokens=64"),
    )
    generate = ("generate", "--data", str(test), "--output", "test.jsonl", "--limit", "32", "--max-tokens", "64")
    rlkit_command(tmp_path, *generate, "--model", "runs/ppo/model", "--set", "generation.max_prompt_tokens=1200")
    shown = rlkit_command(tmp_path, "eval", "test.jsonl", "--reward", "gsm8k").stdout
    assert "32" in shown and "95 % interval" in shown


def test_engines_and_backends_that_are_not_selected_are_never_imported(
    quickstart, tmp_path, rlkit_command, monkeypatch
):
    """Decoys stand where Ray, vLLM and Megatron would be; importing one leaves a trace."""
    for name in ("ray", "vllm", "megatron"):
        (tmp_path / name).mkdir()
        trace = tmp_path / f"{name}-was-imported"
        (tmp_path / name / "__init__.py").write_text(f"open({str(trace)!r}, 'w').close()\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    rlkit_command(quickstart, "train", "ppo", "ppo.toml", *SMALL, "--name", "decoys", "--steps", "1")
    rlkit_command(
        quickstart,
        *("generate", "--model", "runs/decoys", "--data", "data/heldout.jsonl", "--output", "decoys.jsonl"),
        *("--max-tokens", "8", "--limit", "4"),
    )
    assert not list(tmp_path.glob("*-was-imported"))
