"""Replicas in processes of their own, on one Ray for the whole module."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from rlkit.config.cluster_section import ClusterSection
from rlkit.config.load import load_config
from rlkit.config.sections import ModelSection, RunSection
from rlkit.errors import ClusterError, RolloutError
from rlkit.models.registry import find_family
from rlkit.models.tokenizer import load_tokenizer
from rlkit.pipelines.ppo import run_ppo
from rlkit.pipelines.replica_settings import ReplicaSettings
from rlkit.pipelines.replicas import build_replicated_engine
from rlkit.plugin import PluginKind
from rlkit.plugin.loader import build_plugin
from rlkit.rollout.engine_model import EngineModel
from rlkit.testing.contracts import rollout_engine as contract
from rlkit.testing.simulated_replicas import Faults, RowEngine, row_prompts, same
from rlkit.testing.tiny_model import tiny_model
from rlkit.types import Prompt, PromptBatch, Rollouts, SamplingParams

pytestmark = pytest.mark.slow

KILLER = """\
import os, signal, time
from rlkit.testing.simulated_replicas import Faults, RowEngine

class Killer(RowEngine):
    '''Row 13 kills its process; every answer takes a little while.'''

    def __init__(self, model):
        super().__init__(Faults())

    def generate(self, prompts, sampling):
        time.sleep(0.01 * len(prompts))
        if any(prompt.row_id == 13 for prompt in prompts.prompts):
            os.kill(os.getpid(), signal.SIGKILL)
        return super().generate(prompts, sampling)
"""

SLOW = """\
import time
from rlkit.testing.simulated_replicas import Faults, RowEngine

class Slow(RowEngine):
    def __init__(self, model):
        super().__init__(Faults())

    def generate(self, prompts, sampling):
        time.sleep(0.05 * len(prompts))
        return super().generate(prompts, sampling)

class VerySlow(Slow):
    def generate(self, prompts, sampling):
        time.sleep(11)
        return super().generate(prompts, sampling)
"""

Build = Callable[..., Any]


@pytest.fixture(scope="module")
def ray_session() -> Iterator[None]:
    from rlkit.cluster.ray_session import ClusterSettings, open_ray

    session = open_ray(ClusterSettings(num_cpus=4))
    yield
    session.close()


@pytest.fixture(scope="module")
def build(ray_session: None) -> Build:
    """Function: replicas of an engine on the tiny model."""

    def make(engine: str = "hf", replicas: int = 2, **cluster: Any) -> Any:
        folder = tiny_model()
        return build_replicated_engine(
            ReplicaSettings("generation", engine, {}, replicas, 1),
            ClusterSection(**cluster),
            ModelSection(path=str(folder)),
            RunSection(),
            folder=folder,
            family="qwen3",
            device="cpu",
        )

    return make


@pytest.fixture(scope="module")
def hf(build: Build) -> Iterator[Any]:
    engine = build()
    yield engine
    engine.close()


@pytest.fixture
def killer(tmp_path: Path) -> str:
    (tmp_path / "killer.py").write_text(KILLER)
    return f"{tmp_path / 'killer.py'}:Killer"


def text_prompts(count: int) -> PromptBatch:
    tokenizer = load_tokenizer(tiny_model())
    texts = [f"{row}+{row % 7}=" for row in range(count)]
    return PromptBatch(
        tuple(Prompt(row_id=row, text=text) for row, text in enumerate(texts)),
        tuple(tuple(tokenizer.encode(text, add_special_tokens=False)) for text in texts),
    )


def one_engine() -> Any:
    folder = tiny_model()
    model = EngineModel(folder, find_family(folder), load_tokenizer(folder), "float32", "cpu", False, 0)
    return build_plugin(PluginKind.ROLLOUT_ENGINE, "hf", {}, where="engine", model=model)


def assert_alike(found: Rollouts, expected: Rollouts) -> None:
    """The same tokens; log-probs differ by what a matrix product rounds differently in another batch."""
    assert found.response_ids.lengths.tolist() == expected.response_ids.lengths.tolist()
    assert torch.equal(found.response_ids.values, expected.response_ids.values)
    assert found.finish_reasons == expected.finish_reasons
    assert torch.equal(found.group_ids, expected.group_ids)
    assert found.rollout_log_probs is not None and expected.rollout_log_probs is not None
    assert torch.allclose(found.rollout_log_probs.values, expected.rollout_log_probs.values, atol=1e-5)


def wait_until_gone(pids: list[int]) -> None:
    deadline = time.monotonic() + 120
    while any(Path(f"/proc/{pid}").exists() for pid in pids):
        assert time.monotonic() < deadline, f"still running: {pids}"
        time.sleep(0.05)


class Reused:
    """Stands in for a new engine in the contract suite: the same replicas, with the weights of the folder again."""

    def __init__(self, engine: Any, model: EngineModel) -> None:
        module = model.family.build(model.folder, head="causal_lm", dtype=torch.float32, device="cpu")
        model.family.load_weights(module, model.folder)
        self._engine, self._weights, self._family = engine, module, model.family
        self.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def close(self) -> None:
        self._engine.update_weights(self._family.export_weights(self._weights), 0)


class Context:
    def __init__(self, engine: Any) -> None:
        self._engine = engine

    def build(self, *, model: EngineModel) -> Reused:
        return Reused(self._engine, model)

    def tiny_model(self) -> Path:
        return tiny_model()


@pytest.mark.parametrize("check", contract.CHECKS, ids=lambda check: check.__name__)
def test_replicas_keep_the_contract_of_an_engine(check: Any, hf: Any) -> None:
    check(Context(hf))


def test_replicas_answer_as_one_engine_does(hf: Any) -> None:
    prompts, sampling = text_prompts(60), SamplingParams(max_tokens=12, samples=3, seed=4)
    assert_alike(hf.generate(prompts, sampling), one_engine().generate(prompts, sampling))


def test_a_replica_that_is_killed_costs_no_request(hf: Any) -> None:
    prompts, sampling = text_prompts(120), SamplingParams(max_tokens=24, samples=4, seed=5)
    expected = one_engine().generate(prompts, sampling)
    before, restarts = hf.replicas(), hf.metrics()["rollout/replica_restarts"]
    victim = before[0].pid
    killer = threading.Timer(0.05, os.kill, (victim, signal.SIGKILL))
    killer.start()
    found = hf.generate(prompts, sampling)
    killer.join()
    assert_alike(found, expected)
    assert_alike(hf.generate(prompts, sampling), expected)
    assert hf.metrics()["rollout/replica_restarts"] == restarts + 1
    hf.release([])  # waits until the new replica is ready
    assert victim not in {info.pid for info in hf.replicas()}
    assert len(hf.replicas()) == 2


def test_a_replica_that_starts_anew_has_the_weights_of_the_last_update(hf: Any) -> None:
    family = find_family(tiny_model())
    module: Any = family.build(tiny_model(), head="causal_lm", dtype=torch.float32, device="cpu")
    family.load_weights(module, tiny_model())
    with torch.no_grad():
        module.get_input_embeddings().weight.copy_(module.get_input_embeddings().weight.flip(0))
    one = one_engine()
    for engine in (one, hf):
        engine.update_weights(family.export_weights(module), 9)
    for info in hf.replicas():
        os.kill(info.pid, signal.SIGKILL)
    prompts, sampling = text_prompts(40), SamplingParams(max_tokens=12, seed=6)
    found = hf.generate(prompts, sampling)
    assert found.policy_version == 9
    assert_alike(found, one.generate(prompts, sampling))


def test_a_prompt_that_kills_every_replica_is_given_up_and_named(build: Build, killer: str) -> None:
    engine = build(killer, request_attempts=2)
    try:
        with pytest.raises(RolloutError, match="row 13 brought down 2 replicas and was given up"):
            engine.generate(row_prompts(range(40)), SamplingParams(max_tokens=9))
        prompts = row_prompts(range(14, 60))
        expected = RowEngine(Faults()).generate(prompts, SamplingParams(max_tokens=9))
        assert same(engine.generate(prompts, SamplingParams(max_tokens=9)), expected)
    finally:
        engine.close()


def test_when_no_replica_is_left_one_line_says_why(build: Build, killer: str) -> None:
    engine = build(killer, replicas=1, max_restarts=0)
    with pytest.raises(
        ClusterError, match=r"no replica is left: the last one, replica 0 .*cluster\.max_restarts"
    ) as caught:
        engine.generate(row_prompts([13]), SamplingParams(max_tokens=9))
    assert "\n" not in str(caught.value)
    engine.close()


@pytest.mark.parametrize("moment", ["answering", "updating"])
def test_a_replica_whose_process_is_stopped_is_noticed_and_its_prompts_move_on(
    moment: str, build: Build, tmp_path: Path
) -> None:
    """SIGSTOP: the process is there, holds its requests, and does nothing any more."""
    (tmp_path / "slow.py").write_text(SLOW)
    engine = build(f"{tmp_path / 'slow.py'}:Slow", silence_timeout_s=6.0)
    try:
        sampling, update = SamplingParams(max_tokens=9), [("weight", torch.tensor(2.0))]
        one = RowEngine(Faults())
        one.update_weights(update, 1)
        prompts = row_prompts(range(60))
        expected = one.generate(prompts, sampling)
        victim = engine.replicas()[0].pid
        if moment == "updating":
            os.kill(victim, signal.SIGSTOP)
            engine.update_weights(update, 1)
        else:
            engine.update_weights(update, 1)
            stopper = threading.Timer(0.1, os.kill, (victim, signal.SIGSTOP))
            stopper.start()
        assert same(engine.generate(prompts, sampling), expected)
        assert engine.metrics()["rollout/replica_restarts"] == 1
        engine.release([])  # waits until the new replica is ready
        assert victim not in {info.pid for info in engine.replicas()}
        wait_until_gone([victim])
    finally:
        engine.close()


def test_an_answer_that_takes_longer_than_the_silence_allowed_is_waited_for(build: Build, tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text(SLOW)
    engine = build(f"{tmp_path / 'slow.py'}:VerySlow", silence_timeout_s=5.0)
    try:
        prompts, sampling = row_prompts(range(8)), SamplingParams(max_tokens=9)
        assert same(engine.generate(prompts, sampling), RowEngine(Faults()).generate(prompts, sampling))
        assert engine.metrics()["rollout/replica_restarts"] == 0
    finally:
        engine.close()


def test_a_closed_engine_leaves_no_process(build: Build, killer: str) -> None:
    engine = build(killer)
    pids = [info.pid for info in engine.replicas()]
    engine.close()
    wait_until_gone(pids)


def test_a_worker_with_another_version_is_refused_by_name(
    build: Build, killer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rlkit.pipelines.replicas.versions_of", lambda names: {"rlkit-llm": "99.0"})
    with pytest.raises(ClusterError, match=r"node .+ has rlkit-llm .+, the driver has 99\.0; install"):
        build(killer, replicas=1)


def test_an_engine_that_cannot_be_built_says_so_at_once(build: Build, tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text(
        "class Bad:\n    def __init__(self, model):\n        raise ValueError('no such kernel')\n"
    )
    with pytest.raises(ClusterError, match="no such kernel"):
        build(f"{tmp_path / 'bad.py'}:Bad", replicas=1, max_restarts=0)


@pytest.mark.parametrize("placement", ["standalone", "colocated"])
def test_ppo_with_replicas_is_ppo_with_one_engine(placement: str, ray_session: None, tmp_path: Path) -> None:
    import json

    rows = [{"question": f"{n}+1=", "answer": str(n + 1)} for n in range(8)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "reward.py").write_text("def score(response):\n    return min(len(response), 20) / 20\n")

    def train(name: str, *assignments: str) -> list[dict[str, float]]:
        keys = {
            "model.path": str(tiny_model()), "data.train": [str(tmp_path / "rows.jsonl")], "data.max_prompt_tokens": 32,
            "reward.functions": [f"{tmp_path / 'reward.py'}:score"], "rollout.max_response_tokens": 8,
            "rollout.prompts_per_step": 8, "trainer.steps": 3, "run.output": str(tmp_path), "run.name": name,
            "actor.lr": 1e-3, "algorithm.advantage": "grpo",
        }  # fmt: skip
        run_ppo(load_config("ppo", None, assignments=list(assignments), flags=keys, environ={}))
        lines = (tmp_path / name / "metrics.jsonl").read_text().splitlines()
        entries = [json.loads(line) for line in lines]
        return [entry["metrics"] for entry in entries if entry["event"] == "step"]

    alone = train("alone")
    spread = train("spread", f"rollout.placement={placement}", "rollout.replicas=2")
    for one, two in zip(alone, spread, strict=True):
        assert two["rollout/replicas"] == 2.0
        assert two["rollout/replica_restarts"] == 0.0
        assert two["rollout/policy_version"] == one["rollout/policy_version"]
        assert two["reward/mean"] == pytest.approx(one["reward/mean"], abs=1e-6)
        assert two["rollout/log_prob_difference_max"] < 1e-4


def test_conversations_may_be_named(hf: Any) -> None:
    prompts = text_prompts(10)
    named = replace(prompts, conversations=tuple(f"c{row}" for row in range(10)))
    sampling = SamplingParams(max_tokens=6, seed=1)
    assert_alike(hf.generate(named, sampling), hf.generate(prompts, sampling))
