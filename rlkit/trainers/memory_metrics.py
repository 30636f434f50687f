"""Memory that this process uses."""

from __future__ import annotations

import os
import resource
import sys
from pathlib import Path

STATUS = Path("/proc/self/statm")
"""Linux only: sizes in pages, the second one resident."""


def memory_metrics() -> dict[str, float]:
    """`memory/*` in bytes: of this process now and at its peak, and of the CUDA device when torch uses one.

    What the operating system does not tell (now, outside Linux) is left out.
    """
    # ru_maxrss is in kilobytes on Linux and in bytes on macOS.
    unit = 1 if sys.platform == "darwin" else 1024
    metrics = {"memory/process_peak_bytes": float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit)}
    if STATUS.is_file():
        pages = int(STATUS.read_text(encoding="ascii").split()[1])
        metrics["memory/process_bytes"] = float(pages * os.sysconf("SC_PAGE_SIZE"))
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
        metrics["memory/device_bytes"] = float(torch.cuda.memory_allocated())
        metrics["memory/device_peak_bytes"] = float(torch.cuda.max_memory_allocated())
    return metrics
