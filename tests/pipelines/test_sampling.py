from __future__ import annotations

from typing import Any

import pytest

from rlkit.config.load import load_config
from rlkit.errors import ConfigError
from rlkit.pipelines.sampling import sampling_of, validation_sampling
from rlkit.types import SamplingParams

KEYS: dict[str, Any] = {
    "max_response_tokens": 7,
    "temperature": 0.5,
    "top_p": 0.9,
    "top_k": 3,
    "min_p": 0.1,
    "repetition_penalty": 1.2,
    "samples_per_prompt": 2,
    "stop": ["x"],
    "stop_token_ids": [4, 9],
}


def config_of(command: str, section: str, **keys: Any) -> Any:
    flags = {f"{section}.{key}": value for key, value in {**KEYS, **keys}.items()}
    return load_config(command, None, flags={"model.path": "m", **flags}, environ={}).config


@pytest.mark.parametrize(("command", "section"), [("generate", "generation"), ("ppo", "rollout")])
def test_every_setting_reaches_the_engine(command: str, section: str) -> None:
    assert sampling_of(getattr(config_of(command, section), section), seed=5) == SamplingParams(
        max_tokens=7,
        temperature=0.5,
        top_p=0.9,
        top_k=3,
        min_p=0.1,
        repetition_penalty=1.2,
        samples=2,
        seed=5,
        stop=("x",),
        stop_token_ids=(4, 9),
    )


def test_validation_answers_end_as_those_of_training_and_are_drawn_in_their_own_way() -> None:
    assert validation_sampling(config_of("ppo", "rollout")) == SamplingParams(
        max_tokens=7, temperature=0.0, stop=("x",), stop_token_ids=(4, 9)
    )


@pytest.mark.parametrize("wrong", [{"repetition_penalty": 0}, {"stop_token_ids": [-1]}])
def test_impossible_settings_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        config_of("generate", "generation", **wrong)
