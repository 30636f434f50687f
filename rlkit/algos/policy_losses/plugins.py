"""The policy losses that come with rlkit, as the entry points of this distribution name them. Imports no torch."""

from __future__ import annotations

from rlkit.plugin.spec import PluginKind, PluginSpec


def _spec(
    name: str,
    summary: str,
    *,
    options: str | None = None,
    has_ratio: bool = True,
    aggregations: tuple[str, ...] = (),
) -> PluginSpec:
    return PluginSpec(
        kind=PluginKind.POLICY_LOSS,
        target=f"rlkit.algos.policy_losses.built_in:{name}",
        summary=summary,
        config=None if options is None else f"rlkit.algos.policy_losses.options:{options}",
        has_ratio=has_ratio,
        aggregations=aggregations,
    )


ppo_clip = _spec("ppo_clip", "Clips each token's probability ratio; asymmetric and dual clip", options="PPOClipOptions")
gspo = _spec("gspo", "Clips the ratio of whole answers", options="GSPOOptions")
cispo = _spec("cispo", "Clips the importance weight instead of the update: no token loses it", options="CISPOOptions")
sapo = _spec("sapo", "Fades updates smoothly as the ratio leaves 1", options="SAPOOptions")
gmpo = _spec(
    "gmpo",
    "The geometric mean of an answer's clipped ratios",
    options="GMPOOptions",
    aggregations=("seq_mean_token_mean",),
)
gpg = _spec("gpg", "The plain policy gradient, nothing clipped", has_ratio=False)
clip_cov = _spec(
    "clip_cov", "Clips, and drops a few of the tokens that drive the entropy down", options="ClipCovOptions"
)
kl_cov = _spec("kl_cov", "Penalises changes of the tokens that drive the entropy down most", options="KLCovOptions")
dppo_tv = _spec(
    "dppo_tv", "Stops tokens whose probability has moved far, whatever the ratio", options="DPPOTotalVariationOptions"
)
dppo_kl = _spec("dppo_kl", "Stops tokens whose divergence is large, whatever the ratio", options="DPPOKLOptions")
