"""Sections that a project file is made of, for every kind of run. Config classes are the only place where a default lives."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from rlkit.config.base import Section, fault_in_section
from rlkit.config.fields import (
    BackendName,
    FamilyName,
    Fraction,
    HookNames,
    HookOptions,
    InputPath,
    InputPaths,
    NonNegativeFloat,
    NonNegativeInt,
    OutputPath,
    PositiveFloat,
    PositiveFraction,
    PositiveInt,
    Texts,
)
from rlkit.config.patterns import DEVICE, RUN_NAME


class ProcessSection(Section):
    """What the process computes with."""

    seed: NonNegativeInt = 0
    """Seed of everything random: data order, sampling, initialisation. The same seed gives the same run."""
    device: str = Field(default="auto", pattern=DEVICE)
    """auto takes the first CUDA device, else the CPU."""
    threads: NonNegativeInt = 0
    """CPU threads for arithmetic; 0 leaves torch's choice."""
    required_plugins: Texts = ()
    """Distributions that must be installed, as requirement strings: `["rlkit-hf>=0.1"]`. Checked before anything loads."""


class RunSection(ProcessSection):
    """Where the run lives and how it starts."""

    name: str = Field(default="", pattern=RUN_NAME)
    """Name of the run: its folder is `<output>/<name>`. Empty means sft or ppo."""
    output: OutputPath = "runs"
    """Folder that holds the run folders."""
    resume: Literal["auto", "never", "must"] = "auto"
    """auto: go on from the newest whole checkpoint in the run folder, or start; never: refuse a used folder; must: refuse to start anew."""
    hooks: HookNames = ()
    """Hook plugins to add, by name or as `file.py:object`, besides those that are always on."""
    hook_options: HookOptions = Field(default_factory=dict)
    """Options by hook name: `[run.hook_options.tensorboard]`."""

    @model_validator(mode="after")
    def _options_are_of_hooks(self) -> RunSection:
        unknown = sorted(set(self.hook_options) - set(self.hooks))
        if unknown:
            raise ValueError(
                f"run.hook_options names {', '.join(unknown)}, which run.hooks does not; "
                f"hooks: {', '.join(self.hooks) or '(none)'}"
            )
        return self

    def name_or(self, kind: str) -> str:
        """The run's name; a run without one is called by its kind."""
        return self.name or kind


class TrainingRunSection(RunSection):
    """Where the run lives and how it starts."""

    peak_tflops: NonNegativeFloat = 0.0
    """What the device can do at best, in 10^12 floating-point operations per second, for `perf/mfu`; 0 takes the figure of a known GPU for dense bfloat16 and measures anything else."""


class ModelSection(Section):
    """The model that is trained or asked."""

    path: InputPath = ""
    """Folder with config.json, safetensors and tokenizer, or a Hub id. Required."""
    family: FamilyName = "auto"
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


class LoraSection(Section):
    """Low-rank adaptation (Hu et al. 2021, arXiv:2106.09685): small adapters learn, the model itself stays as it is.

    There is no dropout: a policy has to give the same log-probs twice.
    """

    rank: NonNegativeInt = 0
    """Inner width of the adapters; 0 means none: every parameter is trained."""
    alpha: PositiveFloat = 32.0
    """An adapter's output is multiplied by alpha / rank, so that the best learning rate hardly depends on the rank."""
    targets: Texts = ("all_linear",)
    """Linear layers that get an adapter, by the end of their names: `["q_proj", "v_proj"]`. all_linear means all but the output head."""

    @model_validator(mode="after")
    def _nothing_without_a_rank(self) -> LoraSection:
        if self.rank == 0:
            for name in ("alpha", "targets"):
                value = getattr(self, name)
                if value != type(self).model_fields[name].default:
                    shown = list(value) if isinstance(value, tuple) else f"{value:g}"
                    raise fault_in_section(f"{name} = {shown} has no effect while rank is 0; set a rank, such as 16")
        if not self.targets or ("all_linear" in self.targets and len(self.targets) > 1):
            raise fault_in_section(
                f"targets = {list(self.targets)}: give all_linear alone, or the names of the layers to adapt"
            )
        return self


class OptimizedSection(Section):
    """A model in training: the backend that holds it and its AdamW optimizer."""

    lr: PositiveFloat = 1e-5
    """Peak learning rate."""
    schedule: Literal["constant", "cosine", "linear"] = "constant"
    """Course of the learning rate after the warm-up, down towards `min_lr_ratio` at the end of the run."""
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
    """Gradients with a larger norm are scaled down to it. A step with a non-finite norm is skipped and counted; 20 in a row end the run."""
    micro_batch_tokens: PositiveInt = 8192
    """Most tokens in one forward and backward pass; a longer row goes alone. A backend may take fewer: `fsdp` on a CPU, in one process, at most 768. Only memory and speed depend on it, never the result."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, about a third more work."""
    lora: LoraSection = Field(default_factory=LoraSection)
    """Adapters instead of training every parameter."""


class SFTSection(OptimizedSection):
    """How supervised fine-tuning runs."""

    backend: BackendName = "fsdp"
    """Actor backend plugin that holds the model."""
    options: dict[str, Any] = Field(default_factory=dict)
    """The backend's own options; see `rlkit plugins show`."""
    epochs: PositiveInt = 1
    """Passes over the data; not read when `steps` is set."""
    steps: NonNegativeInt = 0
    """Optimizer steps, with as many passes over the data as they take; 0 means as many as `epochs` take."""
    batch_size: PositiveInt = 32
    """Conversations in one optimizer step."""


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
    repetition_penalty: PositiveFloat = 1.0
    """Above 1, tokens that prompt or answer have already become less likely; 1 changes nothing. Log-probs are those without it."""
    stop: Texts = ()
    """Strings that end an answer, besides the end-of-sequence token."""
    stop_token_ids: tuple[NonNegativeInt, ...] = ()
    """Numbers of tokens that end an answer, besides the end-of-sequence token; the answer keeps the one that ended it."""


class SFTTrainerSection(Section):
    """What a supervised run leaves behind, and when."""

    validate_every: NonNegativeInt = 0
    """Optimizer steps between validations; 0 validates at the end only."""
    checkpoint_every: NonNegativeInt = 0
    """Optimizer steps between checkpoints; 0 saves at the end and on Ctrl-C only."""
    keep_checkpoints: PositiveInt = 2
    """Newest checkpoints kept; older ones are deleted after a new one is whole."""
    background_checkpoints: bool = True
    """Write checkpoints while training goes on, from a copy of the state in host memory; off: training waits until each is whole."""
    on_checkpoint_error: Literal["stop", "go_on"] = "stop"
    """What a checkpoint does that cannot be written, on a full disk for one: end the run, or be warned about while training goes on. Those that are whole stay either way."""
    keep_best: bool = True
    """After a validation with the lowest loss so far, save a checkpoint and keep it beside the newest ones."""
    export: Literal["last", "best"] = "last"
    """Model that the run ends with in `model/`: that of the last step, or of the lowest validation loss."""
