"""The side of a rollout engine that can be asked while it answers; and engines that bring their own server."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any, Protocol

from rlkit.types.completion import CompletionChunk, CompletionRequest
from rlkit.types.server_settings import ServerSettings

if TYPE_CHECKING:
    from torch import Tensor


class ServingEngine(Protocol):
    """A rollout engine may offer these methods beside those of `RolloutEngine`; having `submit` says that it does.

    One thread drives it: every method is called from that thread, which need not be the one that built the engine.
    `generate` is not called while there is work.
    """

    @property
    def has_work(self) -> bool:
        """Whether any request is waiting or running."""
        ...

    def submit(self, request: CompletionRequest) -> None:
        """Take a request; it starts with one of the next steps, beside whatever is running, and disturbs nothing.

        Computes nothing yet. Raises `ModelError` for one that cannot be answered: no tokens, or prompt and
        `max_tokens` beyond the context; the others go on.
        """
        ...

    def abort(self, request_ids: Iterable[str]) -> None:
        """Forget these requests and free what they hold; no chunk of them follows. Unknown ids are passed over."""
        ...

    def step(self) -> Sequence[CompletionChunk]:
        """Decode one token for each running request (or start waiting ones) and return what came of it.

        Empty when there is nothing to say yet, or no work. A request is over with the chunk that has a finish_reason,
        and its id may then be used again. What raises here loses the requests that are live.
        """
        ...

    def update_weights(self, named_tensors: Iterable[tuple[str, Tensor]], version: int) -> None:
        """As `RolloutEngine.update_weights`. Called only without work, so an answer never comes from two policies."""
        ...

    def close(self) -> None:
        """Free everything; may be called twice."""
        ...


class ServedApp(Protocol):
    """An engine's own server while it runs. `rlkit serve` puts keys, limits, weight updates, drain and signals in front."""

    @property
    def app(self) -> Callable[..., Awaitable[None]]:
        """The ASGI application, lifespan included; it is called from the event loop that it was opened in."""
        ...

    @property
    def failure(self) -> str:
        """Why no request can be answered any more; empty while they can."""
        ...

    async def update_weights(self, named_tensors: Iterable[tuple[str, Tensor]], version: int) -> None:
        """As `RolloutEngine.update_weights`. Called only while no request is in the application.

        Reading `named_tensors` blocks; it belongs into another thread.
        """
        ...


class EngineServer(Protocol):
    """What an engine plugin's target may offer besides: a server of its own, whose answers `rlkit serve` then gives."""

    def serve(self, options: Any, *, model: Any, settings: ServerSettings) -> AbstractAsyncContextManager[ServedApp]:
        """A class method or static method, called without building the engine; entering starts it, leaving frees everything.

        options   the plugin's own, None when it has none
        model     `rlkit.rollout.engine_model.EngineModel`
        settings  `model_name`, `max_context` and `default_max_tokens` are for the application; the rest is rlkit's to keep
        """
        ...
