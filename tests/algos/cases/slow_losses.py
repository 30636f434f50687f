"""Policy losses, KL estimators, aggregation and value loss in plain loops over Python floats, with gradients by hand.

A policy loss is a function of one answer: the lists of its sampled tokens' log-probs, old log-probs and advantages give
the tokens' losses and the matrix of their derivatives, [loss of token][by log-prob of token]. Losses that stop a gradient
have here the gradient that their paper gives.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import exp, log

Row = list[float]
Options = Mapping[str, float]
Answer = tuple[Row, list[Row]]
Loss = Callable[[Row, Row, Row, Options], Answer]


def _diagonal(slopes: Row) -> list[Row]:
    return [[slope if t == s else 0.0 for s in range(len(slopes))] for t, slope in enumerate(slopes)]


def _token_by_token(token: Callable[[float, float, float, Options], tuple[float, float]]) -> Loss:
    def answer(log_probs: Row, old: Row, advantages: Row, options: Options) -> Answer:
        pairs = [token(p, q, a, options) for p, q, a in zip(log_probs, old, advantages, strict=True)]
        return [value for value, _ in pairs], _diagonal([slope for _, slope in pairs])

    return answer


def _ppo_clip(present: float, old: float, advantage: float, options: Options) -> tuple[float, float]:
    ratio = exp(present - old)
    bounded = min(max(ratio, 1 - options["clip_low"]), 1 + options["clip_high"])
    objective, slope = advantage * ratio, advantage * ratio
    if advantage * bounded < objective:
        objective, slope = advantage * bounded, 0.0
    if advantage < 0 and objective < advantage * options["dual_clip"]:
        objective, slope = advantage * options["dual_clip"], 0.0
    return -objective, -slope


def _cispo(present: float, old: float, advantage: float, options: Options) -> tuple[float, float]:
    weight = min(max(exp(present - old), 1 - options["clip_low"]), 1 + options["clip_high"])
    return -weight * advantage * present, -weight * advantage


def _sapo(present: float, old: float, advantage: float, options: Options) -> tuple[float, float]:
    tau = options["tau_positive"] if advantage > 0 else options["tau_negative"]
    ratio = exp(present - old)
    gate = 1 / (1 + exp(-tau * (ratio - 1)))
    return -advantage * gate * 4 / tau, -advantage * 4 * gate * (1 - gate) * ratio


def _gpg(present: float, old: float, advantage: float, options: Options) -> tuple[float, float]:
    return -advantage * present, -advantage


def _dppo_tv(present: float, old: float, advantage: float, options: Options) -> tuple[float, float]:
    return _dppo(present, old, advantage, abs(exp(present) - exp(old)) > options["threshold"])


def _dppo_kl(present: float, old: float, advantage: float, options: Options) -> tuple[float, float]:
    q, p = exp(old), exp(present)
    divergence = q * log(q / p) + (1 - q) * log((1 - q) / (1 - p))
    return _dppo(present, old, advantage, divergence > options["threshold"])


def _dppo(present: float, old: float, advantage: float, far: bool) -> tuple[float, float]:
    if far and (present - old) * advantage > 0:
        return 0.0, 0.0
    return (-advantage * exp(present - old),) * 2


def gspo(log_probs: Row, old: Row, advantages: Row, options: Options) -> Answer:
    """Zheng et al. 2025, arXiv:2507.18071, eq. 14: the answer's ratio, and each token's own log-prob as its gradient."""
    ratio = exp(sum(p - q for p, q in zip(log_probs, old, strict=True)) / len(log_probs))
    bounded = min(max(ratio, 1 - options["clip_low"]), 1 + options["clip_high"])
    losses, slopes = [], []
    for advantage in advantages:
        clips = advantage * bounded < advantage * ratio
        losses.append(-advantage * (bounded if clips else ratio))
        slopes.append(0.0 if clips else -advantage * ratio)
    return losses, _diagonal(slopes)


def gmpo(log_probs: Row, old: Row, advantages: Row, options: Options) -> Answer:
    """Zhao et al. 2025, arXiv:2507.20673, eq. 4; every token's loss is the answer's."""
    count = len(log_probs)
    total, free = 0.0, []
    for p, q, advantage in zip(log_probs, old, advantages, strict=True):
        bounded = min(max(p - q, -options["clip_low"]), options["clip_high"])
        clips = advantage * bounded < advantage * (p - q)
        total += bounded if clips else p - q
        free.append(not clips)
    loss = -sum(advantages) / count * exp(total / count)
    return [loss] * count, [[loss / count if open_ else 0.0 for open_ in free] for _ in range(count)]


LOSSES: Mapping[str, Loss] = {
    "ppo_clip": _token_by_token(_ppo_clip),
    "gspo": gspo,
    "cispo": _token_by_token(_cispo),
    "sapo": _token_by_token(_sapo),
    "gmpo": gmpo,
    "gpg": _token_by_token(_gpg),
    "dppo_tv": _token_by_token(_dppo_tv),
    "dppo_kl": _token_by_token(_dppo_kl),
}
"""Those that treat an answer by itself; for the two that choose tokens of the whole mini-batch see `cov_losses`."""


def token_weights(mask: list[list[bool]], mode: str, horizon: int) -> list[Row]:
    """How much each token's loss counts in the mini-batch's."""
    lengths = [sum(row) for row in mask]
    tokens, answers = sum(lengths), sum(length > 0 for length in lengths)
    by_mode = {
        "token_mean": lambda length: 1 / tokens,
        "seq_mean_token_sum": lambda length: 1 / answers,
        "seq_mean_token_mean": lambda length: 1 / (answers * length),
        "seq_mean_token_sum_norm": lambda length: 1 / (answers * horizon),
        "token_sum": lambda length: 1.0,
    }
    return [[by_mode[mode](length) if m else 0.0 for m in row] for row, length in zip(mask, lengths, strict=True)]


def policy_loss(
    name: str,
    rows: tuple[list[Row], list[Row], list[Row]],
    mask: list[list[bool]],
    options: Options,
    weights: list[Row],
) -> tuple[float, list[Row]]:
    """The mini-batch's loss and its gradient; rows: log-probs, old log-probs, advantages."""
    chosen, gradient = 0.0, []
    for *answer, kept, share in zip(*rows, mask, weights, strict=True):
        places = [t for t, m in enumerate(kept) if m]
        line = [0.0] * len(kept)
        if places:
            losses, slopes = LOSSES[name](*([values[t] for t in places] for values in answer), options)
            chosen += sum(share[t] * loss for t, loss in zip(places, losses, strict=True))
            for s, place in enumerate(places):
                line[place] = sum(share[t] * slopes[n][s] for n, t in enumerate(places))
        gradient.append(line)
    return chosen, gradient


def cov_losses(
    name: str, log_probs: Row, old: Row, advantages: Row, options: Options, *, fraction: float
) -> tuple[Row, Row]:
    """clip_cov or kl_cov (Cui et al. 2025, arXiv:2505.22617) over all sampled tokens of a mini-batch: losses and slopes.

    For clip_cov all candidates are taken to be drawn, so the fraction must leave room for them.
    """
    count = len(log_probs)
    mean_p, mean_a = sum(log_probs) / count, sum(advantages) / count
    covariances = [(p - mean_p) * (a - mean_a) for p, a in zip(log_probs, advantages, strict=True)]
    losses, slopes = [], []
    if name == "clip_cov":
        plain = {**options, "dual_clip": float("inf")}
        for p, q, a, covariance in zip(log_probs, old, advantages, covariances, strict=True):
            loss, slope = _ppo_clip(p, q, a, plain)
            drawn = options["cov_low"] <= covariance <= options["cov_high"] and slope != 0
            losses.append(0.0 if drawn else loss)
            slopes.append(0.0 if drawn else slope)
        return losses, slopes
    largest = sorted(range(count), key=lambda t: -covariances[t])[: max(int(fraction * count), 1)]
    for t, (p, q, a) in enumerate(zip(log_probs, old, advantages, strict=True)):
        penalty = options["coefficient"] if t in largest else 0.0
        losses.append(-a * exp(p - q) + penalty * abs(p - q))
        slopes.append(-a * exp(p - q) + penalty * (1 if p > q else -1))
    return losses, slopes


def kl(present: float, reference: float, estimator: str) -> tuple[float, float]:
    """Value and derivative of one token's KL estimate (Schulman 2020); `+` has k2's derivative."""
    d = present - reference
    values = {
        "k1": (d, 1.0),
        "k2": (d * d / 2, d),
        "k3": (exp(-d) - 1 + d, 1 - exp(-d)),
        "abs": (abs(d), 1 if d > 0 else -1),
    }
    value, slope = values[estimator.removesuffix("+")]
    return value, d if estimator.endswith("+") else slope


def value_loss(value: float, old: float, target: float, clip: float) -> tuple[float, float]:
    """Loss and derivative of one token's value."""
    bounded = min(max(value, old - clip), old + clip)
    if (bounded - target) ** 2 > (value - target) ** 2:
        return (bounded - target) ** 2 / 2, 0.0 if bounded != value else bounded - target
    return (value - target) ** 2 / 2, value - target
