"""Settings that libraries need to behave in a training process and in every worker; the user's own value wins."""

from __future__ import annotations

import os

ENVIRONMENT_GUARDS = {"TOKENIZERS_PARALLELISM": "false"}

WAIT_POLICY = "OMP_WAIT_POLICY"
WAITING = {
    # Threads that spin for long while they wait for each other take the cores from whatever else runs on them: a small
    # model then trains several times slower.
    WAIT_POLICY: "PASSIVE",
    # Threads that sleep at once wake too late for the next small operation. Turns of the loop; well below a millisecond.
    "GOMP_SPINCOUNT": "60000",
}
"""How threads of OpenMP wait; read when torch is first imported."""


def set_environment_guards() -> None:
    """To be called before the libraries are imported."""
    # A policy of the user's own is not refined.
    guards = ENVIRONMENT_GUARDS if WAIT_POLICY in os.environ else ENVIRONMENT_GUARDS | WAITING
    for name, value in guards.items():
        os.environ.setdefault(name, value)
