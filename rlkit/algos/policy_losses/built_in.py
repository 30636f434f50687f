"""What the names of the policy losses that come with rlkit stand for; see `plugins` beside this file."""

from __future__ import annotations

from rlkit.algos.policy_losses.cispo import CISPO
from rlkit.algos.policy_losses.clip_cov import ClipCov
from rlkit.algos.policy_losses.dppo import DPPOKL, DPPOTotalVariation
from rlkit.algos.policy_losses.gmpo import GMPO
from rlkit.algos.policy_losses.gpg import GPG
from rlkit.algos.policy_losses.gspo import GSPO
from rlkit.algos.policy_losses.kl_cov import KLCov
from rlkit.algos.policy_losses.options import (
    CISPOOptions,
    ClipCovOptions,
    DPPOKLOptions,
    DPPOTotalVariationOptions,
    GMPOOptions,
    GSPOOptions,
    KLCovOptions,
    PPOClipOptions,
    SAPOOptions,
)
from rlkit.algos.policy_losses.ppo_clip import PPOClip
from rlkit.algos.policy_losses.sapo import SAPO


def ppo_clip(options: PPOClipOptions) -> PPOClip:
    return PPOClip(options.clip_low, options.clip_high, options.dual_clip)


def gspo(options: GSPOOptions) -> GSPO:
    return GSPO(options.clip_low, options.clip_high)


def cispo(options: CISPOOptions) -> CISPO:
    return CISPO(options.clip_low, options.clip_high)


def sapo(options: SAPOOptions) -> SAPO:
    return SAPO(options.tau_positive, options.tau_negative)


def gmpo(options: GMPOOptions) -> GMPO:
    return GMPO(options.clip_low, options.clip_high)


gpg = GPG()


def clip_cov(options: ClipCovOptions) -> ClipCov:
    return ClipCov(options.clip_low, options.clip_high, options.fraction, options.cov_low, options.cov_high)


def kl_cov(options: KLCovOptions) -> KLCov:
    return KLCov(options.fraction, options.coefficient)


def dppo_tv(options: DPPOTotalVariationOptions) -> DPPOTotalVariation:
    return DPPOTotalVariation(options.threshold)


def dppo_kl(options: DPPOKLOptions) -> DPPOKL:
    return DPPOKL(options.threshold)
