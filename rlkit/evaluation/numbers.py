"""How numbers are written for people."""

from __future__ import annotations

import math

from rlkit.evaluation.statistics import Interval


def number(value: float, share: bool) -> str:
    """`share` writes 0.5 as `50.0 %`."""
    if math.isnan(value):
        return "-"
    return f"{100 * value:.1f} %" if share else f"{value:.4g}"


def signed(value: float, share: bool) -> str:
    """A difference, in percentage points (without a unit) where it is one of shares."""
    return f"{100 * value:+.1f}" if share else f"{value:+.4g}"


def bounds(interval: Interval, share: bool) -> str:
    """`12.3 to 45.6`; a dash where nothing is known of the uncertainty."""
    if math.isnan(interval.mean) or interval.method == "none":
        return "-"
    return f"{number(interval.low, share).removesuffix(' %')} to {number(interval.high, share).removesuffix(' %')}"


def p_value(value: float) -> str:
    return "< 0.0001" if value < 0.0001 else f"{value:.4f}" if value < 0.1 else f"{value:.2f}"
