"""Reward functions as people have them, recognised by their signature."""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Callable, Mapping
from typing import Any

from rlkit.errors import ConfigError, RewardError
from rlkit.rewards.manner import manner_of
from rlkit.rewards.styles import BatchStyle, PerSampleStyle, Style, TRLStyle, VerlStyle
from rlkit.types.reward import Sample

MEANINGS: Mapping[str, str] = {
    "sample": "sample",
    "prompt": "question",
    "question": "question",
    "messages": "messages",
    "conversation": "conversation",
    "response": "response",
    "completion": "response",
    "reference": "reference",
    "ground_truth": "reference",
    "data_source": "data_source",
    "extra": "extra",
    "extra_info": "extra",
}
"""Parameters of a per-sample function and what each of them is given."""

ACCEPTED = (
    "accepted are fn(samples: Sequence[Sample]); a function of one answer with any of the parameters "
    f"{', '.join(MEANINGS)} (at least response, completion or sample); verl's compute_score(data_source, solution_str, "
    "ground_truth, extra_info=None); TRL's fn(prompts, completions, **columns)"
)

NOT_IN_RLKIT = frozenset({"completion_ids", "prompt_ids", "completions_ids", "trainer_state"})
"""Arguments of TRL's trainer that are no columns of the data."""

_BATCH_ANNOTATION = re.compile(r"\b(Sequence|Iterable|Collection|[Ll]ist|[Tt]uple)\[.*\bSample\b")
_SAMPLE_ANNOTATION = re.compile(r"^([\w.]+\.)?Sample$")


def adapt_function(function: object, *, name: str, options: Mapping[str, Any] | None = None) -> Style:
    """`function` in the style that its signature shows, with `options` as further keyword arguments.

    Raises `RewardError` for a signature that is none of the accepted ones, and `ConfigError` for an option that the
    function does not take.
    """
    if not callable(function):
        raise RewardError(
            f"reward function {name!r} is a {type(function).__name__}, which cannot be called; {ACCEPTED}"
        )
    signature = _signature(function, name)
    parameters = {
        key: parameter
        for key, parameter in signature.parameters.items()
        if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
    }
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in signature.parameters.values())
    chosen = dict(options or {})
    style = _recognise(function, parameters, takes_any, chosen, name)
    if style is None:
        raise RewardError(f"reward function {name!r} has the signature {signature}; {_ambiguous(parameters)}{ACCEPTED}")
    _check_options(name, chosen, _supplied(style), parameters, takes_any)
    return style


def _recognise(
    function: Callable[..., Any],
    parameters: Mapping[str, inspect.Parameter],
    takes_any: bool,
    options: Mapping[str, Any],
    name: str,
) -> Style | None:
    of_a_batch = manner_of(function, name=name, judges_apart=False)
    of_one = manner_of(function, name=name, judges_apart=True)
    required = {key for key, value in parameters.items() if value.default is value.empty} - options.keys()
    batch = next((key for key, value in parameters.items() if _is_batch(key, value)), None)
    if batch is not None:
        return BatchStyle(function, batch, options, of_a_batch) if required <= {batch} else None
    names = frozenset(parameters)
    if "completions" in names:
        columns = names - {"prompts", "completions"} - options.keys()
        if required & NOT_IN_RLKIT:
            return None
        wanted = columns - NOT_IN_RLKIT
        return TRLStyle(
            function, names, tuple(sorted(wanted)), frozenset(required & wanted), takes_any, options, of_a_batch
        )
    if "solution_str" in names:
        verl = frozenset({"data_source", "solution_str", "ground_truth", "extra_info"})
        accepted = verl if takes_any else names & verl
        return VerlStyle(function, accepted, options, of_one) if required <= verl else None
    arguments = {key: meaning for key, value in parameters.items() if (meaning := _meaning(key, value))}
    if required <= arguments.keys() and {"response", "sample"} & set(arguments.values()):
        return PerSampleStyle(function, arguments, options, of_one)
    return None


def _is_batch(name: str, parameter: inspect.Parameter) -> bool:
    return name == "samples" or bool(_BATCH_ANNOTATION.search(str(parameter.annotation)))


def _meaning(name: str, parameter: inspect.Parameter) -> str | None:
    annotation = parameter.annotation
    if annotation is Sample or (isinstance(annotation, str) and _SAMPLE_ANNOTATION.match(annotation)):
        return "sample"
    return MEANINGS.get(name)


def _supplied(style: Style) -> frozenset[str]:
    """Parameters that rlkit fills in, which options therefore cannot set."""
    match style:
        case BatchStyle():
            return frozenset({style.parameter})
        case PerSampleStyle():
            return frozenset(style.wanted)
        case VerlStyle():
            return style.accepted
        case _:
            return frozenset({"prompts", "completions"})


def _check_options(
    name: str,
    options: Mapping[str, Any],
    supplied: frozenset[str],
    parameters: Mapping[str, inspect.Parameter],
    takes_any: bool,
) -> None:
    free = sorted(set(parameters) - supplied)
    for option in options:
        if option in free or (takes_any and option not in supplied):
            continue
        near = difflib.get_close_matches(option, free, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ConfigError(
            f"reward.options: {name!r} takes no option {option!r}; options: {', '.join(free) or '(none)'}.{hint}"
        )


def _ambiguous(parameters: Mapping[str, inspect.Parameter]) -> str:
    if "answer" not in parameters:
        return ""
    return "'answer' may mean the model's or the right one: call it response or reference; "


def _signature(function: Callable[..., Any], name: str) -> inspect.Signature:
    try:
        return inspect.signature(function)
    except (TypeError, ValueError) as error:
        raise RewardError(f"the signature of reward function {name!r} cannot be read ({error}); {ACCEPTED}") from error
