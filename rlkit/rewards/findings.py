"""What a trial of a reward says, in sentences, the worst first."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from rlkit.rewards.probes import NEIGHBOUR, final_answer
from rlkit.rewards.trial import CLOSE, AnswerGroup, JudgedAnswer, ProbeResult, Trial

SUSPICIOUS_SHARE = 0.1
"""Of a probe's rows, how many may score like right answers before it is called suspicious."""
BLIND_SHARE = 0.5
"""Of the rows, how many may score another row's answer like their own before the reward is said not to read references."""
SLOW_S = 1.0
MAX_OUTLIERS = 5

Level = Literal["unusable", "suspicious", "note", "fine"]


@dataclass(frozen=True)
class Finding:
    level: Level
    text: str


@dataclass(frozen=True)
class Outlier:
    """An answer whose score a person should look at."""

    answer: JudgedAnswer
    reason: str


def is_suspicious(result: ProbeResult) -> bool:
    return result.share_like_right is not None and result.share_like_right > SUSPICIOUS_SHARE


def find_all(trial: Trial) -> list[Finding]:
    """Everything worth saying; a single "fine" when there is nothing else."""
    findings = [*_errors(trial), *_same_for_all(trial)]
    if not any("whatever" in finding.text for finding in findings):
        findings += [*_references(trial), *_probes(trial)]
    findings += _slow(trial)
    order: Sequence[Level] = ("unusable", "suspicious", "note", "fine")
    findings.sort(key=lambda finding: order.index(finding.level))
    return findings or [Finding("fine", "right answers score high, and no probe does")]


def find_outliers(trial: Trial) -> list[Outlier]:
    """Right answers that score low, and completions whose score does not go with whether they hold the reference."""
    found: list[Outlier] = []
    if trial.references is not None and (scores := trial.references.scores):
        best = max(scores)
        low = [
            answer for answer in trial.references.answers if not answer.failed and answer.reward.score < best - CLOSE
        ]
        low.sort(key=lambda answer: answer.reward.score)
        found += [Outlier(answer, "a right answer that scores low") for answer in low[:MAX_OUTLIERS]]
    if trial.completions is not None and (scores := trial.completions.scores):
        best, worst = max(scores), min(scores)
        middle = (best + worst) / 2
        judged = [answer for answer in trial.completions.answers if not answer.failed]
        if best > worst + CLOSE:
            high = [answer for answer in judged if answer.reward.score > middle and _holds(answer) is False]
            lows = [answer for answer in judged if answer.reward.score < middle and _holds(answer, end=True) is True]
            found += [Outlier(answer, "scores high without the reference in it") for answer in _one_a_row(high)]
            found += [Outlier(answer, "scores low with the reference at its end") for answer in _one_a_row(lows)]
    return found


def _holds(answer: JudgedAnswer, *, end: bool = False) -> bool | None:
    """Whether the reference's short answer stands in the response, or in its last line; None when it is not known."""
    own = final_answer(answer.sample.prompt.reference)
    if not own:
        return None
    response = answer.sample.response.strip()
    text = response.rpartition("\n")[2] if end else response
    return re.search(rf"(?<!\w){re.escape(_folded(own))}(?!\w)", _folded(text)) is not None


def _folded(text: str) -> str:
    return text.casefold().replace(",", "")


def _one_a_row(answers: Sequence[JudgedAnswer]) -> list[JudgedAnswer]:
    """The first of each row, as many as are shown."""
    return list({answer.sample.prompt.row_id: answer for answer in reversed(answers)}.values())[::-1][:MAX_OUTLIERS]


def _errors(trial: Trial) -> list[Finding]:
    reasons: Counter[str] = Counter()
    for group in trial.groups:
        reasons += group.errors
    total = len(trial.answers)
    findings = []
    for reason, count in reasons.most_common(3):
        first = next(answer for answer in trial.answers if answer.reward.error == reason)
        place = f"row {first.sample.prompt.row_id} ({first.sample.prompt.data_source})"
        findings.append(Finding("unusable", f"{count} of {total} answers could not be judged, first {place}: {reason}"))
    if len(reasons) > 3:
        findings.append(Finding("unusable", f"and {len(reasons) - 3} more kinds of errors"))
    return findings


def _same_for_all(trial: Trial) -> list[Finding]:
    scores = [answer.reward.score for answer in trial.answers if not answer.failed]
    if not scores or max(scores) > min(scores) + CLOSE:
        return []
    return [
        Finding("suspicious", f"every answer scores {scores[0]:g}, whatever it says: nothing can be learned from that")
    ]


def _references(trial: Trial) -> list[Finding]:
    group = trial.references
    if group is None:
        return [Finding("note", "the rows have no reference answers: whether right answers score high was not tried")]
    scores = group.scores
    others = [score for other in trial.groups if other is not group for score in other.scores]
    if not scores:
        return []
    if others and max(scores) <= min(*others, *scores) + CLOSE:
        return [
            Finding(
                "suspicious",
                f"no right answer scores above {max(scores):g}, in any form tried ({', '.join(trial.forms) or trial.form}): "
                "the reward does not understand these references, or they are no answers",
            )
        ]
    low = sum(score < max(scores) - CLOSE for score in scores)
    if not low:
        return []
    level: Level = "suspicious" if low > 0.05 * len(scores) else "note"
    return [
        Finding(level, f"{low} of {len(scores)} right answers score below {max(scores):g} (the outliers show some)")
    ]


def _probes(trial: Trial) -> list[Finding]:
    findings = []
    for result in trial.probes:
        if not is_suspicious(result):
            continue
        share = f"{100 * (result.share_like_right or 0):.0f} % of the rows"
        if result.name == NEIGHBOUR and (result.share_like_right or 0) >= BLIND_SHARE:
            text = (
                f"another row's answer scores like the row's own in {share}: the reward does not read the reference, so it "
                "cannot teach what is right (fine for form and length, beside a reward that does)"
            )
        else:
            better = _mean(result.group) > _mean(trial.references) + CLOSE
            text = f"{result.name}: scores {'higher than' if better else 'like'} a right answer in {share}"
        findings.append(Finding("suspicious", text))
    return findings


def _mean(group: AnswerGroup | None) -> float:
    mean = None if group is None else group.mean
    return float("inf") if mean is None else mean


def _slow(trial: Trial) -> list[Finding]:
    seconds = sorted(answer.seconds for answer in trial.answers if answer.seconds is not None)
    if not seconds or seconds[int(0.95 * (len(seconds) - 1))] < SLOW_S:
        return []
    return [
        Finding("note", f"slow: one answer in twenty takes {seconds[int(0.95 * (len(seconds) - 1))]:.1f} s or more")
    ]
