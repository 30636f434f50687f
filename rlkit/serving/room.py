"""How much a server takes on at once."""

from __future__ import annotations

from rlkit.serving.errors import APIError, refused

RETRY_AFTER_S = 1
"""What a client is told when there is no room: answers end all the time."""


def check_room(answers: int, *, in_progress: int, most: int) -> None:
    """Raises `APIError`: 400 for a request that never fits, 429 for one that does not fit beside `in_progress` others."""
    if answers > most:
        raise refused(f"{answers} answers in one request; this server makes {most} at once")
    if answers > most - in_progress:
        raise APIError(
            429,
            f"{in_progress} answers are in progress and waiting, {most} may be; try again",
            code="queue_full",
            headers={"Retry-After": str(RETRY_AFTER_S)},
        )


def stopping() -> APIError:
    """For requests that come when no new ones are taken."""
    return APIError(503, "the server is stopping", code="stopping", headers={"Connection": "close"})
