"""What is waiting for a replica: prompts cut into chunks as replicas become free.

A chunk is a share of all that waits, so chunks become smaller towards the end: the first ones fill an engine's batch, and
the last ones keep every replica busy until the last answer (guided self-scheduling: Polychronopoulos and Kuck 1987,
doi:10.1109/TC.1987.5009495).
"""

from __future__ import annotations

import math
from collections import OrderedDict, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from rlkit.types import PromptBatch

SHARE_OF_A_REPLICA = 0.5
"""Part of an equal share of the waiting prompts that a replica gets at once."""

MIN_CHUNK_ANSWERS = 8
"""Fewer answers at once waste more of an engine than an uneven end costs."""

MAX_CONVERSATIONS = 65_536
"""Names that are remembered; beyond it the one that was used longest ago is forgotten."""


@dataclass(eq=False)
class Request:
    """Prompts that are answered together: one, or those of a batch that share a row_id.

    An engine numbers the answers to one row within a call, so such prompts must not be torn apart.

    batch      number of the batch
    positions  of the prompts in it
    attempts   replicas that died while they answered it
    """

    batch: int
    positions: tuple[int, ...]
    row_id: int
    conversation: str = ""
    attempts: int = 0


@dataclass(eq=False)
class Chunk:
    """Requests of one batch that a replica answers in one call."""

    requests: tuple[Request, ...]

    @property
    def batch(self) -> int:
        return self.requests[0].batch

    @property
    def positions(self) -> tuple[int, ...]:
        return tuple(position for request in self.requests for position in request.positions)

    def pieces(self, size: int) -> Iterator[Chunk]:
        for start in range(0, len(self.requests), size):
            yield Chunk(self.requests[start : start + size])

    def halves(self) -> Iterator[Chunk]:
        return self.pieces(math.ceil(len(self.requests) / 2))


def requests_of(number: int, batch: PromptBatch) -> list[Request]:
    """One request for each row_id of the batch, in the order of first appearance."""
    positions: dict[int, list[int]] = {}
    for position, prompt in enumerate(batch.prompts):
        positions.setdefault(prompt.row_id, []).append(position)
    return [
        Request(number, tuple(found), row_id, batch.conversations[found[0]] if batch.conversations else "")
        for row_id, found in positions.items()
    ]


class StickyRoutes:
    """Which replica each conversation is with, until the replica dies or what it had in its cache is void."""

    def __init__(self) -> None:
        self._replica_of: OrderedDict[str, int] = OrderedDict()

    def allows(self, request: Request, replica: int) -> bool:
        """Whether `replica` may answer: it has the conversation, or nobody has."""
        return self._replica_of.get(request.conversation, replica) == replica

    def note(self, request: Request, replica: int) -> None:
        if not request.conversation:
            return
        self._replica_of[request.conversation] = replica
        self._replica_of.move_to_end(request.conversation)
        if len(self._replica_of) > MAX_CONVERSATIONS:
            self._replica_of.popitem(last=False)

    def forget_replica(self, replica: int) -> None:
        """Its conversations go on wherever there is room."""
        for name in [name for name, found in self._replica_of.items() if found == replica]:
            del self._replica_of[name]

    def clear(self) -> None:
        self._replica_of.clear()


@dataclass(eq=False)
class RequestQueue:
    """Requests in order, and chunks that came back and go first. samples: answers to each prompt."""

    samples: int
    routes: StickyRoutes
    _waiting: deque[Request] = field(default_factory=deque)
    _returned: deque[Chunk] = field(default_factory=deque)

    def add(self, requests: Sequence[Request]) -> None:
        self._waiting.extend(requests)

    def put_back(self, chunk: Chunk) -> None:
        """To be handed out again, to one replica as far as the conversations in it allow that."""
        self._returned.append(chunk)

    @property
    def num_waiting(self) -> int:
        """Requests that no replica has."""
        return len(self._waiting) + sum(len(chunk.requests) for chunk in self._returned)

    def take(self, replica: int, *, replicas: int) -> Chunk | None:
        """The next chunk for one of `replicas` replicas; None when nothing is waiting that it may answer."""
        chunk = self._take_returned(replica) or self._take_waiting(replica, replicas)
        for request in chunk.requests if chunk else ():
            self.routes.note(request, replica)
        return chunk

    def _take_returned(self, replica: int) -> Chunk | None:
        for place, chunk in enumerate(self._returned):
            mine = tuple(request for request in chunk.requests if self.routes.allows(request, replica))
            if not mine:
                continue
            del self._returned[place]
            if len(mine) == len(chunk.requests):
                return chunk
            # The requests of a lost replica may be of conversations that by now are with several others.
            others = tuple(request for request in chunk.requests if not self.routes.allows(request, replica))
            self._returned.insert(place, Chunk(others))
            return Chunk(mine)
        return None

    def _take_waiting(self, replica: int, replicas: int) -> Chunk | None:
        share = math.ceil(SHARE_OF_A_REPLICA * len(self._waiting) / replicas)
        size = max(share, math.ceil(MIN_CHUNK_ANSWERS / self.samples))
        taken: list[Request] = []
        passed: list[Request] = []
        while self._waiting and len(taken) < size:
            request = self._waiting[0]
            if taken and request.batch != taken[0].batch:
                break
            self._waiting.popleft()
            (taken if self.routes.allows(request, replica) else passed).append(request)
        self._waiting.extendleft(reversed(passed))
        return Chunk(tuple(taken)) if taken else None
