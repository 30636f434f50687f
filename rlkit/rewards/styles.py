"""The ways in which people write reward functions, each called in its own manner.

Every style is a callable that takes the samples and yields one raw verdict (or `Failure`) each, in order. It yields
as early as it can, so that a hanging answer does not take the finished ones with it. All styles can be pickled when
the function can.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from rlkit.errors import ConfigError
from rlkit.rewards.verdict import NOT_APPLICABLE, Failure, failure_of
from rlkit.types.reward import Sample

REFERENCE_NAMES = ("reference", "ground_truth", "solution", "answer", "target")
"""Names under which TRL-style functions may ask for the reference answer; the row's own column wins."""


class Style(Protocol):
    """A reward function, ready to be called with samples."""

    @property
    def label(self) -> str:
        """For people: which of the accepted signatures it is."""
        ...

    def __call__(self, samples: Sequence[Sample]) -> Iterator[object]: ...


@dataclass(frozen=True)
class BatchStyle:
    """rlkit's own protocol: all samples in one argument."""

    function: Callable[..., Any]
    parameter: str
    options: Mapping[str, Any]
    label: str = "batch: fn(samples)"

    def __call__(self, samples: Sequence[Sample]) -> Iterator[object]:
        verdicts = self.function(**{self.parameter: samples}, **self.options)
        yield from matching(verdicts, len(samples))


@dataclass(frozen=True)
class PerSampleStyle:
    """A plain function of one answer; `arguments` maps its parameters to what they mean."""

    function: Callable[..., Any]
    arguments: Mapping[str, str]
    options: Mapping[str, Any]
    label: str = "per sample: score(response, reference)"

    def __call__(self, samples: Sequence[Sample]) -> Iterator[object]:
        for sample in samples:
            known = {name: READERS[meaning](sample) for name, meaning in self.arguments.items()}
            yield _call(self.function, {**known, **self.options})


@dataclass(frozen=True)
class VerlStyle:
    """verl's `compute_score(data_source, solution_str, ground_truth, extra_info=None)`."""

    function: Callable[..., Any]
    accepted: frozenset[str]
    options: Mapping[str, Any]
    label: str = "verl: compute_score(data_source, solution_str, ground_truth, extra_info)"

    def __call__(self, samples: Sequence[Sample]) -> Iterator[object]:
        for sample in samples:
            prompt = sample.prompt
            known = {
                "data_source": prompt.data_source,
                "solution_str": sample.response,
                "ground_truth": prompt.reference,
                "extra_info": prompt.extra.get("extra_info", dict(prompt.extra)),
            }
            given = {name: value for name, value in known.items() if name in self.accepted}
            yield _call(self.function, {**given, **self.options})


@dataclass(frozen=True)
class TRLStyle:
    """TRL's `fn(prompts=..., completions=..., **columns) -> list[float | None]`; None abstains.

    columns         the columns that the function names; any_column: it takes `**columns`, so it gets all of them
    """

    function: Callable[..., Any]
    accepted: frozenset[str]
    columns: tuple[str, ...]
    required: frozenset[str]
    any_column: bool
    options: Mapping[str, Any]
    label: str = "TRL: fn(prompts, completions, **columns)"

    def __call__(self, samples: Sequence[Sample]) -> Iterator[object]:
        known: dict[str, list[Any]] = {
            "prompts": [_trl_prompt(sample) for sample in samples],
            "completions": [_trl_completion(sample) for sample in samples],
        }
        given = {name: values for name, values in known.items() if self.any_column or name in self.accepted}
        verdicts = self.function(**given, **self._columns(samples), **self.options)
        for verdict in matching(verdicts, len(samples)):
            yield NOT_APPLICABLE if verdict is None else verdict

    def _columns(self, samples: Sequence[Sample]) -> dict[str, list[Any]]:
        rows = [_trl_row(sample) for sample in samples]
        present = set().union(*rows) if rows else set(self.columns)
        missing = sorted(self.required - present)
        if missing:
            raise ConfigError(
                f"the function asks for the column {missing[0]!r}, which the rows do not have; "
                f"columns: {', '.join(sorted(present))}"
            )
        wanted = present if self.any_column else present & set(self.columns)
        return {name: [row.get(name) for row in rows] for name in sorted(wanted - self.options.keys())}


READERS: Mapping[str, Callable[[Sample], Any]] = {
    "sample": lambda sample: sample,
    "question": lambda sample: sample.prompt.question,
    "messages": lambda sample: [dict(message) for message in sample.prompt.messages],
    "conversation": lambda sample: [dict(message) for message in sample.messages],
    "response": lambda sample: sample.response,
    "reference": lambda sample: sample.prompt.reference,
    "data_source": lambda sample: sample.prompt.data_source,
    "extra": lambda sample: dict(sample.prompt.extra),
}
"""What a per-sample function can ask for, by meaning."""


def matching(verdicts: object, expected: int) -> Sequence[object]:
    """`verdicts` as a list of the `expected` length. Raises `ValueError` that says what came back instead."""
    if isinstance(verdicts, str | bytes | Mapping) or not hasattr(verdicts, "__iter__"):
        raise ValueError(f"returned {type(verdicts).__name__} instead of one verdict for each of {expected} answers")
    listed = list(verdicts)
    if len(listed) != expected:
        raise ValueError(f"returned {len(listed)} verdicts for {expected} answers")
    return listed


def _call(function: Callable[..., Any], arguments: Mapping[str, Any]) -> object | Failure:
    try:
        verdict: object = function(**arguments)
    except Exception as error:
        return failure_of(error)
    return verdict


def _trl_prompt(sample: Sample) -> Any:
    prompt = sample.prompt
    return prompt.text if prompt.text is not None else [dict(message) for message in prompt.messages]


def _trl_completion(sample: Sample) -> Any:
    if sample.prompt.text is not None:
        return sample.response
    return [dict(message) for message in sample.replies]


def _trl_row(sample: Sample) -> dict[str, Any]:
    prompt = sample.prompt
    known = {**dict.fromkeys(REFERENCE_NAMES, prompt.reference), "data_source": prompt.data_source}
    return {**known, **prompt.extra}
