"""What `rlkit serve` gets of this engine: vLLM's own server, and weights checked before they reach it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager

from torch import Tensor

from rlkit.rollout.engine_model import EngineModel
from rlkit_vllm.expected_weights import ExpectedWeights
from rlkit_vllm.vllm_api import EngineSettings
from rlkit_vllm.vllm_server_api import FrontSettings, VLLMServer, vllm_server


@asynccontextmanager
async def served_vllm(settings: EngineSettings, front: FrontSettings, model: EngineModel) -> AsyncIterator[ServedVLLM]:
    """vLLM's server, while it runs, with the weights of `model`."""
    async with vllm_server(settings, front) as server:
        yield ServedVLLM(server, ExpectedWeights(model))


class ServedVLLM:
    """Implements `rlkit.protocols.ServedApp`."""

    def __init__(self, server: VLLMServer, expected: ExpectedWeights) -> None:
        self._server = server
        self._expected = expected

    @property
    def app(self) -> Callable[..., Awaitable[None]]:
        return self._server.app

    @property
    def failure(self) -> str:
        return self._server.failure

    async def update_weights(self, named_tensors: Iterable[tuple[str, Tensor]], version: int) -> None:
        await self._server.load_weights(self._expected.checked(named_tensors))
