"""Trying a reward on real rows before any training: right answers, given answers, and answers that deserve nothing."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rlkit.rewards.probes import FORMS, PROBES, Probe, ProbeRow, final_answer, is_right_by_chance, right_answers
from rlkit.types.prompts import Prompt
from rlkit.types.reward import Reward, Sample

FORM_ROWS = 10
"""Rows on which the forms of an answer are tried, to find the one that the reward understands."""
CHARACTERS_PER_TOKEN = 4
"""For the token counts of answers that no model has written."""
NEIGHBOURS = 1_000
"""Rows whose answers are taken for wrong answers to others."""
CLOSE = 1e-9
"""Scores nearer than this are equal."""


@dataclass(frozen=True)
class JudgedAnswer:
    """seconds: None where only a whole batch was timed."""

    sample: Sample
    reward: Reward
    seconds: float | None

    @property
    def failed(self) -> bool:
        return self.reward.error is not None


@dataclass(frozen=True)
class AnswerGroup:
    """Answers of one origin, such as the references."""

    name: str
    answers: tuple[JudgedAnswer, ...]

    @property
    def scores(self) -> list[float]:
        """Of the answers that could be judged."""
        return [answer.reward.score for answer in self.answers if not answer.failed]

    @property
    def errors(self) -> Counter[str]:
        """How often, by reason."""
        return Counter(answer.reward.error for answer in self.answers if answer.reward.error is not None)

    @property
    def mean(self) -> float | None:
        scores = self.scores
        return sum(scores) / len(scores) if scores else None


@dataclass(frozen=True)
class ProbeResult:
    """share_like_right: of the rows, how many score at least as high as a right answer to them (1.0: all); None: unknown."""

    group: AnswerGroup
    share_like_right: float | None
    by_chance: int = 0  # rows whose own answer this is; they are left out

    @property
    def name(self) -> str:
        return self.group.name


@dataclass(frozen=True)
class Trial:
    """What was found.

    form         the form of answer that scores best on the references, "" when there are none
    forms        mean score of each form, on the first rows
    references   every row's right answer in that form; None when the rows have none
    completions  None when none were given
    """

    form: str
    forms: dict[str, float]
    references: AnswerGroup | None
    completions: AnswerGroup | None
    probes: tuple[ProbeResult, ...]

    @property
    def groups(self) -> list[AnswerGroup]:
        given = [group for group in (self.references, self.completions) if group is not None]
        return [*given, *(result.group for result in self.probes)]

    @property
    def answers(self) -> list[JudgedAnswer]:
        return [answer for group in self.groups for answer in group.answers]


Judge = Callable[[Sequence[Sample]], list[JudgedAnswer]]
"""Judges samples, in order, and says how long each took; errors are in `Reward.error`."""


def try_reward(
    prompts: Sequence[Prompt],
    completions: Sequence[Sample],
    judge: Judge,
    *,
    probe_rows: int,
    seed: int,
    tell: Callable[[str, int], None] = lambda what, answers: None,
) -> Trial:
    """Judge the rows' own right answers, then `completions`, then the probes on `probe_rows` rows drawn by `seed`.

    `tell` is told what is about to be judged, and how many answers.
    """
    form, forms, references = _try_references(prompts, judge, tell)
    given = None
    if completions:
        tell("completions", len(completions))
        given = AnswerGroup("completions", tuple(judge(completions)))
    rows = _probe_rows(prompts or _prompts_of(completions), form, probe_rows, seed)
    right = (
        {}
        if references is None
        else {a.sample.prompt.row_id: a.reward.score for a in references.answers if not a.failed}
    )
    groups = [(probe, _judge_probe(probe, rows, judge, tell)) for probe in PROBES]
    scores = [score for group in _present(references, given, *(group for _, group in groups)) for score in group.scores]
    # Where all that there is scores the same, the lowest score is as good as any.
    floor = min(scores) if scores and max(scores) > min(scores) + CLOSE else float("-inf")
    best = max((score for group in _present(references, given) for score in group.scores), default=None)
    probes = tuple(_probe_result(probe, group, rows, right, floor, best) for probe, group in groups if group.answers)
    return Trial(form, forms, references, given, probes)


def as_sample(prompt: Prompt, response: str) -> Sample:
    """An answer that no model has written: its tokens are estimated."""
    return Sample(prompt, response, "stop", -(-len(response) // CHARACTERS_PER_TOKEN))


def _present(*groups: AnswerGroup | None) -> list[AnswerGroup]:
    return [group for group in groups if group is not None]


def _prompts_of(completions: Sequence[Sample]) -> list[Prompt]:
    return list({sample.prompt.row_id: sample.prompt for sample in completions}.values())


def _try_references(
    prompts: Sequence[Prompt], judge: Judge, tell: Callable[[str, int], None]
) -> tuple[str, dict[str, float], AnswerGroup | None]:
    """The form that scores best, the mean of each form, and all rows judged in the best."""
    answers = [(prompt, right_answers(prompt)) for prompt in prompts]
    answers = [(prompt, texts) for prompt, texts in answers if texts]
    if not answers:
        return "", {}, None
    first = answers[:FORM_ROWS]
    tried = [(name, as_sample(prompt, text)) for prompt, texts in first for name, text in texts.items()]
    tell("forms of the right answer", len(tried))
    scores: dict[str, list[float]] = {}
    for (name, _), judged in zip(tried, judge([sample for _, sample in tried]), strict=True):
        scores.setdefault(name, []).append(float("-inf") if judged.failed else judged.reward.score)
    # The mean over all of them: a form that few rows have is not preferred for these.
    means = {name: sum(found) / len(found) for name, found in scores.items() if len(found) == len(first)} or {
        name: sum(found) / len(found) for name, found in scores.items()
    }
    form = max(means, key=lambda name: means[name])
    chosen = [as_sample(prompt, texts.get(form) or next(iter(texts.values()))) for prompt, texts in answers]
    tell("right answers", len(chosen))
    group = AnswerGroup("right answers", tuple(judge(chosen)))
    return form, {name: mean for name, mean in means.items() if mean > float("-inf")}, group


def _probe_rows(prompts: Sequence[Prompt], form: str, count: int, seed: int) -> list[ProbeRow]:
    chosen = list(prompts) if len(prompts) <= count else random.Random(seed).sample(list(prompts), count)
    write = FORMS.get(form, FORMS["#### N"] if form == "as it is" and _marked(prompts) else FORMS["in a sentence"])
    pool: dict[str, Prompt] = {}
    for prompt in prompts[:NEIGHBOURS]:
        pool.setdefault(_identity(prompt), prompt)
    rows = []
    for position, prompt in enumerate(chosen):
        own = _identity(prompt)
        others = [other for identity, other in pool.items() if identity != own]
        start = position % len(others) if others else 0
        others = [*others[start:], *others[:start]]
        short = [final_answer(other.reference) for other in others]
        texts = right_answers(others[0]) if others else {}
        neighbour = texts.get(form) or next(iter(texts.values()), "")
        rows.append(ProbeRow(prompt, final_answer(prompt.reference), tuple(filter(None, short)), neighbour, write))
    return rows


def _identity(prompt: Prompt) -> str:
    """What two rows with the same right answer have in common."""
    return (final_answer(prompt.reference) or str(prompt.reference)).casefold()


def _marked(prompts: Sequence[Prompt]) -> bool:
    return any("####" in str(prompt.reference) for prompt in prompts[:FORM_ROWS])


def _judge_probe(probe: Probe, rows: Sequence[ProbeRow], judge: Judge, tell: Callable[[str, int], None]) -> AnswerGroup:
    texts = [(row, probe.text(row)) for row in rows]
    samples = [as_sample(row.prompt, text) for row, text in texts if text is not None]
    tell(probe.name, len(samples))
    return AnswerGroup(probe.name, tuple(judge(samples)) if samples else ())


def _probe_result(
    probe: Probe,
    group: AnswerGroup,
    rows: Sequence[ProbeRow],
    right: dict[int, float],
    floor: float,
    best: float | None,
) -> ProbeResult:
    """A score counts as that of a right answer when it reaches the row's own, or the best one where that is unknown."""
    by_row = {row.prompt.row_id: row for row in rows}
    like = counted = by_chance = 0
    for answer in group.answers:
        row = by_row[answer.sample.prompt.row_id]
        expected = right.get(row.prompt.row_id, best)
        if answer.failed or expected is None:
            continue
        if is_right_by_chance(probe, row):
            by_chance += 1
            continue
        counted += 1
        like += answer.reward.score >= expected - CLOSE and answer.reward.score > floor + CLOSE
    return ProbeResult(group, like / counted if counted else None, by_chance)
