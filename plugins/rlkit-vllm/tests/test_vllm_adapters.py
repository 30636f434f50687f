"""What of the adapters in vLLM can be tested without vLLM."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from rlkit_vllm.vllm_adapters import MAX_ADAPTER_RANK, _is_adaptable, adapter_arguments

MANAGER = SimpleNamespace(
    packed_modules_mapping={"qkv_proj": ["q_proj", "k_proj", "v_proj"]},
    modules={"model.layers.0.self_attn.qkv_proj": None, "model.layers.0.mlp.down_proj": None},
)


@pytest.mark.parametrize(("rank", "room"), [(1, 1), (2, 8), (8, 8), (17, 32), (257, 320), (MAX_ADAPTER_RANK, 512)])
def test_room_is_made_for_the_next_rank_that_vllm_knows(rank: int, room: int) -> None:
    assert adapter_arguments(rank)["max_lora_rank"] == room


def test_without_adapters_vllm_is_started_as_ever() -> None:
    assert adapter_arguments(0) == {}


@pytest.mark.parametrize(
    ("name", "adaptable"),
    [
        ("model.layers.0.mlp.down_proj", True),
        ("model.layers.0.self_attn.k_proj", True),
        ("model.layers.1.self_attn.k_proj", False),
        ("model.layers.0.mlp.up_proj", False),
        ("down_proj", False),
    ],
)
def test_a_layer_is_adaptable_when_it_or_the_fused_one_around_it_is(name: str, adaptable: bool) -> None:
    assert _is_adaptable(MANAGER, name) is adaptable
