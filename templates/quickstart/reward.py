"""The reward: edit it, that is what it is here for.

rlkit calls `score` once for each answer. Name the parameters that you need:

    response     what the model answered
    reference    the `answer` column of the row
    prompt       the question
    data_source  the row's `data_source`
    extra        all other columns of the row

Return a number, or a dict with "score" and further numbers: those show up as curves of their own in the report.
Higher is better; 1 for right and 0 for wrong is a good start. Whatever you reward is what you will get, so look at the
answers of a run (`runs/ppo/report.html`) before you trust its curve.
"""

from __future__ import annotations


def score(response: str, reference: str) -> dict[str, float]:
    """1 for the right number, a little for the right length and last digit, so that near misses point the way."""
    answer = response.strip()
    correct = float(answer == reference)
    length = float(len(answer) == len(reference))
    last_digit = float(answer[-1:] == reference[-1:])
    return {"score": 0.8 * correct + 0.1 * length + 0.1 * last_digit, "correct": correct}
