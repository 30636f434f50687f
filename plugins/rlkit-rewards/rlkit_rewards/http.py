"""Verdicts from a user's own HTTP endpoint.

POST {"prompt", "messages", "response", "reference", "data_source", "extra"}   ->  {"score", "parts"?, "error"?}
POST {"samples": [...]}, with batch_size above 1                               ->  {"results": [...]}
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from rlkit.errors import RewardError
from rlkit.types import Reward, Sample
from rlkit_rewards.http_batches import Batches
from rlkit_rewards.http_endpoint import Endpoint, judge_all
from rlkit_rewards.remote_options import HTTPOptions

READERS: Mapping[str, Callable[[Sample], Any]] = {
    "prompt": lambda sample: sample.prompt.question,
    "messages": lambda sample: [dict(message) for message in sample.messages],
    "response": lambda sample: sample.response,
    "reference": lambda sample: sample.prompt.reference,
    "data_source": lambda sample: sample.prompt.data_source,
    "extra": lambda sample: dict(sample.prompt.extra),
}


class HTTP:
    """Score and parts as the endpoint gives them."""

    runs_in: Literal["async"] = "async"
    judges_apart = True

    def __init__(self, options: HTTPOptions) -> None:
        self._options = options
        self.answer_timeout_s = options.request_timeout_s
        self._endpoint = Endpoint(options, name="http")
        self._batches = Batches(self._post_many, options.batch_size)

    async def __call__(self, samples: Sequence[Sample]) -> list[Reward]:
        return await judge_all(self._post_one if self._options.batch_size == 1 else self._batches.ask, samples)

    async def aclose(self) -> None:
        await self._endpoint.aclose()

    async def _post_one(self, sample: Sample) -> Reward:
        return read_result(await self._endpoint.post(self._described(sample)))

    async def _post_many(self, samples: Sequence[Sample]) -> list[Reward]:
        reply = await self._endpoint.post({"samples": [self._described(sample) for sample in samples]})
        results = reply.get("results") if isinstance(reply, dict) else None
        if not isinstance(results, list):
            raise RewardError(
                f"http: the reply to {len(samples)} samples is {_shown(reply)}, not an object with 'results'"
            )
        if len(results) != len(samples):
            raise RewardError(f"http: the reply has {len(results)} results for {len(samples)} samples")
        return [_result_or_error(result) for result in results]

    def _described(self, sample: Sample) -> dict[str, Any]:
        return {name: READERS[name](sample) for name in self._options.send}


def read_result(raw: object) -> Reward:
    """One result as a verdict. Raises `RewardError` that says in one line what is wrong with it."""
    if not isinstance(raw, dict):
        raise RewardError(f"http: the result is {_shown(raw)}, not an object with 'score'")
    if raw.get("error"):
        raise RewardError(f"http: the endpoint could not judge: {' '.join(str(raw['error']).split())[:200]}")
    if "score" not in raw:
        raise RewardError(f"http: the result {_shown(raw)} has no 'score'")
    parts = raw.get("parts")
    if parts is not None and not isinstance(parts, dict):
        raise RewardError(f"http: 'parts' is {_shown(parts)}, not an object of numbers")
    named = {str(name): _number(value, f"part {name!r}") for name, value in (parts or {}).items()}
    return Reward(_number(raw["score"], "'score'"), named)


def _result_or_error(raw: object) -> Reward:
    """A bad result is its own answer's failure, not that of the others in the request."""
    try:
        return read_result(raw)
    except RewardError as error:
        return Reward(0.0, error=str(error))


def _number(value: object, what: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not _is_finite(value):
        raise RewardError(f"http: {what} is {_shown(value)}, not a finite number")
    return float(value)


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer beyond every float
        return False


def _shown(value: object) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) <= 80 else text[:77] + "..."
