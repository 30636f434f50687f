"""JSON, valid or not, and what part of it is right."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

pytest.importorskip("jsonschema")

from rlkit_rewards.json_schema import JSONSchema
from rlkit_rewards.options import JSONSchemaOptions

from rlkit.errors import ConfigError
from rlkit.types import Prompt, Reward, Sample

SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
    "required": ["name", "age"],
    "additionalProperties": False,
}
GOOD = '{"name": "Ada", "age": 36}'


def judge(response: str, row: dict[str, Any] | None = None, **options: Any) -> Reward:
    sample = Sample(Prompt(0, text="q", extra=row or {}), response)
    return JSONSchema(JSONSchemaOptions(**options))([sample])[0]


@pytest.mark.parametrize(
    ("response", "parses", "valid"),
    [
        (GOOD, 1, 1),
        (f" \n{GOOD}\n", 1, 1),
        (f"Here you are:\n```json\n{GOOD}\n```\nDone.", 1, 1),
        (f"```\n{GOOD}\n```", 1, 1),
        (f"```json\n[]\n```\nno:\n```json\n{GOOD}\n```", 1, 1),
        (f"```json\n{GOOD}\n```\nno:\n```json\n[]\n```", 1, 0),
        (f"Here you are: {GOOD}", 0, 0),
        (f"```json\n{GOOD}", 0, 0),
        ('{"name": "Ada", "age": 36.5}', 1, 0),
        ('{"name": "Ada"}', 1, 0),
        ('{"name": "Ada", "age": 36, "more": 1}', 1, 0),
        ('{"name": "Ada", "age": NaN}', 0, 0),
        ("{'name': 'Ada', 'age': 36}", 0, 0),
        ('{"name": "Ada", "age": 36,}', 0, 0),
        ("[" * 100_000, 0, 0),
        ("", 0, 0),
        ("null", 1, 0),
    ],
)
def test_the_answer_has_to_parse_and_to_follow_the_schema(response: str, parses: int, valid: int) -> None:
    reward = judge(response, definition=SCHEMA)
    assert reward == Reward(valid, {"parses": parses, "valid": valid})


def test_the_place_of_the_json_can_be_fixed() -> None:
    fenced = f"```json\n{GOOD}\n```"
    scores = {
        where: [judge(response, definition=SCHEMA, where=where).score for response in (GOOD, fenced)]
        for where in ("fence", "whole", "fence_or_whole")
    }
    assert scores == {"fence": [0, 1], "whole": [1, 0], "fence_or_whole": [1, 1]}


@pytest.mark.parametrize(
    ("response", "share"),
    [
        (GOOD, None),
        ('{"name": "Ada", "age": "old"}', 1 / 2),
        ('{"name": "Ada"}', 1 / 2),
        ('{"name": 1, "age": "old"}', 0),
        ('{"name": "Ada", "age": 36, "more": 1}', 2 / 3),
        ("[]", 0),
        ("nothing", 0),
    ],
)
def test_partial_credit_is_the_share_of_properties_that_are_right(response: str, share: float | None) -> None:
    expected = 1.0 if share is None else pytest.approx(0.5 * share)
    assert judge(response, definition=SCHEMA, partial_credit=0.5).score == expected


def test_the_schema_may_come_from_a_file_or_from_the_row(tmp_path: Path) -> None:
    path = tmp_path / "schema.json"
    path.write_text(json.dumps(SCHEMA))
    assert [judge(response, file=str(path)).score for response in (GOOD, "[]")] == [1, 0]
    for row in ({"json_schema": SCHEMA}, {"schema": json.dumps(SCHEMA)}):
        assert [judge(response, row).score for response in (GOOD, "[]")] == [1, 0]
    assert [judge(response, {"form": SCHEMA}, column="form").score for response in (GOOD, "[]")] == [1, 0]
    assert [judge(response).score for response in ("[]", "no")] == [1, 0]  # any JSON


def test_an_unusable_schema_in_a_row_is_an_error_not_a_wrong_answer() -> None:
    with pytest.raises(ValueError, match="the schema is none"):
        judge(GOOD, {"schema": {"type": "thing"}})
    with pytest.raises(ValueError, match="no column 'form'"):
        judge(GOOD, column="form")
    with pytest.raises(ValueError, match="which is not in it"):
        judge(GOOD, {"schema": {"$ref": "https://example.org/schema.json"}})


def test_unusable_options_are_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="the schema is none"):
        judge(GOOD, definition={"type": "thing"})
    with pytest.raises(ConfigError, match="cannot read"):
        judge(GOOD, file=str(tmp_path / "missing.json"))
    (tmp_path / "list.json").write_text("[]")
    with pytest.raises(ConfigError, match="holds no object"):
        judge(GOOD, file=str(tmp_path / "list.json"))
    with pytest.raises(ValidationError, match="choose one"):
        JSONSchemaOptions(definition=SCHEMA, column="form")
