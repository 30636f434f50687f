"""What is said of replicas before Ray is started."""

from __future__ import annotations

import importlib.util
from typing import Any

import pytest

from rlkit.config.generation_section import GenerationSection
from rlkit.config.ppo_sections import RolloutSection
from rlkit.errors import ConfigError, MissingRequirementError
from rlkit.pipelines.replica_settings import (
    ReplicaSettings,
    check_replicas,
    copies_beside_the_trainer,
    copies_on_a_device,
    generation_replicas,
    replica_place,
    rollout_replicas,
)


def test_without_replicas_there_are_no_settings() -> None:
    assert rollout_replicas(RolloutSection()) is None
    assert generation_replicas(GenerationSection()) is None


@pytest.mark.parametrize(("placement", "shares"), [("standalone", False), ("colocated", True)])
def test_the_placement_says_whose_device_it_is(placement: Any, shares: bool) -> None:
    settings = rollout_replicas(RolloutSection(placement=placement, replicas=3))
    assert settings == ReplicaSettings("rollout", "hf", {}, 3, 1, shares)


@pytest.mark.parametrize("key", ["replicas", "devices_per_replica"])
def test_replicas_in_one_process_are_refused(key: str) -> None:
    with pytest.raises(ValueError, match=rf"rollout\.{key} = 2 with rollout\.placement = in_process"):
        RolloutSection(**{key: 2})


def test_devices_of_replicas_that_are_not_there_are_refused() -> None:
    with pytest.raises(ValueError, match=r"set generation\.replicas to 1 or more"):
        GenerationSection(devices_per_replica=2)


def test_an_engine_on_one_device_does_not_get_two() -> None:
    with pytest.raises(
        ConfigError, match=r"rollout engine 'hf' computes on one device; raise generation\.replicas instead"
    ):
        check_replicas(ReplicaSettings("generation", "hf", {}, 2, 2), "auto")


def test_one_gpu_is_not_the_device_of_several_replicas() -> None:
    with pytest.raises(ConfigError, match=r"run\.device = cuda:1, but Ray chooses the GPU of each replica"):
        check_replicas(ReplicaSettings("generation", "hf", {}, 2, 1), "cuda:1")
    check_replicas(ReplicaSettings("generation", "hf", {}, 2, 1), "cuda")
    check_replicas(ReplicaSettings("rollout", "hf", {}, 2, 1), "cuda:1")


def test_without_ray_the_way_to_get_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if name == "ray" else find(name, *more))
    with pytest.raises(MissingRequirementError, match=r"pip install 'rlkit-llm\[ray\]'"):
        check_replicas(ReplicaSettings("generation", "hf", {}, 2, 1), "auto")


@pytest.mark.parametrize(
    ("settings", "device", "beside", "each", "place"),
    [
        (None, "cpu", 1, 1, "cpu"),
        (ReplicaSettings("rollout", "hf", {}, 3, 1), "cpu", 3, 3, "3 replicas on cpu"),
        (ReplicaSettings("rollout", "hf", {}, 3, 1), "cuda:0", 0, 1, "3 replicas, a GPU each"),
        (ReplicaSettings("rollout", "vllm", {}, 1, 2), "cuda:0", 0, 1, "1 replica, 2 GPUs each"),
        (ReplicaSettings("rollout", "hf", {}, 2, 1, shares_device=True), "cuda:0", 2, 1, "2 replicas on cuda:0"),
    ],
)
def test_the_plan_counts_engines_where_they_are(
    settings: ReplicaSettings | None, device: str, beside: int, each: int, place: str
) -> None:
    assert copies_beside_the_trainer(settings, device) == beside
    assert copies_on_a_device(settings, device) == each
    assert replica_place(settings, device) == place
