"""Options of the reward functions."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from rlkit.config import PluginOptions

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
    verifier: Literal["builtin", "math_verify"] = "builtin"
    """builtin: normalised LaTeX, exact fractions, tuples and sets; math_verify: also symbolic equality, by the package of that name."""


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
