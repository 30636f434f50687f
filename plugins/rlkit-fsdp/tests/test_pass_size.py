from __future__ import annotations

import pytest
from rlkit_fsdp.backend import FSDPBackend
from rlkit_fsdp.pass_size import pass_tokens


@pytest.mark.parametrize(
    ("asked", "device", "processes", "taken"),
    [
        (8192, "cpu", 1, 768),
        (8192, "cpu", 2, 8192),
        (8192, "cuda:0", 1, 8192),
        (1000, "cuda:0", 1, 1000),
        (1000, "cpu", 2, 960),
        (399, "cpu", 1, 384),
        (64, "cpu", 1, 64),
        (50, "cpu", 1, 50),
    ],
)
def test_a_cpu_takes_multiples_of_64_tokens_and_alone_what_stays_in_its_cache(asked, device, processes, taken):
    assert pass_tokens(asked, device=device, processes=processes) == taken


def test_a_role_s_budget_is_what_a_pass_takes(role):
    assert FSDPBackend().build_actor(role(micro_batch_tokens=8192)).token_budget == 768
    assert FSDPBackend().build_actor(role(micro_batch_tokens=100)).token_budget == 64
