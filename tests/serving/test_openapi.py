from __future__ import annotations

import json
from typing import Any

import jsonschema_rs
import pytest

from rlkit.serving.openapi import openapi_document


def document(**options: bool) -> Any:
    return json.loads(openapi_document(**{"with_key": False, "with_weights": False, **options}))


def test_every_reference_leads_somewhere() -> None:
    text = openapi_document(with_key=True, with_weights=True)
    schemas = json.loads(text)["components"]["schemas"]
    for part in text.split('"#/components/schemas/')[1:]:
        assert part.partition('"')[0] in schemas


def test_the_routes_are_those_of_the_document(serve: Any) -> None:
    for more, options in (
        ({}, {}),
        ({"weights_folders": (".",), "weights_key": "k"}, {"with_weights": True}),
    ):
        with serve(**more) as served:
            routes = {route.path.replace(":path", "") for route in served.client.app.routes} - {"/openapi.json"}
            assert routes == set(document(**options)["paths"])
            assert served.client.get("/openapi.json").json() == document(**options)


def test_a_key_is_asked_for_where_one_is_needed() -> None:
    paths = document(with_key=True)["paths"]
    assert "security" in paths["/v1/completions"]["post"]
    assert "security" not in paths["/health"]["get"]
    assert "security" not in document()["paths"]["/v1/completions"]["post"]


@pytest.mark.parametrize("more", [{}, {"logprobs": True, "top_logprobs": 2, "return_token_ids": True, "n": 2}])
def test_answers_match_their_schema(serve: Any, more: dict[str, Any]) -> None:
    whole = document()
    with serve() as served:
        body = served.chat(**more).json()
        error = served.chat(n=0).json()
    for name, value in (("ChatResponse", body), ("ErrorResponse", error)):
        schema = {"$ref": f"#/components/schemas/{name}", "components": whole["components"]}
        jsonschema_rs.validate(schema, value)
