"""Verdicts that have been given before."""

from __future__ import annotations

import threading
from collections import OrderedDict

from rlkit.rewards.verdict import NotApplicable
from rlkit.types.reward import Reward

Key = tuple[int, bytes]
"""Number of the function and digest of the answer."""


class VerdictMemory:
    """The last `limit` verdicts that were asked for; any thread may use it. A limit of 0 remembers nothing."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._verdicts: OrderedDict[Key, Reward | NotApplicable] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._verdicts)

    def recall(self, key: Key) -> Reward | NotApplicable | None:
        with self._lock:
            verdict = self._verdicts.get(key)
            if verdict is not None:
                self._verdicts.move_to_end(key)
            return verdict

    def keep(self, key: Key, verdict: Reward | NotApplicable) -> None:
        if self.limit == 0:
            return
        with self._lock:
            self._verdicts[key] = verdict
            self._verdicts.move_to_end(key)
            if len(self._verdicts) > self.limit:
                self._verdicts.popitem(last=False)
