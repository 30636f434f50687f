"""What --dry-run says: the right arithmetic, the right roles, nothing heavy loaded."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from rlkit.config.load import load_config
from rlkit.errors import DataError
from rlkit.pipelines.plan import build_plan
from rlkit.pipelines.plan_render import render_plan
from rlkit.testing.tiny_model import write_tiny_model


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plan")
    write_tiny_model(folder / "model")
    (folder / "prompts.jsonl").write_text('{"prompt": "1+1=", "answer": "2"}\n' * 100)
    (folder / "chats.jsonl").write_text('{"messages": []}\n' * 50)
    return folder


def plan(project: Path, kind: str, *assignments: str):
    basic = [f"model.path={project / 'model'}"]
    if kind == "ppo":
        basic += [f"data.train={project / 'prompts.jsonl'}", "reward.functions=exact_match"]
    if kind == "sft":
        basic += [f"data.train={project / 'chats.jsonl'}"]
    if kind == "generate":
        basic += [f"generation.prompts={project / 'prompts.jsonl'}"]
    if kind == "eval":
        basic = [f"evaluation.completions={project / 'prompts.jsonl'}"]
    return build_plan(
        load_config(kind, assignments=[*basic, "run.device=cpu", *assignments] if kind != "eval" else basic, environ={})
    )


def test_ppo_arithmetic_from_prompts_to_optimizer_steps(project):
    made = plan(
        project,
        "ppo",
        "rollout.prompts_per_step=16",
        "rollout.samples_per_prompt=8",
        "algorithm.mini_batch_samples=32",
        "algorithm.epochs=3",
        "trainer.steps=10",
        "data.max_prompt_tokens=60",
        "rollout.max_response_tokens=40",
        "actor.micro_batch_tokens=1000",
    )
    arithmetic = dict(made.arithmetic)
    assert arithmetic["samples"] == "128 a step = 16 prompts x 8 samples"
    assert arithmetic["mini-batches"] == "4 of 32 samples, 3 epochs"
    assert arithmetic["micro-batches"].startswith("at most 4 of 1,000 tokens")
    assert arithmetic["optimizer steps"] == "12 a step x 10 steps = 120"


def test_micro_batches_hold_whole_rows_only(project):
    lengths = ("data.max_prompt_tokens=60", "rollout.max_response_tokens=40")
    batch = ("rollout.prompts_per_step=4", "rollout.samples_per_prompt=8")

    def micro_batches(budget):
        arithmetic = dict(plan(project, "ppo", *lengths, *batch, f"actor.micro_batch_tokens={budget}").arithmetic)
        return arithmetic["micro-batches"]

    # 3 rows of 100 fit into 399, so 32 rows take 11 micro-batches, not ceil(3200 / 399) = 9.
    assert micro_batches(399).startswith("at most 11 of 399 tokens")
    assert micro_batches(50).startswith("at most 32 of 100 tokens")


def test_a_longest_row_beyond_the_budget_needs_its_memory(project):
    lengths = ("data.max_prompt_tokens=60", "rollout.max_response_tokens=40")

    def activations(budget):
        phases = {
            phase.name: phase.parts
            for phase in plan(project, "ppo", *lengths, f"actor.micro_batch_tokens={budget}").phases
        }
        return phases["actor update"]["activations"]

    assert activations(10) == activations(100) < activations(200)


def test_more_prompts_a_step_than_there_are_is_refused(project):
    with pytest.raises(DataError, match=r"rollout\.prompts_per_step = 101, but data\.train has 100 prompts"):
        plan(project, "ppo", "rollout.prompts_per_step=101")
    with pytest.raises(DataError, match="has 20 prompts"):
        plan(project, "ppo", "data.limit=20")


def test_mixed_precision_shows_its_copies_of_the_weights(project):
    phases = {phase.name: phase.parts for phase in plan(project, "ppo", "model.dtype=bfloat16").phases}
    assert phases["actor update"]["weights in bfloat16"] * 2 == phases["actor update"]["actor parameters"]
    assert "weights in bfloat16" not in phases["rollout"]
    assert not any("weights in" in name for phase in plan(project, "sft").phases for name in phase.parts)


def test_the_engine_s_own_options_bound_its_cache(project):
    def cache(*assignments):
        return plan(project, "ppo", *assignments).phases[0].parts["kv cache"]

    assert cache("rollout.options.max_batch_tokens=2000") < cache() / 50
    assert cache("rollout.samples_per_prompt=2") == cache("rollout.samples_per_prompt=1") * 2


def test_sft_never_counts_on_more_than_the_model_s_context(project):
    arithmetic = dict(plan(project, "sft", "data.max_length=4096").arithmetic)
    assert "longest conversation 128" in arithmetic["micro-batches"]


def test_what_changes_the_arithmetic_is_said(project):
    changes = ("algorithm.sampling_rounds=3", "algorithm.target_kl=0.1", "algorithm.advantage=grpo")
    arithmetic = dict(plan(project, "ppo", *changes).arithmetic)
    assert arithmetic["prompts"].endswith("a step, replaced in up to 3 rounds when they teach nothing")
    assert arithmetic["optimizer steps"].startswith("at most ")
    greedy = dict(plan(project, "ppo", "algorithm.advantage=remax").arithmetic)
    assert greedy["samples"].endswith("and one greedy answer to each prompt")
    talking = dict(plan(project, "ppo", "rollout.tools=['a.py:add']", "rollout.environment=b.py:Game").arithmetic)
    assert talking["conversations"] == "up to 8 turns with a.py:add, b.py:Game"
    assert "conversations" not in arithmetic


def test_roles_are_exactly_those_that_the_algorithm_asks_for(project):
    def present(*assignments):
        return {role.role: not role.absent for role in plan(project, "ppo", *assignments).roles}

    assert present() == {"actor": True, "critic": True, "reference": False, "rollout engine": True, "reward": True}
    grpo = present("algorithm.advantage=grpo", "algorithm.kl_loss=0.01")
    assert (grpo["critic"], grpo["reference"]) == (False, True)


def test_with_adapters_there_is_no_reference_model_and_little_to_optimize(project):
    penalty = ("algorithm.kl_loss=0.1", "model.dtype=bfloat16")
    plain, adapted = (
        plan(project, "ppo", *penalty, *more) for more in ((), ("actor.lora.rank=2", "critic.lora.rank=2"))
    )
    roles = {role.role: role for role in adapted.roles}
    assert roles["reference"].absent == "the actor without its adapter"
    assert all("reference parameters" not in phase.parts for phase in adapted.phases)
    before, after = ({phase.name: phase.parts for phase in made.phases} for made in (plain, adapted))
    for part in ("actor optimizer", "critic optimizer", "gradients", "weights in bfloat16"):
        assert after["critic update"][part] < before["critic update"][part] / 3, part
    assert after["actor update"]["actor parameters"] < before["actor update"]["actor parameters"]
    named = plan(project, "ppo", *penalty, "actor.lora.rank=2", f"reference.path={project / 'model'}")
    assert all("reference parameters" in phase.parts for phase in named.phases)
    (update,) = plan(project, "sft", "sft.lora.rank=2").phases
    assert update.parts["optimizer"] == 2 * update.parts["gradients"] < update.parts["parameters"]


def test_phases_hold_what_is_in_memory_then(project):
    phases = {phase.name: phase.parts for phase in plan(project, "ppo", "algorithm.kl_loss=0.1").phases}
    assert list(phases) == ["rollout", "log-probs", "critic update", "actor update"]
    assert "kv cache" in phases["rollout"] and "kv cache" not in phases["actor update"]
    assert "gradients" in phases["actor update"] and "gradients" not in phases["log-probs"]
    assert all("reference parameters" in parts for parts in phases.values())
    no_critic = plan(project, "ppo", "algorithm.advantage=grpo")
    assert "critic update" not in [phase.name for phase in no_critic.phases]
    assert not any(name.startswith("critic") for phase in no_critic.phases for name in phase.parts)


def test_sft_counts_rows_and_steps(project):
    arithmetic = dict(plan(project, "sft", "sft.epochs=3", "sft.batch_size=32").arithmetic)
    assert arithmetic["conversations"] == "50, 3 epochs"
    assert arithmetic["optimizer steps"] == "5"


def test_generate_and_eval_have_plans_too(project):
    made = plan(project, "generate", "generation.batch_prompts=30", "generation.max_prompt_tokens=20")
    assert dict(made.arithmetic)["batches"] == "4 of 30 prompts"
    assert dict(plan(project, "eval").arithmetic)["judged by"] == "exact_match"


def test_foreign_code_is_named(project):
    assert any(
        "Python code that comes with" in note for note in plan(project, "sft", "model.trust_remote_code=true").notes
    )
    assert not plan(project, "sft").notes


def test_a_hub_model_that_is_not_here_leaves_sizes_unknown(project):
    made = plan(project, "ppo", "model.path=nobody/no-such-model-here")
    assert not made.phases
    assert any("sizes unknown" in note and "will download it" in note for note in made.notes)


def test_the_text_fits_a_terminal_and_names_everything(project):
    text = render_plan(plan(project, "ppo", "algorithm.kl_loss=0.1"))
    assert max(map(len, text.splitlines())) <= 160
    for word in ("rlkit-fsdp", "rlkit-hf", "exact_match", "qwen3", "together", "optimizer steps", "100 rows"):
        assert word in text


def test_a_dry_run_loads_nothing_heavy_and_writes_nothing(project):
    script = (
        "import sys\n"
        "from rlkit.cli.main import main\n"
        "try:\n    main()\nexcept SystemExit as error:\n    assert not error.code, error.code\n"
        "heavy = {'torch', 'transformers', 'ray', 'vllm', 'datasets'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    before = sorted(project.rglob("*"))
    arguments = ["train", "ppo", "--model", "model", "--data", "prompts.jsonl", "--reward", "exact_match"]
    arguments += ["--set", "data.max_prompt_tokens=32", "--set", "rollout.max_response_tokens=32"]
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments, "--dry-run", "--json"],
        cwd=project,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    content = json.loads(done.stdout)
    assert content["kind"] == "ppo"
    assert content["peak_bytes"] == max(phase["total_bytes"] for phase in content["phases"]) > 0
    assert sorted(project.rglob("*")) == before


class TestRelatedModels:
    def test_a_head_on_the_actor_s_trunk_is_all_that_the_critic_takes(self, project):
        own, shared = plan(project, "ppo"), plan(project, "ppo", "critic.shared_trunk=true")
        roles = {role.role: role for role in shared.roles}
        assert (roles["critic"].model, roles["critic"].absent) == ("a head on the actor's trunk", "")
        hidden = json.loads((project / "model" / "config.json").read_text())["hidden_size"]
        assert roles["critic"].parameters == hidden
        phases = {phase.name: phase.parts for phase in shared.phases}
        assert list(phases) == ["rollout", "log-probs", "actor update"]
        assert phases["rollout"]["value head parameters"] == 4 * hidden
        assert phases["rollout"]["value head optimizer"] == 8 * hidden
        assert not any(name.startswith("critic") for parts in phases.values() for name in parts)
        assert shared.peak_bytes < own.peak_bytes

    def test_a_reference_that_moves_is_held_in_float32(self, project):
        def held(*assignments):
            made = plan(project, "ppo", "model.dtype=bfloat16", "algorithm.kl_loss=0.1", *assignments)
            return made.phases[0].parts["reference parameters"]

        assert held("reference.ema_decay=0.9") == held("reference.refresh_every=3") == 2 * held()

    def test_with_lora_a_reference_that_moves_is_a_model_of_its_own(self, project):
        lora = ("algorithm.kl_loss=0.1", "actor.lora.rank=4")
        moving = plan(project, "ppo", *lora, "reference.ema_decay=0.9")
        assert "reference parameters" in moving.phases[0].parts
        assert "reference parameters" not in plan(project, "ppo", *lora).phases[0].parts


def test_replicas_that_share_the_memory_are_counted_each(project):
    def rollout(*assignments):
        return plan(project, "ppo", *assignments)

    one, two = rollout(), rollout("rollout.placement=colocated", "rollout.replicas=2")
    roles = {role.role: role.place for role in two.roles}
    assert (roles["actor"], roles["rollout engine"]) == ("cpu", "2 replicas on cpu")
    before, after = one.phases[0].parts, two.phases[0].parts
    assert after["engine parameters"] == 2 * before["engine parameters"]
    assert after["weights in shared memory"] == 2 * before["engine parameters"]
    assert before["kv cache"] <= after["kv cache"] < 2 * before["kv cache"]
    apart = rollout("rollout.placement=standalone", "rollout.replicas=2", "run.device=cuda:0")
    assert "engine parameters" not in apart.phases[0].parts
    assert "kv cache" not in apart.phases[0].parts


def test_replicas_of_a_generation_share_its_batch(project):
    one, two = (plan(project, "generate", f"generation.replicas={count}") for count in (0, 2))
    assert two.roles[0].place == "2 replicas on cpu"
    assert two.phases[0].parts["engine parameters"] == 2 * one.phases[0].parts["engine parameters"]
