"""One endpoint that judges: its connections, its key, and its faults sorted into those that pass and those that stay.

no connection, timeout, 408, 425, 429, 5xx   TransientRewardError: asked again later
401, 403, 404, 405, a redirect               ConfigError: the settings are wrong, every answer would fail
any other status, no JSON, too much          RewardError: no verdict on this answer
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import httpx

from rlkit.errors import ConfigError, RewardError, TransientRewardError
from rlkit.types import Reward, Sample
from rlkit_rewards.remote_options import EndpointOptions, without_secrets

MAX_REPLY_BYTES = 16 * 2**20
"""A longer reply is no verdict, and must not fill the memory."""

SHOWN_CHARACTERS = 200
"""Of a reply in a message."""

SHORTEST_SECRET = 8
"""Characters; a shorter key is a placeholder such as EMPTY, a word that a reply may well hold."""

LONGEST_WAIT_S = 300.0
"""Most seconds that a server can ask for: training waits meanwhile, and a quota of a day should end it with that message."""

UNLIMITED = 2**31

KEPT_CONNECTIONS = 256

PASSING = frozenset({408, 425, 429})
"""Statuses below 500 that ask for another try."""

WRONG_SETTINGS = frozenset({401, 403, 404, 405})


class Endpoint:
    """POSTs JSON and returns JSON, over connections that are kept. `name` is the reward's, for messages."""

    def __init__(self, options: EndpointOptions, *, name: str, path: str = "") -> None:
        """path: appended to the address. Raises `ConfigError` when the key's variable is not set."""
        self._url = options.url.rstrip("/") + path if path else options.url
        self._title = f"{name}: {without_secrets(self._url)}"
        self._key_from = options.api_key_env
        self._key = options.api_key(f"reward.options.{name}")
        self._timeout_s = options.request_timeout_s
        self._most = options.max_concurrency or UNLIMITED
        self._client: httpx.AsyncClient | None = None
        self._turns = asyncio.Semaphore(self._most)
        self._loop: asyncio.AbstractEventLoop | None = None

    async def post(self, payload: Mapping[str, object]) -> object:
        """What the endpoint answers, parsed. Raises as the module says, with one line that never shows the key."""
        try:
            body = json.dumps(payload, ensure_ascii=False, allow_nan=False, default=_plain)
        except ValueError as error:
            raise RewardError(f"{self._title} cannot be sent this answer: {error}") from error
        client = self._opened()
        try:
            async with self._turns, asyncio.timeout(self._timeout_s):
                # A lone surrogate, which a model may well produce, is no UTF-8.
                return await self._ask(client, body.encode("utf-8", "replace"))
        except TimeoutError:
            raise TransientRewardError(f"{self._title} gave no whole reply within {self._timeout_s:g} s") from None
        except httpx.TransportError as error:
            raise TransientRewardError(f"{self._title} could not be asked: {self._line(str(error), error)}") from error
        except httpx.HTTPError as error:
            raise RewardError(f"{self._title} sent an unreadable reply: {self._line(str(error), error)}") from error

    async def aclose(self) -> None:
        client, self._client = self._client, None
        if client is not None and self._loop is asyncio.get_running_loop():
            await client.aclose()

    async def _ask(self, client: httpx.AsyncClient, body: bytes) -> object:
        async with client.stream("POST", self._url, content=body) as reply:
            text = await self._read(reply)
        if reply.is_success:
            return self._parsed(text)
        said = f"{self._title} answered {reply.status_code} {self._line(reply.reason_phrase)}".rstrip()
        if reply.is_redirect:
            target = self._line(without_secrets(reply.headers.get("location", "")))
            raise ConfigError(f"{said} and points to {target or 'nowhere'}; give that address in url")
        said += f": {self._line(text)}" if text.strip() else ""
        if reply.status_code in PASSING or reply.status_code >= 500:
            raise TransientRewardError(said, retry_after_s=_retry_after_s(reply.headers.get("retry-after")))
        if reply.status_code in WRONG_SETTINGS:
            raise ConfigError(f"{said}; check url and {self._key_from or 'api_key_env (no key was sent)'}")
        raise RewardError(said)

    async def _read(self, reply: httpx.Response) -> str:
        pieces: list[bytes] = []
        size = 0
        async for piece in reply.aiter_bytes():
            size += len(piece)
            if size > MAX_REPLY_BYTES:
                raise RewardError(f"{self._title} sent more than {MAX_REPLY_BYTES // 2**20} MiB, which is no verdict")
            pieces.append(piece)
        return b"".join(pieces).decode("utf-8", "replace")

    def _parsed(self, text: str) -> object:
        if len(self._key) >= SHORTEST_SECRET:  # what is parsed may come to stand in a message too
            text = self._without_key(text)
        try:
            parsed: object = json.loads(text)
        except (ValueError, RecursionError):
            raise RewardError(f"{self._title} sent no JSON: {self._line(text) or '(nothing)'}") from None
        return parsed

    def _opened(self) -> httpx.AsyncClient:
        """The client of the running event loop: connections cannot be used from another one."""
        loop = asyncio.get_running_loop()
        if self._client is None or self._loop is not loop:
            headers = {"content-type": "application/json", "accept": "application/json"}
            if self._key:
                headers["authorization"] = f"Bearer {self._key}"
            limits = httpx.Limits(max_connections=None, max_keepalive_connections=KEPT_CONNECTIONS)
            # The whole request has a deadline of its own, which also covers a server that sends a byte a second.
            self._client = httpx.AsyncClient(headers=headers, limits=limits, timeout=None)
            self._turns = asyncio.Semaphore(self._most)
            self._loop = loop
        return self._client

    def _without_key(self, text: str) -> str:
        """A server may repeat the key that it was sent."""
        return text.replace(self._key, "(key)") if self._key else text

    def _line(self, text: str, error: BaseException | None = None) -> str:
        """One line for a message."""
        text = self._without_key(" ".join(text.split())) or (type(error).__name__ if error else "")
        return text if len(text) <= SHOWN_CHARACTERS else text[: SHOWN_CHARACTERS - 3] + "..."


async def judge_all(judge: Callable[[Sample], Awaitable[Reward]], samples: Sequence[Sample]) -> list[Reward]:
    """`judge` for each sample at the same time, in order.

    What goes wrong with one of several answers stays with that one; wrong settings, and what may pass, are raised, as is
    everything when there is one answer only.
    """
    results = await asyncio.gather(*map(judge, samples), return_exceptions=True)
    rewards: list[Reward] = []
    for result in results:
        if isinstance(result, Reward):
            rewards.append(result)
        elif type(result) is RewardError and len(samples) > 1:
            rewards.append(Reward(0.0, error=str(result)))
        else:
            raise result
    return rewards


def _retry_after_s(header: str | None) -> float | None:
    """Seconds from a Retry-After header, which has a number or a date (RFC 9110, section 10.2.3)."""
    if not header:
        return None
    if header.strip().isdecimal():
        return min(float(header), LONGEST_WAIT_S)
    try:
        date = parsedate_to_datetime(header)
    except (ValueError, OverflowError):
        return None
    if date.tzinfo is None:
        date = date.replace(tzinfo=UTC)
    return min(max(0.0, (date - datetime.now(UTC)).total_seconds()), LONGEST_WAIT_S)


def _plain(value: object) -> object:
    """What JSON has no form for: arrays as lists, everything else as text."""
    tolist = getattr(value, "tolist", None)
    return tolist() if callable(tolist) else str(value)
