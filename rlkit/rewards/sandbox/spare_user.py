"""A user id that nobody has, for one sandbox of root's: the kernel then counts its processes apart from all others."""

from __future__ import annotations

import pwd
import secrets
from pathlib import Path

from rlkit.errors import SandboxError

MOST = 2**24


def spare_user_id(uid_map: str | None = None) -> int:
    """A random id out of the upper part of those that exist here. Raises `SandboxError` when there are hardly any.

    uid_map: /proc/self/uid_map's text; in a container not every number is an id.
    """
    text = Path("/proc/self/uid_map").read_text() if uid_map is None else uid_map
    ranges = [(int(first), int(count)) for first, _, count in (line.split() for line in text.splitlines())]
    first, count = max(ranges, key=lambda entry: entry[1])
    end = min(first + count, 2**31 - 1)
    start = max(end - MOST, (first + end) // 2)
    if end - start < 1000:
        raise SandboxError(
            "root has no spare user ids here (/proc/self/uid_map), which the sandbox needs; run rlkit as another user"
        )
    while True:
        candidate = start + secrets.randbelow(end - start)
        try:
            pwd.getpwuid(candidate)
        except KeyError:
            return candidate
