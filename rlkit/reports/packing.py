"""Data that a page unpacks when it is looked at: JSON, compressed, as text that HTML can carry."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Callable
from typing import Any

LEVEL = 6


class BlockWriter:
    """Hands finished blocks to `write` and numbers them; nothing stays in memory.

    In the page a block is <script type="text/plain" id="block-3">, which no policy lets run.
    """

    def __init__(self, write: Callable[[str], object]) -> None:
        self._write = write
        self._count = 0

    def add(self, content: Any) -> int:
        """Write one block; returns its number."""
        number, self._count = self._count, self._count + 1
        self._write(f'<script type="text/plain" id="block-{number}">{pack(content)}</script>\n')
        return number


def pack(content: Any) -> str:
    """JSON, gzipped, in base64. Half of a surrogate pair, which has no UTF-8, becomes a question mark."""
    text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    # Without a time in it, the same run gives the same file.
    return base64.b64encode(gzip.compress(text.encode("utf-8", errors="replace"), LEVEL, mtime=0)).decode("ascii")
