"""The sections that a project file is made of. The only place where a default lives."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, cast

from pydantic import BeforeValidator, Field, model_validator

from rlkit.config.base import ProjectPath, Section
from rlkit.config.patterns import DEVICE, RUN_NAME

PositiveInt = Annotated[int, Field(gt=0)]
NonNegativeInt = Annotated[int, Field(ge=0)]
PositiveFloat = Annotated[float, Field(gt=0)]
NonNegativeFloat = Annotated[float, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]
PositiveFraction = Annotated[float, Field(gt=0, le=1)]
InputPath = Annotated[str, ProjectPath()]
OutputPath = Annotated[str, ProjectPath(must_exist=False)]


def _one_or_more(value: Any) -> Any:
    """A single string stands for a list of one, an empty string for an empty list."""
    if isinstance(value, str):
        return (value,) if value else ()
    return value


Texts = Annotated[tuple[str, ...], BeforeValidator(_one_or_more)]
InputPaths = Annotated[tuple[str, ...], ProjectPath(), BeforeValidator(_one_or_more)]
PluginName = Annotated[str, ProjectPath(reference=True)]
PluginNames = Annotated[tuple[str, ...], ProjectPath(reference=True), BeforeValidator(_one_or_more)]


class RunSection(Section):
    """Where the run lives and how it starts."""

    name: str = Field(default="", pattern=RUN_NAME)
    """Name of the run: its folder is `<output>/<name>`. Empty means sft or ppo."""
    output: OutputPath = "runs"
    """Folder that holds the run folders."""
    seed: NonNegativeInt = 0
    """Seed of everything random: data order, sampling, initialisation. The same seed gives the same run."""
    resume: Literal["auto", "never", "must"] = "auto"
    """auto: go on from the newest whole checkpoint in the run folder, or start; never: refuse a used folder; must: refuse to start anew."""
    device: str = Field(default="auto", pattern=DEVICE)
    """auto takes the first CUDA device, else the CPU."""
    threads: NonNegativeInt = 0
    """CPU threads for arithmetic; 0 leaves torch's choice."""
    hooks: PluginNames = ()
    """Hook plugins to add, by name or as `file.py:object`, besides those that are always on."""
    required_plugins: Texts = ()
    """Distributions that must be installed, as requirement strings: `["rlkit-hf>=0.1"]`. Checked before anything loads."""

    def name_or(self, kind: str) -> str:
        """The run's name; a run without one is called by its kind."""
        return self.name or kind


class ModelSection(Section):
    """The model that is trained or asked."""

    path: InputPath = ""
    """Folder with config.json, safetensors and tokenizer, or a Hub id. Required."""
    family: PluginName = "auto"
    """Model family plugin; auto finds it by the `architectures` in config.json."""
    tokenizer: InputPath = ""
    """Folder or Hub id of another tokenizer; empty means the model's own."""
    chat_template: InputPath = ""
    """Path of a Jinja chat template that replaces the tokenizer's; empty keeps the tokenizer's own."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Type of parameters and arithmetic. float32 is exact and right on a CPU; bfloat16 is usual on GPUs."""
    trust_remote_code: bool = False
    """Run Python code that comes with the model. Off unless you have read that code."""


class PromptDataSection(Section):
    """Prompts for reinforcement learning, generation and evaluation."""

    train: InputPaths = ()
    """Prompt files (JSONL, JSON, parquet, Arrow) or Hub ids for training. Required for training."""
    validation: InputPaths = ()
    """Prompt files for validation during training; empty means none."""
    prompt_key: str = ""
    """Column with the prompt (a string or messages); empty finds it: prompt, messages, question, problem, instruction."""
    reference_key: str = ""
    """Column with the reference answer; empty finds it: reward_model.ground_truth, answer, solution, target, ground_truth, reference."""
    system_prompt: str = ""
    """System message put before every prompt that has none; empty means none."""
    max_prompt_tokens: PositiveInt = 512
    """Longest prompt in tokens, after the chat template."""
    overlong_prompts: Literal["refuse", "drop"] = "refuse"
    """What to do with prompts over the limit: refuse the run, or drop them and say how many. Never cut."""
    shuffle: bool = True
    """Shuffle the training prompts each epoch, by the run's seed."""
    limit: NonNegativeInt = 0
    """Use only the first rows of each split; 0 uses all."""


class SFTDataSection(Section):
    """Conversations for supervised fine-tuning."""

    train: InputPaths = ()
    """Files (JSONL, JSON, parquet, Arrow) or Hub ids to learn from. Required."""
    validation: InputPaths = ()
    """Files for the validation loss; empty means none."""
    format: Literal["auto", "messages", "prompt_completion", "alpaca", "sharegpt", "question_answer"] = "auto"
    """Row format; auto finds it by the columns of the first row."""
    system_prompt: str = ""
    """System message put before every conversation that has none; empty means none."""
    max_length: PositiveInt = 1024
    """Longest conversation in tokens."""
    overlong: Literal["refuse", "drop"] = "refuse"
    """What to do with conversations over the limit: refuse the run, or drop them and say how many. Never cut."""
    shuffle: bool = True
    """Shuffle each epoch, by the run's seed."""
    limit: NonNegativeInt = 0
    """Use only the first rows of each split; 0 uses all."""


class OptimizedSection(Section):
    """A model in training: the backend that holds it and its AdamW optimizer."""

    lr: PositiveFloat = 1e-5
    """Peak learning rate."""
    schedule: Literal["constant", "cosine", "linear"] = "constant"
    """Course of the learning rate after the warm-up, down to `min_lr_ratio` at the last step."""
    warmup_steps: NonNegativeInt = 0
    """Optimizer steps over which the learning rate rises linearly from zero."""
    min_lr_ratio: Fraction = 0.0
    """Final learning rate as a fraction of the peak; cosine and linear only."""
    weight_decay: NonNegativeFloat = 0.0
    """Decoupled weight decay of matrices; norms and biases are never decayed."""
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (0.9, 0.999)
    """AdamW's moment coefficients."""
    eps: PositiveFloat = 1e-8
    """AdamW's denominator constant."""
    max_grad_norm: PositiveFloat = 1.0
    """Gradients with a larger norm are scaled down to it. A step with a non-finite norm is skipped and counted."""
    micro_batch_tokens: PositiveInt = 8192
    """Tokens in one forward and backward pass. Only memory and speed depend on it, never the result."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, about a third more work."""


class SFTSection(OptimizedSection):
    """How supervised fine-tuning runs."""

    backend: PluginName = "fsdp"
    """Actor backend plugin that holds the model."""
    options: dict[str, Any] = Field(default_factory=dict)
    """The backend's own options; see `rlkit plugins show`."""
    epochs: PositiveInt = 1
    """Passes over the data; not read when `steps` is set."""
    steps: NonNegativeInt = 0
    """Optimizer steps, with as many passes over the data as they take; 0 means as many as `epochs` take."""
    batch_size: PositiveInt = 32
    """Conversations in one optimizer step."""


class ActorSection(OptimizedSection):
    """The policy in training."""

    backend: PluginName = "fsdp"
    """Actor backend plugin for all roles of the run."""
    options: dict[str, Any] = Field(default_factory=dict)
    """The backend's own options; see `rlkit plugins show`."""
    lr: PositiveFloat = 1e-6
    """Peak learning rate of the policy."""


class CriticSection(OptimizedSection):
    """The value model; used only by advantage estimators that need one."""

    path: InputPath = ""
    """Folder or Hub id that the critic starts from; empty means the same as `model.path`."""
    lr: PositiveFloat = 1e-5
    """Peak learning rate of the critic; usually larger than the actor's."""
    value_clip: PositiveFloat = 0.2
    """Predictions may move this far from their old value before the loss stops rewarding it (PPO's value clipping)."""
    warmup_iterations: NonNegativeInt = 0
    """First PPO iterations in which only the critic learns."""


class ReferenceSection(Section):
    """The frozen policy that the KL penalty is measured against; loaded only when a KL coefficient is above zero."""

    path: InputPath = ""
    """Folder or Hub id of the reference; empty means the same as `model.path`."""


class SamplingSection(Section):
    """How answers are drawn."""

    max_response_tokens: PositiveInt = 256
    """Longest answer in tokens."""
    temperature: NonNegativeFloat = 1.0
    """Softmax temperature; 0 is greedy."""
    top_p: PositiveFraction = 1.0
    """Nucleus sampling: the smallest set of tokens with this much probability is kept."""
    top_k: NonNegativeInt = 0
    """Only the k likeliest tokens are kept; 0 keeps all."""
    min_p: Fraction = 0.0
    """Tokens below this fraction of the top token's probability are dropped; 0 drops none."""
    stop: Texts = ()
    """Strings that end an answer, besides the end-of-sequence token."""


class RolloutSection(SamplingSection):
    """How answers for training are made."""

    engine: PluginName = "hf"
    """Rollout engine plugin."""
    options: dict[str, Any] = Field(default_factory=dict)
    """The engine's own options; see `rlkit plugins show`."""
    prompts_per_step: PositiveInt = 64
    """Different prompts in one PPO iteration."""
    samples_per_prompt: PositiveInt = 4
    """Answers to each prompt; group baselines need at least two."""
    temperature: PositiveFloat = 1.0
    """Softmax temperature while training; greedy (0) would leave nothing to learn from."""


class RewardSection(Section):
    """How answers are judged."""

    functions: PluginNames = ()
    """Reward functions: plugin names, `file.py:function` or `package.module:attr`. Scores are added by weight. Required."""
    weights: tuple[float, ...] = ()
    """One weight for each function; empty means 1 for each."""
    options: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Options by function name: `[reward.options.gsm8k]`."""
    timeout_s: PositiveFloat = 30.0
    """Seconds after which one call of a reward function (one batch) counts as failed."""
    on_error: Literal["stop", "zero"] = "stop"
    """What a failed verdict does: stop the run with the reason, or score 0 and be counted in `reward/errors`."""

    @model_validator(mode="after")
    def _weights_match(self) -> RewardSection:
        if self.weights and len(self.weights) != len(self.functions):
            raise ValueError(
                f"reward.weights has {len(self.weights)} numbers for {len(self.functions)} functions; "
                "give one for each or leave it empty"
            )
        unknown = sorted(set(self.options) - set(self.functions))
        if unknown:
            raise ValueError(
                f"reward.options names {', '.join(unknown)}, which reward.functions does not; "
                f"functions: {', '.join(self.functions) or '(none)'}"
            )
        return self


class EvaluationRewardSection(RewardSection):
    """How answers are judged after the fact."""

    functions: PluginNames = ("exact_match",)
    """Reward functions: plugin names, `file.py:function` or `package.module:attr`. Scores are added by weight."""


AdvantageName = Literal[
    "gae",
    "grpo",
    "dr_grpo",
    "grpo_passk",
    "rloo",
    "opo",
    "gpg",
    "gdpo",
    "remax",
    "reinforce_plus_plus",
    "reinforce_plus_plus_baseline",
]
WITHOUT_GROUPS = ("gae", "remax", "reinforce_plus_plus")
"""Advantage estimators that do not compare the answers to one prompt."""


class AlgorithmSection(Section):
    """The maths of the update."""

    advantage: AdvantageName = "gae"
    """Advantage estimator. gae: needs a critic, per-token credit. remax: a greedy answer to each prompt as baseline. reinforce_plus_plus: none of these. The others compare the answers to one prompt and need no critic; gdpo does so for each reward function by itself. Formulas: docs/algorithms.md."""
    gamma: PositiveFraction = 1.0
    """Discount of later rewards; 1 is usual for answers that are judged at their end."""
    lam: Fraction = 1.0
    """GAE's lambda: 1 trusts the rewards (no bias), lower values trust the critic (less variance)."""
    policy_loss: Literal["ppo_clip", "gspo", "cispo", "sapo", "gmpo", "gpg"] = "ppo_clip"
    """Policy loss. ppo_clip clips token ratios, gspo ratios of whole answers, cispo the weight instead of the update; sapo fades smoothly; gmpo takes the geometric mean of token ratios; gpg is the plain policy gradient. Formulas: docs/algorithms.md."""
    clip_low: Fraction = 0.2
    """The probability ratio is clipped from below at 1 - clip_low."""
    clip_high: NonNegativeFloat = 0.2
    """The probability ratio is clipped from above at 1 + clip_high; above clip_low is DAPO's clip-higher."""
    dual_clip: Annotated[float, Field(gt=1)] = 3.0
    """For negative advantages the loss is capped at this multiple of the advantage (dual clip); ppo_clip only."""
    sapo_tau_positive: PositiveFloat = 1.0
    """How fast sapo's gate closes where the advantage is positive; larger is faster."""
    sapo_tau_negative: PositiveFloat = 1.05
    """As sapo_tau_positive, where the advantage is negative."""
    loss_aggregation: Literal[
        "token_mean", "seq_mean_token_sum", "seq_mean_token_mean", "seq_mean_token_sum_norm", "token_sum"
    ] = "token_mean"
    """How token losses become one number; denominators are counted over the whole mini-batch."""
    horizon: NonNegativeInt = 0
    """Divisor of seq_mean_token_sum_norm; 0 means rollout.max_response_tokens."""
    kl_estimator: Literal["k1", "k2", "k3", "abs", "k1+", "k2+", "k3+", "abs+"] = "k3"
    """Estimator of the divergence from the reference (Schulman 2020, http://joschu.net/blog/kl-approx.html). `+` takes k2's gradient, which is the divergence's own; for kl_loss."""
    kl_in_reward: NonNegativeFloat = 0.0
    """Coefficient of the KL penalty subtracted from each token's reward; 0 leaves it out."""
    kl_target: NonNegativeFloat = 0.0
    """Above 0, kl_in_reward is only where the coefficient starts: it then follows this KL from the reference, in nats an answer."""
    kl_horizon: PositiveFloat = 10_000.0
    """Answers over which the coefficient follows kl_target; smaller is faster."""
    kl_loss: NonNegativeFloat = 0.0
    """Coefficient of the KL term added to the policy loss; 0 leaves it out."""
    entropy_bonus: NonNegativeFloat = 0.0
    """Coefficient of the entropy added to the objective; 0 leaves it out."""
    epochs: PositiveInt = 1
    """Passes over each iteration's rollouts."""
    target_kl: NonNegativeFloat = 0.0
    """An iteration's updates end early when the policy's KL from the one that answered exceeds this; 0 never ends them early."""
    sampling_rounds: PositiveInt = 1
    """Above 1: prompts whose answers all have the same reward, which teach nothing, are replaced by fresh ones, in up to so many rounds (dynamic sampling, DAPO)."""
    mini_batch_samples: NonNegativeInt = 0
    """Answers in one optimizer step; 0 means all of the iteration's (fully on-policy). Must divide prompts_per_step x samples_per_prompt."""


RejectionLevel = Literal["token", "seq_sum", "seq_mean", "seq_max"]
Divergence = Literal["k1", "k2", "k3"]
_REJECTION = re.compile(r"^(token|seq_sum|seq_mean|seq_max)_(k1|k2|k3)((?: +[0-9.eE+-]+){1,2})$")


def _parse_rejection(text: str) -> tuple[RejectionLevel, Divergence, float, float]:
    """(level, divergence, high, low) of `seq_mean_k1 0.9 1.1` or `token_k3 0.01`."""
    found = _REJECTION.match(text.strip())
    try:
        numbers = [float(number) for number in found[3].split()] if found else []
    except ValueError:
        numbers = []
    wanted = 2 if found and found[2] == "k1" else 1
    if not found or len(numbers) != wanted or numbers != sorted(numbers) or numbers[0] < 0:
        raise ValueError(
            f"rollout_correction.reject: '{text}' is no rule; write for example \"seq_mean_k1 0.9 1.1\" (lowest and highest "
            'ratio) or "token_k3 0.01" (highest divergence); levels: token, seq_sum, seq_mean, seq_max; divergences: k1, k2, k3'
        )
    return cast(RejectionLevel, found[1]), cast(Divergence, found[2]), numbers[-1], numbers[0] if wanted == 2 else 0.0


class RolloutCorrectionSection(Section):
    """What is done about an engine whose probabilities differ from the trainer's; its `rollout/*` metrics are always there."""

    importance_weights: Literal["none", "token", "sequence"] = "none"
    """Scale the loss by the ratio of the trainer's to the engine's probability: of each token, or of each whole answer."""
    weight_high: PositiveFloat = 2.0
    """Largest weight."""
    weight_low: NonNegativeFloat = 0.0
    """Smallest weight; used where `outside` is zero."""
    outside: Literal["truncate", "zero"] = "truncate"
    """truncate: larger weights are cut to weight_high; zero: weights outside weight_low to weight_high become 0 (IcePop)."""
    normalise: bool = False
    """Divide the weights by their mean, of tokens or of answers."""
    bypass: bool = False
    """Take the engine's log-probs for the old ones: saves a forward pass; the policy ratio then measures from the engine's policy."""
    reject: Texts = ()
    """Rules that tokens or answers must keep to stay in the loss: "seq_mean_k1 0.9 1.1" bounds a ratio, "token_k3 0.01" a divergence. All must hold."""

    @property
    def rules(self) -> tuple[tuple[RejectionLevel, Divergence, float, float], ...]:
        """(level, divergence, high, low) of each rule."""
        return tuple(map(_parse_rejection, self.reject))

    @model_validator(mode="after")
    def _is_sound(self) -> RolloutCorrectionSection:
        rules = tuple(map(_parse_rejection, self.reject))
        if self.bypass and (rules or self.importance_weights != "none"):
            raise ValueError(
                "rollout_correction.bypass leaves nothing to correct: drop importance_weights and reject, or bypass"
            )
        if self.weight_low >= self.weight_high:
            raise ValueError(
                f"rollout_correction.weight_low {self.weight_low:g} must be below weight_high {self.weight_high:g}"
            )
        return self


class TrainerSection(Section):
    """How long the run goes on and what it leaves behind."""

    steps: PositiveInt = 100
    """PPO iterations; each makes new rollouts."""
    validate_every: NonNegativeInt = 0
    """Iterations between validations; 0 validates at the end only (when there is validation data)."""
    validate_first: bool = True
    """Validate before the first update, so that the gain is known."""
    checkpoint_every: NonNegativeInt = 0
    """Iterations between checkpoints; 0 saves at the end and on Ctrl-C only."""
    keep_checkpoints: PositiveInt = 2
    """Newest checkpoints kept; older ones are deleted after a new one is whole."""
    save_rollouts: bool = True
    """Write each iteration's rollouts to `rollouts/` for inspection and replay."""


class SFTTrainerSection(Section):
    """What a supervised run leaves behind, and when."""

    validate_every: NonNegativeInt = 0
    """Optimizer steps between validations; 0 validates at the end only."""
    checkpoint_every: NonNegativeInt = 0
    """Optimizer steps between checkpoints; 0 saves at the end and on Ctrl-C only."""
    keep_checkpoints: PositiveInt = 2
    """Newest checkpoints kept; older ones are deleted after a new one is whole."""


class ValidationSection(Section):
    """How answers for validation are drawn."""

    samples_per_prompt: PositiveInt = 1
    """Answers to each validation prompt."""
    temperature: NonNegativeFloat = 0.0
    """0 is greedy."""
    top_p: PositiveFraction = 1.0
    """Nucleus mass kept."""
    max_response_tokens: NonNegativeInt = 0
    """Longest answer in tokens; 0 means rollout.max_response_tokens."""


class GenerationSection(SamplingSection):
    """What is generated and how."""

    prompts: InputPaths = ()
    """Prompt files (JSONL, JSON, parquet, Arrow) or Hub ids. Required."""
    output: OutputPath = "completions.jsonl"
    """Completions file; rows already in it are not made again."""
    engine: PluginName = "hf"
    """Rollout engine plugin."""
    options: dict[str, Any] = Field(default_factory=dict)
    """The engine's own options; see `rlkit plugins show`."""
    samples_per_prompt: PositiveInt = 1
    """Answers to each prompt."""
    temperature: NonNegativeFloat = 0.0
    """Softmax temperature; 0 is greedy."""
    batch_prompts: PositiveInt = 256
    """Prompts handed to the engine at once; results are written after each batch."""
    log_probs: bool = False
    """Write each token's id and log-prob."""
    prompt_key: str = ""
    """Column with the prompt; empty finds it."""
    reference_key: str = ""
    """Column with the reference answer; empty finds it."""
    system_prompt: str = ""
    """System message put before every prompt that has none; empty means none."""
    max_prompt_tokens: PositiveInt = 512
    """Longest prompt in tokens, after the chat template."""
    overlong_prompts: Literal["refuse", "drop"] = "refuse"
    """What to do with prompts over the limit: refuse, or drop them and say how many. Never cut."""
    limit: NonNegativeInt = 0
    """Use only the first prompts; 0 uses all."""


class EvaluationSection(Section):
    """What is scored and how sure the result is."""

    completions: InputPaths = ()
    """Completions files, as `rlkit generate` writes them; from the second on, each is compared with the first. Required."""
    output: OutputPath = ""
    """JSON file for the result; empty prints only."""
    confidence: Annotated[float, Field(gt=0, lt=1)] = 0.95
    """Level of the intervals."""
    bootstrap_samples: PositiveInt = 2000
    """Resamples of the prompts for the intervals of scores that are not 0 or 1."""
