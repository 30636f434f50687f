"""`GET /v1/models`, `/health` and `/metrics`."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from rlkit.serving.context import ServingContext
from rlkit.serving.errors import APIError
from rlkit.serving.http import json_response
from rlkit.serving.responses import Health, Model, ModelList

PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"


def check_model(name: str, context: ServingContext) -> None:
    """Raises `APIError` 404 unless `name` is the model that is served."""
    served = context.settings.model_name
    if name != served:
        raise unknown_model(name, served)


def unknown_model(name: str, served: str) -> APIError:
    """For a request that names another model than `served`."""
    return APIError(
        404, f"model '{name}' is not served here; this is '{served}'", param="model", code="model_not_found"
    )


class Models:
    """`GET /v1/models` and `/v1/models/NAME`."""

    def __init__(self, context: ServingContext) -> None:
        self._context = context

    async def __call__(self, request: Request) -> Response:
        settings = self._context.settings
        model = Model(
            id=settings.model_name,
            object="model",
            created=self._context.started,
            owned_by="rlkit",
            max_model_len=settings.max_context,
        )
        name = request.path_params.get("name")
        if name is None:
            return json_response(ModelList(object="list", data=[model]))
        check_model(name, self._context)
        return json_response(model)


class HealthCheck:
    """`GET /health`: 200 while requests are answered, else 503."""

    def __init__(self, context: ServingContext) -> None:
        self._context = context

    async def __call__(self, request: Request) -> Response:
        engine = self._context.engine
        draining = self._context.answering.draining
        status = "failed" if engine.failure and not draining else "draining" if draining else "ok"
        return json_response(
            Health(status=status, policy_version=engine.policy_version), 200 if status == "ok" else 503
        )


class Metrics:
    """`GET /metrics`."""

    def __init__(self, context: ServingContext) -> None:
        self._context = context

    async def __call__(self, request: Request) -> Response:
        context = self._context
        text = context.metrics.render(
            in_progress=context.answering.in_progress, policy_version=context.engine.policy_version
        )
        return PlainTextResponse(text, media_type=PROMETHEUS)
