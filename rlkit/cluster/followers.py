"""Processes of torchrun besides the first: that one runs the command, and speaks for all of them."""

from __future__ import annotations

import os
import time

MOMENT_S = 2.0
"""A follower that fails leaves the leader so much time to say the same thing first, so that it is said once."""


def is_follower() -> bool:
    """Whether torchrun has started this process, and another one runs the command."""
    return "TORCHELASTIC_RUN_ID" in os.environ and os.environ.get("RANK", "0") != "0"


def leave_the_first_word() -> None:
    """To be called before a fault is told: torchrun ends its other processes when the first one has told it."""
    if is_follower():
        time.sleep(MOMENT_S)
