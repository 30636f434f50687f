"""One POST of JSON to a sandbox server, with its faults sorted."""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any

from rlkit.errors import SandboxError, TransientRewardError

MAX_REPLY_BYTES = 64 * 2**20
PASSING = frozenset({408, 425, 429})
"""Statuses below 500 that ask for another try."""


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A redirected POST becomes a GET, and the key would go along."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


_OPENER = urllib.request.build_opener(_NoRedirects)


def post_json(url: str, content: Mapping[str, Any], *, api_key: str, timeout_s: float) -> Any:
    """What the server answers, parsed.

    Raises `TransientRewardError` when it cannot be reached, is overloaded or fails; `SandboxError` when it refuses, or
    answers something that is not JSON. `timeout_s`: seconds without a byte.
    """
    headers = {"content-type": "application/json", **({"authorization": f"Bearer {api_key}"} if api_key else {})}
    request = urllib.request.Request(url, json.dumps(content).encode(), headers, method="POST")
    try:
        with _OPENER.open(request, timeout=timeout_s) as reply:
            text = reply.read(MAX_REPLY_BYTES + 1)
    except urllib.error.HTTPError as error:
        raise _refusal(url, error, api_key) from None
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise TransientRewardError(f"the sandbox at {url} did not answer: {reason}") from error
    if len(text) > MAX_REPLY_BYTES:
        raise SandboxError(f"the sandbox at {url} sent more than {MAX_REPLY_BYTES >> 20} MiB")
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise SandboxError(f"the sandbox at {url} sent no JSON: {text[:80]!r}") from None


def _refusal(url: str, error: urllib.error.HTTPError, api_key: str) -> Exception:
    said = " ".join(error.read(2000).decode("utf-8", "replace").split())[:200]
    if api_key:  # a server may repeat what it was sent
        said = said.replace(api_key, "(key)")
    message = f"the sandbox at {url} answered {error.code} {error.reason}: {said}".rstrip(": ")
    if error.code in PASSING or error.code >= 500:
        return TransientRewardError(message)
    return SandboxError(message)
