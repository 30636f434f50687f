"""How prompts are cut into chunks."""

from __future__ import annotations

from rlkit.cluster.requests import Chunk, Request, RequestQueue, StickyRoutes, requests_of
from rlkit.testing.simulated_replicas import row_prompts


def queue_of(rows: int, *, samples: int = 1) -> RequestQueue:
    queue = RequestQueue(samples, StickyRoutes())
    queue.add(requests_of(0, row_prompts(range(rows))))
    return queue


def sizes(queue: RequestQueue, *, replicas: int) -> list[int]:
    found = []
    while (chunk := queue.take(0, replicas=replicas)) is not None:
        found.append(len(chunk.positions))
    return found


def test_chunks_become_smaller_towards_the_end() -> None:
    found = sizes(queue_of(256), replicas=2)
    assert found[:4] == [64, 48, 36, 27]
    assert found == sorted(found, reverse=True)
    assert sum(found) == 256


def test_no_chunk_is_too_small_to_fill_an_engine() -> None:
    assert min(sizes(queue_of(256), replicas=8)[:-1]) == 8
    assert min(sizes(queue_of(256, samples=8), replicas=8)[:-1]) == 1


def test_prompts_of_one_row_stay_together() -> None:
    requests = requests_of(0, row_prompts([5, 6, 5, 7, 6]))
    assert [request.positions for request in requests] == [(0, 2), (1, 4), (3,)]


def test_a_chunk_holds_prompts_of_one_batch() -> None:
    queue = queue_of(3)
    queue.add(requests_of(1, row_prompts(range(3, 6))))
    assert queue.take(0, replicas=1).batch == 0
    assert queue.take(0, replicas=1).batch == 1


def test_what_comes_back_goes_first_and_as_it_is() -> None:
    queue = queue_of(100)
    chunk = queue.take(0, replicas=1)
    halves = list(chunk.halves())
    for half in halves:
        queue.put_back(half)
    assert queue.take(1, replicas=2) is halves[0]
    assert queue.take(1, replicas=2) is halves[1]
    assert [len(piece.requests) for piece in chunk.pieces(20)] == [20, 20, 10]


def test_a_conversation_waits_for_its_replica() -> None:
    routes = StickyRoutes()
    routes.note(Request(0, (0,), 0, "a"), 1)
    queue = RequestQueue(1, routes)
    queue.add(requests_of(0, row_prompts([0, 1], conversations=["a", "b"])))
    assert queue.take(0, replicas=2).positions == (1,)
    assert queue.take(0, replicas=2) is None
    assert queue.num_waiting == 1
    assert queue.take(1, replicas=2).positions == (0,)


def test_when_a_replica_is_gone_its_conversations_are_free() -> None:
    routes = StickyRoutes()
    request = Request(0, (0,), 0, "a")
    routes.note(request, 1)
    assert not routes.allows(request, 0)
    routes.forget_replica(1)
    assert routes.allows(request, 0)


def test_of_what_came_back_each_replica_takes_its_own_conversations_and_leaves_the_rest_in_front() -> None:
    routes = StickyRoutes()
    queue = RequestQueue(1, routes)
    requests = requests_of(0, row_prompts(range(4), conversations=["a", "b", "a", "c"]))
    routes.note(requests[0], 0)
    routes.note(requests[1], 1)
    queue.put_back(Chunk(tuple(requests)))
    queue.add(requests_of(0, row_prompts([9])))
    assert queue.take(1, replicas=3).positions == (1, 3)  # nobody had "c"
    assert queue.num_waiting == 3
    assert queue.take(0, replicas=3).positions == (0, 2)
    assert queue.take(0, replicas=3).positions == (0,)
    assert queue.num_waiting == 0
