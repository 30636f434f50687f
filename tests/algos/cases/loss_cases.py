"""Every policy loss that comes with rlkit, built by its name as a run builds it, and mini-batches to try it on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

import torch
from hypothesis import HealthCheck, settings
from torch import Tensor

from rlkit.algos.aggregation import Aggregation, AggregationMode, Denominators
from rlkit.algos.objective import PolicyObjective
from rlkit.algos.policy_losses.token_losses import PolicyLoss
from rlkit.config.algorithm import AlgorithmSection
from rlkit.pipelines.algorithms import build_policy_loss
from rlkit.plugin import PluginKind
from rlkit.plugin.discovery import installed_plugins
from rlkit.plugin.loader import load_spec
from rlkit.types import Experience, Prompt, Ragged, Rollouts

FEW_EXAMPLES = settings(
    max_examples=5, deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow]
)
"""The same few in every run, however busy the machine is."""
CORE = "rlkit-llm"
LOSSES = tuple(
    plugin.name
    for plugin in installed_plugins()
    if plugin.kind is PluginKind.POLICY_LOSS and plugin.distribution == CORE
)
MODES: tuple[AggregationMode, ...] = (
    "token_mean",
    "seq_mean_token_sum",
    "seq_mean_token_mean",
    "seq_mean_token_sum_norm",
    "token_sum",
)
HORIZON = 9
OPTIONS: dict[str, dict[str, float]] = {
    "ppo_clip": {"clip_low": 0.2, "clip_high": 0.28, "dual_clip": 1.5},
    "gspo": {"clip_low": 0.1, "clip_high": 0.12},
    "cispo": {"clip_low": 0.2, "clip_high": 0.28},
    "sapo": {"tau_positive": 1.0, "tau_negative": 1.05},
    "gmpo": {"clip_low": 0.2, "clip_high": 0.28},
    "clip_cov": {"clip_low": 0.2, "clip_high": 0.28, "fraction": 0.1, "cov_low": 0.01, "cov_high": 5.0},
    "kl_cov": {"fraction": 0.1, "coefficient": 1.0},
    "dppo_tv": {"threshold": 0.1},
    "dppo_kl": {"threshold": 0.03},
}
"""Bounds that some tokens of the mini-batches below are beyond, and some are not."""


def policy_loss(name: str, **options: float) -> PolicyLoss:
    chosen = {**OPTIONS.get(name, {}), **options}
    return build_policy_loss(AlgorithmSection(policy_loss=name, policy_loss_options=chosen))


def allowed_modes(name: str) -> Sequence[AggregationMode]:
    allowed = load_spec(PluginKind.POLICY_LOSS, name).aggregations
    return [mode for mode in MODES if mode in allowed] if allowed else MODES


LOSSES_AND_MODES = tuple((name, mode) for name in LOSSES for mode in allowed_modes(name))


def objective(name: str, mode: AggregationMode) -> PolicyObjective:
    """With every term switched on."""
    return PolicyObjective(
        policy_loss(name), Aggregation(mode, HORIZON), kl_loss=0.1, kl_estimator="k3", entropy_bonus=0.05
    )


def mini_batch(
    seed: int, lengths: Sequence[int] = (5, 1, 7, 2, 6, 3), *, dtype: torch.dtype = torch.float64
) -> tuple[Experience, Ragged, Ragged]:
    """A mini-batch with everything a loss may read, and the present policy's log-probs and entropies.

    The first token of every answer is sampled, others may be tool output; one answer of several is rejected whole.
    """
    generator = torch.Generator().manual_seed(seed)
    rows, tokens = len(lengths), sum(lengths)
    sizes = torch.tensor(lengths)

    def noise(scale: float) -> Tensor:
        return scale * torch.randn(tokens, generator=generator, dtype=dtype)

    mask = Ragged(torch.rand(tokens, generator=generator) > 0.2, sizes)
    mask.values[mask.offsets[:-1]] = True
    if rows > 2:
        mask.values[mask.offsets[1] : mask.offsets[2]] = False
    old = mask.with_values(-2 * torch.rand(tokens, generator=generator, dtype=dtype) - 0.3)
    ids = mask.with_values(torch.arange(tokens))
    rollouts = Rollouts(
        prompt_ids=ids,
        response_ids=ids,
        response_mask=mask,
        rollout_log_probs=None,
        group_ids=torch.arange(rows),
        finish_reasons=("stop",) * rows,
        policy_version=0,
        prompts=tuple(Prompt(row_id=index, text="?") for index in range(rows)),
    )
    # One advantage for each answer, a little different at each token.
    advantages = torch.randn(rows, generator=generator, dtype=dtype).repeat_interleave(sizes) + noise(0.1)
    batch = Experience(
        rollouts=rollouts,
        old_log_probs=old,
        advantages=mask.with_values(advantages),
        loss_mask=mask,
        returns=mask.with_values(noise(1.0)),
        old_values=mask.with_values(noise(1.0)),
        ref_log_probs=mask.with_values(old.values + noise(0.3)),
        importance_weights=mask.with_values(1 + 0.5 * torch.rand(tokens, generator=generator, dtype=dtype)),
    )
    # Never above 0: these are log-probs.
    present = mask.with_values((old.values + noise(0.3)).clamp(max=-0.01))
    entropy = mask.with_values(torch.rand(tokens, generator=generator, dtype=dtype))
    return batch, present, entropy


def count_over_ranks(batch: Experience, ranks: Sequence[Sequence[int]]) -> Denominators:
    """The sum of what each rank counts in its rows, as an all-reduce gives it."""
    counts = [Denominators.of(batch.select(rows).loss_mask.padded(False)) for rows in ranks if rows]
    return Denominators(sum(count.tokens for count in counts), sum(count.sequences for count in counts))


def run_policy(
    chosen: PolicyObjective,
    batch: Experience,
    present: Ragged,
    entropy: Ragged,
    ranks: Sequence[Sequence[Sequence[int]]],
    *,
    fill: float = 0.0,
) -> tuple[Tensor, Tensor, Tensor, dict[str, float]]:
    """Loss, gradients of log-probs and entropies [N], and metrics, added up over the ranks' micro-batches.

    ranks: for each rank its micro-batches, for each of these its rows. fill: what stands in the padding.
    """
    log_probs = present.values.detach().clone().requires_grad_()
    entropies = entropy.values.detach().clone().requires_grad_()
    prepared = chosen.prepare(batch, lambda: present)
    denominators = count_over_ranks(batch, [[row for part in rank for row in part] for rank in ranks])
    loss, metrics = torch.zeros((), dtype=log_probs.dtype), dict[str, float]()
    for rows in (part for rank in ranks for part in rank if part):
        share = chosen(
            present.with_values(log_probs).select(rows).padded(fill),
            entropy.with_values(entropies).select(rows).padded(fill),
            prepared.select(rows),
            denominators,
        )
        loss = loss + share.loss
        for metric, value in share.metrics.items():
            metrics[metric] = metrics.get(metric, 0.0) + float(value)
    gradients = torch.autograd.grad(loss, [log_probs, entropies])
    return loss.detach(), *gradients, metrics


def spoil(batch: Experience, garbage: float) -> Experience:
    """`garbage` in every float field wherever the loss mask is False."""
    outside = ~batch.loss_mask.values
    changes: dict[str, Any] = {}
    for field in fields(batch):
        value = getattr(batch, field.name)
        if isinstance(value, Ragged) and value.values.is_floating_point():
            changes[field.name] = value.with_values(value.values.masked_fill(outside, garbage))
    return replace(batch, **changes)
