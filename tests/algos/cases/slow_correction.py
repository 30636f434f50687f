"""Rollout correction in plain loops over Python floats: importance weights and rejection."""

from __future__ import annotations

from math import exp

Rows = list[list[float]]
Mask = list[list[bool]]


def weights(
    log_ratios: Rows, mask: Mask, level: str, *, low: float, high: float, zero_outside: bool, normalise: bool
) -> Rows:
    result = []
    for row, kept in zip(log_ratios, mask, strict=True):
        whole = sum(value for value, m in zip(row, kept, strict=True) if m)
        line = []
        for value, m in zip(row, kept, strict=True):
            weight = exp(value if level == "token" else whole)
            if weight > high:
                weight = 0.0 if zero_outside else high
            elif weight < low and zero_outside:
                weight = 0.0
            line.append(weight if m else 0.0)
        result.append(line)
    if not normalise:
        return result
    if level == "token":
        chosen = [w for row, kept in zip(result, mask, strict=True) for w, m in zip(row, kept, strict=True) if m]
    else:
        chosen = [max(row) for row, kept in zip(result, mask, strict=True) if any(kept)]
    centre = sum(chosen) / len(chosen)
    return [[weight / centre for weight in row] for row in result]


def kept(log_ratios: Rows, mask: Mask, level: str, divergence: str, *, low: float, high: float) -> Mask:
    """What one rule leaves of the mask; for k1 the bounds are on the ratio."""
    measure = {"k1": lambda d: -d, "k2": lambda d: d * d / 2, "k3": lambda d: exp(d) - 1 - d}[divergence]
    result = []
    for row, sampled in zip(log_ratios, mask, strict=True):
        values = [measure(d) for d, m in zip(row, sampled, strict=True) if m]
        of_answer = {
            "token": 0.0,
            "seq_sum": sum(values),
            "seq_mean": sum(values) / max(len(values), 1),
            "seq_max": max(values, default=0.0),
        }[level]
        line = []
        for d, m in zip(row, sampled, strict=True):
            value = measure(d) if level == "token" else of_answer
            inside = low <= exp(-value) <= high if divergence == "k1" else value <= high
            line.append(m and inside)
        result.append(line)
    return result
