"""What is evaluated, where the result goes, and what can be refused before anything is loaded."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from rlkit.config.evaluation_section import EVALUATION_FOLDER
from rlkit.config.runs import EvalConfig
from rlkit.errors import ConfigError, MissingRequirementError

HARNESS_HINT = (
    "pip install 'rlkit-llm[harness]' (torch stays as it is: -c constraints.txt, or pin it on the command line)"
)
DEFAULT_RESULT = "result.json"


@dataclass(frozen=True)
class EvaluatedModel:
    """path: what is loaded; label: what the result calls it."""

    path: str
    label: str


def evaluated_models(config: EvalConfig) -> list[EvaluatedModel]:
    """Those that are named, then the checkpoints. Raises `ConfigError` for a run without checkpoints."""
    models = [EvaluatedModel(path, path) for path in config.models]
    if config.evaluation.checkpoints:
        models += [
            EvaluatedModel(str(folder), str(folder)) for folder in checkpoint_models(config.evaluation.checkpoints)
        ]
    return models


def evaluates_models(config: EvalConfig) -> bool:
    """Models here or behind a server are asked, so that no completions file is needed."""
    return config.asks_models or bool(config.evaluation.server)


def check_evaluation(config: EvalConfig) -> None:
    """Raises `ConfigError` for tasks without a model and models that cannot be, `MissingRequirementError` for tasks without the harness."""
    section = config.evaluation
    if section.tasks and find_spec("lm_eval") is None:
        raise MissingRequirementError(f"--tasks needs lm-evaluation-harness (lm_eval); {HARNESS_HINT}")
    if section.tasks and not evaluates_models(config):
        raise ConfigError("evaluation.tasks need a model: give --model, --checkpoints or --server")
    if section.server and section.checkpoints:
        raise ConfigError("a server has one model; --checkpoints are loaded here: leave out --server")
    if section.server and len(config.models) > 1:
        raise ConfigError(f"a server has one model, and {len(config.models)} are named; give one --model, or none")
    if section.checkpoints:
        checkpoint_models(section.checkpoints)


def checkpoint_models(run: str) -> list[Path]:
    """The folders of a run's checkpoints, the oldest first. Raises `ConfigError` when there are none."""
    folder = Path(run).expanduser()
    inside = folder if folder.name == "checkpoints" else folder / "checkpoints"
    found = sorted(path.parent for path in inside.glob("step_*/model") if (path / "config.json").is_file())
    if not found:
        raise ConfigError(
            f"evaluation.checkpoints = {run}: there is no checkpoint with a model in {inside}; give the folder of a run"
        )
    return found


def evaluation_folder(config: EvalConfig) -> Path | None:
    """Where answers and verdicts are kept; None: nowhere."""
    section = config.evaluation
    if section.folder:
        return Path(section.folder)
    if config.asks_models or section.tasks:
        return Path(EVALUATION_FOLDER)
    return Path(section.output).with_suffix(".verdicts") if section.output else None


def result_file(config: EvalConfig) -> Path | None:
    """Where the result goes; None: only to the terminal."""
    section = config.evaluation
    if section.output:
        return Path(section.output)
    folder = evaluation_folder(config)
    return None if folder is None else folder / DEFAULT_RESULT


def evaluation_arithmetic(config: EvalConfig) -> tuple[tuple[str, str], ...]:
    """What --dry-run says of an evaluation."""
    section = config.evaluation
    judges = [", ".join(config.reward.functions)]
    judges += [f"{source}: {', '.join(names)}" for source, names in sorted(section.rewards.items())]
    return (
        *((("tasks", ", ".join(section.tasks)),) if section.tasks else ()),
        ("judged by", "lm-evaluation-harness" if section.tasks else "; ".join(judges)),
        ("intervals", f"{100 * section.confidence:g} %"),
    )
