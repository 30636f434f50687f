"""What the verdicts and the answers look like, in numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from statistics import fmean, pstdev

from rlkit.rewards.judging import JudgingReport
from rlkit.trainers.clock import StageWork
from rlkit.trainers.judged import Judged
from rlkit.types import Reward, Rollouts


def reward_metrics(rewards: Sequence[Reward]) -> dict[str, float]:
    """`reward/*`: mean and spread over the answers that have a verdict, each part's mean over those that have it; how many have none."""
    judged = [reward for reward in rewards if reward.error is None]
    scores = [reward.score for reward in judged]
    metrics = {
        "reward/mean": fmean(scores),
        "reward/std": pstdev(scores),
        "reward/min": min(scores),
        "reward/max": max(scores),
        "reward/errors": float(len(rewards) - len(judged)),
    }
    names = {name for reward in judged for name in reward.parts}
    for name in sorted(names):
        metrics[f"reward/part/{name}"] = fmean(reward.parts[name] for reward in judged if name in reward.parts)
    return metrics


def judging_metrics(reports: Sequence[JudgingReport]) -> dict[str, float]:
    """How the judging of all of a step's answers went, replaced ones too: seconds, failures by kind, what was spared.

    Kinds of failure that did not occur are absent, and so is everything where nothing was judged.
    """
    if not reports:
        return {}
    answers = sum(report.answers for report in reports)
    errors: Counter[str] = Counter()
    for report in reports:
        errors.update(report.errors)
    return {
        "reward/judging_s": sum(report.seconds for report in reports),
        "reward/remembered_fraction": sum(report.remembered * report.answers for report in reports) / answers,
        "reward/worker_restarts": float(sum(report.restarts for report in reports)),
        "reward/retries": float(sum(report.retries for report in reports)),
        **{f"reward/errors_{kind}": float(number) for kind, number in sorted(errors.items())},
    }


def group_metrics(judged: Judged) -> dict[str, float]:
    """`reward/equal_group_fraction`: share of the prompts whose answers all have one reward.

    They have nothing to teach an estimator that compares answers. Nothing where no prompt has several answers.
    """
    several = [rows for rows in judged.groups() if len(rows) > 1]
    if not several:
        return {}
    equal = sum(not judged.is_informative(rows) for rows in several)
    return {"reward/equal_group_fraction": equal / len(several)}


def response_metrics(rollouts: Rollouts, answering: StageWork) -> dict[str, float]:
    """`response/*` and `prompt/*` lengths in tokens, how answers ended, `rollout/*` size and speed.

    answering: response tokens and seconds of all that the engine answered for the step, greedy and replaced answers too.
    """
    lengths = rollouts.response_ids.lengths.double()
    prompt_lengths = rollouts.prompt_ids.lengths.double()
    reasons = Counter(rollouts.finish_reasons)
    return {
        "response/length_mean": float(lengths.mean()),
        "response/length_std": float(lengths.std(correction=0)),
        "response/length_min": float(lengths.min()),
        "response/length_max": float(lengths.max()),
        "response/truncated_fraction": reasons["length"] / len(rollouts),
        "response/aborted_fraction": reasons["abort"] / len(rollouts),
        "prompt/length_mean": float(prompt_lengths.mean()),
        "prompt/length_max": float(prompt_lengths.max()),
        "rollout/tokens": float(rollouts.num_tokens),
        "rollout/tokens_per_s": answering.tokens / max(answering.seconds, 1e-9),
        "rollout/policy_version": float(rollouts.policy_version),
    }
