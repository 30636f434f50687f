"""Options of the policy losses that come with rlkit: `algorithm.policy_loss_options`."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from rlkit.config.base import PluginOptions
from rlkit.config.fields import Fraction, NonNegativeFloat, PositiveFloat, PositiveFraction


class PPOClipOptions(PluginOptions):
    """PPO's clipped surrogate."""

    clip_low: Fraction = 0.2
    """The probability ratio is clipped from below at 1 - clip_low."""
    clip_high: NonNegativeFloat = 0.2
    """The probability ratio is clipped from above at 1 + clip_high; above clip_low is DAPO's clip-higher."""
    dual_clip: Annotated[float, Field(gt=1)] = 3.0
    """For negative advantages the loss is capped at this multiple of the advantage (dual clip)."""


class GSPOOptions(PluginOptions):
    """Group sequence policy optimisation."""

    clip_low: Fraction = 3e-4
    """The answer's ratio is clipped from below at 1 - clip_low. A mean over tokens moves little: the paper's value."""
    clip_high: NonNegativeFloat = 4e-4
    """The answer's ratio is clipped from above at 1 + clip_high; the paper's value."""


class CISPOOptions(PluginOptions):
    """Clipped importance weights."""

    clip_low: Fraction = 1.0
    """The weight is clipped from below at 1 - clip_low; 1 is no lower bound, as in the paper."""
    clip_high: NonNegativeFloat = 4.0
    """The weight is clipped from above at 1 + clip_high."""


class SAPOOptions(PluginOptions):
    """A smooth gate in place of the clip."""

    tau_positive: PositiveFloat = 1.0
    """How fast the gate closes where the advantage is positive; larger is faster."""
    tau_negative: PositiveFloat = 1.05
    """How fast the gate closes where the advantage is negative; larger is faster."""


class GMPOOptions(PluginOptions):
    """The geometric mean of token ratios."""

    clip_low: NonNegativeFloat = 0.4
    """A token's log-ratio is clipped from below at -clip_low; the paper's value."""
    clip_high: NonNegativeFloat = 0.4
    """A token's log-ratio is clipped from above at clip_high; the paper's value."""


class ClipCovOptions(PluginOptions):
    """The clipped surrogate without a few of the tokens that drive the entropy down."""

    clip_low: Fraction = 0.2
    """The probability ratio is clipped from below at 1 - clip_low."""
    clip_high: NonNegativeFloat = 0.2
    """The probability ratio is clipped from above at 1 + clip_high."""
    fraction: PositiveFraction = 2e-4
    """This share of the mini-batch's tokens, and at least one, learns nothing; a larger one keeps the entropy higher. The
    paper's value."""
    cov_low: float = 1.0
    """These tokens are drawn among those whose covariance of log-prob and advantage is at least this; the paper's value."""
    cov_high: float = 5.0
    """... and at most this; the paper's value."""

    @model_validator(mode="after")
    def _bounds_leave_room(self) -> ClipCovOptions:
        if self.cov_low >= self.cov_high:
            raise ValueError(f"cov_low {self.cov_low:g} must be below cov_high {self.cov_high:g}")
        return self


class KLCovOptions(PluginOptions):
    """The plain surrogate, with a penalty on the tokens that drive the entropy down most."""

    fraction: PositiveFraction = 2e-3
    """This share of the mini-batch's tokens, and at least one, is penalised. The paper's value for 7B; 2e-4 for 32B."""
    coefficient: NonNegativeFloat = 1.0
    """Weight of the penalty |log(p / p_old)|; a larger one keeps the entropy higher. The paper's value."""


class DPPOTotalVariationOptions(PluginOptions):
    """A trust region of probabilities."""

    threshold: PositiveFraction = 0.15
    """A token whose probability has moved by more than this is not pushed further; the paper's value."""


class DPPOKLOptions(PluginOptions):
    """A trust region of divergences."""

    threshold: PositiveFloat = 0.05
    """A token is not pushed further once the divergence between old and present policy, reduced to this token against all
    others, is above this (nats); the paper's value."""
