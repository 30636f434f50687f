"""What may differ between two runs that are otherwise equal to the bit."""

from __future__ import annotations

OF_THE_PROCESS = ("reward/judging_s", "reward/remembered_fraction", "reward/worker_restarts")
"""Metrics of what one process has seen, beside times: a new one remembers no verdicts, which changes none of them."""
OF_THE_CLOCK = ("time/", "time_per_token/", "memory/", "throughput/", "perf/")


def repeats(name: str) -> bool:
    """Whether a run that is done again has the same value of this metric."""
    return not (name.startswith(OF_THE_CLOCK) or name.endswith("_per_s") or name in OF_THE_PROCESS)
