"""The advantage estimators that come with rlkit, as the entry points of this distribution name them. Imports no torch."""

from __future__ import annotations

from rlkit.plugin.spec import Need, PluginKind, PluginSpec


def _spec(name: str, summary: str, *needs: Need, options: str | None = None) -> PluginSpec:
    return PluginSpec(
        kind=PluginKind.ADVANTAGE_ESTIMATOR,
        target=f"rlkit.algos.advantages.built_in:{name}",
        summary=summary,
        config=None if options is None else f"rlkit.algos.advantages.options:{options}",
        needs=needs,
    )


gae = _spec("gae", "Credit for each token, by the predictions of a critic", "critic", options="GAEOptions")
grpo = _spec("grpo", "The score in standard deviations from its group's mean", "groups")
dr_grpo = _spec("dr_grpo", "The score less its group's mean, not divided by the deviation", "groups")
grpo_passk = _spec("grpo_passk", "Only the best answer of a group, by its lead over the second: for pass@k", "groups")
rloo = _spec("rloo", "The score less the mean of the group's other answers", "groups")
opo = _spec("opo", "The score less its group's mean weighted by length", "groups")
gpg = _spec("gpg", "The score less its group's mean, scaled up when few answers score", "groups")
gdpo = _spec("gdpo", "GRPO for each reward function by itself, then whitened", "groups", "reward_parts")
remax = _spec("remax", "The reward to come less the score of the prompt's greedy answer", "greedy_baseline")
reinforce_plus_plus = _spec(
    "reinforce_plus_plus", "The discounted reward to come, whitened over the batch", options="ReinforcePlusPlusOptions"
)
reinforce_plus_plus_baseline = _spec(
    "reinforce_plus_plus_baseline", "The score less its group's mean, whitened over the batch", "groups"
)
optimal_token_baseline = _spec(
    "optimal_token_baseline",
    "The reward to come less its group's mean at that token, weighted by the noise of each answer so far",
    "groups",
    "probability_squares",
)
