"""Settings of the validation that could not do what they say are refused with the way out."""

from __future__ import annotations

from typing import Any

import pytest

from rlkit.config.load import load_config
from rlkit.errors import ConfigError


def load(**flags: Any) -> Any:
    return load_config("ppo", None, flags={key.replace("__", "."): value for key, value in flags.items()}, environ={})


def test_several_greedy_answers_are_refused():
    with pytest.raises(ConfigError, match=r"samples_per_prompt = 4 .*temperature = 0 .*set a temperature above 0"):
        load(validation__samples_per_prompt=4)
    load(validation__samples_per_prompt=4, validation__temperature=0.7)


@pytest.mark.parametrize("missing", ["data__validation", "trainer__validate_every", "trainer__keep_best"])
def test_the_best_can_be_exported_only_when_it_is_looked_for(missing, tmp_path):
    held_out = tmp_path / "heldout.jsonl"
    held_out.touch()
    given = {"data__validation": [str(held_out)], "trainer__validate_every": 5, "trainer__keep_best": True}
    load(trainer__export="best", **given)
    given[missing] = {"data__validation": [], "trainer__validate_every": 0, "trainer__keep_best": False}[missing]
    with pytest.raises(ConfigError, match=r"trainer\.export = best needs validations .*trainer\.keep_best = true"):
        load(trainer__export="best", **given)


@pytest.mark.parametrize("missing", ["data.validation", "trainer.validate_every", "trainer.keep_best"])
def test_fine_tuning_exports_the_best_only_when_it_is_looked_for(missing, tmp_path):
    held_out = tmp_path / "heldout.jsonl"
    held_out.touch()
    given = {"data.validation": [str(held_out)], "trainer.validate_every": 5, "trainer.keep_best": True}
    load_config("sft", None, flags={"trainer.export": "best", **given}, environ={})
    given[missing] = {"data.validation": [], "trainer.validate_every": 0, "trainer.keep_best": False}[missing]
    with pytest.raises(ConfigError, match=r"trainer\.export = best needs validations"):
        load_config("sft", None, flags={"trainer.export": "best", **given}, environ={})
