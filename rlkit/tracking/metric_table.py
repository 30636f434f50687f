"""Every metric that rlkit's own runs report. docs/metrics.md is made from it, and a test compares it with real runs."""

from __future__ import annotations

from functools import cache

from rlkit.tracking.metric_entry import Better, MetricEntry

TRAINING = ("ppo", "sft")
ALL = ("ppo", "sft", "generate")
ANSWERING = ("ppo", "generate")

AREAS = {
    "reward": "Rewards: the verdicts of a step's answers, and what is learned from",
    "advantage": "Advantages, over the sampled tokens",
    "return": "Returns: what the critic is to predict, over the sampled tokens",
    "value": "Values: what the critic predicted before the update, over the sampled tokens",
    "response": "Responses",
    "prompt": "Prompts",
    "rollout": "Rollouts, and the engine's probabilities against the trainer's",
    "conversation": "Conversations of several turns, with tools or an environment",
    "actor": "Actor: means over the tokens of all mini-batches where nothing else is said",
    "critic": "Critic",
    "reference": "Reference",
    "sft": "Supervised fine-tuning",
    "validation": "Validation",
    "time": "Time",
    "time_per_token": "Time per token",
    "throughput": "Throughput",
    "perf": "Use of the device",
    "memory": "Memory",
    "generate": "Generation",
}
"""Area -> heading, in the order of the page."""

_STAGES = "rollout|reward|log_probs|advantages|update_actor"
ON_A_GPU = "on a GPU"
WITH_REPLICAS = "with replicas"
WITH_FAILURES = "with answers that are left out (`reward.on_error = leave_out`)"
_CRITIC = "with a critic"
_MOVING = "with a reference that moves"
_REFERENCE = "with a reference"
_BEFORE_THE_UPDATE = "without rollout_correction.bypass"
_CONVERSATIONS = "with tools or an environment"
_GROUPS = "with several answers to a prompt"

_VALIDATION: tuple[tuple[str, str, str, Better, str], ...] = (
    ("score", "", "mean over prompts of each prompt's mean score", "up", ""),
    ("score_<low|high>", "", "its 95 % interval over prompts", "neither", ""),
    ("pass_at_<k>", "", "chance that one of k answers is right, unbiased", "up", "several right-or-wrong answers"),
    ("pass_at_<k>_<low|high>", "", "its 95 % interval over prompts", "neither", "several right-or-wrong answers"),
    (
        "maj_at_<k>",
        "",
        "score of the answer that most of k agree on",
        "up",
        "several answers and a reward that extracts",
    ),
    ("maj_at_<k>_<low|high>", "", "its 95 % interval", "neither", "several answers and a reward that extracts"),
    ("prompts", "prompts", "held-out prompts", "neither", ""),
    ("length_mean", "tokens", "length of the answers", "neither", ""),
    ("truncated_fraction", "share", "answers cut at the token limit", "down", ""),
    ("errors", "answers", "answers without a verdict", "down", ""),
    ("part/<part>", "", "mean of a named part of the score", "neither", ""),
)
"""Name, unit, meaning, better, when; of all held-out prompts and of each of their data sources."""

METRICS: tuple[MetricEntry, ...] = (
    MetricEntry("reward/mean", "", "score that the reward functions gave", "up"),
    MetricEntry("reward/<std|min|max>", "", "spread and bounds of the scores"),
    MetricEntry("reward/part/<part>", "", "mean of a named part of the score, over the answers that have it"),
    MetricEntry(
        "reward/errors", "answers", "answers without a verdict: left out of every mean and of learning", "down"
    ),
    MetricEntry(
        "reward/errors_<timeout|exception|value|memory|killed|transient|said>",
        "answers",
        "of all sampled answers, those without a verdict, by what kept a reward function from giving one",
        "down",
        when=WITH_FAILURES,
    ),
    MetricEntry(
        "reward/left_out_fraction",
        "share",
        "answers that teach nothing: without a verdict, or with nothing left to be compared with",
        "down",
        when=WITH_FAILURES,
    ),
    MetricEntry(
        "reward/judging_s", "s", "from the first answer handed to the reward functions to the last verdict", "down"
    ),
    MetricEntry("reward/remembered_fraction", "share", "verdicts that had been given before", "up"),
    MetricEntry("reward/worker_restarts", "workers", "reward workers that ended or had to be ended", "down"),
    MetricEntry("reward/retries", "calls", "further attempts after passing failures", "down"),
    MetricEntry(
        "reward/equal_group_fraction",
        "share",
        "prompts whose answers all have one score: nothing to learn by comparing",
        "down",
        when=_GROUPS,
    ),
    MetricEntry("reward/total_<mean|std|min|max>", "", "reward of an answer after shaping and KL penalty"),
    MetricEntry("reward/shaped_<mean|std>", "", "score after shaping, before a KL penalty", when="with reward shaping"),
    MetricEntry("reward/clipped_fraction", "share", "scores cut by `reward.clip`", when="with reward clipping"),
    MetricEntry("reward/running_std", "", "spread of all scores so far", when="with `reward.normalise = running`"),
    MetricEntry(
        "reward/overlong_fraction", "share", "answers with an overlong penalty", "down", when="with an overlong buffer"
    ),
    MetricEntry("reward/overlong_penalty", "", "mean overlong penalty", "down", when="with an overlong buffer"),
    MetricEntry("reward/greedy_mean", "", "score of the greedy answers", "up", when="with a greedy baseline"),
    MetricEntry("reward/mean_of_all", "", "score over all sampled answers", "up", when="with dynamic sampling"),
    MetricEntry("reward/kl_penalty", "", "what the KL takes from an answer's reward", when="with `kl_in_reward`"),
    MetricEntry("reward/kl_coefficient", "", "coefficient of that penalty", when="with `kl_in_reward`"),
    MetricEntry("advantage/<mean|std|min|max>", "", "after scaling and clipping"),
    MetricEntry("advantage/mean_before", "", "mean before normalisation", when="with `normalise_advantages`"),
    MetricEntry(
        "advantage/clipped_fraction", "share", "tokens cut by `advantage_clip`", "down", when="with `advantage_clip`"
    ),
    MetricEntry("return/<mean|std|min|max>", "", "discounted sum of rewards", when=_CRITIC),
    MetricEntry("value/<mean|std|min|max>", "", "predicted returns", when=_CRITIC),
    MetricEntry("response/length_mean", "tokens", "length of the answers", runs=ANSWERING),
    MetricEntry("response/length_<std|min|max>", "tokens", "spread and bounds of the lengths"),
    MetricEntry("response/truncated_fraction", "share", "answers cut at the token limit", "down"),
    MetricEntry("response/aborted_fraction", "share", "answers cancelled before their end", "down"),
    MetricEntry(
        "response/masked_fraction", "share", "tokens of cut answers kept out of the loss", when="with `mask_truncated`"
    ),
    MetricEntry("prompt/length_<mean|max>", "tokens", "length of the prompts, once for each answer"),
    MetricEntry("rollout/tokens", "tokens", "of prompts and responses of the step"),
    MetricEntry(
        "rollout/tokens_per_s",
        "tokens/s",
        "response tokens, while the engine answers (generate: over its last 8 batches)",
        "up",
        ANSWERING,
    ),
    MetricEntry("rollout/policy_version", "", "policy updates that the engine's weights had seen"),
    MetricEntry("rollout/rounds", "", "rounds of sampling", "down", when="with dynamic sampling"),
    MetricEntry(
        "rollout/uninformative_fraction",
        "share",
        "sampled prompts whose answers all have one score",
        "down",
        when="with dynamic sampling",
    ),
    MetricEntry(
        "rollout/log_prob_difference_<mean|max>",
        "nats",
        "between engine and trainer, per token, absolute; far from zero is a fault",
        "down",
        when=_BEFORE_THE_UPDATE,
    ),
    MetricEntry(
        "rollout/correlation",
        "",
        "of the engine's and the trainer's token probabilities (Pearson); 1 is perfect",
        "up",
        when=_BEFORE_THE_UPDATE,
    ),
    MetricEntry("rollout/kl", "nats", "of the engine from the trainer, k1", "down", when=_BEFORE_THE_UPDATE),
    MetricEntry("rollout/kl_k3", "nats", "the same by k3, never below zero", "down", when=_BEFORE_THE_UPDATE),
    MetricEntry("rollout/perplexity", "", "of the answers under the engine", when=_BEFORE_THE_UPDATE),
    MetricEntry("rollout/trainer_perplexity", "", "of the answers under the trainer", when=_BEFORE_THE_UPDATE),
    MetricEntry(
        "rollout/chi2_<tokens|answers>",
        "",
        "chi-square divergence of the trainer from the engine",
        "down",
        when=_BEFORE_THE_UPDATE,
    ),
    MetricEntry(
        "rollout/rejected_fraction",
        "share",
        "tokens that rollout correction keeps out of the loss",
        "down",
        when="without bypass, or with rejection rules",
    ),
    MetricEntry("rollout/weight_mean", "", "importance weight of rollout correction", when="with importance weights"),
    MetricEntry(
        "rollout/weight_max", "", "the largest of those weights", when="with importance weights and without bypass"
    ),
    MetricEntry(
        "rollout/effective_samples",
        "share",
        "of the tokens that those weights leave",
        "up",
        when="with importance weights and without bypass",
    ),
    MetricEntry("actor/loss", "", "policy loss with KL and entropy terms; its size says little"),
    MetricEntry("actor/policy_loss", "", "policy loss alone"),
    MetricEntry("actor/kl_loss", "nats", "KL from the reference in the loss", when="with `kl_loss`"),
    MetricEntry("actor/entropy", "nats", "of the policy during the update"),
    MetricEntry("actor/entropy_before", "nats", "of the policy that answered", when=_BEFORE_THE_UPDATE),
    MetricEntry("actor/kl_to_old", "nats", "from the policy that the ratio is taken against, k1"),
    MetricEntry("actor/kl_to_reference", "nats", "before the update, by `kl_estimator`", when=_REFERENCE),
    MetricEntry("actor/clip_fraction", "share", "tokens whose update is stopped", when="with a policy loss that clips"),
    MetricEntry(
        "actor/clip_fraction_<low|high>",
        "share",
        "those of them at the lower and at the upper bound",
        when="with a policy loss that clips",
    ),
    MetricEntry("actor/dual_clip_fraction", "share", "tokens at the dual clip", when="with `ppo_clip`"),
    MetricEntry(
        "actor/selected_fraction", "share", "tokens chosen by their covariance", when="with `clip_cov` or `kl_cov`"
    ),
    MetricEntry("actor/grad_norm", "", "before clipping; mean over the optimizer steps where it is finite"),
    MetricEntry(
        "actor/skipped_steps",
        "steps",
        "optimizer steps left out so far: gradients not finite, or no token to learn from",
        "down",
    ),
    MetricEntry("actor/lr", "", "learning rate of the step's last update"),
    MetricEntry("critic/loss", "", "clipped squared error of the predicted returns", "down", when=_CRITIC),
    MetricEntry(
        "critic/explained_variance",
        "",
        "share of the returns' variance that values explain; 1 is perfect",
        "up",
        when=_CRITIC,
    ),
    MetricEntry("critic/value_mean", "", "prediction during the update", when=_CRITIC),
    MetricEntry("critic/clip_fraction", "share", "tokens whose value moved too far", when=_CRITIC),
    MetricEntry("critic/grad_norm", "", "as the actor's", when=_CRITIC),
    MetricEntry("critic/skipped_steps", "steps", "as the actor's", "down", when=_CRITIC),
    MetricEntry("critic/lr", "", "as the actor's", when=_CRITIC),
    MetricEntry(
        "conversation/turns_<mean|max>",
        "",
        "turns of the policy in a conversation",
        runs=ANSWERING,
        when=_CONVERSATIONS,
    ),
    MetricEntry(
        "conversation/sampled_fraction",
        "share",
        "response tokens that the policy sampled; the others stand between turns",
        runs=ANSWERING,
        when=_CONVERSATIONS,
    ),
    MetricEntry(
        "conversation/turn_limit_fraction", "share", "ended by `max_turns`", "down", runs=ANSWERING, when=_CONVERSATIONS
    ),
    MetricEntry(
        "conversation/token_limit_fraction",
        "share",
        "ended because no token was left for another turn",
        "down",
        runs=ANSWERING,
        when=_CONVERSATIONS,
    ),
    MetricEntry(
        "conversation/tool_calls", "", "calls in a conversation, on average", runs=ANSWERING, when=_CONVERSATIONS
    ),
    MetricEntry(
        "conversation/tool_errors", "", "calls that failed in the step", "down", runs=ANSWERING, when=_CONVERSATIONS
    ),
    MetricEntry(
        "conversation/tool_error_fraction", "share", "calls that failed", "down", runs=ANSWERING, when=_CONVERSATIONS
    ),
    MetricEntry(
        "conversation/cut_results",
        "",
        "results of tools that were too long and cut",
        "down",
        runs=ANSWERING,
        when=_CONVERSATIONS,
    ),
    MetricEntry("reference/updates", "", "times that the reference took over the actor's weights", when=_MOVING),
    MetricEntry("sft/loss", "nats", "cross-entropy per answer token", "down", ("sft",)),
    MetricEntry("sft/validation_loss", "nats", "the same on held-out rows", "down", ("sft",), "with `data.validation`"),
    MetricEntry("sft/epoch", "", "passes over the data so far", runs=("sft",)),
    MetricEntry("sft/tokens", "tokens", "in the step's batch", runs=("sft",)),
    MetricEntry("sft/loss_tokens", "tokens", "of them those that are learned", runs=("sft",)),
    MetricEntry("sft/grad_norm", "", "before clipping", runs=("sft",)),
    MetricEntry(
        "sft/skipped_steps",
        "steps",
        "optimizer steps left out so far: gradients not finite, or no token to learn from",
        "down",
        ("sft",),
    ),
    MetricEntry("sft/lr", "", "learning rate of the update", runs=("sft",)),
    *(
        MetricEntry(
            f"validation/{source}{name}", unit, meaning, better, when=", ".join(filter(None, (place, condition)))
        )
        for source, place in (("", "with `data.validation`"), ("<source>/", "several data sources in it"))
        for name, unit, meaning, better, condition in _VALIDATION
    ),
    MetricEntry("time/step_s", "s", "the whole step; validation and checkpoints come after it", "down", ALL),
    MetricEntry(
        f"time/<{_STAGES}|weight_sync>_s", "s", "a stage of the step; of reward, what had to be waited for", "down"
    ),
    MetricEntry("time/update_critic_s", "s", "a stage of the step", "down", when=_CRITIC),
    MetricEntry("time/update_reference_s", "s", "a stage of the step", "down", when=_MOVING),
    MetricEntry("time/rollout_s", "s", "while the engine answers", "down", ("generate",)),
    MetricEntry("time/update_s", "s", "the optimizer step", "down", ("sft",)),
    MetricEntry("time_per_token/step_ms", "ms", "the whole step, by the tokens of its batch", "down", TRAINING),
    MetricEntry(
        f"time_per_token/<{_STAGES}>_ms",
        "ms",
        "a stage, by the tokens it works on: responses, and with prompts in log_probs and updates, each epoch anew",
        "down",
    ),
    MetricEntry("time_per_token/update_critic_ms", "ms", "the same", "down", when=_CRITIC),
    MetricEntry("time_per_token/update_ms", "ms", "the optimizer step", "down", ("sft",)),
    MetricEntry("throughput/tokens_per_s", "tokens/s", "tokens of the batch, over the whole step", "up", TRAINING),
    MetricEntry(
        "throughput/update_tokens_per_s", "tokens/s", "while weights are updated, each epoch anew", "up", TRAINING
    ),
    MetricEntry("perf/mfu", "share", "of the device's peak, over the whole step", "up", TRAINING),
    MetricEntry("perf/mfu_<rollout|log_probs|update_actor>", "share", "of the peak, in a stage", "up"),
    MetricEntry("perf/mfu_update_critic", "share", "of the peak, in a stage", "up", when=_CRITIC),
    MetricEntry("perf/mfu_update", "share", "of the peak, in the optimizer step", "up", ("sft",)),
    MetricEntry("perf/peak_flops", "FLOP/s", "the peak: dense bfloat16 of a known GPU, else measured", runs=TRAINING),
    MetricEntry("perf/peak_is_measured", "", "1 when the peak is a measured rate, else 0", runs=TRAINING),
    MetricEntry("memory/process_peak_bytes", "bytes", "of this process, peak so far", "down", TRAINING),
    MetricEntry("memory/process_bytes", "bytes", "of this process after the step", "down", TRAINING, "on Linux"),
    MetricEntry("memory/device_peak_bytes", "bytes", "of the device, peak so far", "down", TRAINING, ON_A_GPU),
    MetricEntry("memory/device_bytes", "bytes", "of the device after the step", "down", TRAINING, ON_A_GPU),
    MetricEntry("rollout/replicas", "replicas", "alive", "up", ANSWERING, when=WITH_REPLICAS),
    MetricEntry(
        "rollout/replica_restarts",
        "replicas",
        "started anew since the beginning",
        "down",
        ANSWERING,
        when=WITH_REPLICAS,
    ),
    MetricEntry("generate/failed", "prompts", "in the batch that could not be answered", "down", ("generate",)),
    MetricEntry("generate/prompts", "prompts", "in the batch", runs=("generate",)),
    MetricEntry("generate/answers_per_s", "answers/s", "over the last 8 batches", "up", ("generate",)),
)


@cache
def find_metric(name: str) -> MetricEntry | None:
    """The table's entry for a metric; None for one of a plugin's own."""
    return next((entry for entry in METRICS if entry.describes(name)), None)
