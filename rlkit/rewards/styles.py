"""The ways in which people write reward functions, each called in its own manner.

A style knows what its function is to be called with and how to read what it returns; the functions here do the calling.
They yield as early as they can, so that a hanging answer does not take the finished ones with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from rlkit.errors import ConfigError
from rlkit.rewards.manner import Manner
from rlkit.rewards.verdict import NOT_APPLICABLE, VerdictError, failure_of
from rlkit.types.reward import Sample

REFERENCE_NAMES = ("reference", "ground_truth", "solution", "answer", "target")
"""Names under which TRL-style functions may ask for the reference answer; the row's own column wins."""


class Style(Protocol):
    """A reward function, ready to be called with samples.

    label   for people: which of the accepted signatures it is
    manner  how it wants to be called
    is_of_one_answer  it takes one answer at a time
    """

    @property
    def label(self) -> str: ...

    @property
    def manner(self) -> Manner: ...

    @property
    def is_of_one_answer(self) -> bool: ...

    @property
    def function(self) -> Callable[..., Any]: ...

    def arguments(self, samples: Sequence[Sample]) -> dict[str, Any]:
        """What to call the function with, for these samples (one, if it takes one). Raises `ConfigError` for a missing column."""
        ...

    def read(self, returned: object, expected: int) -> Sequence[object]:
        """One raw verdict for each of the `expected` samples. Raises `VerdictError` when there are not as many."""
        ...

    def __call__(self, samples: Sequence[Sample]) -> Iterator[object]:
        """Of a function that is not async: as `judge_in_order`."""
        ...


def judge_in_order(style: Style, samples: Sequence[Sample]) -> Iterator[object]:
    """One raw verdict or `Failure` for each sample; a function of a whole batch that raises does so here, too."""
    if not style.is_of_one_answer:
        yield from style.read(style.function(**style.arguments(samples)), len(samples))
        return
    for sample in samples:
        try:
            yield style.read(style.function(**style.arguments([sample])), 1)[0]
        except ConfigError:
            raise
        except Exception as error:
            yield failure_of(error)


def judge_one(style: Style, sample: Sample) -> object:
    """The raw verdict on one answer. Raises what the function raises."""
    return style.read(style.function(**style.arguments([sample])), 1)[0]


async def judge_awaited(style: Style, samples: Sequence[Sample]) -> Sequence[object]:
    """As `style.function(...)` of an async function, awaited; one sample for a function of one answer."""
    return style.read(await style.function(**style.arguments(samples)), len(samples))


@dataclass(frozen=True)
class BatchStyle:
    """rlkit's own protocol: all samples in one argument."""

    function: Callable[..., Any]
    parameter: str
    options: Mapping[str, Any]
    manner: Manner
    label: str = "batch: fn(samples)"
    is_of_one_answer: bool = False

    def arguments(self, samples: Sequence[Sample]) -> dict[str, Any]:
        return {self.parameter: samples, **self.options}

    def read(self, returned: object, expected: int) -> Sequence[object]:
        return matching(returned, expected)

    def __call__(self, samples: Sequence[Sample]) -> Iterator[object]:
        return judge_in_order(self, samples)


@dataclass(frozen=True)
class PerSampleStyle:
    """A plain function of one answer; `wanted` maps its parameters to what they mean."""

    function: Callable[..., Any]
    wanted: Mapping[str, str]
    options: Mapping[str, Any]
    manner: Manner
    label: str = "per sample: score(response, reference)"
    is_of_one_answer: bool = True

    def arguments(self, samples: Sequence[Sample]) -> dict[str, Any]:
        (sample,) = samples
        return {**{name: READERS[meaning](sample) for name, meaning in self.wanted.items()}, **self.options}

    def read(self, returned: object, expected: int) -> Sequence[object]:
        return [returned]

    def __call__(self, samples: Sequence[Sample]) -> Iterator[object]:
        return judge_in_order(self, samples)


@dataclass(frozen=True)
class VerlStyle:
    """verl's `compute_score(data_source, solution_str, ground_truth, extra_info=None)`."""

    function: Callable[..., Any]
    accepted: frozenset[str]
    options: Mapping[str, Any]
    manner: Manner
    label: str = "verl: compute_score(data_source, solution_str, ground_truth, extra_info)"
    is_of_one_answer: bool = True

    def arguments(self, samples: Sequence[Sample]) -> dict[str, Any]:
        (sample,) = samples
        prompt = sample.prompt
        known = {
            "data_source": prompt.data_source,
            "solution_str": sample.response,
            "ground_truth": prompt.reference,
            "extra_info": prompt.extra.get("extra_info", dict(prompt.extra)),
        }
        return {**{name: value for name, value in known.items() if name in self.accepted}, **self.options}

    def read(self, returned: object, expected: int) -> Sequence[object]:
        return [returned]

    def __call__(self, samples: Sequence[Sample]) -> Iterator[object]:
        return judge_in_order(self, samples)


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
    manner: Manner
    label: str = "TRL: fn(prompts, completions, **columns)"
    is_of_one_answer: bool = False

    def arguments(self, samples: Sequence[Sample]) -> dict[str, Any]:
        known: dict[str, list[Any]] = {
            "prompts": [_trl_prompt(sample) for sample in samples],
            "completions": [_trl_completion(sample) for sample in samples],
        }
        given = {name: values for name, values in known.items() if self.any_column or name in self.accepted}
        return {**given, **self._columns(samples), **self.options}

    def read(self, returned: object, expected: int) -> Sequence[object]:
        return [NOT_APPLICABLE if verdict is None else verdict for verdict in matching(returned, expected)]

    def __call__(self, samples: Sequence[Sample]) -> Iterator[object]:
        return judge_in_order(self, samples)

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
    """`verdicts` as a list of the `expected` length. Raises `VerdictError` that says what came back instead."""
    if isinstance(verdicts, str | bytes | Mapping) or not hasattr(verdicts, "__iter__"):
        raise VerdictError(f"returned {type(verdicts).__name__} instead of one verdict for each of {expected} answers")
    listed = list(verdicts)
    if len(listed) != expected:
        raise VerdictError(f"returned {len(listed)} verdicts for {expected} answers")
    return listed


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
