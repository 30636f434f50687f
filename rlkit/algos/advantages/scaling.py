"""What is done to the advantages of any estimator before they reach the loss."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from rlkit.algos.masked import masked_mean, masked_whiten, where_mask


@dataclass(frozen=True)
class AdvantageScaling:
    """normalise: to mean 0 and variance 1 over all sampled tokens of the iteration (Andrychowicz et al. 2021,
    arXiv:2006.05990, section 3.3); clip: then bounded to [-clip, clip], 0 leaves them as they are."""

    normalise: bool = False
    clip: float = 0.0

    def __call__(self, advantages: Tensor, mask: Tensor) -> tuple[Tensor, dict[str, float]]:
        """advantages [B, R] and mask [B, R] bool -> advantages [B, R], zero outside the mask, and metrics of what was changed."""
        metrics: dict[str, float] = {}
        if self.normalise:
            metrics["advantage/mean_before"] = float(masked_mean(advantages, mask))
            advantages = masked_whiten(advantages, mask)
        if self.clip > 0:
            beyond = where_mask(advantages, mask).abs() > self.clip
            metrics["advantage/clipped_fraction"] = float(masked_mean(beyond.double(), mask))
            advantages = advantages.clamp(-self.clip, self.clip)
        return where_mask(advantages, mask), metrics
