"""A sandbox on another machine, asked by HTTP."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from dataclasses import asdict
from typing import Literal

from rlkit.errors import SandboxError
from rlkit.rewards.sandbox.execution import Limits, Outcome, Sandbox, Task, outcome_of
from rlkit.rewards.sandbox.http_call import post_json
from rlkit.rewards.sandbox.sandbox_fusion import run_on_sandbox_fusion

EXTRA_S = 30.0
"""Beyond the limits of the program: the way there and back, and waiting for a turn."""

Protocol = Literal["rlkit", "sandbox_fusion"]


class RemoteSandbox(Sandbox):
    """Programs run on the server at `url`: `python -m rlkit.rewards.sandbox.server`, or one that speaks the same protocol (docs/sandbox.md); or SandboxFusion.

    rlkit's protocol takes all tasks in one request, SandboxFusion's one request for each. api_key is sent as
    `Authorization: Bearer`.
    """

    def __init__(
        self, url: str, limits: Limits | None = None, *, protocol: Protocol = "rlkit", api_key: str = ""
    ) -> None:
        self.url = url.rstrip("/")
        self.limits = limits or Limits()
        self.protocol = protocol
        self._api_key = api_key

    def run(self, source: str, tasks: Iterable[Task]) -> Generator[Outcome, None, None]:
        """See `Sandbox.run`. Raises `TransientRewardError` when the server cannot be reached or is overloaded."""
        if self.protocol == "sandbox_fusion":
            yield from run_on_sandbox_fusion(self.url, source, tasks, self.limits, api_key=self._api_key)
            return
        messages = [task.message() for task in tasks]
        if not messages:
            return
        content = {"source": source, "tasks": messages, "limits": asdict(self.limits)}
        timeout_s = self.limits.total_s + EXTRA_S
        reply = post_json(f"{self.url}/run", content, api_key=self._api_key, timeout_s=timeout_s)
        outcomes = reply.get("outcomes") if isinstance(reply, dict) else None
        if not isinstance(outcomes, list) or len(outcomes) != len(messages):
            raise SandboxError(f"the sandbox at {self.url} did not send one outcome for each of {len(messages)} tasks")
        try:
            yield from [outcome_of(outcome) for outcome in outcomes]
        except (ValueError, TypeError) as error:
            raise SandboxError(f"the sandbox at {self.url} sent an outcome that cannot be read: {error}") from None

    def close(self) -> None:
        """No connection is kept."""
