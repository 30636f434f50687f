"""Options of the reward functions."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from rlkit.config import InputPath, PluginOptions
from rlkit.config.base import OptionsOf
from rlkit.plugin import PluginKind

PositiveInt = Annotated[int, Field(gt=0)]
PositiveFloat = Annotated[float, Field(gt=0)]


def _compiles(pattern: str) -> str:
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(f"{pattern!r} is not a regular expression: {error}") from error
    return pattern


class ExactMatchOptions(PluginOptions):
    """What counts as equal."""

    strip: bool = True
    """Ignore white space around both sides."""
    ignore_case: bool = False
    """Ignore upper and lower case."""
    numeric: bool = False
    """Compare as numbers: 1,000 equals 1000.0, 1/2 equals 0.5. A response that is no number is wrong."""
    extract: str = ""
    """Regular expression that finds the answer in the response: the last match counts, its first group if it has one. Empty leaves it to `marker`."""
    marker: str = "####"
    """Where a response or a reference holds this text, only what follows the last one is compared, to the end of its line. Empty compares everything."""

    _extract_compiles = field_validator("extract")(_compiles)


class GSM8KOptions(PluginOptions):
    """How the final number is found."""

    method: Literal["strict", "flexible"] = "flexible"
    """strict: the number right after the last `####`; flexible: that, else the last boxed one, else the one after "answer is", else the last number."""
    wrong_score: float = 0.0
    """Score of an answer that gives a number, but the wrong one; an answer without a number gets 0."""


class MathOptions(PluginOptions):
    """How the final answer is found and compared."""

    boxed_only: bool = False
    r"""Accept an answer in \boxed{} only; otherwise what follows "answer is" counts too, else the last formula, else the last number."""
    verifier: Literal["auto", "builtin", "math_verify"] = "auto"
    """builtin: normalised LaTeX, exact fractions, tuples and sets; math_verify: also symbolic equality, by the package of that name; auto: math_verify where it is installed."""


class FormatOptions(PluginOptions):
    """The form that answers should have."""

    pattern: str = r"<think>.*</think>\s*<answer>.*</answer>"
    """Regular expression; a dot matches line ends too."""
    match: Literal["full", "partial"] = "full"
    """full: the whole response, white space around it aside; partial: anywhere in it."""
    ignore_case: bool = False
    """Ignore upper and lower case."""

    _pattern_compiles = field_validator("pattern")(_compiles)


class LengthOptions(PluginOptions):
    """What is too long, and what it costs."""

    mode: Literal["overlong", "target", "brevity"] = "overlong"
    """overlong: no penalty up to max_length - buffer, then rising linearly to `penalty` at max_length (DAPO); target: rising with the distance from target_length; brevity: rising from the first token to max_length."""
    unit: Literal["tokens", "characters"] = "tokens"
    """What is counted."""
    max_length: PositiveInt = 1024
    """overlong, brevity: length from which the whole penalty applies; usually rollout.max_response_tokens."""
    buffer: PositiveInt = 256
    """overlong: width of the zone in which the penalty rises."""
    target_length: PositiveInt = 256
    """target: the length without penalty; the whole penalty applies at a distance of target_length."""
    penalty: PositiveFloat = 1.0
    """Largest penalty; scores lie between -penalty and 0."""

    @model_validator(mode="after")
    def _buffer_fits(self) -> LengthOptions:
        if self.mode == "overlong" and self.buffer > self.max_length:
            raise ValueError(
                f"buffer {self.buffer} is wider than max_length {self.max_length}; choose a smaller buffer"
            )
        return self


class MultipleChoiceOptions(PluginOptions):
    """What there is to choose from."""

    choices: tuple[str, ...] = ()
    """Texts of the choices, the same for all rows. Empty takes those of the row, else the letters A to D without texts."""
    column: str = ""
    """Column of the row with the choices: a list of texts, or `{"label": [...], "text": [...]}`. Empty looks for choices and options."""
    wrong_score: float = 0.0
    """Score of an answer that makes the wrong choice; an answer without one choice (none, or several) gets 0."""


class JSONSchemaOptions(PluginOptions):
    """What a valid answer is."""

    definition: dict[str, Any] = Field(default_factory=dict)
    """The JSON Schema, as a table, the same for all rows."""
    file: InputPath = ""
    """Path of a JSON file with the schema, instead of `definition`."""
    column: str = ""
    """Column of the row with the schema (an object, or JSON text). Empty looks for json_schema and schema; rows without one may answer with any JSON."""
    where: Literal["fence_or_whole", "fence", "whole"] = "fence_or_whole"
    """Where the JSON stands: in the last fenced code block, or the whole answer where there is no block; only one of the two."""
    partial_credit: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Score of JSON of which every top-level property breaks the schema's rules is 0, of which none does is 1; in between, this times the share of properties that are right. 0 is all or nothing."""

    @model_validator(mode="after")
    def _one_source(self) -> JSONSchemaOptions:
        given = [name for name in ("definition", "file", "column") if getattr(self, name)]
        if len(given) > 1:
            raise ValueError(f"{' and '.join(given)} are both given; choose one")
        return self


class ByDataSourceOptions(PluginOptions):
    """Which reward judges which rows."""

    scorers: dict[str, str] = Field(default_factory=dict)
    """Reward (plugin name, `file.py:function` or `package.module:attr`) by the row's data_source, which may be a pattern such as "aime*"; the first that matches counts, before the built-in table."""
    options: Annotated[dict[str, dict[str, Any]], OptionsOf(PluginKind.REWARD_FUNCTION)] = Field(default_factory=dict)
    """Options of these rewards, by their names."""
    default: str = ""
    """Reward for rows that nothing matches; empty makes them errors."""
