"""The named parts of a reward, as rollouts files keep them."""

from __future__ import annotations

import json

from rlkit.reports.finite import is_drawable


def parse_parts(encoded: str | None) -> dict[str, float]:
    """The numbers that can be drawn of a JSON object; empty for anything else."""
    if not encoded or encoded == "{}":
        return {}
    try:
        parts = json.loads(encoded)
    except ValueError:
        return {}
    if not isinstance(parts, dict):
        return {}
    return {name: value for name, value in parts.items() if is_drawable(value)}
