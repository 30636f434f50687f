"""What several answers to a prompt are worth together."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence


def pass_at_k(samples: int, correct: int, k: int) -> float:
    """Chance that k answers drawn from `samples`, of which `correct` are right, hold a right one.

    1 - C(n - c, k) / C(n, k), unbiased (Chen et al. 2021, arXiv:2107.03374, eq. 1). Raises `ValueError` for k > samples.
    """
    if not 1 <= k <= samples or not 0 <= correct <= samples:
        raise ValueError(f"pass@{k} of {correct} right answers among {samples}")
    return 1.0 - math.comb(samples - correct, k) / math.comb(samples, k)


def useful_ks(samples: int) -> list[int]:
    """1, 2, 4, ... up to `samples`, and `samples` itself."""
    powers = [1 << exponent for exponent in range(samples.bit_length()) if 1 << exponent <= samples]
    return powers if powers[-1] == samples else [*powers, samples]


def majority_score(answers: Sequence[str | None], scores: Sequence[float]) -> float:
    """The score of the most frequent answer (maj@k); the mean over answers that are equally frequent.

    Responses without an answer (None) do not vote; when none votes, the mean score.
    """
    votes: dict[str, list[float]] = defaultdict(list)
    for answer, score in zip(answers, scores, strict=True):
        if answer is not None:
            votes[answer].append(score)
    if not votes:
        return math.fsum(scores) / len(scores)
    most = max(map(len, votes.values()))
    winners = [math.fsum(given) / len(given) for given in votes.values() if len(given) == most]
    return math.fsum(winners) / len(winners)
