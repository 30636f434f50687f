"""`POST /v1/weights`: other weights of the same model, without losing a request."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Protocol

from starlette.requests import Request
from starlette.responses import Response

from rlkit.errors import ModelError
from rlkit.models.locate import model_inside
from rlkit.models.safetensors_io import read_headers, stream_tensors
from rlkit.models.shape import read_config_json
from rlkit.serving.engine_loop import NamedTensors
from rlkit.serving.errors import APIError, refused
from rlkit.serving.http import VERSION_HEADER, json_response, read_body
from rlkit.serving.metrics import ServerMetrics
from rlkit.serving.requests import WeightsRequest
from rlkit.serving.responses import WeightsResponse
from rlkit.serving.room import stopping
from rlkit.types.server_settings import ServerSettings

OF_NO_ACCOUNT = frozenset(
    {"_name_or_path", "architectures", "dtype", "torch_dtype", "transformers_version", "use_cache"}
)
"""Keys of config.json that may differ between two sets of weights of one model."""


class WeightHolder(Protocol):
    """What has the weights: the engine's thread, or the gate before an engine's own server."""

    @property
    def policy_version(self) -> int: ...

    async def update_weights(self, tensors: Callable[[], NamedTensors], version: int) -> None:
        """Without losing a request; raises what the engine raises."""
        ...


class Weights:
    """The endpoint. One update at a time; the next one waits.

    folder        of the model being served, with whose shape new weights are compared
    is_stopping   whether updates are refused
    """

    def __init__(
        self,
        settings: ServerSettings,
        folder: Path,
        holder: WeightHolder,
        metrics: ServerMetrics,
        *,
        is_stopping: Callable[[], bool],
    ) -> None:
        self._settings = settings
        self._folder = folder
        self._holder = holder
        self._metrics = metrics
        self._is_stopping = is_stopping
        self._lock = asyncio.Lock()

    async def __call__(self, request: Request) -> Response:
        body = await read_body(request, WeightsRequest, max_bytes=self._settings.max_body_bytes)
        folder = await asyncio.to_thread(allowed_folder, body.path, self._settings.weights_folders)
        try:
            await asyncio.to_thread(check_same_model, self._folder, folder)
        except ModelError as error:
            raise refused(f"path: {error}", param="path", code="other_model") from error
        async with self._lock:
            if self._is_stopping():
                raise stopping()
            started = time.monotonic()
            version = self._holder.policy_version + 1 if body.policy_version is None else body.policy_version
            try:
                await self._holder.update_weights(partial(stream_tensors, folder), version)
            except Exception as error:
                raise APIError(500, f"the weights could not be loaded: {error}", code="weight_update_failed") from error
        self._metrics.weight_updates += 1
        seconds = round(time.monotonic() - started, 3)
        response = WeightsResponse(object="weights", path=body.path, policy_version=version, seconds=seconds)
        return json_response(response, headers={VERSION_HEADER: str(version)})


def allowed_folder(path: str, allowed: tuple[Path, ...]) -> Path:
    """The model folder that `path` is or holds. Raises `APIError` outside `allowed`, whether it exists there or not."""
    try:
        folder = Path(path).expanduser().resolve()
        inside = any(folder.is_relative_to(root.resolve()) for root in allowed)
        found = model_inside(folder) if inside else None
        inside = inside and (found is None or any(found.resolve().is_relative_to(root.resolve()) for root in allowed))
    except (OSError, ValueError, RuntimeError) as error:  # a null byte, a name too long, no such home
        raise refused("path: not a path of this machine", param="path") from error
    if not inside:
        raise APIError(403, "path: outside the folders that weights may come from", param="path", code="path_forbidden")
    if found is None:
        raise refused(f"path: '{path}' holds no model (no config.json)", param="path", code="no_model")
    return found


def check_same_model(served: Path, other: Path) -> None:
    """Raises `ModelError` unless `other` holds other weights of the model in `served`: same config, tensors and shapes."""
    before, after = read_config_json(served), read_config_json(other)
    for key in sorted((set(before) | set(after)) - OF_NO_ACCOUNT):
        if before.get(key) != after.get(key):
            raise ModelError(f"another model: {key} is {after.get(key)!r}, of the one being served {before.get(key)!r}")
    mine, theirs = read_headers(served), read_headers(other)
    for name in sorted(set(mine) ^ set(theirs)):
        raise ModelError(
            f"another model: tensor '{name}' is only in {'the new' if name in theirs else 'the served'} one"
        )
    for name, info in mine.items():
        if theirs[name].shape != info.shape:
            raise ModelError(f"another model: tensor '{name}' has shape {theirs[name].shape}, expected {info.shape}")
