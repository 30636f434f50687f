"""The reward that goes with the row's `data_source`: one run over several data sets, and verl's rows as verl scores them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from rlkit.errors import ConfigError, TransientRewardError
from rlkit.plugin import PluginKind
from rlkit.plugin.loader import construct, load_plugin
from rlkit.rewards.adapt import adapt_function
from rlkit.rewards.verdict import Failure, NotApplicable, read_verdict
from rlkit.types import Reward, Sample
from rlkit_rewards.extraction import last_boxed, last_tagged
from rlkit_rewards.options import ByDataSourceOptions, MathOptions

Judge = Callable[[Sample], Reward]

TAIL = 300
"""Characters at the end of a response in which DAPO's scorer looks for the answer."""

_ANSWER_LINE = re.compile(r"answer[ \t]*:[ \t]*([^\n]+)", re.IGNORECASE)


@dataclass(frozen=True)
class Entry:
    """A reward plugin and its options, or one of the forms of a score below, around the math reward."""

    reward: str
    options: Mapping[str, Any]


BUILT_IN: Mapping[str, Entry] = {
    "openai/gsm8k": Entry("gsm8k", {"method": "strict"}),
    "lighteval/MATH": Entry("math", {"boxed_only": True}),
    "DigitalLearningGmbH/MATH-lighteval": Entry("math", {"boxed_only": True}),
    "HuggingFaceH4/MATH-500": Entry("math", {"boxed_only": True}),
    "math_dapo*": Entry("dapo", {}),
    "math": Entry("dapo", {}),
    "aime*": Entry("dapo", {}),
    "HuggingFaceH4/aime*": Entry("dapo", {}),
    "numina_*": Entry("math", {}),
    "hiyouga/geometry3k": Entry("geometry", {}),
    "searchR1_*": Entry("tagged_answer", {}),
    "codecontests": Entry("code", {"score": "fraction"}),
    "apps": Entry("code", {"score": "fraction"}),
    "codeforces": Entry("code", {"score": "fraction"}),
    "taco": Entry("code", {"score": "fraction"}),
}
"""The data sources that verl's own scorer knows, as patterns, and what scores them here."""


class ByDataSource:
    """Hands each answer to the reward of its row's data source: those of the options, then the built-in table, then the default.

    Rewards are made when the first row asks for them, those of the options at once. An unknown data source is an error.
    """

    judges_apart = True

    def __init__(self, options: ByDataSourceOptions) -> None:
        self.options = options
        named = {*options.scorers.values(), *([options.default] if options.default else ())}
        unknown = sorted(set(options.options) - named)
        if unknown:
            raise ConfigError(
                f"reward.options.by_data_source.options names {unknown[0]!r}, which scorers and default do not; "
                f"they name: {', '.join(sorted(named)) or '(none)'}"
            )
        self.entries = {
            pattern: Entry(name, options.options.get(name, {})) for pattern, name in options.scorers.items()
        }
        self.judges: dict[str, Judge] = {}
        self.made: dict[int, Judge] = {}
        self.closing: list[object] = []
        for entry in self.entries.values():
            self._judge_of(entry)
        self.fallback = Entry(options.default, options.options.get(options.default, {})) if options.default else None
        if self.fallback is not None:
            self._judge_of(self.fallback)

    def __call__(self, samples: Sequence[Sample]) -> list[Reward]:
        return [self._judge(sample.prompt.data_source)(sample) for sample in samples]

    @property
    def answer_timeout_s(self) -> float:
        """The most seconds that the rewards of the options let one answer take by limits of their own."""
        return max((float(getattr(target, "answer_timeout_s", 0.0)) for target in self.closing), default=0.0)

    def close(self) -> None:
        """Let the rewards release what they hold."""
        for target in self.closing:
            close = getattr(target, "close", None)
            if callable(close):
                close()

    def _judge(self, data_source: str) -> Judge:
        if data_source not in self.judges:
            self.judges[data_source] = self._judge_of(self._entry_of(data_source))
        return self.judges[data_source]

    def _entry_of(self, data_source: str) -> Entry:
        for table in (self.entries, BUILT_IN):
            for pattern, entry in table.items():
                if fnmatchcase(data_source, pattern):
                    return entry
        if self.fallback is not None:
            return self.fallback
        known = ", ".join([*self.entries, *BUILT_IN])
        raise ValueError(
            f"no reward for the data source {data_source!r}; name one in reward.options.by_data_source.scorers or "
            f"default; known: {known}"
        )

    def _judge_of(self, entry: Entry) -> Judge:
        if id(entry) not in self.made:
            self.made[id(entry)] = FORMS[entry.reward]() if entry.reward in FORMS else self._load(entry)
        return self.made[id(entry)]

    def _load(self, entry: Entry) -> Judge:
        where = f"reward.options.by_data_source.options.{entry.reward}"
        target, rest = construct(load_plugin(PluginKind.REWARD_FUNCTION, entry.reward), entry.options, where=where)
        if getattr(target, "runs_in", "process") != "process":
            raise ConfigError(
                f"reward.options.by_data_source: {entry.reward!r} does not run in a worker process; name it in "
                "reward.functions instead"
            )
        self.closing.append(target)
        style = adapt_function(target, name=entry.reward, options=rest)
        return lambda sample: _checked(next(iter(style([sample]))))


def _checked(raw: object) -> Reward:
    verdict = read_verdict(raw)
    if isinstance(verdict, Failure):
        if verdict.kind == "transient":
            raise TransientRewardError(verdict.reason, verdict.retry_after_s)
        return Reward(0.0, error=verdict.reason)
    return Reward(0.0) if isinstance(verdict, NotApplicable) else verdict


def _dapo() -> Judge:
    """1 or -1 by the last "Answer: ..." near the end (Yu et al. 2025, arXiv:2503.14476)."""
    from rlkit_rewards.math import Math, reference_answer

    math = Math(MathOptions())

    def judge(sample: Sample) -> Reward:
        expected = reference_answer(sample.prompt.reference)
        found = _ANSWER_LINE.findall(sample.response[-TAIL:])
        correct = bool(found) and math.is_right(_short(found[-1]), expected)
        return Reward(1.0 if correct else -1.0, {"correct": float(correct), "answered": float(bool(found))})

    return judge


def _geometry() -> Judge:
    """0.9 for the right boxed answer and 0.1 for thoughts in <think> before it."""
    from rlkit_rewards.math import Math, reference_answer

    math = Math(MathOptions())

    def judge(sample: Sample) -> Reward:
        expected = reference_answer(sample.prompt.reference)
        boxed = last_boxed(sample.response)
        correct = float(boxed is not None and math.is_right(boxed, expected))
        form = float(_thinks_then_boxes(sample.response))
        return Reward(0.9 * correct + 0.1 * form, {"correct": correct, "format": form})

    return judge


def _tagged_answer() -> Judge:
    """1 when the last <answer> is one of the accepted ones, without case, articles and punctuation."""

    def judge(sample: Sample) -> Reward:
        accepted = {_words(str(text)) for text in _accepted(sample.prompt.reference)}
        found = last_tagged(sample.response)
        correct = float(found is not None and _words(found) in accepted)
        return Reward(correct, {"correct": correct, "answered": float(found is not None)})

    return judge


FORMS: Mapping[str, Callable[[], Judge]] = {"dapo": _dapo, "geometry": _geometry, "tagged_answer": _tagged_answer}
"""Scores that are no rewards of their own, as the data sets' authors define them."""


def _thinks_then_boxes(response: str) -> bool:
    """It begins with <think>...</think>, and a box follows."""
    end = response.find("</think>") if response.lstrip().startswith("<think>") else -1
    box = response.find("\\boxed{", end) if end >= 0 else -1
    return box >= 0 and "}" in response[box:]


def _short(stated: str) -> str:
    """The boxed part, if any, of what stands behind "Answer:"."""
    return last_boxed(stated) or stated.strip().strip("*$ ").removesuffix(".")


def _accepted(reference: Any) -> Sequence[Any]:
    value = reference.get("target") if isinstance(reference, Mapping) else reference
    listed = [value] if isinstance(value, str | int | float) else list(value or ())
    if not listed:
        raise ValueError("the row has no reference answer (see data.reference_key)")
    return listed


def _words(text: str) -> str:
    words = re.findall(r"[^\W_]+", text.casefold().replace("'", ""))
    return " ".join(word for word in words if word not in ("a", "an", "the"))
