"""Options of the advantage estimators that come with rlkit: `algorithm.advantage_options`."""

from __future__ import annotations

from rlkit.config.base import PluginOptions
from rlkit.config.fields import Fraction, PositiveFraction


class GAEOptions(PluginOptions):
    """Generalised advantage estimation."""

    gamma: PositiveFraction = 1.0
    """Discount of later rewards; 1 is usual for answers that are judged at their end."""
    lam: Fraction = 1.0
    """GAE's lambda: 1 trusts the rewards (no bias), lower values trust the critic (less variance)."""
    whiten: bool = True
    """Shift and scale the advantages of an iteration to mean 0 and variance 1."""


class ReinforcePlusPlusOptions(PluginOptions):
    """REINFORCE++."""

    gamma: PositiveFraction = 1.0
    """Discount of later rewards; 1 is usual for answers that are judged at their end."""
