"""Python looks for unreachable cycles often while objects pile up, and libraries that load are hundreds of thousands of them,
all of which stay: a sixth of the time from a command to its first step went into looking through them."""

from __future__ import annotations

import gc

LOADING = (50_000, 50, 50)
"""As `gc.set_threshold` takes it."""

_usual: tuple[int, int, int] | None = None


def collect_rarely() -> None:
    """Until `collect_as_usual`, or to the end in a process that loads no model."""
    global _usual
    if _usual is None:
        _usual = gc.get_threshold()
        gc.set_threshold(*LOADING)


def collect_as_usual() -> None:
    """Before anything is computed: cycles may hold tensors. Does nothing where nothing was changed."""
    global _usual
    if _usual is not None:
        gc.set_threshold(*_usual)
        _usual = None
