"""The sections that only `rlkit eval` has."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from rlkit.config.base import ProjectPath, Section
from rlkit.config.fields import InputPath, InputPaths, NonNegativeInt, OutputPath, PositiveInt, RewardOptions, Texts
from rlkit.config.generation_section import GenerationSection


def _lists(value: Any) -> Any:
    """A single name stands for a list of one."""
    if not isinstance(value, dict):
        return value
    return {key: [names] if isinstance(names, str) else names for key, names in value.items()}


NamesBySource = Annotated[dict[str, tuple[str, ...]], ProjectPath(reference=True), BeforeValidator(_lists)]

EVALUATION_FOLDER = "evaluation"
"""Where an evaluation of models keeps what it makes, unless another folder is named."""


class EvaluationSection(Section):
    """What is scored and how sure the result is."""

    completions: InputPaths = ()
    """Completions files, as `rlkit generate` writes them; from the second on, each is compared with the first. This or models, checkpoints or tasks are required."""
    models: InputPaths = ()
    """Models that answer `generation.prompts` and are then scored: folders, run folders or Hub ids; from the second on, each is compared with the first. Empty takes `model.path`, where that is set."""
    checkpoints: InputPath = ""
    """Run folder whose checkpoints are evaluated as models, the oldest first; after `models`, where there are some."""
    folder: OutputPath = ""
    """Folder for the answers of models and the verdict on each answer, from which an interrupted evaluation goes on. Empty: `evaluation` with models or tasks; beside `output`, with its name, for completions files; without that nothing is kept."""
    output: OutputPath = ""
    """JSON file for the result; empty prints only, with models or tasks writes `result.json` in the folder."""
    rewards: NamesBySource = Field(default_factory=dict)
    """Reward functions by data source, for sources that are not judged by `reward.functions`: `rewards.gsm8k = "gsm8k"`."""
    reward_options: RewardOptions = Field(default_factory=dict)
    """Options of the functions in `rewards`, by function name."""
    cluster: str = ""
    """Column that names the family a prompt belongs to (its document, its problem); prompts of one family are not independent, and intervals and tests take account of it. Empty: every prompt is one of its own."""
    confidence: Annotated[float, Field(gt=0, lt=1)] = 0.95
    """Level of the intervals."""
    interval: Literal["auto", "bootstrap"] = "auto"
    """auto: Wilson's interval on the effective number of answers for scores from 0 to 1, a bootstrap over prompts (or clusters) for others; bootstrap: always that."""
    bootstrap_samples: PositiveInt = 2000
    """Resamples of a bootstrap."""
    tasks: Texts = ()
    """Tasks or groups of lm-evaluation-harness to run on the models, instead of prompts and reward functions."""
    include_path: InputPath = ""
    """Folder with task files (YAML) of one's own, besides those of the harness."""
    fewshot: Annotated[int, Field(ge=-1)] = -1
    """Examples in each prompt of a task; -1 leaves it to the task."""
    task_limit: NonNegativeInt = 0
    """Only the first documents of each task; 0 takes all."""
    chat: bool = False
    """Put the prompts of tasks through the chat template; off: plain text, as the harness does by default."""
    server: str = ""
    """Address of a running `rlkit serve`, such as `http://127.0.0.1:8000`, which answers the tasks instead of a model in this process. Tasks that compare likelihoods need a model here."""
    server_key_env: str = ""
    """Environment variable with the server's API key; empty sends none."""

    @model_validator(mode="after")
    def _options_are_of_functions(self) -> EvaluationSection:
        named = {name for names in self.rewards.values() for name in names}
        unknown = sorted(set(self.reward_options) - named)
        if unknown:
            raise ValueError(
                f"evaluation.reward_options names {', '.join(unknown)}, which evaluation.rewards does not; functions: "
                f"{', '.join(sorted(named)) or '(none)'}"
            )
        empty = [source for source, names in self.rewards.items() if not names]
        if empty:
            raise ValueError(f"evaluation.rewards.{empty[0]} names no reward function")
        return self

    @model_validator(mode="after")
    def _tasks_bring_their_data(self) -> EvaluationSection:
        if self.tasks and self.completions:
            raise ValueError(
                "evaluation.tasks and evaluation.completions are two kinds of evaluation; give one of them"
            )
        for name in ("include_path", "task_limit", "chat", "server", "server_key_env"):
            if getattr(self, name) and not self.tasks:
                raise ValueError(f"evaluation.{name} is for tasks, and evaluation.tasks is empty")
        if self.fewshot >= 0 and not self.tasks:
            raise ValueError("evaluation.fewshot is for tasks, and evaluation.tasks is empty")
        return self


class EvaluationGenerationSection(GenerationSection):
    """How models that are evaluated answer; the answers go to `evaluation.folder`."""

    output: OutputPath = ""
    """Not for evaluations: `evaluation.folder` says where answers are kept."""

    @model_validator(mode="after")
    def _folder_holds_answers(self) -> EvaluationGenerationSection:
        if self.output:
            raise ValueError(
                f"generation.output = {self.output!r}: an evaluation keeps its answers in evaluation.folder; set that"
            )
        return self
