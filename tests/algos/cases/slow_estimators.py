"""Advantage estimators in plain loops over Python floats, written from the papers without a look at rlkit's.

A batch is a list of answers; what belongs to a token is a list of lists [answer][position], zero where the mask is False.
"""

from __future__ import annotations

from math import exp, sqrt

Rows = list[list[float]]
Mask = list[list[bool]]


def scores_of(rewards: Rows, mask: Mask) -> list[float]:
    return [sum(r for r, m in zip(*row, strict=True) if m) for row in zip(rewards, mask, strict=True)]


def spread(values: list[float], mask: Mask) -> Rows:
    return [[value if m else 0.0 for m in row] for value, row in zip(values, mask, strict=True)]


def members(groups: list[int], answer: int) -> list[int]:
    return [other for other, group in enumerate(groups) if group == groups[answer]]


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


def deviation(values: list[float]) -> float:
    centre = mean(values)
    return sqrt(sum((value - centre) ** 2 for value in values) / (len(values) - 1))


def centred(values: list[float], groups: list[int], *, scaled: bool) -> list[float]:
    """Each value less its group's mean, over its deviation if `scaled`; a group of one keeps its value."""
    result = []
    for answer, value in enumerate(values):
        group = [values[other] for other in members(groups, answer)]
        if len(group) == 1:
            result.append(value / (1 + 1e-6) if scaled else value)
        else:
            result.append((value - mean(group)) / (deviation(group) + 1e-6 if scaled else 1.0))
    return result


def whiten(values: Rows, mask: Mask) -> Rows:
    chosen = [v for row, kept in zip(values, mask, strict=True) for v, m in zip(row, kept, strict=True) if m]
    centre = mean(chosen)
    variance = sum((value - centre) ** 2 for value in chosen) / (len(chosen) - 1)
    scale = 1 / sqrt(variance + 1e-8)
    return [
        [(v - centre) * scale if m else 0.0 for v, m in zip(row, kept, strict=True)]
        for row, kept in zip(values, mask, strict=True)
    ]


def reward_to_go(rewards: Rows, mask: Mask, gamma: float) -> Rows:
    result = []
    for row, kept in zip(rewards, mask, strict=True):
        places = [t for t, m in enumerate(kept) if m]
        line = [0.0] * len(row)
        for n, t in enumerate(places):
            line[t] = sum(gamma**k * row[later] for k, later in enumerate(places[n:]))
        result.append(line)
    return result


def gae(rewards: Rows, values: Rows, mask: Mask, *, gamma: float, lam: float) -> tuple[Rows, Rows]:
    """Advantages before whitening as the explicit sum of discounted errors (Schulman et al. 2015, eq. 16); returns."""
    advantages, returns = [], []
    for r, v, kept in zip(rewards, values, mask, strict=True):
        places = [t for t, m in enumerate(kept) if m]
        errors = []
        for n, t in enumerate(places):
            following = v[places[n + 1]] if n + 1 < len(places) else 0.0
            errors.append(r[t] + gamma * following - v[t])
        line, targets = [0.0] * len(r), [0.0] * len(r)
        for n, t in enumerate(places):
            line[t] = sum((gamma * lam) ** k * error for k, error in enumerate(errors[n:]))
            targets[t] = line[t] + v[t]
        advantages.append(line)
        returns.append(targets)
    return whiten(advantages, mask), returns


def grpo(rewards: Rows, mask: Mask, groups: list[int]) -> Rows:
    return spread(centred(scores_of(rewards, mask), groups, scaled=True), mask)


def dr_grpo(rewards: Rows, mask: Mask, groups: list[int]) -> Rows:
    return spread(centred(scores_of(rewards, mask), groups, scaled=False), mask)


def reinforce_plus_plus_baseline(rewards: Rows, mask: Mask, groups: list[int]) -> Rows:
    return whiten(dr_grpo(rewards, mask, groups), mask)


def grpo_passk(rewards: Rows, mask: Mask, groups: list[int]) -> Rows:
    scores = scores_of(rewards, mask)
    result = []
    for answer, score in enumerate(scores):
        group = members(groups, answer)
        rivals = [scores[other] for other in group if other != answer]
        leads = bool(rivals) and all(score > rival for rival in rivals)
        result.append((score - max(rivals)) / (deviation([scores[o] for o in group]) + 1e-6) if leads else 0.0)
    return spread(result, mask)


def rloo(rewards: Rows, mask: Mask, groups: list[int]) -> Rows:
    scores = scores_of(rewards, mask)
    result = []
    for answer, score in enumerate(scores):
        others = [scores[other] for other in members(groups, answer) if other != answer]
        result.append(score - mean(others) if others else score)
    return spread(result, mask)


def opo(rewards: Rows, mask: Mask, groups: list[int]) -> Rows:
    scores = scores_of(rewards, mask)
    result = []
    for answer, score in enumerate(scores):
        group = members(groups, answer)
        weighted = sum(sum(mask[other]) * scores[other] for other in group)
        baseline = weighted / sum(sum(mask[other]) for other in group) if len(group) > 1 else 0.0
        result.append(score - baseline)
    return spread(result, mask)


def gpg(rewards: Rows, mask: Mask, groups: list[int]) -> Rows:
    scores = scores_of(rewards, mask)
    alpha = len(scores) / max(sum(score != 0 for score in scores), 1)
    return spread([alpha * value for value in centred(scores, groups, scaled=False)], mask)


def gdpo(parts: Rows, weights: list[float], mask: Mask, groups: list[int]) -> Rows:
    """parts [answer][reward function]."""
    total = [0.0] * len(parts)
    for k, weight in enumerate(weights):
        for answer, value in enumerate(centred([row[k] for row in parts], groups, scaled=True)):
            total[answer] += weight * value
    return whiten(spread(total, mask), mask)


def remax(rewards: Rows, mask: Mask, greedy: list[float]) -> Rows:
    return [
        [g - baseline if m else 0.0 for g, m in zip(line, kept, strict=True)]
        for line, kept, baseline in zip(reward_to_go(rewards, mask, 1.0), mask, greedy, strict=True)
    ]


def reinforce_plus_plus(rewards: Rows, mask: Mask, *, gamma: float) -> Rows:
    return whiten(reward_to_go(rewards, mask, gamma), mask)


def optimal_token_baseline(
    rewards: Rows, mask: Mask, groups: list[int], log_probs: Rows, distributions: list[Rows]
) -> Rows:
    """Li et al. 2026, arXiv:2602.07078, token by token: the squared norm of the gradient of log softmax at the sampled
    token with respect to the logits, summed over the tokens so far, weighs the answers that are still running.

    distributions [answer][position][word]: all probabilities, of which `log_probs` has the sampled token's.
    """
    places = [[t for t, m in enumerate(kept) if m] for kept in mask]
    energies: list[list[float]] = []
    for answer, sampled in enumerate(places):
        energy, line = 0.0, []
        for t in sampled:
            chosen = exp(log_probs[answer][t])
            others = sum(p * p for p in distributions[answer][t]) - chosen * chosen
            energy += (1 - chosen) ** 2 + others
            line.append(energy)
        energies.append(line)
    to_go = reward_to_go(rewards, mask, 1.0)
    result = [[0.0] * len(kept) for kept in mask]
    for answer, sampled in enumerate(places):
        group = members(groups, answer)
        for n, t in enumerate(sampled):
            # The last place that two answers of the group have, and this one if it is not beyond that.
            shared = max((k for k in range(n + 1) if sum(len(places[o]) > k for o in group) > 1), default=None)
            baseline = 0.0
            if shared is not None:
                running = [other for other in group if len(places[other]) > shared]
                weight = sum(energies[other][shared] for other in running)
                gathered = sum(energies[o][shared] * to_go[o][places[o][shared]] for o in running)
                baseline = gathered / weight
            result[answer][t] = to_go[answer][t] - baseline
    return result
