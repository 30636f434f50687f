"""`/openapi.json`, made from the models that requests are read with."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from typing import Any

from pydantic.json_schema import models_json_schema
from starlette.requests import Request
from starlette.responses import Response

from rlkit import __version__
from rlkit.serving import responses
from rlkit.serving.requests import ChatRequest, CompletionsRequest, WeightsRequest

Schema = dict[str, Any]

REQUESTS = (ChatRequest, CompletionsRequest, WeightsRequest)
RESPONSES = (
    responses.ChatResponse,
    responses.ChatChunk,
    responses.CompletionsResponse,
    responses.ErrorResponse,
    responses.Health,
    responses.Model,
    responses.ModelList,
    responses.WeightsResponse,
)

ERRORS = {
    400: "The request cannot be answered as it is.",
    401: "The key is missing or wrong.",
    403: "The path lies outside the allowed folders.",
    404: "There is no such model.",
    413: "The body is too large.",
    415: "The body is not JSON.",
    429: "Too many answers are in progress and waiting; try again after `Retry-After` seconds.",
    500: "The server or its engine failed.",
    503: "The server is stopping, or has no whole set of weights.",
    504: "The answer took too long.",
}
ANSWERING = (400, 401, 404, 413, 415, 429, 500, 503, 504)


@cache
def openapi_document(*, with_key: bool, with_weights: bool) -> str:
    """The document as JSON. with_key: clients need one; with_weights: new weights may be posted."""
    models = [(model, "validation") for model in REQUESTS] + [(model, "serialization") for model in RESPONSES]
    _, schemas = models_json_schema(models, ref_template="#/components/schemas/{model}")  # type: ignore[arg-type]
    paths: Schema = {
        "/v1/chat/completions": {"post": _post("Answer a conversation.", "ChatRequest", "ChatResponse", "ChatChunk")},
        "/v1/completions": {
            "post": _post(
                "Continue texts or tokens.", "CompletionsRequest", "CompletionsResponse", "CompletionsResponse"
            )
        },
        "/v1/models": {"get": _get("The model that is served.", "ModelList", (401,))},
        "/v1/models/{name}": {
            "get": {**_get("One model.", "Model", (401, 404)), "parameters": [_path_parameter("name")]}
        },
        "/health": {"get": _get("Whether requests are answered.", "Health", ())},
        "/metrics": {
            "get": {"summary": "Counts for Prometheus.", "responses": {"200": _content("Text.", "text/plain", {})}}
        },
    }
    paths["/health"]["get"]["responses"]["503"] = _content("They are not.", "application/json", _ref("Health"))
    if with_weights:
        post = _post(
            "Replace the weights.", "WeightsRequest", "WeightsResponse", "", (400, 401, 403, 413, 415, 500, 503)
        )
        paths["/v1/weights"] = {"post": post}
    document: Schema = {
        "openapi": "3.1.0",
        "info": {"title": "rlkit serve", "version": __version__},
        "paths": paths,
        "components": {"schemas": schemas["$defs"]},
    }
    if with_key:
        document["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
        for path, item in paths.items():
            if path.startswith("/v1/"):
                for operation in item.values():
                    operation["security"] = [{"key": []}]
    return json.dumps(document)


class OpenAPI:
    """`GET /openapi.json`."""

    def __init__(self, *, with_key: bool, with_weights: bool) -> None:
        self._text = openapi_document(with_key=with_key, with_weights=with_weights)

    async def __call__(self, request: Request) -> Response:
        return Response(self._text, media_type="application/json")


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def _content(description: str, media_type: str, schema: Mapping[str, Any]) -> Schema:
    return {"description": description, "content": {media_type: {"schema": dict(schema)}}}


def _errors(statuses: tuple[int, ...]) -> Schema:
    return {str(status): _content(ERRORS[status], "application/json", _ref("ErrorResponse")) for status in statuses}


def _get(summary: str, response: str, errors: tuple[int, ...]) -> Schema:
    return {
        "summary": summary,
        "responses": {"200": _content("Done.", "application/json", _ref(response)), **_errors(errors)},
    }


def _post(summary: str, request: str, response: str, event: str, errors: tuple[int, ...] = ANSWERING) -> Schema:
    done = _content(
        "Done; with `stream`, server-sent events that end with `[DONE]`.", "application/json", _ref(response)
    )
    if event:
        done["content"]["text/event-stream"] = {
            "schema": {"description": f"Each event's data is a {event}; the last is [DONE]."}
        }
    return {
        "summary": summary,
        "requestBody": {"required": True, "content": {"application/json": {"schema": _ref(request)}}},
        "responses": {"200": done, **_errors(errors)},
    }


def _path_parameter(name: str) -> Schema:
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
