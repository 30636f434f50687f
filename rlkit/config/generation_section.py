"""The section of `rlkit generate`."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from rlkit.config.conversation_section import ConversationSection
from rlkit.config.fields import EngineName, InputPaths, NonNegativeFloat, NonNegativeInt, OutputPath, PositiveInt


class GenerationSection(ConversationSection):
    """What is generated and how."""

    prompts: InputPaths = ()
    """Prompt files (JSONL, JSON, parquet, Arrow) or Hub ids. Required."""
    output: OutputPath = "completions.jsonl"
    """Completions file; rows already in it are not made again."""
    engine: EngineName = "hf"
    """Rollout engine plugin."""
    options: dict[str, Any] = Field(default_factory=dict)
    """The engine's own options; see `rlkit plugins show`."""
    samples_per_prompt: PositiveInt = 1
    """Answers to each prompt."""
    temperature: NonNegativeFloat = 0.0
    """Softmax temperature; 0 is greedy."""
    replicas: NonNegativeInt = 0
    """Copies of the engine, each in a process of its own on Ray, that share the prompts; 0 answers in this process, without Ray."""
    devices_per_replica: PositiveInt = 1
    """GPUs of each replica; more than one needs an engine that can split a model, such as vllm."""
    batch_prompts: PositiveInt = 256
    """Prompts that are written together, when all of them are answered. Engines that take requests while they answer begin the next ones meanwhile, three batches ahead at most; any other one is asked for a batch at a time."""
    on_error: Literal["record", "stop"] = "record"
    """What a prompt does that cannot be answered: its row gets the error instead of answers and the others go on, or the run ends."""
    retry_failed: bool = False
    """Try the rows again that an earlier run has recorded as failed."""
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

    @model_validator(mode="after")
    def _devices_belong_to_replicas(self) -> GenerationSection:
        if self.devices_per_replica > 1 and not self.replicas:
            raise ValueError(
                f"generation.devices_per_replica = {self.devices_per_replica} without replicas: set generation.replicas to 1 "
                "or more"
            )
        return self
