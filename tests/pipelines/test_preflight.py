"""What is refused before anything heavy loads: all faults together, each with its key, its value and the way out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rlkit.config.load import load_config
from rlkit.errors import BrokenPluginError, ConfigError, ModelError, PluginError, RLKitError
from rlkit.pipelines.preflight import REQUIRED, check_run, selections
from rlkit.plugin.spec import PluginKind
from rlkit.testing.tiny_model import tiny_model

CONFIG_JSON = {
    "architectures": ["Qwen3ForCausalLM"],
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "vocab_size": 10,
    "max_position_embeddings": 1024,
}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text(json.dumps(CONFIG_JSON))
    (tmp_path / "prompts.jsonl").write_text('{"prompt": "1+1=", "answer": "2"}\n')
    (tmp_path / "reward.py").write_text("def score(response): return 0\n")
    return tmp_path


GOOD = ("model.path=model", "data.train=prompts.jsonl", "reward.functions=exact_match")


def faults(kind: str, *assignments: str) -> list[str]:
    """Lines of the error, or none."""
    try:
        check_run(load_config(kind, assignments=assignments, environ={}))
    except RLKitError as error:
        return str(error).splitlines()
    return []


def test_a_good_run_passes(project):
    assert faults("ppo", *GOOD) == []
    assert faults("sft", "model.path=model", "data.train=prompts.jsonl") == []
    assert faults("generate", "model.path=model", "generation.prompts=prompts.jsonl") == []
    assert faults("eval", "evaluation.completions=prompts.jsonl") == []


@pytest.mark.parametrize("kind", REQUIRED)
def test_every_required_value_is_asked_for_with_its_flag(project, kind):
    lines = faults(kind)
    assert len(lines) == len(REQUIRED[kind])
    for required, line in zip(REQUIRED[kind], lines, strict=True):
        assert line.startswith(f"{required.key} is missing")
        assert required.flag in line


def test_the_project_file_is_named_where_a_value_belongs(project):
    file = project / "mine.toml"
    file.write_text("[run]\nseed = 1\n")
    with pytest.raises(ConfigError, match=r"or set it in .*mine\.toml"):
        check_run(load_config("eval", file, environ={}))


def test_faults_of_different_kinds_are_told_together_and_once_each(project):
    lines = faults(
        "ppo", "model.path=./nowhere", "data.train=promts.jsonl", "reward.functions=exact_mach", "rollout.engine=hff"
    )
    assert len(lines) == 4
    for part in ("'hff'", "'exact_mach'", "promts.jsonl", "./nowhere"):
        assert sum(part in line for line in lines) == 1


def test_the_first_fault_decides_the_exit_code(project):
    with pytest.raises(PluginError) as caught:
        check_run(load_config("ppo", assignments=[*GOOD, "rollout.engine=hff", "model.path=./nowhere"], environ={}))
    assert caught.value.exit_code == 3


def test_a_plugin_s_options_are_checked_by_its_own_class(project):
    assert faults("ppo", *GOOD, "rollout.options.max_batch_tokens=-1") == [
        "rollout.options.max_batch_tokens = -1: must be greater than 0"
    ]
    assert (
        "did you mean rollout.options.max_batch_tokens?" in faults("ppo", *GOOD, "rollout.options.max_batch_token=1")[0]
    )
    assert "did you mean actor.options.cpu_offload?" in faults("ppo", *GOOD, "actor.options.cpu_ofload=true")[0]


def test_options_of_a_plugin_that_has_none_are_refused(project, install):
    spec = "PluginSpec(kind=PluginKind.ROLLOUT_ENGINE, target='acme:Engine', summary='.')"
    source = f"from rlkit.plugin import PluginKind, PluginSpec\nspec = {spec}\n"
    install("acme", {"rlkit.rollout_engines": {"acme": "acme_spec:spec"}}, {"acme_spec": source})
    assert faults("ppo", *GOOD, "rollout.engine=acme") == []
    assert faults("ppo", *GOOD, "rollout.engine=acme", "rollout.options.speed=1", "rollout.options.depth=2") == [
        "rollout.options: rollout engine 'acme' has no options, but got depth, speed"
    ]


def test_a_reward_in_a_file_is_looked_for_but_not_run(project):
    (project / "raises.py").write_text("raise RuntimeError\n")
    assert faults("ppo", *GOOD[:2], "reward.functions=raises.py:score") == []
    assert "file none.py does not exist" in faults("ppo", *GOOD[:2], "reward.functions=none.py:score")[0]


@pytest.mark.parametrize("key", ["model.path", "critic.path", "reference.path"])
def test_every_model_of_the_run_is_looked_for(project, key):
    (project / "empty").mkdir()
    (line,) = faults("ppo", *GOOD, f"{key}=empty")
    assert "'empty' has no config.json" in line


def test_a_hub_id_is_left_alone(project):
    assert faults("ppo", *GOOD, "model.path=nobody/no-such-model") == []


@pytest.mark.parametrize(
    ("kind", "prompt", "answer"),
    [("ppo", "data", "rollout"), ("generate", "generation", "generation")],
)
def test_prompt_and_answer_must_fit_the_model_s_context(project, kind, prompt, answer):
    good = GOOD if kind == "ppo" else ("model.path=model", "generation.prompts=prompts.jsonl")
    lengths = (f"{prompt}.max_prompt_tokens=500", f"{answer}.max_response_tokens=")
    assert faults(kind, *good, lengths[0], f"{lengths[1]}524") == []
    (line,) = faults(kind, *good, lengths[0], f"{lengths[1]}525")
    assert f"{prompt}.max_prompt_tokens 500 + {answer}.max_response_tokens 525 exceed" in line
    assert "context of 1024 tokens" in line


def test_validation_answers_must_fit_the_context_where_there_are_any(project):
    lengths = ("data.max_prompt_tokens=500", "rollout.max_response_tokens=10", "validation.max_response_tokens=525")
    assert faults("ppo", *GOOD, *lengths) == []
    (line,) = faults("ppo", *GOOD, *lengths, "data.validation=prompts.jsonl")
    assert "data.max_prompt_tokens 500 + validation.max_response_tokens 525 exceed" in line


def test_a_damaged_model_config_is_told(project):
    (project / "model" / "config.json").write_text("{")
    with pytest.raises(ModelError, match="is not valid JSON"):
        check_run(load_config("ppo", assignments=GOOD, environ={}))


def test_a_plugin_that_needs_a_missing_module_says_how_to_get_it(project, install):
    spec = (
        "PluginSpec(kind=PluginKind.REWARD_FUNCTION, target='acme:score', summary='.', requires=('no_such_module',), "
    )
    source = f"from rlkit.plugin import PluginKind, PluginSpec\nspec = {spec}install_hint='pip install acme[all]')\n"
    install("acme", {"rlkit.reward_functions": {"acme": "acme_spec:spec"}}, {"acme_spec": source})
    (line,) = faults("ppo", *GOOD[:2], "reward.functions=acme")
    assert "needs no_such_module; pip install acme[all]" in line


def test_a_plugin_for_a_newer_api_is_refused(project, install):
    spec = "PluginSpec(kind=PluginKind.REWARD_FUNCTION, target='acme:score', summary='.', api_version=99)"
    source = f"from rlkit.plugin import PluginKind, PluginSpec\nspec = {spec}\n"
    install("acme", {"rlkit.reward_functions": {"acme": "acme_spec:spec"}}, {"acme_spec": source})
    with pytest.raises(BrokenPluginError, match="plugin API 99"):
        check_run(load_config("ppo", assignments=[*GOOD[:2], "reward.functions=acme"], environ={}))


def test_every_plugin_that_a_run_names_is_selected(project):
    resolved = load_config("ppo", assignments=[*GOOD, "model.family=qwen3", 'run.hooks=["tensorboard"]'], environ={})
    assert [(selection.kind, selection.name) for selection in selections(resolved)] == [
        (PluginKind.ACTOR_BACKEND, "fsdp"),
        (PluginKind.ROLLOUT_ENGINE, "hf"),
        (PluginKind.ADVANTAGE_ESTIMATOR, "gae"),
        (PluginKind.POLICY_LOSS, "ppo_clip"),
        (PluginKind.REWARD_FUNCTION, "exact_match"),
        (PluginKind.MODEL_FAMILY, "qwen3"),
        (PluginKind.HOOK, "tensorboard"),
    ]


def test_a_reference_of_another_architecture_that_shall_follow_the_actor_is_refused(project):
    (project / "other").mkdir()
    (project / "other" / "config.json").write_text(json.dumps({**CONFIG_JSON, "num_hidden_layers": 2}))
    settings = (*GOOD, "algorithm.kl_loss=0.1", "reference.path=other")
    assert faults("ppo", *settings) == []
    (line,) = faults("ppo", *settings, "reference.ema_decay=0.9")
    assert line.startswith("reference.path = 'other' cannot take over the weights of 'model'")


def test_an_environment_may_stand_for_the_reward_and_its_file_must_exist(project):
    model_and_data = GOOD[:2]
    assert faults("ppo", *model_and_data, "rollout.environment=reward.py:Game") == []
    lines = faults("ppo", *GOOD, "rollout.environment=game.py:Game", "rollout.tools=['tools.py:add']")
    assert lines == [
        "rollout.tools: file tools.py of 'tools.py:add' does not exist",
        "rollout.environment: file game.py of 'game.py:Game' does not exist",
    ]


def test_replicas_that_the_engine_cannot_be_are_refused(project):
    keys = ("rollout.placement=standalone", "rollout.devices_per_replica=2")
    (line,) = faults("ppo", *GOOD, *keys)
    assert line.startswith("rollout.devices_per_replica = 2, but rollout engine 'hf' computes on one device")
    assert faults("ppo", *GOOD, "rollout.placement=standalone", "rollout.replicas=2") == []
    assert "cluster.address" in faults("generate", "cluster.address=ray://head")[0]


@pytest.mark.parametrize(
    ("assignments", "message"),
    [
        (
            ("actor.lora.rank=2", "actor.lora.targets=['q_prj']"),
            "actor.lora.targets: Qwen3ForCausalLM has no linear layer 'q_prj'",
        ),
        (
            ("critic.lora.rank=2", "critic.lora.targets=['q_proj', 'q_prj']"),
            "critic.lora.targets: Qwen3Model has no linear layer 'q_prj'",
        ),
    ],
)
def test_a_misspelt_layer_of_an_adapter_is_named_before_anything_is_built(project, assignments, message):
    good = ("data.train=prompts.jsonl", "reward.functions=exact_match", f"model.path={tiny_model()}")
    (line,) = faults("ppo", *good, "data.max_prompt_tokens=16", "rollout.max_response_tokens=16", *assignments)
    assert message in line
    assert "Did you mean 'q_proj'?" in line


def test_layers_that_are_there_pass(project):
    model_and_data = (f"model.path={tiny_model()}", "data.train=prompts.jsonl")
    assert faults("sft", *model_and_data, "sft.lora.rank=2", "sft.lora.targets=['q_proj', '1.mlp.up_proj']") == []
    assert "sft.lora.targets" in faults("sft", *model_and_data, "sft.lora.rank=2", "sft.lora.targets=['embed']")[0]
