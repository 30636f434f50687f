"""No option is taken with tasks of the harness and then ignored."""

from __future__ import annotations

from typing import Any

import pytest

from rlkit.config.load import load_config
from rlkit.errors import ConfigError

MODEL: dict[str, Any] = {"evaluation.models": ["m"]}
SERVER: dict[str, Any] = {"evaluation.server": "http://127.0.0.1:8000"}


def load(flags: dict[str, Any]) -> Any:
    return load_config("eval", None, flags={"evaluation.tasks": ["gsm8k"], **flags}, environ={}).config


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (
            {"generation.temperature": 0.8},
            r"generation\.temperature: set, and without effect.*do_sample and temperature",
        ),
        ({"generation.temperature": 0.0}, r"generation\.temperature: set"),
        (
            {"generation.samples_per_prompt": 8, "generation.temperature": 1.0},
            r"generation\.samples_per_prompt.*`repeats`",
        ),
        ({"generation.max_response_tokens": 4096}, r"generation\.max_response_tokens.*max_gen_toks"),
        ({"generation.replicas": 2}, r"generation\.replicas.*leave it out"),
        ({"generation.limit": 5}, r"generation\.limit.*evaluation\.task_limit"),
        ({"reward.functions": ["gsm8k"]}, r"reward\.functions: set"),
        ({"evaluation.rewards": {"gsm8k": "gsm8k"}}, r"evaluation\.rewards: set"),
        ({"evaluation.cluster": "document"}, r"evaluation\.cluster: set"),
    ],
)
def test_what_tasks_have_no_use_for_is_refused(flags: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        load(MODEL | flags)


@pytest.mark.parametrize(
    "flags", [{"generation.engine": "hf"}, {"generation.options": {"seed": 1}}, {"model.dtype": "bfloat16"}]
)
def test_what_is_for_a_model_here_is_refused_for_a_server(flags: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"without effect on evaluation\.server"):
        load(SERVER | flags)
    load(MODEL | flags)


def test_what_tasks_do_with_is_taken() -> None:
    config = load(MODEL | {"evaluation.task_limit": 3, "evaluation.interval": "bootstrap", "run.device": "cpu"})
    assert config.evaluation.task_limit == 3
    load_config("eval", None, flags=MODEL | {"generation.prompts": ["p"], "generation.temperature": 0.8}, environ={})
