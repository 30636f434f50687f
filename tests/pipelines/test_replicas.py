"""From the config to what every worker is told; Ray itself is in tests/integration/test_replicas.py."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest

from rlkit.cluster.ray_session import _only_these_gpus
from rlkit.config.sections import ModelSection, RunSection
from rlkit.errors import ConfigError
from rlkit.pipelines.replica_settings import ReplicaSettings
from rlkit.pipelines.replicas import (
    check_room,
    describe_replica,
    device_index,
    environment_on_own_device,
    gpus_for_ray,
    threads_of_a_replica,
)
from rlkit.testing.tiny_model import tiny_model

TWO = ReplicaSettings("rollout", "hf", {}, 2, 1)


def test_room_for_all_replicas_is_enough() -> None:
    check_room(TWO, cpus=2, gpus=0, on_gpus=False)
    check_room(TWO, cpus=2, gpus=2, on_gpus=True)
    check_room(ReplicaSettings("rollout", "hf", {}, 2, 1, shares_device=True), cpus=2, gpus=1, on_gpus=True)


@pytest.mark.parametrize(
    ("settings", "cpus", "gpus", "on_gpus", "message"),
    [
        (TWO, 1, 0, False, r"rollout\.replicas = 2, but the cluster has 1 CPUs"),
        (TWO, 8, 1, True, r"need 2 GPUs, and the cluster has 1, besides the one that trains, for them"),
        (ReplicaSettings("generation", "v", {}, 2, 4), 8, 4, True, r"devices_per_replica = 4 need 8 GPUs, and the cluster has 4"),
        (ReplicaSettings("generation", "v", {}, 1, 2), 8, 0, False, r"devices_per_replica = 2 counts GPUs"),
    ],
)  # fmt: skip
def test_replicas_that_could_never_be_placed_are_refused(
    settings: ReplicaSettings, cpus: float, gpus: float, on_gpus: bool, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        check_room(settings, cpus=cpus, gpus=gpus, on_gpus=on_gpus)


def test_threads_are_the_user_s_or_an_equal_share(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert threads_of_a_replica(RunSection(), 3, cpus=8) == 2
    assert threads_of_a_replica(RunSection(), 3, cpus=2) == 1
    assert threads_of_a_replica(RunSection(threads=5), 3, cpus=8) == 5
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    assert threads_of_a_replica(RunSection(), 3, cpus=8) == 4


def test_a_worker_is_told_names_paths_and_versions_and_no_models(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text("class Engine: ...\n")
    (tmp_path / "chat.jinja").write_text("{{ messages }}")
    settings = ReplicaSettings("generation", "mine.py:Engine", {"a": 1}, 2, 1)
    model = ModelSection(path="acme/hub-model", chat_template="chat.jinja", tokenizer="acme/hub-tokenizer")
    description = describe_replica(
        settings, model, RunSection(seed=3), folder=tiny_model(), family="qwen3", device="cpu", threads=1
    )
    assert description.hub_id == "acme/hub-model"
    assert description.folder == str(tiny_model().resolve())
    assert description.chat_template == str(tmp_path / "chat.jinja")
    assert description.tokenizer == "acme/hub-tokenizer"
    assert description.seed == 3
    assert set(description.versions) == {"rlkit-llm", "torch", "transformers", "rlkit-qwen"}
    assert list(description.files) == ["mine.py:Engine"]
    assert len(pickle.dumps(description)) < 20_000


def test_a_local_model_has_no_hub_id(tmp_path: Path) -> None:
    model = ModelSection(path=str(tiny_model()))
    description = describe_replica(
        TWO, model, RunSection(), folder=tiny_model(), family="qwen3", device="cpu", threads=1
    )
    assert description.hub_id == ""
    assert not description.files


def test_a_worker_beside_the_trainer_sees_its_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,6")
    assert environment_on_own_device("cuda:1")["CUDA_VISIBLE_DEVICES"] == "6"
    assert [device_index(device) for device in ("cuda", "cuda:0", "cuda:3")] == [0, 0, 3]


def test_the_trainer_s_gpu_is_not_for_ray_to_give_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,6,7")
    assert gpus_for_ray(TWO, "cuda:1") == ("4", "7")
    assert gpus_for_ray(TWO, "cpu") is None
    assert gpus_for_ray(ReplicaSettings("rollout", "hf", {}, 2, 1, shares_device=True), "cuda:0") is None
    assert gpus_for_ray(ReplicaSettings("generation", "hf", {}, 2, 1), "cuda:0") is None


@pytest.mark.parametrize("before", [None, "0,1"])
def test_ray_starts_without_the_trainer_s_gpu_and_the_trainer_keeps_it(
    before: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if before is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", before)
    with _only_these_gpus(("1", "2")):
        assert os.environ["CUDA_VISIBLE_DEVICES"] == "1,2"
    assert os.environ.get("CUDA_VISIBLE_DEVICES") == before
