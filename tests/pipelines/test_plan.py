"""What --dry-run says: the right arithmetic, the right roles, nothing heavy loaded."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from rlkit.config.load import load_config
from rlkit.errors import DataError
from rlkit.pipelines.memory import write_bytes
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
        "actor.micro_batch_tokens=500",
    )
    arithmetic = dict(made.arithmetic)
    assert arithmetic["samples"] == "128 a step = 16 prompts x 8 samples"
    assert arithmetic["mini-batches"] == "4 of 32 samples, 3 epochs"
    assert arithmetic["micro-batches"].startswith("at most 8 of 448 tokens")
    assert arithmetic["optimizer steps"] == "12 a step x 10 steps = 120"


def test_micro_batches_hold_whole_rows_only(project):
    lengths = ("data.max_prompt_tokens=60", "rollout.max_response_tokens=40")
    batch = ("rollout.prompts_per_step=4", "rollout.samples_per_prompt=8")

    def micro_batches(budget):
        arithmetic = dict(plan(project, "ppo", *lengths, *batch, f"actor.micro_batch_tokens={budget}").arithmetic)
        return arithmetic["micro-batches"]

    # fsdp takes 384 of 399 on a CPU; 3 rows of 100 fit, so 32 rows take 11 micro-batches, not ceil(3200 / 384) = 9.
    assert micro_batches(399).startswith("at most 11 of 384 tokens")
    assert micro_batches(50).startswith("at most 32 of 100 tokens")


@pytest.mark.parametrize(("kind", "section"), [("sft", "sft"), ("ppo", "actor"), ("ppo", "critic")])
def test_what_the_backend_takes_of_the_token_budget_is_what_is_counted(project, kind, section):
    def update_bytes(tokens, *assignments):
        made = plan(project, kind, f"{section}.micro_batch_tokens={tokens}", *assignments)
        name = {"sft": "update", "actor": "actor update", "critic": "critic update"}[section]
        return next(phase.parts["activations"] for phase in made.phases if phase.name == name)

    short = (
        ("data.max_length=100",)
        if kind == "sft"
        else ("data.max_prompt_tokens=60", "rollout.max_response_tokens=40", "algorithm.mini_batch_samples=64")
    )
    assert update_bytes(768, *short) == update_bytes(8192, *short) > update_bytes(500, *short)
    assert update_bytes(8192, *short, "run.device=cuda") > update_bytes(768, *short, "run.device=cuda")


def test_too_little_memory_is_answered_with_a_setting_that_changes_something(project):
    made = replace(plan(project, "sft", "data.max_length=100"), device_bytes=1)
    assert "of 768 tokens" in dict(made.arithmetic)["micro-batches"]
    assert "lower micro_batch_tokens below the tokens of the micro-batches above" in render_plan(made)


def test_workers_that_share_a_model_on_a_cpu_take_the_whole_token_budget(project):
    spread = plan(project, "sft", "placement.workers=2", "sft.micro_batch_tokens=4096", "data.max_length=100")
    assert "of 4,096 tokens" in dict(spread.arithmetic)["micro-batches"]
    alone = plan(project, "sft", "placement.workers=1", "sft.micro_batch_tokens=4096", "data.max_length=100")
    assert "of 768 tokens" in dict(alone.arithmetic)["micro-batches"]


def test_a_backend_that_says_nothing_of_its_passes_takes_the_whole_token_budget(project):
    made = plan(project, "sft", "sft.backend=./backend.py:Backend", "data.max_length=100")
    assert "of 8,192 tokens" in dict(made.arithmetic)["micro-batches"]


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


GIB = 2**30


def cache_of(made, phase: str) -> int:
    return next(dict(each.parts).get("kv cache", 0) for each in made.phases if each.name == phase)


@pytest.mark.parametrize(
    ("environ", "option", "expected"), [({}, 0, 1), ({}, 3, 3), ({"VLLM_CPU_KVCACHE_SPACE": "2"}, 3, 2)]
)
def test_vllm_s_cache_is_counted_whole_and_on_a_cpu_through_every_phase(
    project, monkeypatch, environ, option, expected
):
    monkeypatch.delenv("VLLM_CPU_KVCACHE_SPACE", raising=False)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    engine = ("rollout.engine=vllm", f"rollout.options.kv_cache_gib={option}")
    made = plan(project, "ppo", *engine)
    assert {phase.name: cache_of(made, phase.name) for phase in made.phases} == dict.fromkeys(
        (phase.name for phase in made.phases), expected * GIB
    )
    assert made.notes == ()
    generate = ("generation.engine=vllm", f"generation.options.kv_cache_gib={option}")
    assert cache_of(plan(project, "generate", *generate), "rollout") == expected * GIB
    serve = ("serve.engine=vllm", f"serve.options.kv_cache_gib={option}")
    assert cache_of(plan(project, "serve", *serve), "serving") == expected * GIB


def test_on_a_gpu_vllm_gives_its_cache_back_and_the_plan_names_its_share(project):
    engine = ("run.device=cuda", "rollout.engine=vllm", "rollout.options.gpu_memory_utilization=0.3")
    told = plan(project, "ppo", *engine, "rollout.options.kv_cache_gib=4")
    assert cache_of(told, "rollout") == 4 * GIB
    assert cache_of(told, "actor update") == 0
    (note,) = plan(project, "ppo", *engine).notes
    assert note.startswith(
        "rollout engine vllm takes 30 % of the GPU for parameters, activations and KV cache together"
    )
    assert plan(project, "ppo", "run.device=cuda").notes == ()


def test_on_a_gpu_idle_models_are_in_their_own_phases_only_and_wait_on_the_host(project):
    models = ("run.device=cuda", "algorithm.advantage=gae", "algorithm.kl_loss=0.1")
    staying = {phase.name: phase.parts for phase in plan(project, "ppo", *models).phases}
    made = plan(project, "ppo", *models, "placement.offload_idle_models=true")
    moving = {phase.name: phase.parts for phase in made.phases}

    def models_in(phase):
        return {name.split()[0] for name in moving[phase] if name.startswith(("actor ", "critic ", "reference "))}

    assert list(moving) == ["rollout", "log-probs", "reference log-probs", "critic update", "actor update"]
    found = {phase: models_in(phase) for phase in moving}
    assert found == {
        "rollout": set(), "log-probs": {"actor"}, "reference log-probs": {"reference"}, "critic update": {"critic"},
        "actor update": {"actor"},
    }  # fmt: skip
    assert all(parts["engine parameters"] == staying["rollout"]["engine parameters"] for parts in moving.values())
    assert moving["reference log-probs"]["forward"] == staying["log-probs"]["forward"]
    assert set(staying["actor update"]) - set(moving["actor update"]) == {
        "critic parameters", "critic optimizer", "reference parameters",
    }  # fmt: skip
    waiting = sum(
        number for name, number in staying["rollout"].items() if name.split()[0] in ("actor", "critic", "reference")
    )
    assert made.notes == (
        f"models that wait take {write_bytes(waiting)} of host memory (placement.offload_idle_models)",
    )


def test_idle_models_stay_in_the_estimate_of_a_cpu_run(project):
    moving = plan(project, "ppo", "placement.offload_idle_models=true")
    assert (moving.phases, moving.notes) == (plan(project, "ppo").phases, ())


def test_a_value_head_is_where_the_actor_is(project):
    made = plan(
        project, "ppo", "run.device=cuda", "algorithm.advantage=gae", "critic.shared_trunk=true",
        "placement.offload_idle_models=true",
    )  # fmt: skip
    heads = {phase.name: "value head optimizer" in phase.parts for phase in made.phases}
    assert heads == {"rollout": False, "log-probs": True, "actor update": True}


def test_only_models_without_workers_of_their_own_wait(project):
    own = ("placement.workers=2", "placement.critic=1", "run.device=cuda", "algorithm.advantage=gae")
    made = plan(project, "ppo", *own, "placement.offload_idle_models=true")
    actor = next(phase for phase in made.phases if phase.name == "actor update").parts
    waiting = 2 * (actor["actor parameters"] + actor["actor optimizer"])  # half of it on each of the two
    assert f"models that wait take {write_bytes(waiting)} of host memory (placement.offload_idle_models)" in made.notes
