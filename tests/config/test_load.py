"""Where values come from, which source wins, and what each says when it is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from rlkit.config.load import load_config
from rlkit.errors import ConfigError


@pytest.fixture
def project(tmp_path: Path) -> Path:
    file = tmp_path / "ppo.toml"
    file.write_text("[actor]\nlr = 1e-4\n\n[rollout]\nsamples_per_prompt = 8\n\n[data]\ntrain = ['train.jsonl']\n")
    return file


def test_later_sources_win_and_every_value_knows_its_origin(project):
    resolved = load_config(
        "ppo",
        project,
        assignments=["rollout.samples_per_prompt=2", "trainer.steps=7"],
        flags={"trainer.steps": 9},
        flag_names={"trainer.steps": "--steps"},
        environ={"RLKIT__ACTOR__LR": "1e-5", "RLKIT__ACTOR__EPS": "1e-7", "HOME": "/"},
    )
    config = resolved.config
    assert (config.actor.lr, config.actor.eps) == (1e-5, 1e-7)
    assert (config.rollout.samples_per_prompt, config.trainer.steps) == (2, 9)
    origins = {key: str(origin) for key, origin in resolved.origins.items()}
    assert origins["actor.lr"] == "RLKIT__ACTOR__LR"
    assert origins["rollout.samples_per_prompt"] == "--set"
    assert origins["trainer.steps"] == "--steps"
    assert origins["data.train"].endswith("ppo.toml:8")
    assert origins["actor.weight_decay"] == "default"


def test_yaml_gives_the_same_config_as_toml(project, tmp_path):
    file = tmp_path / "ppo.yaml"
    file.write_text("actor:\n  lr: 1.0e-4\nrollout:\n  samples_per_prompt: 8\ndata:\n  train: [train.jsonl]\n")
    by_toml, by_yaml = (load_config("ppo", path, environ={}) for path in (project, file))
    assert by_yaml.config == by_toml.config
    assert str(by_yaml.origins["rollout.samples_per_prompt"]).endswith("ppo.yaml:4")


def test_paths_in_a_file_are_relative_to_the_file_and_others_to_the_folder_one_is_in(project, tmp_path, monkeypatch):
    (tmp_path / "train.jsonl").write_text("{}\n")
    (tmp_path / "reward.py").write_text("def score(response): return 0\n")
    project.write_text(
        '[data]\ntrain = ["train.jsonl"]\n[reward]\nfunctions = ["reward.py:score", "gsm8k"]\n[rollout]\nengine = "engine.py:Engine"\n'
    )
    (tmp_path / "engine.py").write_text("class Engine: ...\n")
    (tmp_path / "gsm8k").mkdir()  # a folder called like a plugin is no plugin
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    config = load_config("ppo", Path("..") / "ppo.toml", assignments=["model.path=mine"], environ={}).config
    assert config.data.train == ("../train.jsonl",)
    assert config.reward.functions == ("../reward.py:score", "gsm8k")
    assert config.run.output == "../runs"
    assert config.rollout.engine == "../engine.py:Engine"
    assert config.model.path == "mine"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("data.train=a.jsonl", ("a.jsonl",)),
        ("data.train=", ()),
        ('data.train=["a.jsonl", "b.jsonl"]', ("a.jsonl", "b.jsonl")),
    ],
)
def test_lists_can_be_set_by_one_value_or_as_toml(text, value):
    assert load_config("ppo", assignments=[text], environ={}).config.data.train == value


def test_paths_inside_tables_are_relative_to_the_file_too(tmp_path, monkeypatch):
    (tmp_path / "mine.py").touch()
    (tmp_path / "project.toml").write_text(
        '[evaluation.rewards]\nmath = "mine.py:score"\ncode = ["format", "mine.py:run"]\n'
    )
    monkeypatch.chdir("/")
    rewards = load_config("eval", tmp_path / "project.toml", environ={}).config.evaluation.rewards
    assert rewards == {"math": (f"{tmp_path}/mine.py:score",), "code": ("format", f"{tmp_path}/mine.py:run")}


def test_options_of_several_sources_are_merged(tmp_path):
    file = tmp_path / "ppo.toml"
    file.write_text("[rollout.options]\nmax_batch_tokens = 100\n")
    config = load_config("ppo", file, assignments=["rollout.options.max_prefill_tokens=7"], environ={}).config
    assert config.rollout.options == {"max_batch_tokens": 100, "max_prefill_tokens": 7}


def test_a_variable_of_another_kind_of_run_is_passed_over():
    load_config("sft", environ={"RLKIT__ROLLOUT__ENGINE": "hf"})
    with pytest.raises(ConfigError, match="RLKIT__ROLOUT__ENGINE"):
        load_config("sft", environ={"RLKIT__ROLOUT__ENGINE": "hf"})


def test_a_config_is_frozen():
    config = load_config("sft", environ={}).config
    with pytest.raises(ValueError, match="frozen"):
        config.sft.lr = 1.0


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("actor.lr=fast", "actor.lr = 'fast' (--set): "),
        ("actor.lr=-1", "actor.lr = -1 (--set): must be greater than 0"),
        ("actor.lr=nan", "actor.lr = nan (--set): must be a finite number"),
        ("rollout.top_p=1.5", "rollout.top_p = 1.5 (--set): must be less than or equal to 1"),
        ("actor.schedule=step", "actor.schedule = 'step' (--set): must be one of 'constant', 'cosine' or 'linear'"),
        ("trainer.steps=2.5", "trainer.steps = 2.5 (--set): "),
        ("rollout.temperature=0", "rollout.temperature = 0 (--set): must be greater than 0"),
        ("run.name=../up", "run.name = '../up' (--set): must be of the form letters, digits, dot, dash and underscore"),
        ("run.device=gpu", "run.device = 'gpu' (--set): must be of the form auto, cpu, cuda or cuda:N"),
        ("algorithm.mini_batch_samples=100", "algorithm.mini_batch_samples = 100 does not divide the 256 samples"),
        ("algorithm.mini_batch_samples=512", "near values that do: "),
        ("reward.weights=[1, 2]", "reward.weights has 2 numbers for 0 functions"),
        ("data.train=3", "data.train = 3 (--set): must be a list"),
        ("actor=3", "actor = 3 (--set): must be a table of keys and values"),
        ("actor.options=3", "actor.options = 3 (--set): must be a table of keys and values"),
        ("actor.betas=[0.9]", "actor.betas (--set) has too few values: number 2 is missing"),
        ("actor.betas=[0.9, 0.9, 0.9]", "actor.betas = [0.9, 0.9, 0.9] (--set): must have at most 2 values"),
        ("actor.betas=[0.9, 1]", "actor.betas.1 = 1 (--set): must be less than 1"),
        ("actor.lr", "--set actor.lr: write key=value"),
    ],
)
def test_wrong_values_get_one_clear_line(assignment, message):
    with pytest.raises(ConfigError) as caught:
        load_config("ppo", assignments=[assignment], environ={})
    assert message in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_rejection_rules_are_read_and_nonsense_is_refused():
    good = 'rollout_correction.reject=["seq_mean_k1 0.9 1.1", "token_k3 0.01"]'
    section = load_config("ppo", assignments=[good], environ={}).config.rollout_correction
    assert section.rules == (("seq_mean", "k1", 1.1, 0.9), ("token", "k3", 0.01, 0.0))
    for wrong in ("seq_k1 0.9 1.1", "token_k1 0.9", "token_k1 1.1 0.9", "token_k3 0.1 0.2", "token_k3 x"):
        with pytest.raises(ConfigError, match="is no rule; write for example"):
            load_config("ppo", assignments=[f"rollout_correction.reject={wrong}"], environ={})


def test_all_faults_are_told_at_once():
    with pytest.raises(ConfigError) as caught:
        load_config("ppo", assignments=["actor.lr=-1", "rollout.top_p=2"], environ={})
    assert len(str(caught.value).splitlines()) == 2


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.toml", "[actor\nlr = 1\n", "a.toml"),
        ("a.yaml", "actor: [1\n", "a.yaml"),
        ("a.ini", "", "a.ini must end in .toml, .yaml or .yml"),
        ("a.toml", "actor = 3\n", "actor = 3"),
        ("a.yaml", "- 1\n", "a.yaml"),
    ],
)
def test_files_that_cannot_be_read_are_named(tmp_path, name, text, message):
    file = tmp_path / name
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_config("ppo", file, environ={})
    assert message in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_a_folder_is_no_project_file(tmp_path):
    with pytest.raises(ConfigError, match="is a folder"):
        load_config("ppo", tmp_path, environ={})


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"project file .*none\.toml does not exist"):
        load_config("ppo", tmp_path / "none.toml", environ={})


def test_for_a_missing_file_the_one_beside_it_is_named(tmp_path):
    (tmp_path / "grpo.toml").touch()
    (tmp_path / "ppo.json").touch()
    with pytest.raises(ConfigError, match=r"pppo\.toml does not exist; did you mean .*/grpo\.toml\?"):
        load_config("ppo", tmp_path / "pppo.toml", environ={})
    with pytest.raises(ConfigError, match=r"does not exist$"):
        load_config("ppo", tmp_path / "nowhere" / "ppo.toml", environ={})


def test_a_horizon_that_nothing_divides_by_is_refused():
    with pytest.raises(ConfigError, match=r"algorithm\.horizon = 8 divides seq_mean_token_sum_norm only"):
        load_config("ppo", assignments=["algorithm.horizon=8"], environ={})
    load_config(
        "ppo", assignments=["algorithm.horizon=8", "algorithm.loss_aggregation=seq_mean_token_sum_norm"], environ={}
    )


@pytest.mark.parametrize("kind", ["sft", "ppo"])
def test_training_in_float16_is_refused(kind):
    with pytest.raises(ConfigError, match=r'model.dtype = "float16" loses small gradients; train in "bfloat16"'):
        load_config(kind, assignments=["model.dtype=float16"], environ={})
    assert load_config("generate", assignments=["model.dtype=float16"], environ={}).config.model.dtype == "float16"
