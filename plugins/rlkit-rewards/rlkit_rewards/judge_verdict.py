"""Reading a judge's verdict out of what it wrote.

The last line of the form `VERDICT: ...` decides (or the last JSON object with the key): a judge that quotes the answer
first may repeat a forged verdict from it. What cannot be read is an error, never a zero.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass

from rlkit.errors import RewardError
from rlkit_rewards.remote_options import JudgeOptions

_NUMBER = r"[-+]?\d+(?:\.\d+)?"
_LINE = re.compile(r"^[ \t>*_#`-]*verdict[\s*_`]*[:=][ \t]*(.+)$", re.IGNORECASE | re.MULTILINE)
_NUMBER_ALONE = re.compile(rf"({_NUMBER})(?:\s*/\s*({_NUMBER}))?")
_DECORATION = " \t\r\n*_`\"'[](){}<>.,;:!"
_THOUGHT_ENDS = "</think>"
_THOUGHT_BEGINS = "<think>"


@dataclass(frozen=True)
class VerdictReader:
    """From a reply to a score: 0..1 for numbers, the word's own score for words."""

    options: JudgeOptions

    def instruction(self) -> str:
        """What the judge is told of the form of its verdict."""
        low, high = (f"{limit:g}" for limit in self.options.range)
        words = ", ".join(self.options.words)
        match self.options.verdict:
            case "number":
                return f"End with one line `VERDICT: n`, where n is a number from {low} (worst) to {high} (best)."
            case "words":
                return f"End with one line `VERDICT: word`, where word is one of: {words}."
            case "json":
                key = json.dumps(self.options.json_key)
                return (
                    f"End with one JSON object {{{key}: n}}, where n is a number from {low} (worst) to {high} (best)."
                )

    def read(self, reply: str) -> float:
        """The score. Raises `RewardError` when there is no verdict, or one that was not asked for."""
        text = _after_thought(reply)
        match self.options.verdict:
            case "number":
                return self._read_number(_last_line(text), reply)
            case "words":
                return self._read_word(_last_line(text), reply)
            case "json":
                return self._read_json(text, reply)

    def _read_number(self, text: str, reply: str) -> float:
        found = _NUMBER_ALONE.fullmatch(text.strip(_DECORATION))
        if found is None:
            raise _unreadable("a number", reply)
        if found[2] is not None and float(found[2]) != self.options.range[1]:
            raise _unreadable(f"a number of {self.options.range[1]:g}", reply)
        return self._scaled(float(found[1]), reply)

    def _read_word(self, text: str, reply: str) -> float:
        said = text.strip(_DECORATION).casefold()
        for word, score in self.options.words.items():
            if said == word.strip().casefold():
                return score
        raise _unreadable(" or ".join(self.options.words), reply)

    def _read_json(self, text: str, reply: str) -> float:
        value = _last_value(text, self.options.json_key)
        if isinstance(value, str):
            return self._read_word(value, reply)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise _unreadable(f"a JSON object with a number under {self.options.json_key!r}", reply)
        return self._scaled(value, reply)

    def _scaled(self, number: float, reply: str) -> float:
        low, high = self.options.range
        # Not `number < low or number > high`: NaN is outside too.
        if not low <= number <= high:
            raise RewardError(f"judge: the verdict {number!s:.20} is outside {low:g}..{high:g}: {shown(reply)}")
        return (number - low) / (high - low)


def _after_thought(reply: str) -> str:
    """The reply behind its reasoning; of reasoning that does not end there is nothing behind it."""
    before, mark, after = reply.rpartition(_THOUGHT_ENDS)
    if mark:
        return after
    return "" if _THOUGHT_BEGINS in before + after else after


def _last_line(text: str) -> str:
    """What the last `VERDICT:` line says, or a reply that is nothing but the verdict."""
    lines = _LINE.findall(text)
    return lines[-1] if lines else text


def _last_value(text: str, key: str) -> object:
    """The value of `key` in the last JSON object of `text` that has it; None when there is none."""
    decoder = json.JSONDecoder()
    value: object = None
    start = text.find("{")
    while start >= 0:
        try:
            parsed, end = decoder.raw_decode(text, start)
        except (ValueError, RecursionError):
            end = start + 1
        else:
            value = parsed.get(key, value)
        start = text.find("{", end)
    return value


def majority(scores: list[float]) -> float:
    """The most frequent score, the lowest of several."""
    return max(sorted(set(scores)), key=scores.count)


def mean(scores: list[float]) -> float:
    return math.fsum(scores) / len(scores)


def _unreadable(wanted: str, reply: str) -> RewardError:
    return RewardError(f"judge: expected {wanted} as the verdict, got {shown(reply)}")


def shown(reply: str) -> str:
    """The end of a reply, where the verdict should be, in one line."""
    text = " ".join(reply.split())
    return repr(text if len(text) <= 120 else "..." + text[-117:])
