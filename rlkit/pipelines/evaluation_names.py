"""What the files that an evaluation leaves are called."""

from __future__ import annotations

import hashlib
import re

_LONGEST_NAME = 60


def file_name(label: str) -> str:
    """A path as part of a file's name: its end, in letters that every file system takes."""
    return re.sub(r"[^A-Za-z0-9.-]+", "_", label).strip("_.")[-_LONGEST_NAME:] or "model"


def digest(text: str) -> str:
    """Eight hexadecimal digits."""
    return hashlib.sha256(text.encode()).hexdigest()[:8]
