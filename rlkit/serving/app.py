"""The ASGI application: one route for each endpoint."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.routing import Route

from rlkit.protocols import ServingEngine, Tokenizer
from rlkit.serving.answering import Answering
from rlkit.serving.chat import ChatCompletions
from rlkit.serving.completions import Completions
from rlkit.serving.context import ServingContext
from rlkit.serving.engine_loop import EngineLoop
from rlkit.serving.http import Handler, guarded, http_error
from rlkit.serving.metrics import ServerMetrics
from rlkit.serving.models import HealthCheck, Metrics, Models
from rlkit.serving.openapi import OpenAPI
from rlkit.serving.prompt_encoder import PromptEncoder
from rlkit.serving.token_views import TokenViews
from rlkit.serving.weights import Weights
from rlkit.types.server_settings import ServerSettings

ENGINE_STOP_S = 5.0
"""How long a stopping server waits for the engine's present step."""


def serving_context(
    settings: ServerSettings, engine: ServingEngine, tokenizer: Tokenizer, *, vocabulary: int, folder: Path
) -> ServingContext:
    """What the endpoints share; `engine` now belongs to it, and starts with the application."""
    metrics = ServerMetrics()
    loop = EngineLoop(engine, on_tokens=metrics.count_tokens)
    return ServingContext(
        settings=settings,
        tokenizer=tokenizer,
        engine=loop,
        answering=Answering(settings, loop, metrics),
        metrics=metrics,
        encoder=PromptEncoder(tokenizer, vocabulary=vocabulary),
        views=TokenViews(tokenizer),
        folder=folder,
    )


def build_app(context: ServingContext) -> Starlette:
    """The application; its lifespan starts and stops the engine's thread."""

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        context.engine.start()
        try:
            yield
        finally:
            context.encoder.close()
            context.engine.stop(timeout_s=ENGINE_STOP_S)

    settings = context.settings
    weights = bool(settings.weights_folders)
    endpoints: list[tuple[str, str, Handler, str]] = [
        ("POST", "/v1/chat/completions", ChatCompletions(context), settings.api_key),
        ("POST", "/v1/completions", Completions(context), settings.api_key),
        ("GET", "/v1/models", Models(context), settings.api_key),
        ("GET", "/v1/models/{name:path}", Models(context), settings.api_key),
        ("GET", "/health", HealthCheck(context), ""),
        ("GET", "/metrics", Metrics(context), ""),
        ("GET", "/openapi.json", OpenAPI(with_key=bool(settings.api_key), with_weights=weights), ""),
    ]
    if weights:
        update = Weights(
            settings, context.folder, context.engine, context.metrics, is_stopping=lambda: context.answering.draining
        )
        endpoints.append(("POST", "/v1/weights", update, settings.weights_key))
    routes = [
        Route(path, guarded(path, handler, context.metrics, key=key), methods=[method])
        for method, path, handler, key in endpoints
    ]
    return Starlette(routes=routes, lifespan=lifespan, exception_handlers={HTTPException: http_error})
