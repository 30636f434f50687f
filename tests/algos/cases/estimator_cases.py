"""Every advantage estimator that comes with rlkit, built by its name as a run builds it, and batches to try it on."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import torch
from hypothesis import HealthCheck, settings
from torch import Tensor

from rlkit.algos.advantages.estimators import AdvantageInputs, Estimator
from rlkit.config.algorithm import AlgorithmSection
from rlkit.pipelines.algorithms import build_estimator
from rlkit.plugin import PluginKind
from rlkit.plugin.discovery import installed_plugins
from rlkit.plugin.loader import load_spec

FEW_EXAMPLES = settings(
    max_examples=8, deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow]
)
"""The same few in every run, however busy the machine is."""
CORE = "rlkit-llm"
ESTIMATORS = tuple(
    plugin.name
    for plugin in installed_plugins()
    if plugin.kind is PluginKind.ADVANTAGE_ESTIMATOR and plugin.distribution == CORE
)
BY_GROUP = tuple(name for name in ESTIMATORS if "groups" in load_spec(PluginKind.ADVANTAGE_ESTIMATOR, name).needs)
WHITENED = ("gdpo", "reinforce_plus_plus_baseline")
"""Of those by group: what an answer gets depends on the whole batch."""
OPTIONS: dict[str, dict[str, Any]] = {"gae": {"gamma": 0.97, "lam": 0.9}, "reinforce_plus_plus": {"gamma": 0.97}}
PART_WEIGHTS = (1.0, 0.5)
VOCABULARY = 5
PER_TOKEN = ("token_rewards", "old_log_probs", "values", "probability_squares")
PER_ROW = ("group_ids", "greedy_scores", "part_scores")


def estimator(name: str) -> Estimator:
    return build_estimator(AlgorithmSection(advantage=name, advantage_options=OPTIONS.get(name, {})))


def random_mask(generator: torch.Generator, rows: int, width: int) -> Tensor:
    """Answers of different lengths, at least one token each, with tool output inside some of them."""
    lengths = torch.randint(1, width + 1, (rows,), generator=generator)
    mask = torch.arange(width) < lengths[:, None]
    gaps = torch.rand(rows, width, generator=generator) < 0.2
    gaps[:, 0] = False
    return mask & ~gaps


def random_inputs(
    seed: int, *, groups: tuple[int, ...] = (4, 3, 1, 2), width: int = 7, dtype: torch.dtype = torch.float64
) -> tuple[AdvantageInputs, Tensor]:
    """What a run would give an estimator, and the distribution [B, R, V] of each token.

    groups: answers to each prompt. Scores stand on the last sampled token, and every token has a small reward besides.
    """
    generator = torch.Generator().manual_seed(seed)
    rows = sum(groups)
    mask = random_mask(generator, rows, width)
    group_ids = torch.repeat_interleave(torch.arange(len(groups)), torch.tensor(groups))
    distributions = torch.softmax(2 * torch.randn(rows, width, VOCABULARY, generator=generator, dtype=dtype), dim=-1)
    chosen = torch.randint(VOCABULARY, (rows, width, 1), generator=generator)
    rewards = 0.1 * torch.randn(rows, width, generator=generator, dtype=dtype)
    rewards[torch.arange(rows), _last(mask)] += torch.rand(rows, generator=generator, dtype=dtype)
    inputs = AdvantageInputs(
        token_rewards=rewards.where(mask, 0.0),
        mask=mask,
        group_ids=group_ids,
        old_log_probs=distributions.gather(2, chosen)[..., 0].log(),
        values=torch.randn(rows, width, generator=generator, dtype=dtype),
        greedy_scores=torch.rand(len(groups), generator=generator, dtype=dtype)[group_ids],
        part_scores=torch.rand(rows, len(PART_WEIGHTS), generator=generator, dtype=dtype),
        part_weights=PART_WEIGHTS,
        probability_squares=distributions.square().sum(dim=-1),
    )
    return inputs, distributions


def with_scores(inputs: AdvantageInputs, scores: Tensor) -> AdvantageInputs:
    """The same answers with `scores` [B] on their last sampled tokens and nothing elsewhere, and as each reward part."""
    rewards = torch.zeros_like(inputs.token_rewards)
    rewards[torch.arange(len(scores)), _last(inputs.mask)] = scores
    return replace(inputs, token_rewards=rewards, part_scores=scores[:, None].expand(-1, len(PART_WEIGHTS)))


def rows_of(inputs: AdvantageInputs, order: Tensor) -> AdvantageInputs:
    return replace(inputs, **{name: getattr(inputs, name)[order] for name in (*PER_TOKEN, "mask", *PER_ROW)})


def with_columns(inputs: AdvantageInputs, at: int, count: int, fill: float) -> AdvantageInputs:
    """`count` positions that the policy did not sample, before position `at`, full of `fill`."""

    def insert(values: Tensor, filling: float) -> Tensor:
        block = values.new_full((len(values), count), filling)
        return torch.cat([values[:, :at], block, values[:, at:]], dim=1)

    wider = {name: insert(getattr(inputs, name), fill) for name in PER_TOKEN}
    return replace(inputs, **wider, mask=insert(inputs.mask, False))


def spoilt(inputs: AdvantageInputs, garbage: float) -> AdvantageInputs:
    """`garbage` wherever the mask is False."""
    dirty = {name: getattr(inputs, name).masked_fill(~inputs.mask, garbage) for name in PER_TOKEN}
    return replace(inputs, **dirty)


def untouched_fields() -> set[str]:
    """Fields that the cases above do not know: a new one has to be added to them."""
    return {field.name for field in fields(AdvantageInputs)} - {*PER_TOKEN, *PER_ROW, "mask", "part_weights"}


def _last(mask: Tensor) -> Tensor:
    return mask.shape[1] - 1 - mask.flip(1).int().argmax(dim=1)
