"""The reward functions of an evaluation as one judge, and what its verdicts depend on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rlkit.config.reward_sections import EvaluationRewardSection
from rlkit.config.runs import EvalConfig
from rlkit.evaluation.by_source import ScorerBySource
from rlkit.evaluation.completions import JudgesAnswers
from rlkit.plugin.loader import find_plugin
from rlkit.plugin.references import is_file_reference, is_reference
from rlkit.plugin.spec import PluginKind
from rlkit.rewards.scorer import build_scorer

RUNTIME_KEYS = frozenset({"functions", "weights", "options"})
"""Of `[reward]`, what decides a verdict; the rest says how the functions are run."""


@contextmanager
def evaluation_scorer(config: EvalConfig) -> Iterator[JudgesAnswers]:
    """`reward.functions` for every data source that `evaluation.rewards` does not name; closed at the end."""
    with ExitStack() as stack:
        otherwise = stack.enter_context(build_scorer(config.reward, seed=config.run.seed))
        scorers: Mapping[str, JudgesAnswers] = {
            source: stack.enter_context(build_scorer(section, seed=config.run.seed))
            for source, section in sections_by_source(config).items()
        }
        yield ScorerBySource(otherwise, scorers) if scorers else otherwise


def sections_by_source(config: EvalConfig) -> dict[str, EvaluationRewardSection]:
    """`[reward]` with the functions of each data source that has its own."""
    how = {name: value for name, value in config.reward.model_dump().items() if name not in RUNTIME_KEYS}
    options = config.evaluation.reward_options
    return {
        source: EvaluationRewardSection(
            functions=names, options={name: options[name] for name in names if name in options}, **how
        )
        for source, names in config.evaluation.rewards.items()
    }


def judge_of(config: EvalConfig) -> str:
    """Changes when any setting does, or function, on which a verdict depends: then answers are judged anew."""
    sections: dict[str, Any] = {"": config.reward, **sections_by_source(config)}
    content: dict[str, Any] = {
        source: {
            "functions": [[name, _state_of(name)] for name in section.functions],
            "weights": list(section.weights),
            "options": section.options,
        }
        for source, section in sections.items()
    }
    # Functions that draw do so by the run's seed.
    told = [config.run.seed, content]
    return hashlib.sha256(json.dumps(told, sort_keys=True, default=str).encode()).hexdigest()[:16]


def _state_of(name: str) -> str:
    """The version of a plugin, or the content of the file that a function is in."""
    if is_reference(name):
        file = _file_of(name)
        return "" if file is None else hashlib.sha256(file.read_bytes()).hexdigest()
    plugin = find_plugin(PluginKind.REWARD_FUNCTION, name)
    return f"{plugin.distribution} {plugin.version}"


def _file_of(name: str) -> Path | None:
    """None for a module that is no file; one that does not exist is refused where it is loaded."""
    place = name.rpartition(":")[0]
    if is_file_reference(name):
        return Path(place).expanduser()
    try:
        spec = find_spec(place)
    except (ImportError, ValueError):
        return None
    if spec is None or spec.origin is None or not Path(spec.origin).is_file():
        return None
    return Path(spec.origin)
