from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from rlkit_fsdp.backend import FSDPBackend
from transformers import CONFIG_MAPPING, AutoModelForCausalLM

from rlkit.errors import CheckpointError, ModelError
from rlkit.models.adapted_layers import choose_layers
from rlkit.models.adapter_folder import merged_weights
from rlkit.models.safetensors_io import read_headers, stream_tensors
from rlkit.plugin import PluginKind
from rlkit.plugin.loader import load_plugin
from rlkit.protocols.actor import LoraSettings
from rlkit.testing import ContractCheck, ContractContext, contract_checks
from rlkit.testing.backend_cases import (
    made_up_experience,
    policy_objective,
    random_conversations,
    random_rollouts,
    value_objective,
)
from rlkit.testing.contracts.adapters import an_adapter_starts_as_the_model_and_leaves_it_as_it_is
from rlkit.testing.contracts.moving_references import a_copy_gives_the_policy_s_own_log_probs
from rlkit.testing.tiny_model import tiny_model

LORA = LoraSettings(rank=4, alpha=16.0, targets=("all_linear",))


class AdaptedBackend(FSDPBackend):
    """Gives every trained role adapters on all layers."""

    def build_actor(self, role):
        return super().build_actor(replace(role, lora=role.lora or LORA))

    def build_critic(self, role):
        return super().build_critic(replace(role, lora=LORA))

    def build_actor_critic(self, role, *, head):
        return super().build_actor_critic(replace(role, lora=LORA), head=head)

    def build_supervised(self, role):
        return super().build_supervised(replace(role, lora=LORA))


class AdaptedContext(ContractContext):
    def build(self, **context: Any) -> AdaptedBackend:
        return AdaptedBackend()


@pytest.fixture
def context(tmp_path):
    return ContractContext(plugin=load_plugin(PluginKind.ACTOR_BACKEND, "fsdp"), tmp_path=tmp_path)


@pytest.fixture
def updated(context, role):
    """Function: an actor with adapters after a few updates."""

    def make(**changes):
        actor = FSDPBackend().build_actor(role(lora=LORA, **changes))
        for _ in range(3):
            actor.update_policy(made_up_experience(context), policy_objective(), temperature=1.0)
        return actor

    return make


@pytest.mark.parametrize(
    "check",
    [
        check
        for check in contract_checks(PluginKind.ACTOR_BACKEND)
        if not check.slow
        and check.function
        is not an_adapter_starts_as_the_model_and_leaves_it_as_it_is  # it looks at a role without one too
        and check.function is not a_copy_gives_the_policy_s_own_log_probs  # merging an adapter rounds
    ],
    ids=str,
)
def test_every_check_of_the_contract_holds_with_adapters_too(check: ContractCheck, tmp_path: Path):
    check(AdaptedContext(plugin=load_plugin(PluginKind.ACTOR_BACKEND, "fsdp"), tmp_path=tmp_path))


def log_probs(model, context):
    return model.compute_log_probs(random_rollouts(context), temperature=0.8).log_probs.values


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_base_policy_has_the_bits_of_a_reference_of_its_own(role, context, updated, dtype):
    reference = FSDPBackend().build_reference(role(dtype=dtype, optimizer=None))
    new = FSDPBackend().build_actor(role(dtype=dtype, lora=LORA))
    expected = log_probs(reference, context)
    assert torch.equal(log_probs(new, context), expected)
    actor = updated(dtype=dtype)
    assert torch.equal(log_probs(actor.base_policy(), context), expected)
    assert not torch.equal(log_probs(actor, context), expected)


def test_the_adapter_is_on_again_after_an_error_in_the_base_policy(context, updated):
    actor = updated()
    expected = log_probs(actor, context)
    with pytest.raises(RuntimeError), actor.adapter.switched_off():
        raise RuntimeError
    assert torch.equal(log_probs(actor, context), expected)
    assert all(parameter.requires_grad for parameter in actor.adapter.trained().values())
    assert len(actor.adapter.trained()) == 2 * 2 * 7


def test_what_is_frozen_keeps_the_role_s_type_and_adapters_are_float32(role):
    actor = FSDPBackend().build_actor(role(dtype="bfloat16", lora=LORA))
    types = {("lora_" in name, p.dtype, p.requires_grad) for name, p in actor.module.named_parameters()}
    assert types == {(True, torch.float32, True), (False, torch.bfloat16, False)}
    optimized = {name for name, _ in actor.optimizer._named}
    assert optimized and all("lora_" in name for name in optimized)


def test_a_merged_weight_is_base_plus_scaled_product_in_float32(updated):
    actor = updated(dtype="bfloat16")
    layer = actor.module.model.layers[1].mlp.down_proj
    a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    assert b.any()
    expected = layer.base_layer.weight.float() + 16.0 / 4 * (b @ a)
    merged = dict(actor.export_weights())["model.layers.1.mlp.down_proj.weight"]
    assert merged.dtype == torch.float32
    torch.testing.assert_close(merged, expected)
    assert dict(actor.export_weights())["model.norm.weight"].dtype == torch.bfloat16


def test_the_exported_adapter_on_the_base_model_is_the_merged_one(context, updated, role):
    actor = updated()
    adapter = actor.export_adapter()
    assert (adapter.scale, adapter.rank) == (4.0, 4)
    merged = dict(merged_weights(stream_tensors(tiny_model()), adapter))
    for name, tensor in actor.export_weights():
        torch.testing.assert_close(merged[name], tensor, atol=1e-6, rtol=1e-6)
    down, _ = adapter.layers["model.layers.1.mlp.down_proj"]
    assert down.data_ptr() == actor.module.model.layers[1].mlp.down_proj.lora_A["default"].weight.data_ptr()
    assert FSDPBackend().build_actor(role()).export_adapter() is None


def test_exported_names_are_those_of_the_model_without_adapters(role, updated):
    plain = FSDPBackend().build_actor(role())
    assert [name for name, _ in updated().export_weights()] == [name for name, _ in plain.export_weights()]


def test_peft_opens_the_adapter_on_the_base_model(context, updated, tmp_path):
    actor = updated()
    actor.save_adapter(tmp_path)
    base = AutoModelForCausalLM.from_pretrained(tiny_model(), dtype=torch.float32)
    opened = peft.PeftModel.from_pretrained(base, tmp_path).eval()
    tokens = torch.arange(3, 20)[None]
    with torch.no_grad():
        found = opened(input_ids=tokens).logits
        without = base.eval()
        with opened.disable_adapter():
            plain = without(input_ids=tokens).logits
    merged_folder = tmp_path / "merged"
    merged_folder.mkdir()
    actor.role.family.save(actor.export_weights(), actor.module.config, merged_folder)
    merged = AutoModelForCausalLM.from_pretrained(merged_folder, dtype=torch.float32).eval()
    with torch.no_grad():
        torch.testing.assert_close(found, merged(input_ids=tokens).logits, atol=1e-5, rtol=1e-5)
    assert float((found - plain).abs().max()) > 0.01
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"], config["inference_mode"]) == (4, 16.0, True)
    assert config["target_modules"] == sorted(config["target_modules"])


def test_a_role_without_lora_has_no_adapter_to_save(role, tmp_path):
    with pytest.raises(ValueError, match="no adapter"):
        FSDPBackend().build_actor(role()).save_adapter(tmp_path)


class TestCheckpoints:
    def test_they_hold_trained_parameters_only(self, updated, tmp_path):
        updated().save(tmp_path)
        assert sorted(path.name for path in tmp_path.iterdir()) == [
            "adapter",
            "optimizer",
            "optimizer.json",
        ]
        assert len(read_headers(tmp_path / "adapter")) == 2 * 2 * 7

    def test_of_another_kind_are_refused_in_one_line(self, role, updated, tmp_path):
        plain, adapted = tmp_path / "plain", tmp_path / "adapted"
        plain.mkdir()
        adapted.mkdir()
        FSDPBackend().build_actor(role()).save(plain)
        updated().save(adapted)
        with pytest.raises(CheckpointError, match="holds an adapter only"):
            FSDPBackend().build_actor(role()).load(adapted)
        with pytest.raises(CheckpointError, match="saved without an adapter"):
            FSDPBackend().build_actor(role(lora=LORA)).load(plain)
        for settings in (replace(LORA, rank=2), replace(LORA, targets=("q_proj",))):
            with pytest.raises(CheckpointError, match="another rank or other targets"):
                FSDPBackend().build_actor(role(lora=settings)).load(adapted)


class TestCritic:
    def test_adapters_and_head_are_trained_and_nothing_else(self, role, context):
        critic = FSDPBackend().build_critic(role(dtype="bfloat16", lora=LORA))
        trained = {name: p.dtype for name, p in critic.module.named_parameters() if p.requires_grad}
        assert set(trained.values()) == {torch.float32}
        assert "score.weight" in trained and len(trained) == 1 + 2 * 2 * 7
        assert not critic.module.score.weight.any()
        for _ in range(2):  # the adapters' B gets a gradient once the head is no longer zero
            critic.update_values(made_up_experience(context), value_objective())
        assert critic.module.score.weight.any()
        layer = critic.module.model.layers[0].self_attn.q_proj
        assert layer.lora_B["default"].weight.any()

    def test_its_merged_weights_carry_the_names_of_a_value_model(self, role):
        names = {name for name, _ in FSDPBackend().build_critic(role(lora=LORA)).export_weights()}
        assert names == {name for name, _ in FSDPBackend().build_critic(role()).export_weights()}


def test_supervised_loss_falls_with_adapters_only(role, context):
    trainee = FSDPBackend().build_supervised(role(lora=LORA))
    frozen = {name: p.clone() for name, p in trainee.module.named_parameters() if not p.requires_grad}
    batch = random_conversations(context)
    losses = [trainee.update_supervised(batch)["sft/loss"] for _ in range(10)]
    assert losses[-1] < 0.9 * losses[0]
    assert all(torch.equal(p, frozen[name]) for name, p in trainee.module.named_parameters() if name in frozen)


def test_gradient_checkpointing_gives_the_same_adapter(updated):
    plain, recomputed = updated().adapter.trained(), updated(gradient_checkpointing=True).adapter.trained()
    for name, parameter in plain.items():
        torch.testing.assert_close(recomputed[name], parameter, msg=name)


def test_the_seed_alone_decides_how_an_adapter_starts(role):
    def start(seed):
        torch.manual_seed(seed + 7)
        state = torch.get_rng_state()
        actor = FSDPBackend().build_actor(role(lora=LORA, seed=seed))
        assert torch.equal(torch.get_rng_state(), state)
        return actor.module.model.layers[0].self_attn.q_proj.lora_A["default"].weight

    torch.manual_seed(0)
    first = start(1)
    torch.manual_seed(5)
    assert torch.equal(first, start(1))
    assert not torch.equal(first, start(2))


class TestTargets:
    def test_all_linear_is_everything_but_the_head(self):
        model = AutoModelForCausalLM.from_pretrained(tiny_model())
        kinds = {name.rpartition(".")[2] for name in choose_layers(model, ("all_linear",))}
        assert kinds == {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}

    def test_a_name_means_every_layer_that_ends_with_it(self):
        model = AutoModelForCausalLM.from_pretrained(tiny_model())
        assert list(choose_layers(model, ("q_proj",))) == [f"model.layers.{i}.self_attn.q_proj" for i in (0, 1)]
        assert list(choose_layers(model, ("0.mlp.up_proj",))) == ["model.layers.0.mlp.up_proj"]

    @pytest.mark.parametrize(
        ("target", "said"),
        [
            ("q_porj", r"no linear layer 'q_porj'.*Did you mean 'q_proj'\?"),
            ("proj", "no linear layer 'proj'"),
            ("embed_tokens", "no linear layer 'embed_tokens'"),
            ("lm_head", "no linear layer 'lm_head' besides its head"),
        ],
    )
    def test_one_that_names_no_layer_is_refused(self, role, target, said):
        with pytest.raises(ModelError, match=said) as raised:
            FSDPBackend().build_actor(role(lora=replace(LORA, targets=("k_proj", target))))
        assert "\n" not in str(raised.value)

    def test_a_rank_beyond_every_matrix_is_refused(self, role):
        with pytest.raises(ModelError, match=r"lora\.rank = 33 .*\(32 at most\)"):
            FSDPBackend().build_actor(role(lora=replace(LORA, rank=33)))


def test_layers_stored_transposed_are_merged_right(role, context, tmp_path):
    sizes = {"vocab_size": 40, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64}
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(CONFIG_MAPPING["gpt2"](**sizes, bos_token_id=1, eos_token_id=2)).save_pretrained(
        tmp_path / "gpt2"
    )
    actor = FSDPBackend().build_actor(role(path=tmp_path / "gpt2", lora=LORA))
    for _ in range(3):
        actor.update_policy(made_up_experience(context), policy_objective(), temperature=1.0)
    merged = tmp_path / "merged"
    merged.mkdir()
    actor.role.family.save(actor.export_weights(), actor.module.config, merged)
    reference = FSDPBackend().build_reference(role(path=merged, optimizer=None))
    torch.testing.assert_close(log_probs(reference, context), log_probs(actor, context), atol=1e-5, rtol=1e-5)
    assert not torch.equal(log_probs(actor.base_policy(), context), log_probs(actor, context))


@pytest.mark.slow
def test_peft_is_not_imported_for_roles_without_lora():
    code = (
        "import sys; from pathlib import Path\n"
        "from rlkit.models.registry import find_family\n"
        "from rlkit.protocols.actor import ModelRole, OptimizerSettings\n"
        "from rlkit_fsdp.backend import FSDPBackend\n"
        "folder = Path(sys.argv[1])\n"
        "optimizer = OptimizerSettings(1e-3, 0.0, (0.9, 0.99), 1e-8, 1.0, 'constant', 0, 10, 0.0)\n"
        "role = ModelRole(folder, find_family(folder), 'float32', 'cpu', 64, False, False, 0, optimizer)\n"
        "actor = FSDPBackend().build_actor(role)\n"
        "list(actor.export_weights())\n"
        "print('peft' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tiny_model())], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
