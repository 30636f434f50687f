from __future__ import annotations

import pytest
import torch

from rlkit.types import AdapterWeights


def test_named_tensors_and_back_gives_the_same_tensors():
    layers = {
        f"model.layers.{row}.q_proj": (torch.full((row + 1, 3), 1.0), torch.full((4, row + 1), 2.0)) for row in range(3)
    }
    adapter = AdapterWeights(0.25, layers)
    names = [name for name, _ in adapter.named_tensors()]
    assert names[:2] == ["model.layers.0.q_proj.lora_A", "model.layers.0.q_proj.lora_B"]
    again = AdapterWeights.from_named_tensors(0.25, reversed(list(adapter.named_tensors())))
    assert again.scale == 0.25
    assert again.rank == adapter.rank == 3
    assert all(again.layers[name] == pair for name, pair in layers.items())


def test_a_layer_with_half_an_adapter_is_refused():
    with pytest.raises(ValueError, match="layer 'up' of an adapter has lora_A"):
        AdapterWeights.from_named_tensors(1.0, [("up.lora_A", torch.ones(2, 3))])
