"""The clipped surrogate without a few of the tokens that drive the entropy down (Cui et al. 2025, Clip-Cov,
arXiv:2505.22617, eq. 10-12)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from rlkit.algos.policy_losses.covariance import draw_lots, first_of, share_of, token_covariances
from rlkit.algos.policy_losses.token_losses import TokenLosses, clamped_log_ratio, clip_metrics


@dataclass(frozen=True)
class ClipCov:
    """loss = max(-A r, -A clip(r, 1 - low, 1 + high)); 0 for floor(fraction N) of the N tokens, at least one, drawn among
    those with cov_low <= (log p - mean log p) (A - mean A) <= cov_high.

    All of them if there are fewer. Departures from the paper: the lots that tokens draw are a hash of what the mini-batch
    says about them (see `draw_lots`), so that the draw is the same in every split and order; at least one token is drawn;
    and a token that the clip already stops is not (as in the authors' code).
    """

    clip_low: float
    clip_high: float
    fraction: float
    cov_low: float
    cov_high: float

    def select(self, log_probs: Tensor, old_log_probs: Tensor, advantages: Tensor, mask: Tensor) -> Tensor:
        """See `SelectingLoss`."""
        plain, clipped = self._surrogates(log_probs, old_log_probs, advantages)
        covariances = token_covariances(log_probs, advantages, mask)
        within = (covariances >= self.cov_low) & (covariances <= self.cov_high)
        candidates = mask & within & (clipped <= plain)
        return first_of(candidates, share_of(mask, self.fraction), draw_lots(old_log_probs, advantages, mask))

    def __call__(
        self,
        log_probs: Tensor,
        old_log_probs: Tensor,
        advantages: Tensor,
        mask: Tensor,
        selected: Tensor | None = None,
    ) -> TokenLosses:
        """See `SelectingLoss`."""
        if selected is None:
            selected = self.select(log_probs.detach(), old_log_probs, advantages, mask)
        plain, clipped = self._surrogates(log_probs, old_log_probs, advantages)
        losses = torch.where(selected, torch.zeros_like(plain), torch.maximum(plain, clipped))
        cut = clipped > plain
        metrics = clip_metrics(below=cut & (advantages < 0), above=cut & (advantages > 0))
        return TokenLosses(losses, {**metrics, "actor/selected_fraction": selected.float()})

    def _surrogates(self, log_probs: Tensor, old_log_probs: Tensor, advantages: Tensor) -> tuple[Tensor, Tensor]:
        ratio = torch.exp(clamped_log_ratio(log_probs, old_log_probs))
        return -advantages * ratio, -advantages * torch.clamp(ratio, 1 - self.clip_low, 1 + self.clip_high)
