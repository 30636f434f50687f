from __future__ import annotations

from typing import Any

import pytest

from rlkit.errors import ModelError
from rlkit.models.family import TransformersFamily

SIZES: dict[str, dict[str, Any]] = {
    "tiny": {
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 32,
    }
}


@pytest.fixture
def family() -> TransformersFamily:
    return TransformersFamily("qwen3", SIZES)


def test_a_preset_is_taken_as_it_is(family: TransformersFamily) -> None:
    config = family.create_config("tiny", {})
    assert {key: getattr(config, key) for key in SIZES["tiny"]} == SIZES["tiny"]
    assert config.architectures == ["Qwen3ForCausalLM"]


@pytest.mark.parametrize(
    ("overrides", "head_dim"),
    [({"hidden_size": 128}, 32), ({"num_attention_heads": 8}, 8), ({"hidden_size": 128, "head_dim": 64}, 64)],
)
def test_the_head_size_follows_the_width_unless_it_is_given(
    family: TransformersFamily, overrides: dict[str, int], head_dim: int
) -> None:
    assert family.create_config("tiny", overrides).head_dim == head_dim


def test_models_without_a_head_size_in_their_config_work_too() -> None:
    sizes = {"tiny": {key: value for key, value in SIZES["tiny"].items() if key != "head_dim"}}
    assert TransformersFamily("qwen2", sizes).create_config("tiny", {"hidden_size": 128}).hidden_size == 128


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"head_dim": 7}, "head_dim = 7 must be an even number"),
        ({"rope_theta_": 1}, "no key 'rope_theta_'"),
        ({"vocab_size": True}, "vocab_size = True must be a positive integer"),
        ({"hidden_act": 3}, "hidden_act"),
    ],
)
def test_values_that_cannot_work_are_refused(
    family: TransformersFamily, overrides: dict[str, Any], message: str
) -> None:
    with pytest.raises(ModelError, match=message) as error:
        family.create_config("tiny", overrides)
    assert "\n" not in str(error.value)


def test_a_family_without_sizes_says_so() -> None:
    with pytest.raises(ModelError, match=r"size 'tiny' is not known; sizes: \(none\)"):
        TransformersFamily("", {}).create_config("tiny", {})
