"""What a user asks for and cannot have is said in one line, before anything is started."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from pydantic import ValidationError
from rlkit_megatron.options import MegatronOptions
from rlkit_megatron.recipes import RECIPES

from rlkit.errors import ConfigError, ModelError

DENSE = {
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 40,
    "intermediate_size": 48,
    "num_hidden_layers": 6,
}
MIXTURE = {**DENSE, "num_experts": 6, "moe_intermediate_size": 16}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"context_parallel": 2}, "context_parallel = 2 is not implemented"),
        ({"virtual_pipeline": 2}, "pipeline_parallel = 1"),
        ({"expert_parallel": 2, "tensor_parallel": 2, "sequence_parallel": False}, "sequence_parallel = true"),
        ({"tensor_parallel": 0}, "greater than or equal to 1"),
    ],
)
def test_options_that_exclude_each_other_are_refused(options, words):
    with pytest.raises(ValidationError, match=words):
        MegatronOptions(**options)


@pytest.mark.parametrize(
    ("options", "model", "processes", "words"),
    [
        ({"tensor_parallel": 2, "pipeline_parallel": 2}, DENSE, 6, "takes 4 processes .* there are 6"),
        ({"tensor_parallel": 4}, DENSE, 4, "2 key-value heads"),
        ({"tensor_parallel": 8}, DENSE, 8, "4 attention heads"),
        ({"tensor_parallel": 2}, {**DENSE, "vocab_size": 1}, 2, "without any of the vocabulary's 1 tokens"),
        ({"tensor_parallel": 2}, {**DENSE, "intermediate_size": 47}, 2, "47 units of the MLPs"),
        ({"tensor_parallel": 2}, {**MIXTURE, "moe_intermediate_size": 15}, 2, "15 units of the MLPs"),
        ({"pipeline_parallel": 4}, DENSE, 4, "6 layers"),
        ({"pipeline_parallel": 2, "virtual_pipeline": 2}, DENSE, 2, "virtual_pipeline = 2 does not divide .* 6 layers"),
        ({"expert_parallel": 2}, DENSE, 2, "the model has no experts"),
        ({"expert_parallel": 4}, MIXTURE, 4, "6 experts"),
        ({"expert_parallel": 3}, MIXTURE, 4, "does not divide the 4 copies"),
        ({"tensor_parallel": 2, "sequence_parallel": False}, MIXTURE, 2, "sequence_parallel = true"),
    ],
)
def test_layouts_that_do_not_fit_are_refused_in_one_line(options, model, processes, words):
    with pytest.raises(ConfigError, match=words) as raised:
        MegatronOptions(**options).check(model, processes=processes)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("options", "model", "processes"),
    [
        ({}, DENSE, 1),
        ({}, DENSE, 8),
        ({"tensor_parallel": 2, "pipeline_parallel": 3}, DENSE, 12),
        ({"pipeline_parallel": 3, "virtual_pipeline": 2}, DENSE, 3),
        ({"expert_parallel": 2, "tensor_parallel": 2}, MIXTURE, 4),
        ({"tensor_parallel": 2}, {**DENSE, "vocab_size": 41}, 2),
        ({"tensor_parallel": 2}, {}, 2),
    ],
)
def test_layouts_that_fit_pass(options, model, processes):
    MegatronOptions(**options).check(model, processes=processes)


def described(architecture: str, **more: Any) -> dict[str, Any]:
    return {**DENSE, "architectures": [architecture], "model_type": "any", **more}


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (described("LlamaForCausalLM", attention_bias=True), "attention_bias = true"),
        (described("LlamaForCausalLM", hidden_act="gelu"), "hidden_act = gelu"),
        (described("LlamaForCausalLM", rope_scaling={"type": "dynamic", "factor": 2.0}), "rope_type = dynamic"),
        (described("Qwen3ForCausalLM", rope_parameters={"rope_type": "yarn"}), "rope_type = yarn"),
        (
            described("Qwen2ForCausalLM", sliding_window=4, layer_types=["full_attention", "sliding_attention"]),
            "in some layers only",
        ),
        (described("Qwen3MoeForCausalLM", num_experts=4, mlp_only_layers=[0]), "experts in every layer"),
        (described("Qwen3MoeForSequenceClassification", decoder_sparse_step=2), "experts in every layer"),
        (described("GPT2LMHeadModel"), "no recipe for architecture 'GPT2LMHeadModel'"),
    ],
)
def test_architectures_that_cannot_be_built_are_refused_in_one_line(model, words):
    with pytest.raises(ModelError, match=words) as raised:
        MegatronOptions().check(model, processes=1)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("architecture", list(RECIPES))
def test_architectures_that_can_be_built_pass_whatever_their_file_leaves_out(architecture):
    MegatronOptions().check(described(architecture), processes=1)
    MegatronOptions().check(described(architecture, sliding_window=8, rope_scaling=None), processes=1)


def test_adapters_are_refused():
    with pytest.raises(ConfigError, match=r"lora\.rank = 4: .* trains no adapters"):
        MegatronOptions().check(DENSE, processes=1, adapter_rank=4)


def test_looking_at_a_model_imports_no_torch():
    code = (
        "import sys; from rlkit_megatron.options import MegatronOptions\n"
        f"MegatronOptions().check({described('LlamaForCausalLM')!r}, processes=1)\n"
        "print('torch' in sys.modules, 'transformers' in sys.modules, 'megatron' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False"] * 3
