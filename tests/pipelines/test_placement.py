"""Where the roles of a run go, what is refused, and what a dry run says of it."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

from rlkit.config.load import load_config
from rlkit.errors import ConfigError, MissingRequirementError, ModelError
from rlkit.pipelines.placement import check_placement, placed_groups, torchrun_size, worker_distributions
from rlkit.pipelines.plan import Plan, build_plan
from rlkit.pipelines.plan_render import render_plan
from rlkit.plugin import PluginKind
from rlkit.testing.tiny_model import tiny_model

ACME_LOSS = """\
from rlkit.plugin import PluginKind, PluginSpec

loss = PluginSpec(kind=PluginKind.POLICY_LOSS, target="acme_losses:compute", summary="Another package's")
"""


def ppo(*assignments: str) -> Any:
    return load_config("ppo", assignments=["algorithm.advantage=gae", *assignments], environ={}).config


def groups(*assignments: str) -> list[tuple[tuple[str, ...], int]]:
    return [(group.roles, group.count) for group in placed_groups(ppo(*assignments))]


@pytest.fixture
def plan(tmp_path: Path):
    """Function: what a dry run of PPO says."""
    (tmp_path / "prompts.jsonl").write_text('{"prompt": "1+1=", "answer": "2"}\n' * 100)

    def build(*assignments: str) -> Plan:
        basic = [
            f"model.path={tiny_model()}",
            f"data.train={tmp_path / 'prompts.jsonl'}",
            "reward.functions=exact_match",
            "run.device=cpu",
        ]
        return build_plan(load_config("ppo", assignments=[*basic, "algorithm.advantage=gae", *assignments], environ={}))

    return build


def test_without_workers_there_are_no_groups() -> None:
    assert groups() == []


def test_roles_share_the_actor_s_workers_unless_they_have_their_own() -> None:
    assert groups("placement.workers=4") == [(("actor", "critic", "rollout engine"), 4)]
    kl = "algorithm.kl_loss=0.1"
    assert groups("placement.workers=4", kl, "rollout.placement=standalone") == [(("actor", "critic", "reference"), 4)]
    assert groups("placement.workers=4", kl, "placement.critic=2", "placement.reference=1") == [
        (("actor", "rollout engine"), 4),
        (("critic",), 2),
        (("reference",), 1),
    ]
    sft = load_config("sft", assignments=["placement.workers=2"], environ={}).config
    assert [(group.roles, group.count) for group in placed_groups(sft)] == [(("model",), 2)]


@pytest.mark.parametrize(
    ("assignments", "line"),
    [
        (["placement.critic=1", "algorithm.advantage=grpo"], "placement.critic = 1, but algorithm.advantage = grpo reads no critic"),
        (["placement.critic=1", "critic.shared_trunk=true"], "placement.critic = 1, but with critic.shared_trunk"),
        (["placement.reference=1"], "placement.reference = 1, but algorithm.kl_in_reward and kl_loss are 0"),
        (
            ["placement.reference=1", "algorithm.kl_loss=0.1", "actor.lora.rank=4"],
            "placement.reference = 1, but with actor.lora the reference is the actor without its adapter",
        ),
        (["run.device=cuda:1"], "run.device = cuda:1, but Ray chooses the GPU of each worker"),
        (
            ["rollout.placement=colocated", "rollout.devices_per_replica=2"],
            "rollout.devices_per_replica = 2 with rollout.placement = colocated and placement.workers",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_is_one_line_before_anything_starts(assignments: list[str], line: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check_placement(ppo("placement.workers=2", *assignments))
    assert str(caught.value).startswith(line) and "\n" not in str(caught.value)


def test_a_backend_that_trains_on_one_device_is_not_spread(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text("class Backend:\n    pass\n")
    backend = f"actor.backend={tmp_path / 'own.py'}:Backend"
    with pytest.raises(
        ConfigError, match=r"placement\.workers = 2, but actor backend '.*own\.py:Backend' trains on one"
    ):
        check_placement(ppo("placement.workers=2", backend))
    check_placement(ppo("placement.workers=1", backend))


def test_workers_without_ray_say_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "ray" else find(name))
    with pytest.raises(MissingRequirementError, match=r"placement\.workers needs Ray: pip install 'rlkit-llm\[ray\]'"):
        check_placement(ppo("placement.workers=2"))


def test_torchrun_and_workers_are_two_ways_and_ppo_knows_only_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert torchrun_size() == 2
    with pytest.raises(ConfigError, match="`rlkit train ppo` is spread by Ray: start it without torchrun"):
        check_placement(ppo())
    sft = load_config("sft", assignments=["placement.workers=2"], environ={}).config
    with pytest.raises(ConfigError, match=r"torchrun started 2 processes and placement\.workers = 2 asks for Ray's"):
        check_placement(sft)
    monkeypatch.setenv("WORLD_SIZE", "1")
    check_placement(ppo())


def test_a_dry_run_says_where_each_role_is(plan) -> None:
    text = render_plan(plan("placement.workers=4", "placement.nodes=2", "placement.critic=1", "algorithm.kl_loss=0.1"))
    assert "actor           4 workers on 2 nodes, cpu" in text
    assert "critic          1 worker, cpu" in text
    assert "reference       4 workers on 2 nodes, cpu" in text
    assert "rollout engine  4 workers on 2 nodes, cpu" in text


def test_a_dry_run_counts_what_each_gpu_holds(plan) -> None:
    one = {phase.name: phase.parts for phase in plan("run.device=cuda").phases}
    four = {phase.name: phase.parts for phase in plan("run.device=cuda", "placement.workers=4").phases}
    for name in ("actor parameters", "actor optimizer", "critic optimizer", "gradients"):
        assert four["critic update"][name] == -(-one["critic update"][name] // 4)
    assert four["actor update"]["activations"] == one["actor update"]["activations"]
    apart = {
        phase.name: phase.parts for phase in plan("run.device=cuda", "placement.workers=4", "placement.critic=1").phases
    }
    assert "critic update" not in apart and "critic parameters" not in apart["actor update"]


def test_on_a_cpu_all_workers_share_the_machine_s_memory(plan) -> None:
    shared = ("run.device=cpu", "actor.micro_batch_tokens=512")  # more is another number for workers that share a model
    one, two = (plan(*shared, f"placement.workers={workers}").phases[-1].parts for workers in (0, 2))
    assert two["actor parameters"] == one["actor parameters"]
    assert two["activations"] == 2 * one["activations"]
    assert two["engine parameters"] == 2 * one["engine parameters"]


@pytest.mark.parametrize(
    ("assignments", "found"),
    [
        ([], {"rlkit-llm"}),
        (["critic.lora.rank=2"], {"rlkit-llm", "peft"}),
        (["algorithm.policy_loss=acme"], {"acme-losses"}),
        (["algorithm.policy_loss=own.py:loss", "actor.lora.rank=2"], {"peft"}),
    ],
    ids=["as they are", "adapters", "a loss of another package", "a loss in a file"],
)
def test_all_that_the_workers_compute_with_is_compared(assignments: list[str], found: set[str], install: Any) -> None:
    install("acme-losses", {PluginKind.POLICY_LOSS.group: {"acme": "acme_losses:loss"}}, {"acme_losses": ACME_LOSS})
    config = ppo(f"model.path={tiny_model()}", *assignments)
    assert set(worker_distributions(config)) == {"rlkit-fsdp", "rlkit-qwen", *found}


def changed_model(folder: Path, **changes: Any) -> Path:
    """A folder with the tiny model's config.json, changed, and no weights."""
    folder.mkdir()
    described = json.loads((Path(tiny_model()) / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**described, **changes}))
    return folder


@pytest.mark.skipif(importlib.util.find_spec("rlkit_megatron") is None, reason="rlkit-megatron is not installed")
def test_a_backend_s_options_look_at_the_model_of_each_role_and_at_its_adapter(tmp_path: Path) -> None:
    wide = changed_model(tmp_path / "wide", hidden_act="gelu")
    basic = ["actor.backend=megatron", f"model.path={tiny_model()}"]
    check_placement(ppo(*basic))
    check_placement(ppo(*basic, f"reference.path={wide}"))  # nothing asks for a reference
    for role, more in (("critic", []), ("reference", ["algorithm.kl_loss=0.1"])):
        with pytest.raises(ModelError, match="hidden_act = gelu"):
            check_placement(ppo(*basic, f"{role}.path={wide}", *more))
    for role in ("actor", "critic"):
        with pytest.raises(ConfigError, match=r"lora\.rank = 4: actor backend 'megatron' trains no adapters"):
            check_placement(ppo(*basic, f"{role}.lora.rank=4"))
