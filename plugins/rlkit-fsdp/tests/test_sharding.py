"""What one process shows of it; the rest is in test_ranks.py and its neighbours."""

from __future__ import annotations

import pytest
import torch
import torch.distributed as dist
from rlkit_fsdp.backend import FSDPBackend
from rlkit_fsdp.options import FSDPOptions
from rlkit_fsdp.ranks import Ranks
from rlkit_fsdp.sharding import Sharding

from rlkit.errors import ConfigError


def test_one_process_is_not_sharded_and_starts_no_group(role, monkeypatch):
    made = []
    monkeypatch.setattr(dist, "init_process_group", lambda *arguments, **options: made.append(options))
    actor = FSDPBackend(FSDPOptions(cpu_offload=True)).build_actor(role())
    assert actor.sharding.mesh is None
    assert {type(parameter) for parameter in actor.module.parameters()} == {torch.nn.Parameter}
    assert not made


def test_replicas_that_do_not_divide_the_processes_are_refused(monkeypatch):
    monkeypatch.setattr(Ranks, "of_this_process", classmethod(lambda cls, device: cls(0, 4, device)))
    with pytest.raises(ConfigError, match=r"options\.replicas = 3 does not divide the 4 processes"):
        Sharding.of_this_process("cpu", FSDPOptions(replicas=3))


def test_one_process_keeps_its_batches_and_counts():
    alone = Ranks(0, 1, "cpu")
    assert alone.agree([[0], [1, 2]], (3.0, 4.0)) == ([[0], [1, 2]], [3.0, 4.0])
    assert alone.sums([1.5]) == [1.5]
    assert alone.sums_by_name({"b": 1.0, "a": 2.0}) == {"b": 1.0, "a": 2.0}


def test_tokens_cannot_be_chosen_of_one_rank_s_rows(role, rollouts):
    actor = FSDPBackend().build_actor(role())
    actor.sharding = Sharding(Ranks(0, 2, "cpu"))
    with pytest.raises(ValueError, match="prepare it before it is spread"):
        actor.present_log_probs(rollouts([[3]], [[4]]), 1.0)
