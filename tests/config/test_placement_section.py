"""How many workers there may be."""

from __future__ import annotations

import pytest

from rlkit.config.load import load_config
from rlkit.errors import ConfigError


@pytest.mark.parametrize("nodes", [3, 8])
def test_every_node_gets_the_same_number_of_workers(nodes: int) -> None:
    with pytest.raises(ConfigError, match=rf"placement\.nodes = {nodes} does not divide placement\.workers = 4"):
        load_config("sft", assignments=["placement.workers=4", f"placement.nodes={nodes}"], environ={})
    load_config("sft", assignments=["placement.workers=4", "placement.nodes=2"], environ={})


def test_nodes_without_workers_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"placement\.nodes = 1 does not divide placement\.workers = 0"):
        load_config("ppo", assignments=["placement.nodes=1"], environ={})


@pytest.mark.parametrize("role", ["critic", "reference"])
def test_a_role_has_workers_of_its_own_only_beside_the_actor_s(role: str) -> None:
    with pytest.raises(ConfigError, match=rf"placement\.{role} = 1 needs placement\.workers above 0"):
        load_config("ppo", assignments=[f"placement.{role}=1"], environ={})
    config = load_config("ppo", assignments=["placement.workers=2", f"placement.{role}=1"], environ={}).config
    assert config.placement.all_workers == 3
