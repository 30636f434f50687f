"""Models spread over workers, on one Ray for the whole module: the numbers of one process, whatever dies meanwhile."""

from __future__ import annotations

import json
import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rlkit.cluster.ray_workers import RayWorkerGroup
from rlkit.cluster.worker import WorkerPlace
from rlkit.cluster.worker_group import WorkerLostError
from rlkit.config.load import load_config
from rlkit.errors import ConfigError
from rlkit.pipelines.ppo import run_ppo
from rlkit.pipelines.sft import run_sft
from rlkit.testing.tiny_model import tiny_model

pytestmark = pytest.mark.slow

STEPS = 20
RELATIVE = 1e-5
ROUNDING = {"actor/loss": 1e-6, "actor/kl_to_reference": 1e-6}
"""Means of numbers of about 1 that cancel each other out: ratios times normalised advantages, and log-ratios."""
Metrics = list[dict[str, float]]
Train = Callable[..., Metrics]

LOSS = """\
import torch
from neighbour import SCALE

def plain(log_probs, old_log_probs, advantages, mask):
    '''A policy loss in the user's own file, which imports the file beside it.'''
    return -SCALE * torch.exp(log_probs - old_log_probs) * advantages
"""

STUCK = """\
import time
import torch.distributed

def sleeper(log_probs, old_log_probs, advantages, mask):
    if torch.distributed.get_rank() == 1:
        while True:
            time.sleep(0.1)
    return -torch.exp(log_probs - old_log_probs) * advantages
"""

GREEDY = """\
import torch
import torch.distributed
from pathlib import Path

def greedy(log_probs, old_log_probs, advantages, mask):
    if torch.distributed.get_rank() == 1 and {when}:
        {act}
    return -torch.exp(log_probs - old_log_probs) * advantages
"""


@pytest.fixture(scope="module")
def ray_session() -> Iterator[None]:
    from rlkit.cluster.ray_session import ClusterSettings, open_ray

    session = open_ray(ClusterSettings(num_cpus=6))
    yield
    session.close()


def steps_of(run: Path) -> Metrics:
    entries = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [entry["metrics"] for entry in entries if entry["event"] == "step"]


def weights(run: Path) -> bytes:
    """Of the finished run's model."""
    return (run / "model/model.safetensors").read_bytes()


@pytest.fixture
def sft(tmp_path: Path) -> Train:
    """Function: the steps of a fine-tuning run by its name; `equal` rows are all of one length."""

    def train(name: str, *assignments: str, equal: bool = False, steps: int = STEPS) -> Metrics:
        rows = [
            {"question": "+".join(str(k % 10) for k in range(1 if equal else n % 5 + 1)) + "=",
             "answer": str(n % 10) * (1 if equal else n % 7 + 1)}
            for n in range(48)
        ]  # fmt: skip
        (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        keys = {
            "model.path": str(tiny_model()), "data.train": [str(tmp_path / "rows.jsonl")], "sft.batch_size": 8,
            "sft.steps": steps, "sft.lr": 1e-3, "run.output": str(tmp_path), "run.name": name, "run.threads": 1,
        }  # fmt: skip
        run_sft(load_config("sft", None, assignments=list(assignments), flags=keys, environ={}))
        return steps_of(tmp_path / name)

    return train


@pytest.fixture
def ppo(tmp_path: Path) -> Train:
    """Function: the steps of a PPO run by its name."""

    def train(name: str, *assignments: str, steps: int = STEPS) -> Metrics:
        rows = [{"question": "1" * (n % 5 + 1) + f"+{n}=", "answer": str(n + 1)} for n in range(12)]
        (tmp_path / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        (tmp_path / "reward.py").write_text("def score(response):\n    return min(len(response), 20) / 20\n")
        keys = {
            "model.path": str(tiny_model()), "data.train": [str(tmp_path / "prompts.jsonl")],
            "data.max_prompt_tokens": 32, "reward.functions": [f"{tmp_path / 'reward.py'}:score"],
            "rollout.max_response_tokens": 8, "rollout.prompts_per_step": 4, "algorithm.advantage": "gae",
            "algorithm.kl_loss": 0.05, "algorithm.mini_batch_samples": 8, "trainer.steps": steps,
            # A tiny gradient divided by a tiny root would blow a difference in the last digit up.
            "actor.lr": 1e-4, "actor.eps": 1e-4, "critic.lr": 1e-4,
            "run.output": str(tmp_path), "run.name": name, "run.threads": 1,
        }  # fmt: skip
        if "critic.shared_trunk=true" not in assignments:
            keys["critic.eps"] = 1e-4
        run_ppo(load_config("ppo", None, assignments=list(assignments), flags=keys, environ={}))
        return steps_of(tmp_path / name)

    return train


@pytest.fixture
def places(monkeypatch: pytest.MonkeyPatch) -> list[WorkerPlace]:
    """Where the workers of the present group are, by rank."""
    found: list[WorkerPlace] = []
    join = RayWorkerGroup.join

    def noted(group: RayWorkerGroup, *arguments: Any) -> None:
        found[:] = [place for place in group.places if place is not None]
        join(group, *arguments)

    monkeypatch.setattr(RayWorkerGroup, "join", noted)
    return found


def send_at_checkpoint(checkpoint: Path, number: signal.Signals, pid: Callable[[], int]) -> threading.Thread:
    """A thread that signals a process once `checkpoint`, or a later one, is there: the older ones are deleted."""
    waiting = threading.Event()

    def watch() -> None:
        while not any(folder.name >= checkpoint.name for folder in checkpoint.parent.glob("step_*")):
            waiting.wait(0.02)
        os.kill(pid(), number)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    return thread


def assert_alike(found: Metrics, expected: Metrics, *names: str) -> None:
    assert len(found) == len(expected)
    for name in names:
        assert any(step[name] for step in expected), name
        for one, two in zip(expected, found, strict=True):
            assert two[name] == pytest.approx(one[name], rel=RELATIVE, abs=ROUNDING.get(name, 0.0)), name


@pytest.mark.parametrize("equal", [True, False], ids=["equal rows", "unequal rows"])
def test_fine_tuning_on_two_workers_is_fine_tuning_in_one_process(equal: bool, sft: Train, ray_session: None) -> None:
    alone = sft("alone", equal=equal)
    spread = sft("spread", "placement.workers=2", equal=equal)
    for one, two in zip(alone, spread, strict=True):
        assert two["sft/loss"] == pytest.approx(one["sft/loss"], rel=RELATIVE)
        assert two["sft/grad_norm"] == pytest.approx(one["sft/grad_norm"], rel=10 * RELATIVE)
    assert spread[-1]["sft/loss"] < 0.9 * spread[0]["sft/loss"]


def test_ppo_on_two_workers_is_ppo_in_one_process(ppo: Train, ray_session: None) -> None:
    alone = ppo("alone")
    spread = ppo("spread", "placement.workers=2")
    assert_alike(spread, alone, "actor/loss", "critic/loss", "actor/kl_to_reference", "reward/mean", "actor/entropy")
    for number, step in enumerate(spread):
        assert step["rollout/replicas"] == 2.0
        assert step["rollout/policy_version"] == 2 * number
        assert step["rollout/log_prob_difference_max"] < 1e-4


def test_roles_with_workers_of_their_own_learn_the_same(ppo: Train, ray_session: None) -> None:
    own = ("placement.critic=1", "placement.reference=1", "reference.refresh_every=2")
    alone = ppo("alone", "reference.refresh_every=2", steps=5)
    spread = ppo("spread", "placement.workers=2", *own, steps=5)
    assert_alike(spread, alone, "actor/loss", "critic/loss", "actor/kl_to_reference")


@pytest.mark.parametrize("placement", ["standalone", "colocated"])
def test_replicas_answer_with_the_weights_of_the_workers(placement: str, ppo: Train, ray_session: None) -> None:
    alone = ppo("alone", steps=4)
    spread = ppo("spread", "placement.workers=2", f"rollout.placement={placement}", "rollout.replicas=2", steps=4)
    assert_alike(spread, alone, "actor/loss", "critic/loss", "reward/mean")
    for number, step in enumerate(spread):
        assert step["rollout/policy_version"] == 2 * number
        assert step["rollout/log_prob_difference_max"] < 1e-4


@pytest.mark.parametrize(
    "assignments",
    [
        ("actor.lora.rank=4",),
        ("critic.shared_trunk=true",),
        ("algorithm.advantage=grpo", "algorithm.kl_loss=0", "algorithm.mini_batch_samples=2"),
        ("reference.ema_decay=0.5",),
        ("reference.ema_decay=0.5", "placement.offload_idle_models=true", "trainer.checkpoint_every=1"),
    ],
    ids=["adapters", "shared trunk", "fewer rows than workers fill", "moving reference", "idle models away"],
)
def test_every_kind_of_model_can_be_spread(assignments: tuple[str, ...], ppo: Train, ray_session: None) -> None:
    alone, spread = ppo("alone", *assignments, steps=3), ppo("spread", "placement.workers=2", *assignments, steps=3)
    assert_alike(spread, alone, "actor/loss", "actor/grad_norm", "reward/mean")


def test_a_loss_in_the_user_s_file_reaches_the_workers(ppo: Train, ray_session: None, tmp_path: Path) -> None:
    (tmp_path / "losses.py").write_text(LOSS)
    (tmp_path / "neighbour.py").write_text("SCALE = 2.0\n")
    loss = f"algorithm.policy_loss={tmp_path / 'losses.py'}:plain"
    alone, spread = ppo("alone", loss, steps=2), ppo("spread", "placement.workers=2", loss, steps=2)
    assert_alike(spread, alone, "actor/loss")


def test_a_run_goes_on_with_another_number_of_workers(sft: Train, ray_session: None) -> None:
    whole = sft("whole", steps=9)
    for workers, last in ((2, 3), (0, 6), (2, 9)):
        found = sft("changing", f"placement.workers={workers}", steps=last)
    assert_alike(found, whole, "sft/loss")


def test_a_worker_that_is_killed_costs_a_restart_and_nothing_else(
    sft: Train, places: list[WorkerPlace], ray_session: None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    whole = sft("whole", "placement.workers=2", steps=30)
    killer = send_at_checkpoint(tmp_path / "killed/checkpoints/step_000010", signal.SIGKILL, lambda: places[1].pid)
    found = sft("killed", "placement.workers=2", "trainer.checkpoint_every=5", steps=30)
    killer.join(timeout=60)
    assert not killer.is_alive()
    assert_alike(found, whole, "sft/loss")
    assert weights(tmp_path / "killed") == weights(tmp_path / "whole")
    line = next(
        record.getMessage() for record in caplog.records if "going on from the last checkpoint" in record.message
    )
    assert "restart 1 of at most 5" in line and "(model; process" in line and "\n" not in line


OUT_OF_MEMORY = r"rank 1 \(actor, .*process \d+ on .+\) ran out of memory in actor\.update_policy: "


def test_a_worker_whose_gpu_is_full_is_named(ppo: Train, ray_session: None, tmp_path: Path) -> None:
    """By the error that torch raises then."""
    act = "raise torch.OutOfMemoryError('CUDA out of memory. Tried to allocate 2.00 GiB.')"
    (tmp_path / "greedy.py").write_text(GREEDY.format(when="True", act=act))
    with pytest.raises(WorkerLostError, match=rf"{OUT_OF_MEMORY}.*CUDA out of memory") as caught:
        ppo(
            "greedy", "placement.workers=2", f"algorithm.policy_loss={tmp_path / 'greedy.py'}:greedy",
            "cluster.max_restarts=0", steps=1,
        )  # fmt: skip
    assert "cluster.max_restarts = 0" in str(caught.value) and "\n" not in str(caught.value)


def test_a_worker_that_runs_out_of_memory_costs_a_restart_and_nothing_else(
    ppo: Train, ray_session: None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It asks for more than any machine has, once, when there is a checkpoint to go on from."""
    checkpoint, asked = tmp_path / "greedy/checkpoints/step_000002", tmp_path / "asked"
    when = f"Path({str(checkpoint)!r}).exists() and not Path({str(asked)!r}).exists()"
    act = f"Path({str(asked)!r}).touch(); torch.empty(2**50)"
    (tmp_path / "greedy.py").write_text(GREEDY.format(when=when, act=act))
    (tmp_path / "modest.py").write_text(GREEDY.format(when="False", act="pass"))
    runs = {
        name: ppo(
            name, "placement.workers=2", "trainer.checkpoint_every=2",
            f"algorithm.policy_loss={tmp_path / name}.py:greedy", steps=6,
        )
        for name in ("modest", "greedy")
    }  # fmt: skip
    assert asked.exists()
    assert_alike(runs["greedy"], runs["modest"], "actor/loss", "reward/mean")
    assert weights(tmp_path / "greedy") == weights(tmp_path / "modest")
    (line,) = (
        record.getMessage() for record in caplog.records if "going on from the last checkpoint" in record.message
    )
    assert re.match(OUT_OF_MEMORY, line) and "allocate memory" in line and "\n" not in line


def test_a_worker_that_stops_is_noticed_and_named(
    sft: Train, places: list[WorkerPlace], ray_session: None, tmp_path: Path
) -> None:
    stopper = send_at_checkpoint(tmp_path / "stopped/checkpoints/step_000005", signal.SIGSTOP, lambda: places[0].pid)
    with pytest.raises(
        WorkerLostError, match=r"rank 0 \(model; process \d+ on .+\) gave no sign of life for 4 s in model"
    ) as caught:
        sft(
            "stopped", "placement.workers=2", "trainer.checkpoint_every=5", "cluster.max_restarts=0",
            "cluster.silence_timeout_s=4", steps=3000,
        )  # fmt: skip
    stopper.join(timeout=60)
    assert "cluster.max_restarts = 0" in str(caught.value) and "\n" not in str(caught.value)
    deadline = time.monotonic() + 60
    while any(is_running(place.pid) for place in places):
        assert time.monotonic() < deadline, f"left: {places}"
        time.sleep(0.05)


def test_a_worker_that_hangs_is_named_with_the_line_that_it_is_at(
    ppo: Train, ray_session: None, tmp_path: Path
) -> None:
    (tmp_path / "stuck.py").write_text(STUCK)
    with pytest.raises(
        WorkerLostError, match=r"rank 1 \(actor, .*\) was not done with actor\.update_policy after 40 s"
    ) as caught:
        ppo(
            "stuck", "placement.workers=2", f"algorithm.policy_loss={tmp_path / 'stuck.py'}:sleeper",
            "cluster.call_timeout_s=40", "cluster.max_restarts=0", steps=1,
        )  # fmt: skip
    assert "stuck.py:7 (sleeper)" in str(caught.value)


def test_a_rollout_worker_that_is_killed_restarts_the_run(
    ppo: Train, places: list[WorkerPlace], ray_session: None, tmp_path: Path
) -> None:
    whole = ppo("whole", "placement.workers=2", steps=8)
    killer = send_at_checkpoint(tmp_path / "killed/checkpoints/step_000002", signal.SIGKILL, lambda: places[0].pid)
    found = ppo("killed", "placement.workers=2", "trainer.checkpoint_every=2", steps=8)
    killer.join(timeout=60)
    assert_alike(found, whole, "actor/loss", "reward/mean")
    assert weights(tmp_path / "killed") == weights(tmp_path / "whole")


def test_more_workers_than_the_cluster_has_devices_are_refused(sft: Train, ray_session: None) -> None:
    with pytest.raises(ConfigError, match=r"placement\.workers = 99 needs 99 CPUs, and the cluster has"):
        sft("many", "placement.workers=99")


def test_an_error_of_the_model_is_raised_as_it_is(sft: Train, ray_session: None) -> None:
    with pytest.raises(ConfigError, match=r"unknown key sft\.options\.colour"):
        sft("wrong", "placement.workers=2", "sft.options.colour=red")


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False
