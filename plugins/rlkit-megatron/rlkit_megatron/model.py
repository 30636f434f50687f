"""GPT models of megatron-core, built for a transformers config: this process's part, or parts where stages are interleaved."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from megatron.core.models.gpt import GPTModel
from megatron.core.transformer import TransformerConfig
from torch import Tensor, nn

from rlkit.protocols.family import ModelHead
from rlkit_megatron.architecture import check_activation, rope_parameters
from rlkit_megatron.layer_spec import has_transformer_engine, layer_spec
from rlkit_megatron.layout import padded_vocabulary
from rlkit_megatron.parallel import Parallel
from rlkit_megatron.recipes import Recipe, head_dim


@dataclass(frozen=True)
class ModelPlan:
    """What is built: a transformers config, the recipe of its architecture, the type of parameters and arithmetic."""

    config: Any
    recipe: Recipe
    head: ModelHead
    dtype: torch.dtype
    recompute: bool


class HiddenStatesOutput(nn.Module):
    """In the place of an output layer: log-probs are made chunk by chunk elsewhere, from what comes in here."""

    def __init__(self, weight: nn.Parameter | None) -> None:
        super().__init__()
        self.weight = weight

    def forward(self, hidden: Tensor, *_: Any, **__: Any) -> tuple[Tensor, None]:
        return hidden, None


class ValueHead(nn.Module):
    """Linear(hidden, 1) in float32, zero at first."""

    def __init__(self, hidden_size: int, device: str) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1, hidden_size, dtype=torch.float32, device=device))

    def forward(self, hidden: Tensor) -> Tensor:
        """Values [N] of hidden states [N, hidden]."""
        return nn.functional.linear(hidden.float(), self.weight).squeeze(-1)


def build_parts(plan: ModelPlan, parallel: Parallel) -> list[GPTModel]:
    """Without values: `load_weights` gives them all."""
    config = transformer_config(plan, parallel)
    engine = _uses_transformer_engine(parallel)
    state, options = parallel.state, parallel.options
    parts: list[GPTModel] = []
    for number in range(options.virtual_pipeline):
        stage = number if options.virtual_pipeline > 1 else None
        first = state.is_pipeline_first_stage(ignore_virtual=False, vp_stage=stage)
        last = state.is_pipeline_last_stage(ignore_virtual=False, vp_stage=stage)
        part = GPTModel(
            config=config,
            transformer_layer_spec=layer_spec(config, part=stage, transformer_engine=engine),
            vocab_size=padded_vocabulary(plan.config.vocab_size, options.tensor_parallel),
            max_sequence_length=plan.config.max_position_embeddings,
            pre_process=first,
            post_process=last,
            share_embeddings_and_output_weights=plan.head == "causal_lm" and bool(plan.config.tie_word_embeddings),
            position_embedding_type="rope",
            rotary_base=int(rope_parameters(plan.config)["rope_theta"]),
            vp_stage=stage,
        )
        part.rotary_pos_emb.inv_freq = rope_frequencies(plan.config).to(parallel.device)
        if first:
            _leave_padding_alone(part, plan.config, parallel)
        if last:
            _take_hidden_states(part, plan, parallel)
        parts.append(part.to(parallel.device))
    return parts


def transformer_config(plan: ModelPlan, parallel: Parallel) -> TransformerConfig:
    """megatron-core's settings, arithmetic as transformers does it."""
    config, options = plan.config, parallel.options
    on_cpu = torch.device(parallel.device).type == "cpu"
    interleaved = options.virtual_pipeline > 1
    check_activation(config)
    settings: dict[str, Any] = {
        "num_layers": config.num_hidden_layers,
        "hidden_size": config.hidden_size,
        "num_attention_heads": config.num_attention_heads,
        "num_query_groups": config.num_key_value_heads,
        "kv_channels": head_dim(config),
        "layernorm_epsilon": config.rms_norm_eps,
        "normalization": "RMSNorm",
        "gated_linear_unit": True,
        "activation_func": nn.functional.silu,
        "add_bias_linear": False,
        "hidden_dropout": 0.0,
        "attention_dropout": 0.0,
        "params_dtype": plan.dtype,
        "pipeline_dtype": plan.dtype,
        "bf16": plan.dtype == torch.bfloat16,
        "tensor_model_parallel_size": options.tensor_parallel,
        "sequence_parallel": options.cuts_tokens,
        "pipeline_model_parallel_size": options.pipeline_parallel,
        "virtual_pipeline_model_parallel_size": options.virtual_pipeline if interleaved else None,
        "expert_model_parallel_size": options.expert_parallel,
        "variable_seq_lengths": True,
        # Asked for with rows of any length, also where there are no experts.
        "moe_token_dispatcher_type": "alltoall",
        # Otherwise the interleaved schedule loses gradients with two stages, without an error.
        "overlap_p2p_comm": interleaved,
        "batch_p2p_comm": not interleaved,
        # Losses come with the denominators of the whole mini-batch: nothing is left to be divided.
        "calculate_per_token_loss": True,
        "use_cpu_initialization": on_cpu,
        "perform_initialization": False,
        "persist_layer_norm": False,
        "bias_dropout_fusion": False,
        "bias_activation_fusion": False,
        "masked_softmax_fusion": False,
        "gradient_accumulation_fusion": False,
        "apply_rope_fusion": False,
    }
    if plan.recompute:
        settings |= {"recompute_granularity": "full", "recompute_method": "uniform", "recompute_num_layers": 1}
    return TransformerConfig(**{**settings, **plan.recipe.settings(config)})


def rope_frequencies(config: Any) -> Tensor:
    """Inverse frequencies [head_dim / 2] of the rotary embeddings, as transformers computes them."""
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    parameters = rope_parameters(config)
    kind = parameters.get("rope_type", "default")
    if kind == "default":
        exponents = torch.arange(0, head_dim(config), 2, dtype=torch.int64).float() / head_dim(config)
        return 1.0 / torch.pow(float(parameters["rope_theta"]), exponents)
    frequencies, _ = ROPE_INIT_FUNCTIONS[kind](config, torch.device("cpu"))
    assert isinstance(frequencies, Tensor)
    return frequencies


def _uses_transformer_engine(parallel: Parallel) -> bool:
    wanted = parallel.options.transformer_engine and torch.device(parallel.device).type == "cuda"
    return wanted and has_transformer_engine()


def _take_hidden_states(part: GPTModel, plan: ModelPlan, parallel: Parallel) -> None:
    """The part ends in hidden states; a value model's head replaces the one for tokens."""
    if plan.head == "value":
        part.output_layer = HiddenStatesOutput(None)
        part.score = ValueHead(plan.config.hidden_size, parallel.device)
        return
    part.output_layer = HiddenStatesOutput(part.output_layer.weight)


def _leave_padding_alone(part: GPTModel, config: Any, parallel: Parallel) -> None:
    """No gradient for the vector of `pad_token_id`, where there is one: so it is with transformers' embeddings."""
    padding = getattr(config, "pad_token_id", None)
    if padding is None or padding < 0:
        return

    def without_gradient(module: Any, inputs: tuple[Tensor, ...], vectors: Tensor) -> Tensor:
        is_padding = inputs[0] == padding  # [1, T]
        if module.reduce_scatter_embeddings:  # vectors [T of this process, 1, D]
            pieces = is_padding.T.chunk(parallel.options.tensor_parallel)
            is_padding = pieces[parallel.tensor_rank]
        return torch.where(is_padding[..., None], vectors.detach(), vectors)

    part.embedding.word_embeddings.register_forward_hook(without_gradient)
