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


def score(response: str, reference: str) -> float:
    """1 for the right number after ####, else 0. The steps before it are the model's own business."""
    answer = response.rpartition("####")[2].strip()
    return float(answer == reference)
