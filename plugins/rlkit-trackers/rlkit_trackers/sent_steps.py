"""Up to which step a tracker has a run: a resumed run does the steps after its checkpoint again, and they are sent once."""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from rlkit.plugin.hookspecs import RunInfo


class SentSteps:
    """The last step that a tracker surely has, by kind of event; kept in `<run>/trackers/<tracker>.sent.json`."""

    def __init__(
        self,
        run: RunInfo,
        tracker: str,
        *,
        resumed: bool,
        settle_s: float,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """settle_s: as in `Tracker`; what was sent later than that before a process was killed counts as lost."""
        self._path = run.folder / "trackers" / f"{tracker}.sent.json"
        self._last = _read(self._path) if resumed else {}
        self._settle_s = settle_s
        self._now = now
        self._fresh: deque[tuple[float, str, int]] = deque()

    def has(self, kind: str, step: int) -> bool:
        """Whether an earlier part of the run has sent `step`, or a later one."""
        return step <= self._last.get(kind, -1)

    def note(self, kind: str, step: int) -> None:
        """`step` has just been sent."""
        self._fresh.append((self._now(), kind, step))
        self._keep_until(self._now() - self._settle_s)

    def settle(self) -> None:
        """The tracker has taken everything."""
        self._keep_until(float("inf"))

    def _keep_until(self, moment: float) -> None:
        before = dict(self._last)
        while self._fresh and self._fresh[0][0] <= moment:
            _, kind, step = self._fresh.popleft()
            self._last[kind] = step
        if self._last == before:
            return
        aside = self._path.with_suffix(".part")
        # Not worth the tracking: without the file some steps are there twice.
        with suppress(OSError):
            aside.write_text(json.dumps(self._last) + "\n", encoding="utf-8")
            aside.replace(self._path)


def _read(path: Path) -> dict[str, int]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return {str(kind): int(step) for kind, step in content.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}
