"""The metrics of one step as a run has recorded them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from rlkit.errors import DataError


def recorded_metrics(path: Path, step: int) -> Mapping[str, float | None]:
    """Those of `step` in a metrics.jsonl; None where a number was not finite. The last line of a step counts.

    Raises `DataError` when the step is not there.
    """
    found: Mapping[str, float | None] | None = None
    if path.is_file():
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                entry = json.loads(line)
            except ValueError:
                continue
            if isinstance(entry, dict) and entry.get("event") == "step" and entry.get("step") == step:
                found = entry.get("metrics")
    if not isinstance(found, dict):
        raise DataError(f"{path} has no metrics of step {step}")
    return found
