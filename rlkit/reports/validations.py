"""The validations of a run as a table."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from rlkit.reports.run_data import MetricRow, best_validation
from rlkit.tracking.validation_record import SCORE_METRICS, ValidationScore

_SEVERAL = re.compile(r"validation/((?:pass|maj)_at_\d+)")


def validation_table(rows: Sequence[MetricRow]) -> list[dict[str, Any]]:
    """One entry for each validation: step, score (or loss) with its interval, pass@k and maj@k, prompts, the verdict against the first."""
    scored = [row for row in rows if "validation/score" in row.values or "sft/validation_loss" in row.values]
    best = best_validation(scored)
    first = score_of(scored[0]) if scored else None
    table = []
    for row in scored:
        own = score_of(row)
        several = {match[1]: row.values[name] for name in sorted(row.values) if (match := _SEVERAL.fullmatch(name))}
        table.append(
            {
                "step": row.step,
                "score": row.values.get("validation/score"),
                "loss": row.values.get("sft/validation_loss"),
                "low": row.values.get("validation/score_low"),
                "high": row.values.get("validation/score_high"),
                "prompts": row.values.get("validation/prompts"),
                "length": row.values.get("validation/length_mean"),
                "several": several,
                "against_first": None if own is None or first is None or own.step == first.step else own.against(first),
                "best": best is not None and best.step == row.step,
            }
        )
    return table


def score_of(row: MetricRow) -> ValidationScore | None:
    """The score with its interval; None where one of them is missing."""
    values = row.values
    if not values.keys() >= SCORE_METRICS:
        return None
    low, high = values["validation/score_low"], values["validation/score_high"]
    return ValidationScore(row.step, values["validation/score"], low, high, round(values["validation/prompts"]))
