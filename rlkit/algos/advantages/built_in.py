"""What the names of the estimators that come with rlkit stand for; see `plugins` beside this file."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from rlkit.algos.advantages.dr_grpo import compute_dr_grpo
from rlkit.algos.advantages.estimators import AdvantageInputs, Estimates, Estimator
from rlkit.algos.advantages.gae import compute_gae
from rlkit.algos.advantages.gdpo import compute_gdpo
from rlkit.algos.advantages.gpg import compute_gpg
from rlkit.algos.advantages.grpo import compute_grpo
from rlkit.algos.advantages.grpo_passk import compute_grpo_passk
from rlkit.algos.advantages.opo import compute_opo
from rlkit.algos.advantages.optimal_token_baseline import compute_optimal_token_baseline
from rlkit.algos.advantages.options import GAEOptions, ReinforcePlusPlusOptions
from rlkit.algos.advantages.reinforce_plus_plus import (
    compute_reinforce_plus_plus,
    compute_reinforce_plus_plus_baseline,
)
from rlkit.algos.advantages.remax import compute_remax
from rlkit.algos.advantages.rloo import compute_rloo


def _by_group(compute: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Estimator:
    return lambda inputs: (compute(inputs.token_rewards, inputs.mask, inputs.group_ids), None)


grpo = _by_group(compute_grpo)
dr_grpo = _by_group(compute_dr_grpo)
grpo_passk = _by_group(compute_grpo_passk)
rloo = _by_group(compute_rloo)
opo = _by_group(compute_opo)
gpg = _by_group(compute_gpg)
reinforce_plus_plus_baseline = _by_group(compute_reinforce_plus_plus_baseline)


def gae(options: GAEOptions) -> Estimator:
    def estimate(inputs: AdvantageInputs) -> Estimates:
        if inputs.values is None:
            raise ValueError("gae needs a critic")
        return compute_gae(
            inputs.token_rewards,
            inputs.values,
            inputs.mask,
            gamma=options.gamma,
            lam=options.lam,
            whiten=options.whiten,
        )

    return estimate


def reinforce_plus_plus(options: ReinforcePlusPlusOptions) -> Estimator:
    return lambda inputs: (
        compute_reinforce_plus_plus(inputs.token_rewards, inputs.mask, gamma=options.gamma),
        None,
    )


def remax(inputs: AdvantageInputs) -> Estimates:
    if inputs.greedy_scores is None:
        raise ValueError("remax needs the scores of greedy answers")
    return compute_remax(inputs.token_rewards, inputs.mask, inputs.greedy_scores), None


def gdpo(inputs: AdvantageInputs) -> Estimates:
    if inputs.part_scores is None:
        raise ValueError("gdpo needs the score of each reward function")
    return compute_gdpo(inputs.part_scores, inputs.mask, inputs.group_ids, inputs.part_weights), None


def optimal_token_baseline(inputs: AdvantageInputs) -> Estimates:
    if inputs.probability_squares is None:
        raise ValueError("optimal_token_baseline needs the squared probabilities of each token's distribution")
    advantages = compute_optimal_token_baseline(
        inputs.token_rewards, inputs.mask, inputs.group_ids, inputs.old_log_probs, inputs.probability_squares
    )
    return advantages, None
