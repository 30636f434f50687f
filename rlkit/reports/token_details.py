"""The tokens of single answers with everything that the run knows of each: what the token view shows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rlkit.reports.rollout_files import token_values

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from pyarrow import Table

MAX_ROW_TOKENS = 4_000
"""Tokens of one answer; what is beyond them is left out."""
LOG_PROB_STEP = 1e-4
"""Nats. Log-probs travel as multiples of it."""
DIFFERENCE_STEP = 1e-5
"""Nats. Differences of log-probs are small where all is well, and travel as multiples of this."""
LEVELS = 20_000
"""Other numbers travel as whole parts of their answer's largest one, in so many steps."""

PLAIN = {
    "advantages": "advantage",
    "returns": "return",
    "old_values": "value",
    "importance_weights": "weight",
    "entropies": "entropy",
}
"""Column of the file -> name in the page."""
TOKEN_COLUMNS = (
    "response_ids", "response_mask", "loss_mask", "rollout_log_probs", "old_log_probs", "ref_log_probs", *PLAIN,
)  # fmt: skip


class TokenDetails:
    """Gives details of the answers of a step, until `limit` tokens of the step are spent."""

    def __init__(self, limit: int) -> None:
        self._limit = limit

    def of(self, table: Table, *, first: Sequence[int] = ()) -> list[dict[str, Any] | None]:
        """One entry for each row: ids and columns of numbers, or None; the rows `first` come before the others.

        ids [R]; logp: the trainer's log-probs before the update, in LOG_PROB_STEP; engine: trainer minus engine, in
        DIFFERENCE_STEP; reference: trainer minus reference, in DIFFERENCE_STEP; sampled, learned: 0/1; the others are
        {"unit", "values"}: multiples of the unit. A column that is the same for every token is that number alone.
        """
        ids = token_values(table, "response_ids")
        if ids is None:
            return [None] * table.num_rows
        columns = _columns(table)
        kept: list[dict[str, Any] | None] = [None] * table.num_rows
        left = self._limit
        for row in dict.fromkeys([*first, *range(table.num_rows)]):
            start, end = int(ids[1][row]), int(ids[1][row + 1])
            end = min(end, start + MAX_ROW_TOKENS)
            if 0 < end - start <= left:
                left -= end - start
                kept[row] = {
                    "ids": ids[0][start:end].tolist(),
                    **{name: encode(values[start:end]) for name, (values, encode) in columns.items()},
                }
        return kept


def mean_differences(table: Table) -> list[float]:
    """Of each row, the mean of |trainer's log-prob - engine's| over the sampled tokens (NaN for none); empty where it is unknown."""
    import numpy as np

    engine, trainer = token_values(table, "rollout_log_probs"), token_values(table, "old_log_probs")
    if engine is None or trainer is None or len(engine[0]) != len(trainer[0]):
        return []
    sampled = token_values(table, "response_mask")
    mask = np.ones(len(engine[0]), dtype=bool) if sampled is None else sampled[0].astype(bool)
    gaps = np.where(mask, np.abs(trainer[0] - engine[0]), 0.0)
    sums, counts = (np.concatenate([[0.0], np.cumsum(values, dtype=np.float64)]) for values in (gaps, mask))
    starts, ends = engine[1][:-1], engine[1][1:]
    with np.errstate(invalid="ignore", divide="ignore"):
        means: list[float] = ((sums[ends] - sums[starts]) / (counts[ends] - counts[starts])).tolist()
    return means


def _columns(table: Table) -> dict[str, tuple[NDArray[Any], Any]]:
    """Name in the page -> flat values and how a row of them is written."""

    def flat(name: str) -> NDArray[np.float64] | None:
        found = token_values(table, name)
        return None if found is None else found[0].astype("float64")

    trainer = flat("old_log_probs")
    columns: dict[str, tuple[NDArray[Any], Any]] = {}
    if trainer is not None:
        columns["logp"] = trainer, lambda row: _steps(row, LOG_PROB_STEP)
        for name, other in (("engine", flat("rollout_log_probs")), ("reference", flat("ref_log_probs"))):
            if other is not None:
                columns[name] = trainer - other, lambda row: _steps(row, DIFFERENCE_STEP)
    for name, source in (("sampled", "response_mask"), ("learned", "loss_mask")):
        mask = flat(source)
        if mask is not None:
            columns[name] = mask, lambda row: _steps(row, 1.0)
    for source, name in PLAIN.items():
        values = flat(source)
        if values is not None:
            columns[name] = values, _scaled
    return columns


def _steps(values: NDArray[Any], size: float) -> Any:
    """Whole multiples of `size`, None for what is not finite; one number where all are equal."""
    import numpy as np

    finite = np.isfinite(values)
    whole = np.rint(np.where(finite, values, 0.0) / size).astype(np.int64)
    if not finite.all():
        return [int(value) if known else None for value, known in zip(whole, finite, strict=True)]
    return int(whole[0]) if (whole == whole[0]).all() else whole.tolist()


def _scaled(values: NDArray[Any]) -> dict[str, Any]:
    import numpy as np

    finite = np.isfinite(values)
    largest = float(np.abs(values[finite]).max()) if finite.any() else 0.0
    unit = float(f"{largest / LEVELS:.9g}") if largest > 0 else 1.0
    return {"unit": unit, "values": _steps(values, unit)}
