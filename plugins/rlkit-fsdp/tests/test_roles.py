from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from rlkit_fsdp.backend import FSDPBackend
from rlkit_fsdp.optimizer import Optimizer
from transformers import CONFIG_MAPPING, AutoModelForCausalLM

from rlkit.types import Ragged, SupervisedBatch

GPT2 = {
    "vocab_size": 40,
    "n_embd": 32,
    "n_layer": 2,
    "n_head": 4,
    "n_positions": 64,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
OPT = {
    "vocab_size": 40,
    "hidden_size": 32,
    "word_embed_proj_dim": 32,
    "ffn_dim": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
}


@pytest.fixture
def conversations():
    rows = Ragged.from_rows([[3, 4, 5, 6], [7, 8, 9]], dtype=torch.int64)
    return SupervisedBatch(rows, Ragged.from_rows([[False, True, True, True], [False, False, True]], dtype=torch.bool))


def test_trained_parameters_are_float32_whatever_the_arithmetic(role):
    assert {p.dtype for p in FSDPBackend().build_actor(role(dtype="bfloat16")).module.parameters()} == {torch.float32}


def test_a_frozen_model_is_held_in_its_own_type_without_gradients(role):
    module = FSDPBackend().build_reference(role(dtype="bfloat16", optimizer=None)).module
    assert {(p.dtype, p.requires_grad) for p in module.parameters()} == {(torch.bfloat16, False)}


def test_bfloat16_arithmetic_is_close_to_float32(role, rollouts):
    batch = rollouts([[3, 4], [5]], [[6, 7, 8], [9]])
    exact, rounded = (
        FSDPBackend().build_actor(role(dtype=dtype)).compute_log_probs(batch, temperature=1.0).log_probs.values
        for dtype in ("float32", "bfloat16")
    )
    assert rounded.dtype == torch.float32
    assert 0 < float((exact - rounded).abs().max()) < 0.3


def test_dropout_in_the_config_does_nothing(role, rollouts, tmp_path):
    AutoModelForCausalLM.from_config(CONFIG_MAPPING["gpt2"](**GPT2, resid_pdrop=0.5, attn_pdrop=0.5)).save_pretrained(
        tmp_path
    )
    batch = rollouts([[3, 4], [5]], [[6, 7, 8], [9]])
    for checkpointing in (False, True):
        actor = FSDPBackend().build_actor(role(path=tmp_path, gradient_checkpointing=checkpointing))
        first, second = (actor.compute_log_probs(batch, temperature=1.0).log_probs.values for _ in range(2))
        assert torch.equal(first, second)


@pytest.mark.parametrize("kind", ["build_actor", "build_critic", "build_supervised"])
def test_a_trained_role_without_optimizer_settings_is_refused(role, kind):
    with pytest.raises(ValueError, match="needs optimizer settings"):
        getattr(FSDPBackend(), kind)(role(optimizer=None))


class TestGradientCheckpointing:
    def test_it_gives_the_same_weights(self, role, conversations):
        ends = []
        for checkpointing in (False, True):
            trainee = FSDPBackend().build_supervised(role(gradient_checkpointing=checkpointing))
            for _ in range(2):
                trainee.update_supervised(conversations)
            ends.append(dict(trainee.export_weights()))
        for name, expected in ends[0].items():
            torch.testing.assert_close(ends[1][name], expected, msg=name)

    def test_layers_that_call_dropout_themselves_do_without_it(self, role, conversations, tmp_path):
        """OPT's look at their own mode, which is what recomputing depends on."""
        AutoModelForCausalLM.from_config(CONFIG_MAPPING["opt"](**OPT, dropout=0.5)).save_pretrained(tmp_path)
        ends = []
        for checkpointing in (False, True):
            trainee = FSDPBackend().build_supervised(role(path=tmp_path, gradient_checkpointing=checkpointing))
            trainee.update_supervised(conversations)
            ends.append([trainee.evaluate(conversations)[0] for _ in range(2)])
        assert ends[0] == ends[1] and ends[0][0] == ends[0][1]

    def test_layers_are_run_again_in_the_backward_pass(self, role, conversations):
        passes = {}
        for checkpointing in (False, True):
            trainee = FSDPBackend().build_supervised(role(gradient_checkpointing=checkpointing))
            calls: list[int] = []
            trainee.module.model.layers[0].self_attn.register_forward_hook(lambda *_, calls=calls: calls.append(1))
            trainee.update_supervised(conversations)
            passes[checkpointing] = len(calls)
        assert passes == {False: 1, True: 2}


class TestMovingState:
    def test_moments_go_where_they_are_told(self, settings):
        module = torch.nn.Linear(2, 2)
        optimizer = Optimizer(module, settings())
        module(torch.ones(1, 2)).sum().backward()
        optimizer.step()
        optimizer.move_state("meta")
        tensors = [tensor for state in optimizer._adamw.state.values() for tensor in state.values()]
        assert len(tensors) == 6
        assert {tensor.device.type for tensor in tensors} == {"meta"}

    @pytest.mark.gpu
    @pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
    def test_an_offloaded_trainee_leaves_no_tensor_on_the_device_and_goes_on(self, role, conversations):
        plain = role(device="cuda")
        trainee, other = (FSDPBackend().build_supervised(replace(plain)) for _ in range(2))
        for _ in range(2):
            trainee.update_supervised(conversations)
            other.update_supervised(conversations)
            trainee.offload()
            assert {tensor.device.type for _, tensor in trainee.export_weights()} == {"cpu"}
            trainee.onload()
        for (name, left), (_, right) in zip(trainee.export_weights(), other.export_weights(), strict=True):
            assert torch.equal(left, right), name
