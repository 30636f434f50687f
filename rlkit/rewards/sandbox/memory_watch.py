"""How much memory a process and all that descend from it hold."""

from __future__ import annotations

import re
from pathlib import Path

_OWN = re.compile(r"^(?:RssAnon|VmSwap):\s*(\d+) kB$", re.MULTILINE)


def held_bytes(pid: int) -> int:
    """Bytes of memory, swapped out or not, that belong to processes alone (mapped files and shared libraries left out).

    `pid` and all its descendants; pages that a fork shares count twice. Processes that end meanwhile count 0.
    """
    total = 0
    waiting = [pid]
    while waiting:
        folder = Path("/proc") / str(waiting.pop())
        try:
            status = (folder / "status").read_text()
            total += sum(int(kib) * 1024 for kib in _OWN.findall(status))
            for thread in (folder / "task").iterdir():
                waiting += map(int, (thread / "children").read_text().split())
        except (OSError, ValueError):
            continue
    return total
