from __future__ import annotations

from typing import Any

import torch

from rlkit.models.causal import build_model


def test_values_are_float32_one_for_each_position_whatever_the_type(
    reference_model: Any, token_ids: torch.Tensor
) -> None:
    _, reference = reference_model("llama")
    module: Any = build_model(reference.config, head="value", dtype=torch.bfloat16, device="cpu")
    module.score.weight.data.normal_()
    values = module(token_ids)
    assert values.dtype == torch.float32
    assert values.shape == token_ids.shape
    assert bool(values.any())


def test_a_value_depends_on_what_came_before_and_not_on_what_follows(
    reference_model: Any, token_ids: torch.Tensor
) -> None:
    _, reference = reference_model("qwen3")
    module: Any = build_model(reference.config, head="value", dtype=torch.float32, device="cpu")
    module.score.weight.data.normal_()
    changed = token_ids.clone()
    changed[:, 6] = (changed[:, 6] + 1) % 40
    before, after = module(token_ids), module(changed)
    assert torch.allclose(before[:, :6], after[:, :6], atol=1e-6)
    assert not torch.allclose(before[:, 6:], after[:, 6:], atol=1e-6)


def test_gradients_agree_with_and_without_checkpointing(reference_model: Any, token_ids: torch.Tensor) -> None:
    _, reference = reference_model("qwen3")
    module: Any = build_model(reference.config, head="value", dtype=torch.float32, device="cpu").train()
    module.score.weight.data.normal_()
    gradients = []
    for checkpointing in (False, True):
        if checkpointing:
            module.gradient_checkpointing_enable()
        module.zero_grad()
        module(token_ids).sum().backward()
        gradients.append(module.model.layers[0].mlp.up_proj.weight.grad.clone())
    assert torch.allclose(gradients[0], gradients[1], atol=1e-6)
    module.gradient_checkpointing_disable()
    assert not module.model.is_gradient_checkpointing
