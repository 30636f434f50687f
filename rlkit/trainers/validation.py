"""How good the policy is on prompts that it is not trained on."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from statistics import fmean

from rlkit.evaluation.pass_at_k import pass_at_k, useful_ks
from rlkit.evaluation.statistics import are_binary, mean_interval
from rlkit.protocols import RolloutEngine, Tokenizer
from rlkit.rewards.scoring import ScoresSamples, decode_responses, score_rollouts
from rlkit.rollout.collector import collect_rollouts
from rlkit.types import PromptBatch, SamplingParams

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Validator:
    """Answers every validation prompt and scores the answers."""

    prompts: PromptBatch
    sampling: SamplingParams
    tokenizer: Tokenizer
    scorer: ScoresSamples

    def run(self, engine: RolloutEngine) -> dict[str, float]:
        """`validation/score` with its 95 % interval (`score_low`, `score_high`), and the score of each data source.

        A prompt's score is the mean over its answers (mean@k); the interval is over prompts. With several answers that
        are right or wrong there is also `validation/pass_at_<k>` (unbiased, Chen et al. 2021, arXiv:2107.03374, eq. 1).
        """
        rollouts = collect_rollouts(engine, self.prompts, self.sampling)
        rewards = score_rollouts(rollouts, decode_responses(rollouts, self.tokenizer), self.scorer)
        per_prompt: list[float] = []
        by_source: dict[str, list[float]] = defaultdict(list)
        samples = self.sampling.samples
        for index, prompt in enumerate(self.prompts.prompts):
            own = [reward.score for reward in rewards[index * samples : (index + 1) * samples]]
            per_prompt.append(sum(own) / samples)
            by_source[prompt.data_source].append(per_prompt[-1])
        interval = mean_interval(per_prompt, confidence=CONFIDENCE)
        lengths = rollouts.response_ids.lengths.double()
        metrics = {
            "validation/score": interval.mean,
            "validation/score_low": interval.low,
            "validation/score_high": interval.high,
            "validation/prompts": float(len(per_prompt)),
            "validation/length_mean": float(lengths.mean()),
        }
        scores = [reward.score for reward in rewards]
        if samples > 1 and are_binary(scores):
            right = [round(sum(scores[start : start + samples])) for start in range(0, len(scores), samples)]
            for k in useful_ks(samples):
                metrics[f"validation/pass_at_{k}"] = fmean(pass_at_k(samples, correct, k) for correct in right)
        if len(by_source) > 1:
            for source, means in sorted(by_source.items()):
                metrics[f"validation/{source}/score"] = fmean(means)
        return metrics
