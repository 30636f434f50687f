"""An option that a command lacks leads to what was meant."""

from __future__ import annotations

import pytest

from rlkit.cli.main import app
from rlkit.config.keys import leaf_keys
from rlkit.config.runs import RUN_CONFIGS
from rlkit.config.suggest import ELSEWHERE
from rlkit.errors import ConfigError


@pytest.mark.parametrize(
    ("line", "meant"),
    [
        ("sft --stepps 3", "no option --stepps; did you mean --steps?"),
        ("sft --learning-rate 1e-3", "no option --learning-rate; did you mean --lr?"),
        ("sft --learning_rate=1e-3", "no option --learning_rate; did you mean --lr?"),
        ("sft --gpus 2", "no option --gpus; did you mean --workers?"),
        ("train ppo --entropy-coef 0.1", "no option --entropy-coef; did you mean --set algorithm.entropy_bonus=...?"),
        (
            "train ppo --num-generations 8",
            "no option --num-generations; did you mean --samples or --set validation.samples_per_prompt=...?",
        ),
        ("generate --n 4", "no option --n; did you mean --samples?"),
        ("generate --max-new-tokens 4", "no option --max-new-tokens; did you mean --max-tokens?"),
        ("runs compare --jsn", "no option --jsn; did you mean --json?"),
    ],
)
def test_a_wrong_option_names_the_option_or_the_key(line: str, meant: str) -> None:
    with pytest.raises(ConfigError) as caught:
        app(line.split(), prog_name="rlkit")
    assert str(caught.value) == meant


def test_an_option_unlike_any_other_lists_all() -> None:
    with pytest.raises(ConfigError, match=r"^no option --xyzzy; options: --family, "):
        app(["models", "create", "here", "--xyzzy", "1"], prog_name="rlkit")


def test_what_is_called_otherwise_elsewhere_is_a_key_here() -> None:
    known = [key for config_class in RUN_CONFIGS.values() for key, _ in leaf_keys(config_class)]
    for word, ends in ELSEWHERE.items():
        for end in ends:
            assert any(f".{key}".endswith(f".{end}") for key in known), (word, end)
