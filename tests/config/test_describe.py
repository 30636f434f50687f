"""Types, ranges and values in the words of a project file."""

from __future__ import annotations

import tomllib
from typing import Annotated, Literal

import pytest
from pydantic import Field

from rlkit.config import Section
from rlkit.config.describe import default_text, type_text, value_text
from rlkit.config.explain import describe_keys
from rlkit.config.keys import leaf_keys
from rlkit.config.runs import RUN_CONFIGS


class Example(Section):
    rate: Annotated[float, Field(gt=0, le=1)] = 1e-6
    mode: Literal["a", "b"] = "a"
    names: tuple[str, ...] = ()
    pair: tuple[int, float] = (1, 0.5)
    word: str = Field(default="x", pattern="^x*$")
    on: bool = False
    either: int | None = None
    needed: int


@pytest.mark.parametrize(
    ("name", "kind", "default"),
    [
        ("rate", "number > 0 and <= 1", "1e-06"),
        ("mode", 'one of "a", "b"', '"a"'),
        ("names", "list of string", "[]"),
        ("pair", "list of 2: integer, number", "[1, 0.5]"),
        ("word", "string matching `^x*$`", '"x"'),
        ("on", "true or false", "false"),
        ("either", "integer or nothing", "null"),
        ("needed", "integer", "required"),
    ],
)
def test_a_field_is_described_as_people_write_it(name, kind, default):
    field = Example.model_fields[name]
    assert (type_text(field), default_text(field)) == (kind, default)


@pytest.mark.parametrize(
    "value", [1.0, 1e-6, 0.1, 1e30, 0.123456789012345, 3, True, 'a "b" \n \\ é', [1, 2.5], {"a": 1, "b": {"c": []}}]
)
def test_written_values_read_back_as_the_same_toml(value):
    read = tomllib.loads(f"value = {value_text(value)}")["value"]
    assert read == value
    assert type(read) is type(value)


@pytest.mark.parametrize("kind", RUN_CONFIGS)
def test_every_default_is_shown_as_toml_that_gives_the_default(kind):
    fields = dict(leaf_keys(RUN_CONFIGS[kind]))
    for key in describe_keys(kind):
        read = tomllib.loads(f"value = {key.default}")["value"]
        default = fields[key.key].get_default(call_default_factory=True)
        assert read == (list(default) if isinstance(default, tuple) else default), key.key
