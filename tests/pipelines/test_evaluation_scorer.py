"""What an evaluation's verdicts depend on."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest

from rlkit.config.load import load_config
from rlkit.pipelines.evaluation_scorer import judge_of


def judge(function: str, **flags: Any) -> str:
    keys = {"evaluation.completions": ["a.jsonl"], "reward.functions": [function]}
    keys |= {name.replace("__", "."): value for name, value in flags.items()}
    return judge_of(load_config("eval", None, flags=keys, environ={}).config)


@pytest.mark.parametrize("kind", ["file", "module"])
def test_an_edited_function_is_another_judge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    source = tmp_path / "edited_rewards.py"
    source.write_text("def score(response): return 1.0\n")
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    name = f"{source}:score" if kind == "file" else "edited_rewards:score"
    first = judge(name)
    assert judge(name) == first
    source.write_text("def score(response): return 0.0\n")
    assert judge(name) != first


def test_another_seed_is_another_judge_of_functions_that_draw() -> None:
    assert judge("gsm8k") == judge("gsm8k")
    assert judge("gsm8k", run__seed=1) != judge("gsm8k", run__seed=2)


def test_a_module_that_is_not_there_is_left_to_whoever_loads_it() -> None:
    assert judge("no_such_package.module:score") == judge("no_such_package.module:score")
