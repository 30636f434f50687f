"""Every top-level command: where it lives and what `rlkit --help` says of it. Adding a command is one line."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class CommandEntry:
    """target is `module:attribute`, a function or a Typer app; summary is the first line of its help."""

    name: str
    target: str
    summary: str


COMMANDS = (
    CommandEntry("init", "rlkit.cli.init:init", "Start a project or a plugin from a template."),
    CommandEntry("sft", "rlkit.cli.sft:sft", "Fine-tune a model on conversations."),
    CommandEntry("train", "rlkit.cli.train:train_app", "Train a model by reinforcement learning."),
    CommandEntry("generate", "rlkit.cli.generate:generate", "Answer a file of prompts with a model."),
    CommandEntry("serve", "rlkit.cli.serve:serve", "Answer an OpenAI-compatible API with a model."),
    CommandEntry("eval", "rlkit.cli.eval:evaluate", "Score completions, with intervals and paired comparisons."),
    CommandEntry(
        "replay",
        "rlkit.cli.replay:replay",
        "Repeat the update of a step from its stored rollouts, and compare the numbers.",
    ),
    CommandEntry("reward", "rlkit.cli.reward:reward_app", "Try a reward before any training."),
    CommandEntry(
        "report", "rlkit.cli.report:report", "Write the offline HTML report of a run, or of several overlaid."
    ),
    CommandEntry("runs", "rlkit.cli.runs:runs_app", "List runs and compare them."),
    CommandEntry("models", "rlkit.cli.models:models_app", "Create, inspect and export models."),
    CommandEntry("plugins", "rlkit.cli.plugins:plugins_app", "List, show and check installed plugins."),
    CommandEntry("config", "rlkit.cli.config:config_app", "Show, explain and describe configuration."),
    CommandEntry("doctor", "rlkit.cli.doctor:doctor", "Say what is installed, what is missing and how to get it."),
)
