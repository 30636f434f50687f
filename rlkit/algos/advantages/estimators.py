"""Advantage estimators by the name that `algorithm.advantage` has for them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor

from rlkit.algos.advantages.dr_grpo import compute_dr_grpo
from rlkit.algos.advantages.gae import compute_gae
from rlkit.algos.advantages.gdpo import compute_gdpo
from rlkit.algos.advantages.gpg import compute_gpg
from rlkit.algos.advantages.grpo import compute_grpo
from rlkit.algos.advantages.grpo_passk import compute_grpo_passk
from rlkit.algos.advantages.opo import compute_opo
from rlkit.algos.advantages.reinforce_plus_plus import (
    compute_reinforce_plus_plus,
    compute_reinforce_plus_plus_baseline,
)
from rlkit.algos.advantages.remax import compute_remax
from rlkit.algos.advantages.rloo import compute_rloo


@dataclass(frozen=True, eq=False)
class AdvantageInputs:
    """What an estimator may look at.

    token_rewards [B, R]  reward of each token, the KL penalty taken off; an answer's score stands on its last token
    mask          [B, R]  bool: tokens that the policy sampled
    group_ids     [B]     answers to the same prompt share one
    values        [B, R]  the critic's predictions; None without a critic
    greedy_scores [B]     score of the greedy answer to each row's prompt; None when nobody asked for one
    part_scores   [B, K]  score of each reward function, part_weights its weight
    """

    token_rewards: Tensor
    mask: Tensor
    group_ids: Tensor
    values: Tensor | None
    gamma: float
    lam: float
    greedy_scores: Tensor | None = None
    part_scores: Tensor | None = None
    part_weights: tuple[float, ...] = ()


Estimator = Callable[[AdvantageInputs], tuple[Tensor, Tensor | None]]
"""-> advantages [B, R], and the critic's targets [B, R] or None; both zero outside the mask."""


def _gae(inputs: AdvantageInputs) -> tuple[Tensor, Tensor | None]:
    if inputs.values is None:
        raise ValueError("gae needs a critic")
    return compute_gae(inputs.token_rewards, inputs.values, inputs.mask, gamma=inputs.gamma, lam=inputs.lam)


def _reinforce_plus_plus(inputs: AdvantageInputs) -> tuple[Tensor, Tensor | None]:
    return compute_reinforce_plus_plus(inputs.token_rewards, inputs.mask, gamma=inputs.gamma), None


def _remax(inputs: AdvantageInputs) -> tuple[Tensor, Tensor | None]:
    if inputs.greedy_scores is None:
        raise ValueError("remax needs the scores of greedy answers")
    return compute_remax(inputs.token_rewards, inputs.mask, inputs.greedy_scores), None


def _gdpo(inputs: AdvantageInputs) -> tuple[Tensor, Tensor | None]:
    if inputs.part_scores is None:
        raise ValueError("gdpo needs the score of each reward function")
    return compute_gdpo(inputs.part_scores, inputs.mask, inputs.group_ids, inputs.part_weights), None


def _by_group(compute: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Estimator:
    return lambda inputs: (compute(inputs.token_rewards, inputs.mask, inputs.group_ids), None)


ESTIMATORS: Mapping[str, Estimator] = {
    "gae": _gae,
    "grpo": _by_group(compute_grpo),
    "dr_grpo": _by_group(compute_dr_grpo),
    "grpo_passk": _by_group(compute_grpo_passk),
    "rloo": _by_group(compute_rloo),
    "opo": _by_group(compute_opo),
    "gpg": _by_group(compute_gpg),
    "gdpo": _gdpo,
    "remax": _remax,
    "reinforce_plus_plus": _reinforce_plus_plus,
    "reinforce_plus_plus_baseline": _by_group(compute_reinforce_plus_plus_baseline),
}
