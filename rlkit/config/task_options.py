"""Options that tasks of lm-evaluation-harness have no use for: they bring their own prompts, settings and metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rlkit.config.base import Section
    from rlkit.config.runs import EvalConfig


TASK_GENERATION = frozenset({"prompts", "engine", "options"})
"""Of `[generation]`, what tasks have, and `prompts`, which has a message of its own."""
INSTEAD = {
    "generation.limit": "evaluation.task_limit is for tasks",
    "generation.samples_per_prompt": "a task says `repeats` in its file",
    "generation.max_response_tokens": "a task says generation_kwargs.max_gen_toks in its file",
    "generation.temperature": "a task says generation_kwargs.do_sample and temperature in its file",
    "generation.top_p": "a task says generation_kwargs.top_p in its file",
    "generation.top_k": "a task says generation_kwargs.top_k in its file",
    "generation.min_p": "a task says generation_kwargs.min_p in its file",
    "generation.stop": "a task says generation_kwargs.until in its file",
}


def refuse_what_tasks_ignore(config: EvalConfig) -> None:
    """Raises `ValueError` for an option that was set and has no effect on tasks, here or behind a server."""
    if not config.evaluation.tasks:
        return
    ignored = [f"generation.{name}" for name in _set(config.generation) if name not in TASK_GENERATION]
    ignored += [f"reward.{name}" for name in _set(config.reward)]
    ignored += [
        f"evaluation.{name}" for name in ("rewards", "reward_options", "cluster") if getattr(config.evaluation, name)
    ]
    if ignored:
        hints = [INSTEAD[name] for name in ignored if name in INSTEAD] or ["leave it out"]
        raise ValueError(f"{', '.join(ignored)}: set, and without effect on evaluation.tasks; {'; '.join(hints)}")
    if not config.evaluation.server:
        return
    here = [f"generation.{name}" for name in _set(config.generation) if name in ("engine", "options")]
    here += [f"model.{name}" for name in _set(config.model) if name != "path"]
    if here:
        raise ValueError(
            f"{', '.join(here)}: set, and without effect on evaluation.server, which has a model of its own; leave it out"
        )


def _set(section: Section) -> list[str]:
    """Names of the options that somebody gave, in their order."""
    return [name for name in type(section).model_fields if name in section.model_fields_set]
