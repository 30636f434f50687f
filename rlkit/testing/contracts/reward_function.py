"""What every reward function must do: one finite verdict for each answer, in order, the same every time, whatever the answer."""

from __future__ import annotations

import asyncio
import copy
import math
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from rlkit.types import Prompt, Reward, Sample

if TYPE_CHECKING:
    from rlkit.rewards.styles import Style
    from rlkit.testing import ContractContext

RESPONSES = (
    "4",
    "5",
    "2 + 2 = 4\n#### 4",
    r"The answer is \boxed{4}.",
    "<think>two and two</think><answer>4</answer>",
    "four",
)
ROUNDING = 1e-5

AWKWARD_RESPONSES = (
    "",
    " \n\t ",
    "\x00",
    "\u0664 \u2212\uff14 \u00bd \u4e03 \U0001f600 \u200b\u202e",
    "bad \ud800 surrogate",
    "4 " * 50_000,
    "#### " * 20_000,
    r"\boxed{" * 15_000,
    "{" * 100_000,
    "-" * 100_000,
    "9" * 100_000,
    "1e999999999",
    "0/0",
    "nan",
    "inf",
    "\\",
)


def verdicts_match_the_answers(context: ContractContext) -> None:
    style = _style(context)
    samples = _samples(RESPONSES)
    together = _judge(style, samples)
    assert len(together) == len(samples), f"{len(together)} verdicts for {len(samples)} answers"
    reversed_order = _judge(style, samples[::-1])
    assert _agree(reversed_order, together[::-1]), "turning the batch around did not turn the verdicts around"
    alone = [_judge(style, [sample])[0] for sample in samples]
    assert _agree(alone, together), "an answer's verdict depends on the others in its batch"


def an_empty_batch_is_fine(context: ContractContext) -> None:
    assert _judge(_style(context), []) == []


def the_same_answer_gets_the_same_verdict(context: ContractContext) -> None:
    samples = _samples(RESPONSES)
    style = _style(context)
    first = _judge(style, samples)
    assert _judge(style, samples) == first, "a second call gave other verdicts"
    assert _judge(_style(context), samples) == first, "a newly made function gave other verdicts"


def awkward_answers_are_judged_too(context: ContractContext) -> None:
    style = _style(context)
    for response in AWKWARD_RESPONSES:
        _judge(style, _samples([response]))


def the_samples_are_left_alone(context: ContractContext) -> None:
    samples = _samples(RESPONSES)
    before = copy.deepcopy(samples)
    _judge(_style(context), samples)
    assert samples == before, "the function changed the samples that it was given"


CHECKS: tuple[Callable[[ContractContext], None], ...] = (
    verdicts_match_the_answers,
    an_empty_batch_is_fine,
    the_same_answer_gets_the_same_verdict,
    awkward_answers_are_judged_too,
    the_samples_are_left_alone,
)


def _agree(left: Sequence[Reward], right: Sequence[Reward]) -> bool:
    """Up to rounding: the last bits of what a model computes depend on the batch."""
    return all(
        (one.error, one.parts.keys()) == (other.error, other.parts.keys())
        and all(
            math.isclose(a, b, rel_tol=ROUNDING, abs_tol=ROUNDING)
            for a, b in zip((one.score, *one.parts.values()), (other.score, *other.parts.values()), strict=True)
        )
        for one, other in zip(left, right, strict=True)
    )


def _style(context: ContractContext) -> Style:
    from rlkit.plugin.loader import construct
    from rlkit.rewards.adapt import adapt_function

    target, options = construct(context.plugin, context.options, where="reward.options")
    return adapt_function(target, name=context.plugin.name, options=options)


def _samples(responses: Sequence[str]) -> list[Sample]:
    """Answers to one small sum, as chat and as plain text in turn."""
    prompts = (
        Prompt(0, messages=({"role": "user", "content": "2+2="},), reference="4", extra={"level": 1}),
        Prompt(1, text="2+2=", reference="4", extra={"level": 1}),
    )
    return [
        Sample(prompts[row % 2], response, num_response_tokens=len(response)) for row, response in enumerate(responses)
    ]


def _judge(style: Style, samples: Sequence[Sample]) -> list[Reward]:
    """The verdicts; every one has to be usable."""
    from rlkit.rewards.verdict import Failure, NotApplicable, read_verdict

    rewards = []
    for sample, raw in zip(samples, _raw_verdicts(style, samples), strict=True):
        verdict = read_verdict(raw)
        shown = repr(sample.response if len(sample.response) <= 40 else sample.response[:37] + "...")
        assert not isinstance(verdict, Failure), f"the verdict on {shown} failed: {verdict.reason}"
        rewards.append(Reward(0.0) if isinstance(verdict, NotApplicable) else verdict)
    return rewards


def _raw_verdicts(style: Style, samples: Sequence[Sample]) -> Iterable[object]:
    from rlkit.rewards.styles import judge_awaited

    if style.manner.runs_in != "async":
        return style(samples)

    async def ask() -> list[object]:
        calls = [[sample] for sample in samples] if style.is_of_one_answer else [samples]
        return [raw for call in calls for raw in await judge_awaited(style, call)]

    return asyncio.run(ask())
